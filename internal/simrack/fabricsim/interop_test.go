package fabricsim

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric"
	"firstlight/fabric/mad"
	"firstlight/internal/ibsimtest"
)

// attach is where the tools are.
const attach = "hnode001 mlx5_0"

// linkText is a link without regard to its direction.
func linkText(a, b End, rate string) string {
	if b.Node < a.Node || b.Node == a.Node && b.Port < a.Port {
		a, b = b, a
	}
	return fmt.Sprintf("%s[%d] %s[%d] %s", a.Node, a.Port, b.Node, b.Port, rate)
}

// declared are the links of a net of pods, whose adapters and switches run at
// the rate of their narrower end.
func declared(net *Net, rate func(a, b Node) string) []string {
	nodes := map[string]Node{}
	for i, n := range net.Nodes {
		nodes[n.Name] = n.defaults(i)
	}
	var out []string
	for _, l := range net.Links {
		out = append(out, linkText(l.A, l.B, rate(nodes[l.A.Node], nodes[l.B.Node])))
	}
	slices.Sort(out)
	return out
}

func narrower(a, b Node) string { return fmt.Sprintf("%dx%s", min(a.Width, b.Width), a.Speed) }

// found are the links that ibnetdiscover prints.
func found(t *testing.T, text string) []string {
	t.Helper()
	o, err := fabric.ParseNetDiscover(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(o.Inconsistencies) > 0 {
		t.Errorf("ibnetdiscover's output contradicts itself: %v", o.Inconsistencies)
	}
	var out []string
	for _, l := range o.Links() {
		out = append(out, linkText(End{l.A.Node.Description, l.A.Num}, End{l.B.Node.Description, l.B.Num}, fmt.Sprintf("%dx%s", l.A.Width, l.A.Speed)))
	}
	slices.Sort(out)
	return out
}

// infoLine is a port of iblinkinfo -l that is up.
var infoLine = regexp.MustCompile(`^0x\w+ "\s*(.+?)"\s+\d+\s+(\d+)\[.*?==\(\s*(\d+)X\s+([\d.]+) Gbps\s+(\w+)/\s*(\w+)\)==>\s+0x\w+\s+\d+\s+(\d+)\[.*?\] "(.+?)"`)

// gbps are the names of the speeds that iblinkinfo has as numbers.
var gbps = map[string]string{"2.5": "SDR", "14.0625": "FDR", "25.78125": "EDR", "53.125": "HDR", "106.25": "NDR"}

// linkInfo are the links that iblinkinfo prints; each is seen from both ends.
func linkInfo(t *testing.T, text string) []string {
	t.Helper()
	seen := map[string]int{}
	for _, line := range strings.Split(text, "\n") {
		m := infoLine.FindStringSubmatch(line)
		if m == nil {
			if strings.Contains(line, "LinkUp") {
				t.Errorf("iblinkinfo's line is not understood: %s", line)
			}
			continue
		}
		if m[5] != "Active" || m[6] != "LinkUp" {
			t.Errorf("%s port %s is %s/%s", m[1], m[2], m[5], m[6])
		}
		a, b := End{Node: m[1]}, End{Node: m[8]}
		fmt.Sscan(m[2], &a.Port)
		fmt.Sscan(m[7], &b.Port)
		seen[linkText(a, b, m[3]+"x"+gbps[m[4]])]++
	}
	var out []string
	for text, n := range seen {
		if n != 2 {
			t.Errorf("iblinkinfo has %s %d times", text, n)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// TestInteropOpenSM has opensm bring fabrics up that nobody manages.
func TestInteropOpenSM(t *testing.T) {
	for name, net := range map[string]*Net{
		"unsplit": pods(2, 8, 4, 4, false), "split": pods(2, 8, 4, 4, true), "one switch": pods(1, 4, 1, 0, false),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := build(t, net, Options{})
			sim := ibsimtest.Attach(t, serve(t, &Server{Fabric: f}), attach, "opensm", "ibnetdiscover")
			sim.Manage(attach)
			lids := allActive(t, f)
			p := at(t, f, attach)
			for lid, node := range lids {
				if _, fate := p.perf(mad.MethodGet, mad.AttrPortCounters, lid, 1, nil); fate != answered {
					t.Errorf("%s, LID %d, does not answer by LID", node, lid)
				}
			}
			if diff := cmp.Diff(declared(net, narrower), found(t, sim.Run("ibnetdiscover"))); diff != "" {
				t.Errorf("links (-declared +ibnetdiscover):\n%s", diff)
			}
		})
	}
}

// allActive checks that all that is cabled is Active, and returns all LIDs.
func allActive(t *testing.T, f *Fabric) map[uint16]string {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	lids := map[uint16]string{}
	for i := range f.ports {
		p := &f.ports[i]
		n := &f.nodes[p.node]
		if p.peer != none && p.state != mad.PortActive {
			t.Errorf("%s port %d is %v", n.Name, p.num, p.state)
		}
		if p.num == 0 && n.Switch || p.num == 1 && !n.Switch {
			if other := lids[p.lid()]; p.lid() == 0 || other != "" {
				t.Errorf("%s has LID %d, as %q", n.Name, p.lid(), other)
			}
			lids[p.lid()] = n.Name
		}
	}
	return lids
}

// TestInteropTools injects faults, and wants each tool to see them and no others.
func TestInteropTools(t *testing.T) {
	net := pods(2, 4, 4, 2, false)
	f := build(t, net, Options{Managed: true})
	faults := []Fault{
		{Kind: Swap, At: End{"leaf-01", 1}, To: End{"leaf-02", 2}},
		{Kind: Unlink, At: End{"leaf-03", 34}},
		{Kind: Slow, At: End{"hnode003 mlx5_2", 1}, Speed: "HDR"},
		{Kind: Narrow, At: End{"spine-01", 7}, Width: 1},
		{Kind: Dead, Node: "hnode008 mlx5_3"},
		{Kind: Describe, Node: "hnode006 mlx5_1", Text: "localhost mlx5_1"},
		{Kind: Count, At: End{"leaf-05", 2}, Counter: "SymbolErrorCounter", Value: 4711},
		{Kind: Count, At: End{"hnode007 mlx5_0", 1}, Counter: "PortRcvErrors", Value: 70000},
		{Kind: Count, At: End{"spine-02", 3}, Counter: "PortXmitData", Value: 1 << 40},
	}
	if err := f.Inject(faults...); err != nil {
		t.Fatal(err)
	}
	sim := ibsimtest.Attach(t, serve(t, &Server{Fabric: f}), "hnode002 mlx5_0", "ibnetdiscover", "iblinkinfo", "perfquery", "ibqueryerrors")

	want := strings.Join(declared(net, narrower), "\n") + "\n"
	for _, change := range [][2]string{
		{"hnode001 mlx5_0[1] leaf-01[1]", "hnode001 mlx5_0[1] leaf-02[2]"},
		{"hnode002 mlx5_1[1] leaf-02[2]", "hnode002 mlx5_1[1] leaf-01[1]"},
		{"leaf-03[34] spine-02[3] 4xNDR\n", ""},
		{"hnode003 mlx5_2[1] leaf-03[3] 2xNDR", "hnode003 mlx5_2[1] leaf-03[3] 2xHDR"},
		{"leaf-07[33] spine-01[7] 4xNDR", "leaf-07[33] spine-01[7] 1xNDR"},
		{"hnode008 mlx5_3[1] leaf-08[4] 2xNDR\n", ""},
		{"hnode006 mlx5_1[1] leaf-06[2] 2xNDR\n", ""},
	} {
		if strings.Count(want, change[0]) != 1 {
			t.Fatalf("%q is not declared once", change[0])
		}
		want = strings.Replace(want, change[0], change[1], 1)
	}
	wanted := append(strings.Split(strings.TrimSuffix(want, "\n"), "\n"), "leaf-06[2] localhost mlx5_1[1] 2xNDR")
	slices.Sort(wanted)
	for name, got := range map[string][]string{
		"ibnetdiscover": found(t, sim.Run("ibnetdiscover")), "ibnetdiscover -p": found(t, sim.Run("ibnetdiscover", "-p")),
		"iblinkinfo": linkInfo(t, sim.Run("iblinkinfo", "-l")),
	} {
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("links (-injected +%s):\n%s", name, diff)
		}
	}
	toolCounters(t, f, sim)
}

// toolCounters: perfquery and ibqueryerrors have the counters of the faults.
func toolCounters(t *testing.T, f *Fabric, sim *ibsimtest.Sim) {
	t.Helper()
	query := func(node string, lidPort int, args ...string) string {
		return sim.Run("perfquery", append([]string{fmt.Sprint(f.lidOf(node, lidPort))}, args...)...)
	}
	for _, c := range []struct{ out, want string }{
		{query("leaf-05", 0, "2"), "SymbolErrorCounter:..............4711\n"},
		{query("hnode007 mlx5_0", 1, "1"), "PortRcvErrors:...................65535\n"},
		{query("spine-02", 0, "-x", "3"), "PortXmitData:....................1099511627776\n"},
		{query("leaf-03", 0, "34"), "LinkDownedCounter:...............1\n"},
		{query("leaf-05", 0, "-R", "2") + query("leaf-05", 0, "2"), "SymbolErrorCounter:..............0\n"},
	} {
		if !strings.Contains(c.out, c.want) {
			t.Errorf("perfquery does not print %q:\n%s", c.want, c.out)
		}
	}
	if err := f.Inject(Fault{Kind: Count, At: End{"leaf-05", 2}, Counter: "SymbolErrorCounter", Value: 4711}); err != nil {
		t.Fatal(err)
	}
	text, complaints := sim.Output("ibqueryerrors", "--skip-sl")
	var got []string
	device := ""
	for _, line := range strings.Split(text, "\n") {
		if name, ok := strings.CutPrefix(line, "Errors for "); ok {
			_, device, _ = strings.Cut(name, `"`)
			device, _, _ = strings.Cut(device, `"`)
		}
		if m := regexp.MustCompile(`GUID 0x\w+ port (\d+): (.*)`).FindStringSubmatch(line); m != nil {
			got = append(got, device+"["+m[1]+"] "+m[2])
		}
	}
	slices.Sort(got)
	want := []string{
		"hnode007 mlx5_0[1] [PortRcvErrors == 65535]",
		"leaf-05[2] [SymbolErrorCounter == 4711]",
	}
	for _, port := range []string{"hnode001 mlx5_0[1]", "hnode002 mlx5_1[1]", "leaf-01[1]", "leaf-02[2]", "leaf-03[34]", "leaf-08[4]", "spine-02[3]"} {
		want = append(want, port+" [LinkDownedCounter == 1]") // what lost its link
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ibqueryerrors (-injected +printed):\n%s\n%s%s", diff, text, complaints)
	}
}

// TestInteropIBSim: the same tool sees the same in ibsim, of the same net.
func TestInteropIBSim(t *testing.T) {
	net := pods(2, 8, 4, 4, false)
	var file strings.Builder
	if err := net.WriteIBSim(&file); err != nil {
		t.Fatal(err)
	}
	foreign := ibsimtest.Start(t, file.String(), attach)
	for i := range net.Nodes {
		net.Nodes[i].Width, net.Nodes[i].Speed = 4, "HDR"
	}
	ours := ibsimtest.Attach(t, serve(t, &Server{Fabric: build(t, net, Options{})}), attach)
	want, got := found(t, foreign.Run("ibnetdiscover")), found(t, ours.Run("ibnetdiscover"))
	if diff := cmp.Diff(want, got); diff != "" || len(want) != len(net.Links) {
		t.Errorf("%d links; want %d (-ibsim +ours):\n%s", len(want), len(net.Links), diff)
	}
}
