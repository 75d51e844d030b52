package importer

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

// rowText is a row as the tests compare it.
func rowText(a *Asset) string {
	var guids []string
	for _, l := range sortedKeys(a.GUIDs) {
		guids = append(guids, l+"="+a.GUIDs[l].String())
	}
	return fmt.Sprintf("%d %s sn=%s rack=%s u=%d+%d model=%s bmc=%s/%s mac=%s ip=%s %s", a.Line, a.Hostname, a.Serial, a.Rack, a.Unit, a.Span, a.Model, a.BMC, a.BMCMAC, a.MAC, a.Address, strings.Join(guids, " "))
}

func utf16le(s string) string {
	var b strings.Builder
	b.WriteString("\xff\xfe")
	for _, u := range utf16.Encode([]rune(s)) {
		b.Write([]byte{byte(u), byte(u >> 8)})
	}
	return b.String()
}

func TestReadAssets(t *testing.T) {
	const plain = "2 n1 sn= rack= u=0+0 model= bmc=10.0.0.1/ mac=52:54:00:00:00:01 ip=invalid IP "
	tests := []struct {
		name, text string
		given      map[string]string
		want       []string
		domain     string
		unused     []string
	}{
		{name: "least", text: "hostname,bmc,mac\nn1,10.0.0.1,52:54:00:00:00:01\n", want: []string{plain}},
		{name: "semicolons and mark", text: "\ufeffNode;iLO;MAC\r\nn1;10.0.0.1;525400000001\r\n", want: []string{plain}},
		{name: "tabs", text: "Name\tIDRAC IP\tPXE MAC\nn1\t10.0.0.1\t5254.0000.0001\n", want: []string{plain}},
		{name: "tabs, first cell empty", text: "Serial\tName\tIDRAC IP\tPXE MAC\n\tn1\t10.0.0.1\t5254.0000.0001\n", want: []string{plain}},
		{name: "UTF-16", text: utf16le("Name\tIDRAC IP\tPXE MAC\nn1\t10.0.0.1\t52-54-00-00-00-01\n"), want: []string{plain}},
		{name: "comma in quotes", text: "\"Server, Name\";x;y\n", given: map[string]string{"hostname": "Server, Name", "bmc": "x", "mac": "y"}, want: nil},
		{name: "everything", text: "Host Name,S/N,Cabinet,Rack Unit,Product Name,BMC IP Address,BMC MAC,Boot MAC Address,IP Address,mlx5_0 GUID,HCA 2 port GUID,Owner\n" +
			"n1,S1,A 1,U17-U21,XD670,https://10.0.0.1/,52 54 00 00 00 02,0x525400000001,10.1.0.1/22,a088:c203:0000:0001,0xa088c20300000002,me\n",
			want:   []string{"2 n1 sn=S1 rack=A 1 u=17+5 model=XD670 bmc=10.0.0.1/52:54:00:00:00:02 mac=52:54:00:00:00:01 ip=10.1.0.1 hca2=0xa088c20300000002 mlx5_0=0xa088c20300000001"},
			unused: []string{"Owner"}},
		{name: "title above", text: "Delivery 12,,\n2026-01-01,,\n\nhostname,bmc,mac\nn1,10.0.0.1,52:54:00:00:00:01\n", want: []string{strings.Replace(plain, "2 n1", "5 n1", 1)}},
		{name: "flags", text: "Label,Mgmt,Port A,Mac,Asset\nn1,10.0.0.1,52:54:00:00:00:01,02:00:00:00:00:01,7\n",
			given: map[string]string{"hostname": "label", "bmc": "Mgmt", "mac": "Port A"}, want: []string{plain}, unused: []string{"Mac", "Asset"}},
		{name: "left out by flag", text: "hostname,bmc,mac,serial\nn1,10.0.0.1,52:54:00:00:00:01,S1\n", given: map[string]string{"serial": ""}, want: []string{plain}, unused: []string{"serial"}},
		{name: "the same twice", text: "hostname,name,bmc,mac\nn1,n1,10.0.0.1,52:54:00:00:00:01\n", want: []string{plain}, unused: []string{"name"}},
		{name: "guid by flag", text: "hostname,bmc,mac,Adapter\nn1,10.0.0.1,52:54:00:00:00:01,a088c20300000001\n", given: map[string]string{"guid_ibn1": "Adapter"}, want: []string{plain + "ibn1=0xa088c20300000001"}},
		{name: "one domain", text: "fqdn,bmc,mac\nn1.a.example,10.0.0.1,52:54:00:00:00:01\nn2.a.example,10.0.0.2,52:54:00:00:00:02\n",
			want: []string{plain, "3 n2 sn= rack= u=0+0 model= bmc=10.0.0.2/ mac=52:54:00:00:00:02 ip=invalid IP "}, domain: "a.example"},
		{name: "two domains", text: "fqdn,bmc,mac\nn1.a.example,10.0.0.1,52:54:00:00:00:01\nn2.b.example,10.0.0.2,52:54:00:00:00:02\n",
			want: []string{strings.Replace(plain, "n1", "n1.a.example", 1), "3 n2.b.example sn= rack= u=0+0 model= bmc=10.0.0.2/ mac=52:54:00:00:00:02 ip=invalid IP "}},
		{name: "short row", text: "hostname,bmc,mac,serial,rack\nn1,10.0.0.1,52:54:00:00:00:01\n,,,,\n", want: []string{plain}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := ReadAssets("assets.csv", []byte(tt.text), tt.given)
			if tt.want == nil { // the header alone is what is tested
				if err == nil || !strings.Contains(err.Error(), "assets.csv:1: there is no row after the header") {
					t.Fatalf("ReadAssets = %v; want a complaint that there is no row", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range a.Rows {
				got = append(got, rowText(r))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.unused, a.Unused); diff != "" || a.Domain != tt.domain {
				t.Errorf("domain %q; want %q; unused (-want +got):\n%s", a.Domain, tt.domain, diff)
			}
		})
	}
}

func TestReadAssetsErrors(t *testing.T) {
	const head = "hostname,serial,rack,unit,bmc,mac,ip,mlx5_0 GUID\n"
	tests := []struct {
		name, text string
		given      map[string]string
		want       []string // every line of the error
	}{
		{name: "empty", text: "\n\n", want: []string{"assets.csv: it is empty: it needs a header line and a row for each node"}},
		{name: "a spreadsheet", text: "PK\x03\x04\xff\xff", want: []string{`assets.csv: it is not UTF-8 text: save it as "CSV UTF-8" (a spreadsheet itself cannot be read)`}},
		{name: "quote", text: "hostname,bmc,mac\n\"n1,10.0.0.1,52\n", want: []string{"assets.csv:2: extraneous or missing \" in quoted-field"}},
		{name: "ambiguous", text: "Name,Serial Number,Chassis S/N,iLO IP,MAC\nn1,S1,C1,10.0.0.1,52:54:00:00:00:01\n",
			want: []string{`assets.csv:1: 2 columns could be the serial number: say which with -column serial="Serial Number" or -column serial="Chassis S/N"`}},
		{name: "missing", text: "Label,Mgmt,Port A,Port B\nn1,10.0.0.1,52:54:00:00:00:01,52:54:00:00:00:02\n", want: []string{
			`assets.csv:1: which column is the host name? None is called hostname, host, name or the like: say it with -column hostname=Label or -column hostname=Mgmt or -column hostname="Port A" or -column hostname="Port B"`,
			`assets.csv:1: which column is the BMC address? None is called bmc, bmc ip, bmc address or the like: say it with -column bmc=Mgmt`,
			`assets.csv:1: which column is the MAC address of the boot NIC? None is called mac, mac address, mac addr or the like: say it with -column mac="Port A" or -column mac="Port B"`}},
		{name: "none fits", text: "hostname,mac\nn1,52:54:00:00:00:01\n", want: []string{`assets.csv:1: no column is the BMC address: it needs one, called for example bmc, bmc ip, bmc address`}},
		{name: "no such header", text: "hostname,bmc,mac\nn1,10.0.0.1,52:54:00:00:00:01\n", given: map[string]string{"serial": "S N"},
			want: []string{`assets.csv:1: -column serial="S N": there is no such column; there are "hostname", "bmc", "mac"`}},
		{name: "no such column", text: "hostname,bmc,mac\n", given: map[string]string{"height": "x"},
			want: []string{"-column height=…: the columns are hostname, serial, rack, unit, bmc, bmc_mac, mac, ip, model, guid_HCA"}},
		{name: "every bad row", text: head +
			"n 1,S1,a,0,10.0.0.1,52:54:00:00:00:01,10.1.0.1,\n" +
			",S2,a,U2,bmc2,53:54:00:00:00:02,10.1.0.2,xyz\n" +
			"n3,S3,a,top,,,10.1.0.999,\n" +
			"n4,S4,a,3,10.0.0.4,52:54:00:00:00:04,,,,too,many\n",
			want: []string{
				`assets.csv:2: "n 1" is not a host name: use letters, digits, - and dots`,
				`assets.csv:2: rack unit: rack unit "0" is not between 1 and 100`,
				`assets.csv:3: there is no host name`,
				`assets.csv:3: BMC address: "bmc2" is not an address: write an IPv4 address, as "10.10.0.11"`,
				`assets.csv:3: MAC address of the boot NIC: "53:54:00:00:00:02" is a multicast address: a NIC's own MAC address has an even first byte`,
				`assets.csv:3: GUID of mlx5_0: "xyz" is not a GUID: write 16 hexadecimal digits, as "0xb83fd20300aa0001"`,
				`assets.csv:4: rack unit: "top" is not a rack unit: write it as 17, U17 or 17-21`,
				`assets.csv:4: there is no BMC address`,
				`assets.csv:4: address on the boot network: "10.1.0.999" is not an address: write an IPv4 address, as "10.10.0.11"`,
				`assets.csv:4: there is no MAC address of the boot NIC`,
				`assets.csv:5: this row has 11 fields, and the header 8`}},
		{name: "duplicates", text: head +
			"n1,S1,a,1-4,10.0.0.1,52:54:00:00:00:01,10.1.0.1,0xa088c20300000001\n" +
			"N1,S1,a,4,10.0.0.1,52:54:00:00:00:01,10.1.0.1,0xa088c20300000001\n",
			want: []string{
				"assets.csv:3: host name n1 is also in line 2 (n1)",
				"assets.csv:3: serial number S1 is also in line 2 (n1)",
				"assets.csv:3: MAC address 52:54:00:00:00:01 is also in line 2 (n1)",
				"assets.csv:3: address 10.0.0.1 is also in line 2 (n1)",
				"assets.csv:3: address 10.1.0.1 is also in line 2 (n1)",
				"assets.csv:3: rack unit 4 of rack a is also in line 2 (n1)",
				"assets.csv:3: GUID 0xa088c20300000001 is also in line 2 (n1)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadAssets("assets.csv", []byte(tt.text), tt.given)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseUnit(t *testing.T) {
	for _, tt := range []struct {
		cell       string
		unit, span int
	}{{"17", 17, 0}, {"U17", 17, 0}, {"u07", 7, 0}, {"17U", 17, 0}, {"RU 17", 17, 0}, {"17-21", 17, 5}, {"U17-U21", 17, 5}, {"21 - 17", 17, 5},
		{"17 to 18", 17, 2}, {"17–21", 17, 5}, {"17/18", 17, 2}, {"100", 100, 0}, {"0", 0, 0}, {"101", 0, 0}, {"99-101", 0, 0}, {"", 0, 0}, {"front", 0, 0}, {"1.5", 0, 0}, {"-3", 0, 0}} {
		unit, span, err := parseUnit(tt.cell)
		if (err != nil) != (tt.unit == 0) || err == nil && (unit != tt.unit || span != tt.span) {
			t.Errorf("parseUnit(%q) = %d, %d, %v; want %d, %d", tt.cell, unit, span, err, tt.unit, tt.span)
		}
	}
}

// TestSynonyms: no header means two things.
func TestSynonyms(t *testing.T) {
	seen := map[string]string{}
	for _, c := range columns {
		for _, s := range append([]string{c.name}, c.synonyms...) {
			plain := plainHeader(s)
			if old := seen[plain]; old != "" && old != c.name {
				t.Errorf("%q is a header of %s and of %s", s, old, c.name)
			}
			seen[plain] = c.name
			if guidLabel(s) != "" {
				t.Errorf("%q of %s is taken for a GUID too", s, c.name)
			}
		}
		if !c.knows(c.name) {
			t.Errorf("%s is no header of its own: a list that was written cannot be read again", c.name)
		}
	}
}

func TestGUIDLabel(t *testing.T) {
	for header, want := range map[string]string{"mlx5_0 GUID": "mlx5_0", "guid_mlx5_0": "mlx5_0", "HCA 1 port GUID": "hca1", "Rail 3 GUID": "rail3", "ibn1 Node GUID": "ibn1",
		"guid_mlx5_ibn1": "mlx5_ibn1", "guid_mlx5_0_p2": "mlx5_0_p2", "GUID": "", "System GUID": "", "mlx5_0": "", "UUID": ""} {
		if got := guidLabel(header); got != want {
			t.Errorf("guidLabel(%q) = %q; want %q", header, got, want)
		}
	}
}

func FuzzReadAssets(f *testing.F) {
	f.Add("hostname,serial,rack,unit,bmc,mac,ip,mlx5_0 GUID,model\nn1,S1,a,1-4,10.0.0.1,52:54:00:00:00:01,10.1.0.1,0xa088c20300000001,XD 670\nn2,,,,10.0.0.2,52:54:00:00:00:02,,,\n")
	f.Add("\ufeffDelivery;;\r\n\r\nFQDN;iLO IP;PXE MAC\r\nn1.a.example;10.0.0.1/24;5254.0000.0001\r\n")
	f.Add(utf16le("Name\tIDRAC IP\tPXE MAC\nn1\t10.0.0.1\t52-54-00-00-00-01\n"))
	f.Add("hostname,bmc,mac,model,rack\nn1,10.0.0.1,525400000001,\"${x}\"\"%{\",\"a\nb\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ReadAssets("a.csv", []byte(text), nil)
		if err != nil {
			return
		}
		if made, err := Make(Sources{Cluster: "c", Assets: a}); err == nil {
			checkFormatted(t, made)
		}
	})
}
