package fabric

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// split is a leaf with split ports, a spine, and adapters of two hosts, one of
// which was never named.
const split = `#
# Topology file: generated on Wed Nov 25 03:10:57 2026
#
# Initiated from node a088c20300000000 port a088c20300000000

vendid=0x2c9
devid=0xd2f2
sysimgguid=0xb83fd20300aa0001
switchguid=0xb83fd20300aa0001(b83fd20300aa0001)
Switch	129 "S-b83fd20300aa0001"		# "MF0;leaf-01:MQM9700/U1" enhanced port 0 lid 7 lmc 0
[1]	"H-a088c20300000001"[1](a088c20300000001) 		# "hnode001 mlx5_0" lid 4 2xNDR
[2]	"H-a088c20300000011"[1](a088c20300000011) 		# "MT4129 ConnectX7   Mellanox Technologies" lid 5 2xNDR
[127]	"S-b83fd20300bb0001"[1]		# "MF0;spine "one":MQM9700/U1" lid 9 2xNDR
[129]	"H-b83fd20300aa0009"[1](b83fd20300aa0009) 		# "Mellanox Technologies Aggregation Node" lid 11 4xHDR

vendid=0x2c9
devid=0xd2f2
sysimgguid=0xb83fd20300bb0001
switchguid=0xb83fd20300bb0001(b83fd20300bb0001)
Switch	65 "S-b83fd20300bb0001"		# "MF0;spine "one":MQM9700/U1" enhanced port 0 lid 9 lmc 0
[1]	"S-b83fd20300aa0001"[127]		# "MF0;leaf-01:MQM9700/U1" lid 7 2xNDR

vendid=0x2c9
devid=0xcf09
sysimgguid=0xb83fd20300aa0001
caguid=0xb83fd20300aa0009
Ca	1 "H-b83fd20300aa0009"		# "Mellanox Technologies Aggregation Node"
[1](b83fd20300aa0009) 	"S-b83fd20300aa0001"[129]		# lid 11 lmc 0 "MF0;leaf-01:MQM9700/U1" lid 7 4xHDR

vendid=0x2c9
devid=0x1021
sysimgguid=0xa088c20300000010
caguid=0xa088c20300000011
Ca	1 "H-a088c20300000011"		# "MT4129 ConnectX7   Mellanox Technologies"
[1](a088c20300000011) 	"S-b83fd20300aa0001"[2]		# lid 5 lmc 0 "MF0;leaf-01:MQM9700/U1" lid 7 2xNDR

vendid=0x2c9
devid=0x1021
sysimgguid=0xa088c20300000000
caguid=0xa088c20300000001
Ca	1 "H-a088c20300000001"		# "hnode001 mlx5_0"
[1](a088c20300000001) 	"S-b83fd20300aa0001"[1]		# lid 4 lmc 0 "MF0;leaf-01:MQM9700/U1" lid 7 2xNDR
`

// ports is the same fabric, without its spine, as a report of ports.
const ports = `CA     5  1 0xa088c20300000011 2x NDR - SW     7  2 0xb83fd20300aa0001 ( 'MT4129 ConnectX7   Mellanox Technologies' - 'MF0;leaf-01:MQM9700/U1' )
SW     7 129 0xb83fd20300aa0001 4x HDR - CA    11  1 0xb83fd20300aa0009 ( 'MF0;leaf-01:MQM9700/U1' - 'Mellanox Technologies Aggregation Node' )
SW     7 128 0xb83fd20300aa0001 4x SDR                                    'MF0;leaf-01:MQM9700/U1'
SW     7  2 0xb83fd20300aa0001 2x NDR - CA     5  1 0xa088c20300000011 ( 'MF0;leaf-01:MQM9700/U1' - 'MT4129 ConnectX7   Mellanox Technologies' )
SW     7  1 0xb83fd20300aa0001 2x NDR - CA     4  1 0xa088c20300000001 ( 'MF0;leaf-01:MQM9700/U1' - 'hnode001 mlx5_0' )
CA    11  1 0xb83fd20300aa0009 4x HDR - SW     7 129 0xb83fd20300aa0001 ( 'Mellanox Technologies Aggregation Node' - 'MF0;leaf-01:MQM9700/U1' )
CA     4  1 0xa088c20300000001 2x NDR - SW     7  1 0xb83fd20300aa0001 ( 'hnode001 mlx5_0' - 'MF0;leaf-01:MQM9700/U1' )
`

// linkText is a link as the tests compare it, from whichever end it was seen.
func linkText(l Link) string {
	if l.A.Node.Kind == l.B.Node.Kind && l.A.Node.Description > l.B.Node.Description {
		l.A, l.B = l.B, l.A
	}
	return fmt.Sprintf("%s[%d] %s[%d] %s", l.A.Node.Description, l.A.Num, l.B.Node.Description, l.B.Num, l.A.Rate())
}

func linkTexts(o *Observed) []string {
	var out []string
	for _, l := range o.Links() {
		out = append(out, linkText(l))
	}
	slices.Sort(out)
	return out
}

func parse(t *testing.T, text string) *Observed {
	t.Helper()
	o, err := ParseNetDiscover(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestParseTopology(t *testing.T) {
	o := parse(t, split)
	want := []string{
		"MF0;leaf-01:MQM9700/U1[127] MF0;spine \"one\":MQM9700/U1[1] NDR200",
		"MT4129 ConnectX7   Mellanox Technologies[1] MF0;leaf-01:MQM9700/U1[2] NDR200",
		"Mellanox Technologies Aggregation Node[1] MF0;leaf-01:MQM9700/U1[129] HDR",
		"hnode001 mlx5_0[1] MF0;leaf-01:MQM9700/U1[1] NDR200",
	}
	if diff := cmp.Diff(want, linkTexts(o)); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	if len(o.Inconsistencies) != 0 {
		t.Errorf("inconsistencies: %v; want none", o.Inconsistencies)
	}
	leaf, hca := o.Nodes[0], o.Links()[0].A.Node
	if leaf.Kind != Switch || leaf.GUID != 0xb83fd20300aa0001 || leaf.SystemGUID != leaf.GUID || leaf.PortGUID != leaf.GUID ||
		leaf.NumPorts != 129 || leaf.VendorID != 0x2c9 || leaf.DeviceID != 0xd2f2 || leaf.LID != 7 || !leaf.Enhanced || leaf.Line != 10 {
		t.Errorf("leaf = %+v", *leaf)
	}
	if p := hca.Port(1); hca.Kind != CA || hca.GUID != 0xa088c20300000001 || hca.NumPorts != 1 || p.GUID != 0xa088c20300000001 || p.LID != 4 || p.Line == 0 {
		t.Errorf("hca = %+v port %+v", *hca, *p)
	}
	if s, c := o.Count(Switch), o.Count(CA); s != 2 || c != 3 {
		t.Errorf("%d switches and %d adapters; want 2 and 3", s, c)
	}
}

func TestParsePorts(t *testing.T) {
	o := parse(t, ports)
	want := slices.DeleteFunc(linkTexts(parse(t, split)), func(l string) bool { return strings.Contains(l, "spine") })
	if diff := cmp.Diff(want, linkTexts(o)); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	if len(o.Inconsistencies) != 0 {
		t.Errorf("inconsistencies: %v; want none", o.Inconsistencies)
	}
	leaf := o.Nodes[1]
	if leaf.Kind != Switch || leaf.GUID != 0xb83fd20300aa0001 || leaf.NumPorts != 129 || leaf.LID != 7 {
		t.Errorf("leaf = %+v", *leaf)
	}
	if p := leaf.Port(128); p == nil || p.Peer != nil || p.Speed != "" || p.Line != 3 {
		t.Errorf("the dark port is %+v; want it there, with nothing behind it", p)
	}
	if p := o.Nodes[0].Port(1); p.GUID != 0xa088c20300000011 || p.LID != 5 || p.Node.GUID != 0 {
		t.Errorf("adapter port = %+v; want its own GUID, and none of the node", *p)
	}
}

// TestOtherSpellings: what options, other versions and other programs write.
func TestOtherSpellings(t *testing.T) {
	tests := map[string]string{
		"grouped":   "\nChassis 1 (guid 0xb83f)\n\n# Spine Nodes\nvendid=0x2c9\nsysimgguid=0xb83f\t\t# Chassis 1\nswitchguid=0x1(1)\t# ISR9024\nSwitch\t24 \"S-0000000000000001\"\t\t# \"a\" base port 0 lid 0 lmc 0\n[3][ext 12]\t\"S-0000000000000002\"[4][ext 13]\t\t# \"b\" lid 0 4xDDR\nNon-Chassis Nodes\nSwitch\t24 \"S-0000000000000002\"\t\t# \"b\" base port 0 lid 0 lmc 0\n[4]\t\"S-0000000000000001\"[3]\t\t# \"a\" lid 0 4xDDR s=2 w=2 v=4\n",
		"net file":  "width=3\nspeed=7\nextspeed=7\n\nswitchguid=0x1\nSwitch 24 \"one\"\t# \"a\" base port 0 lid 0 lmc 0\r\n[3]\t\"two\"[4]\t# \"b\" lid 0 4xDDR\n[5]\n\nswitchguid=0x2\nSwitch 24 \"two\"\t# \"b\" base port 0 lid 0 lmc 0\n[4]\t\"one\"[3]\t# \"a\" lid 0 4xDDR",
		"old tool":  "SW 1 3 0x1 4x ??? - SW 2 4 0x2 ( 'a' - 'b' )\nSW 2 4 0x2 4x ??? - SW 1 3 0x1 ( 'b' - 'a' )\n",
		"mark, CRs": "\ufeffSW 1 3 0x1 4x DDR - SW 2 4 0x2 ( 'a' - 'b' )\r\nSW 2 4 0x2 4x DDR - SW 1 3 0x1 ( 'b' - 'a' )\r\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			o := parse(t, text)
			rate := "DDR"
			if name == "old tool" {
				rate = ""
			}
			if got := linkTexts(o); len(got) != 1 || got[0] != "a[3] b[4] "+rate || len(o.Inconsistencies) > 0 {
				t.Errorf("links %q, inconsistencies %v; want a[3] b[4] %s and none", got, o.Inconsistencies, rate)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	line := func(n int, with string) string { // split, with one line replaced
		lines := strings.Split(split, "\n")
		lines[n-1] = with
		return strings.Join(lines, "\n")
	}
	tests := []struct{ name, text, want string }{
		{"empty", "", "there is no switch and no adapter in it"},
		{"another text", "hello\n\nworld\n", `line 1: expected a node (Switch, Ca, Rt), one of its ports ([1] …) or an identity (vendid=, sysimgguid=); found "hello"`},
		{"a list", "Switch\t : 0xb83fd20300aa0001 ports 65 devid 0xd2f2 vendid 0x2c9 \"leaf\"\n", "run ibnetdiscover or ibnetdiscover -p"},
		{"a difference", "< vendid=0x2c9\n", "expected a whole dump"},
		{"mixed", split + ports, "expected a line of the topology that ibnetdiscover prints, as before"},
		{"mixed other way", ports + split, "line 13: expected a line of the report of ports"},
		{"ports before node", "[1]\t\"S-0000000000000001\"[1]\t\t# \"x\" lid 1 4xNDR\n", "line 1: expected a node"},
		{"bad key", line(6, "vandid=0x2c9"), `line 6: expected vendid=, devid=`},
		{"bad guid", line(9, "switchguid=0xzz"), `line 9: expected switchguid in hexadecimal; found "0xzz"`},
		{"bad device", line(7, "devid=0x12345"), "line 7: expected devid of at most 4 digits"},
		{"port count", line(10, `Switch	9999 "S-b83fd20300aa0001"		# "x" enhanced port 0 lid 7 lmc 0`), `line 10: expected the number of ports, a number from 0 to 255; found "9999"`},
		{"kind of name", line(10, `Switch	65 "H-b83fd20300aa0001"		# "x" enhanced port 0 lid 7 lmc 0`), `line 10: expected the name of a switch; found "H-b83fd20300aa0001"`},
		{"no name", line(10, `Switch	65 S-b83fd20300aa0001`), "line 10: expected a node's name in quotes"},
		{"no description", line(10, `Switch	65 "S-b83fd20300aa0001"		# leaf`), "line 10: expected # and a description in quotes"},
		{"no lid", line(10, `Switch	65 "S-b83fd20300aa0001"		# "leaf" enhanced`), "line 10: expected lid and a number"},
		{"port zero", line(11, `[0]	"H-a088c20300000001"[1](a088c20300000001) 		# "hnode001 mlx5_0" lid 4 2xNDR`), `line 11: expected a port, a number from 1 to 254; found "0"`},
		{"port number", line(11, `[300]	"H-a088c20300000001"[1](a088c20300000001) 		# "hnode001 mlx5_0" lid 4 2xNDR`), `found "300"`},
		{"port open", line(11, `[1`), "line 11: expected ] after the port"},
		{"guid open", line(11, `[1](a08`), "line 11: expected ) after the port's GUID"},
		{"no comment", line(11, `[1]	"H-a088c20300000001"[1](a088c20300000001)`), "line 11: expected # and the description of the other end"},
		{"no rate", line(11, `[1]	"H-a088c20300000001"[1](a088c20300000001) 		# "hnode001 mlx5_0" lid 4`), "line 11: expected a link's width and speed, as 4xNDR, at the end"},
		{"bad speed", line(11, `[1]	"H-a088c20300000001"[1](a088c20300000001) 		# "hnode001 mlx5_0" lid 4 2xWDR`), `line 11: expected a speed, as EDR, HDR, NDR or XDR; found "WDR"`},
		{"bad width", line(11, `[1]	"H-a088c20300000001"[1](a088c20300000001) 		# "hnode001 mlx5_0" lid 4 99xNDR`), `line 11: expected a link's width and speed, as 4xNDR; found "99xNDR"`},
		{"cut off", split[:strings.Index(split, `"S-b83fd20300bb0001"[1]`)+9], "line 13: expected a node's name in quotes, as \"S-b83fd20300aa0001\"; found \"\\\"S-b83fd2\"; it is the last line: is the dump cut off?"},
		{"report kind", "SW 1 1 0x1 4x NDR - XX 2 1 0x2 ( 'a' - 'b' )\n", `line 1: expected SW, CA or RT; found "XX"`},
		{"report lid", "SW x 1 0x1 4x NDR - SW 2 1 0x2 ( 'a' - 'b' )\n", `line 1: expected a LID`},
		{"report port", "SW 1 0 0x1 4x NDR 'a'\n", `line 1: expected a port, a number from 1 to 254; found "0"`},
		{"report guid", "SW 1 1 gg 4x NDR 'a'\n", `line 1: expected a port's GUID in hexadecimal; found "gg"`},
		{"report names", "SW 1 1 0x1 4x NDR - SW 2 1 0x2 ( 'a' 'b' )\n", "line 1: expected the two descriptions"},
		{"report end", "SW 1 1 0x1 4x NDR\n", "line 1: expected - and the port at the other end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseNetDiscover(strings.NewReader(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseNetDiscover = %v; want %q", err, tt.want)
			}
		})
	}
}

func TestInconsistencies(t *testing.T) {
	without := func(from, to int) string {
		lines := strings.Split(split, "\n")
		return strings.Join(slices.Delete(lines, from-1, to), "\n")
	}
	replaced := func(old, with string) string { return strings.Replace(split, old, with, 1) }
	tests := []struct {
		name, text string
		links      int
		want       []string
	}{
		{"one side only", without(11, 11), 4, []string{`line 41: the link from "hnode001 mlx5_0" port 1 to "MF0;leaf-01:MQM9700/U1" port 1 is seen from this side only`}},
		{"not described", without(23, 28), 4, []string{
			`line 14: "Mellanox Technologies Aggregation Node" is named at the other end of a link and not described: it did not answer, or the dump is cut off`,
			`line 14: the link from "MF0;leaf-01:MQM9700/U1" port 129 to "Mellanox Technologies Aggregation Node" port 1 is seen from this side only`}},
		{"two descriptions", replaced(`# "hnode001 mlx5_0" lid 4`, `# "hnode009 mlx5_0" lid 4`), 4, []string{
			`line 41: ca 0xa088c20300000001 is called "hnode001 mlx5_0" here, and "hnode009 mlx5_0" in line 41`}},
		{"beyond", replaced("Switch\t129", "Switch\t65"), 4, []string{
			`line 13: "MF0;leaf-01:MQM9700/U1" port 127 is beyond the 65 ports that the node has`,
			`line 14: "MF0;leaf-01:MQM9700/U1" port 129 is beyond the 65 ports that the node has`}},
		{"two ends", replaced(`"S-b83fd20300aa0001"[2]		# lid 5`, `"S-b83fd20300aa0001"[1]		# lid 5`), 3, []string{
			`line 12: "MF0;leaf-01:MQM9700/U1" port 2 leads to "MT4129 ConnectX7   Mellanox Technologies" port 1, and that port to "MF0;leaf-01:MQM9700/U1" port 1 (line 35)`,
			`line 35: "MT4129 ConnectX7   Mellanox Technologies" port 1 leads to "MF0;leaf-01:MQM9700/U1" port 1, and that port to "hnode001 mlx5_0" port 1 (line 11)`}},
		{"two rates", replaced(`lid 4 2xNDR`, `lid 4 1xNDR`), 4, []string{
			`line 42: "hnode001 mlx5_0" port 1 runs at 2xNDR here, and at 1xNDR seen from "MF0;leaf-01:MQM9700/U1" port 1 (line 11)`}},
		{"twice", split + split[strings.Index(split, "vendid"):], 4, []string{
			"line 47: switch 0xb83fd20300aa0001 is described here, and in line 10", "line 57:", "line 64:", "line 71:", "line 78:"}},
		{"itself", "Switch\t24 \"S-0000000000000001\"\t# \"a\" base port 0 lid 0 lmc 0\n[3]\t\"S-0000000000000001\"[3]\t# \"a\" lid 0 4xDDR\n", 0, []string{`line 2: "a" port 3 is linked to itself`}},
		{"a ring of claims", "SW 1 1 0x1 4x EDR - SW 2 1 0x2 ( 'a' - 'b' )\nSW 2 1 0x2 4x EDR - SW 3 1 0x3 ( 'b' - 'c' )\nSW 3 1 0x3 4x EDR - SW 1 1 0x1 ( 'c' - 'a' )\n", 0, []string{"line 1:", "line 2:", "line 3:"}},
		{"two for one", "SW 1 1 0x1 4x EDR - SW 2 1 0x2 ( 'a' - 'b' )\nSW 3 1 0x3 4x EDR - SW 2 1 0x2 ( 'c' - 'b' )\n", 1, []string{
			"line 1: \"b\" is named at", "line 1: the link from", `line 2: "c" port 1 leads to "b" port 1, and so does "a" port 1 (line 1)`}},
		{"port twice", ports + "SW 7 1 0xb83fd20300aa0001 2x NDR - CA 9 1 0x9 ( 'MF0;leaf-01:MQM9700/U1' - 'x' )\n", 3, []string{
			`line 8: "MF0;leaf-01:MQM9700/U1" port 1 stands here again, with another end than in line 5`, `line 8: "x" is named`}},
		{"dark after light", ports + "SW 7 1 0xb83fd20300aa0001 4x SDR 'MF0;leaf-01:MQM9700/U1'\n", 3, []string{`line 8: "MF0;leaf-01:MQM9700/U1" port 1 has nothing behind it here`}},
		{"complaints", "ibwarn: [12] _do_madrpc: recv failed: Connection timed out\nsrc/query_smp.c:196; umad bad status 110\n" + ports, 3, []string{"line 1: ibnetdiscover complained here"}},
		{"ends early", split + "\nvendid=0x2c9\n", 4, []string{"the dump ends within the description of a node"}},
		{"guid differs", replaced("caguid=0xa088c20300000001", "caguid=0xa088c20300000002"), 4, []string{"line 41: ca 0xa088c20300000001 has the GUID 0xa088c20300000002"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := parse(t, tt.text)
			ok := len(o.Inconsistencies) == len(tt.want)
			for i, got := range o.Inconsistencies {
				ok = ok && strings.Contains(got.String(), tt.want[i])
			}
			if !ok {
				t.Errorf("inconsistencies:\n%v\nwant\n%s", join(o.Inconsistencies), strings.Join(tt.want, "\n"))
			}
			if got := len(o.Links()); got != tt.links {
				t.Errorf("%d links; want %d: %q", got, tt.links, linkTexts(o))
			}
		})
	}
}

func join(list []Inconsistency) string {
	var b strings.Builder
	for _, i := range list {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

func TestRateName(t *testing.T) {
	for _, tt := range []struct {
		width int
		speed string
		want  string
	}{{4, "NDR", "NDR"}, {2, "NDR", "NDR200"}, {1, "NDR", "100Gb/s"}, {4, "HDR", "HDR"}, {2, "HDR", "HDR100"}, {4, "EDR", "EDR"},
		{4, "XDR", "XDR"}, {2, "XDR", "XDR400"}, {1, "EDR", "25Gb/s"}, {4, "FDR10", "40Gb/s"}, {1, "SDR", "2.5Gb/s"}, {12, "QDR", "120Gb/s"}, {4, "", ""}, {0, "NDR", ""}} {
		if got := RateName(tt.width, tt.speed); got != tt.want {
			t.Errorf("RateName(%d, %q) = %q; want %q", tt.width, tt.speed, got, tt.want)
		}
	}
}

func FuzzParseNetDiscover(f *testing.F) {
	f.Add(split)
	f.Add(ports)
	f.Add(split[:len(split)/2])
	f.Add("Switch\t24 \"S-0000000000000001\"\t# \"a\" base port 0 lid 0 lmc 0\n[3]\t\"S-0000000000000001\"[3]\t# \"a\" lid 0 4xDDR\n")
	f.Add("SW 1 1 0x1 4x EDR - SW 2 1 0x2 ( 'a' - 'b' )\nSW 2 1 0x2 4x EDR - SW 3 1 0x3 ( 'b' - 'c' )\nSW 3 1 0x3 4x EDR - SW 1 1 0x1 ( 'c' - 'a' )\n")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseNetDiscover(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, l := range o.Links() {
			if l.A.Peer != l.B || l.B.Peer != l.A {
				t.Errorf("%s and %s are a link and do not lead to each other", l.A.Label(), l.B.Label())
			}
		}
		for _, n := range o.Nodes {
			for _, p := range n.Ports {
				if n.Port(p.Num) != p {
					t.Errorf("%s is not found by its number", p.Label())
				}
			}
		}
	})
}

// bigDump is a fabric of 766 nodes with 8 adapters, 192 leaves, 192 spines and
// 96 cores: 18,416 links.
func bigDump() string {
	type end struct{ name, desc, guid string }
	links := map[string][]string{}
	var order []string
	at := func(e end) string {
		if _, ok := links[e.name]; !ok {
			order = append(order, e.name)
			kind, ports, what := "Ca", 1, ""
			if e.guid == "" {
				kind, ports, what = "Switch", 65, " enhanced port 0 lid 7 lmc 0"
			}
			links[e.name] = []string{fmt.Sprintf("\nvendid=0x2c9\ndevid=0x1021\nsysimgguid=0x%s\n%s\t%d %q\t\t# %q%s", e.name[2:], kind, ports, e.name, e.desc, what)}
		}
		return e.name
	}
	join := func(a, b end, pa, pb int) {
		one := func(x, y end, px, py int) {
			own, lid, guid := "", "", ""
			if x.guid != "" {
				own, lid = "("+x.guid+") ", "lid 4 lmc 0 "
			}
			if y.guid != "" {
				guid = "(" + y.guid + ") "
			}
			n := at(x)
			links[n] = append(links[n], fmt.Sprintf("[%d]%s\t%q[%d]%s\t\t# %s%q lid 4 4xNDR", px, own, y.name, py, guid, lid, y.desc))
		}
		one(a, b, pa, pb)
		one(b, a, pb, pa)
	}
	sw := func(kind string, n int) end {
		return end{name: fmt.Sprintf("S-%016x", 0x383f000000000000+int(kind[0])<<16+n), desc: fmt.Sprintf("MF0;%s-%03d:MQM9700/U1", kind, n)}
	}
	up := map[int]int{}
	for n := range 766 {
		for r := range 8 {
			guid := fmt.Sprintf("%016x", 0x2088000000000000+n<<8+r)
			join(end{"H-" + guid, fmt.Sprintf("hnode%03d mlx5_%d", n+1, r), guid}, sw("leaf", n/32*8+r), 1, n%32+1)
		}
	}
	for l := range 192 {
		for i := range 32 {
			s := l/8*8 + i%8
			up[s]++
			join(sw("leaf", l), sw("spine", s), 33+i, up[s])
		}
	}
	for s := range 192 {
		for i := range 32 {
			join(sw("spine", s), sw("core", s%3*32+i), 33+i, s/3+1)
		}
	}
	var b strings.Builder
	for _, n := range order {
		b.WriteString(strings.Join(links[n], "\n") + "\n")
	}
	return b.String()
}

// TestBigFabric holds the size of a national system. BenchmarkParseNetDiscover
// has the time that it takes.
func TestBigFabric(t *testing.T) {
	o := parse(t, bigDump())
	if s, c, l := o.Count(Switch), o.Count(CA), len(o.Links()); s != 480 || c != 6128 || l != 18416 || len(o.Inconsistencies) > 0 {
		t.Errorf("%d switches, %d adapters, %d links, %d inconsistencies; want 480, 6128, 18416 and none", s, c, l, len(o.Inconsistencies))
	}
}

func BenchmarkParseNetDiscover(b *testing.B) {
	text := bigDump()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := ParseNetDiscover(strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
