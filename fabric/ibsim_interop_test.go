package fabric

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/internal/ibsimtest"
)

// simNet is a fabric of two units of four nodes with four adapters each, a leaf
// for each rail of a unit and four spines, as ibsim's net file, and its links.
func simNet() (text string, links []string) {
	type port struct {
		device string
		num    int
	}
	peers := map[port]port{}
	join := func(a, b port) {
		peers[a], peers[b] = b, a
		links = append(links, fmt.Sprintf("%s[%d] %s[%d] HDR", a.device, a.num, b.device, b.num))
	}
	for n := range 8 {
		for r := range 4 {
			join(port{fmt.Sprintf("hnode%03d mlx5_%d", n+1, r), 1}, port{fmt.Sprintf("leaf-%02d", n/4*4+r+1), n%4 + 1})
		}
	}
	for l := range 8 {
		for s := range 4 {
			join(port{fmt.Sprintf("leaf-%02d", l+1), 9 + s}, port{fmt.Sprintf("spine-%02d", s+1), l + 1})
		}
	}
	var b strings.Builder
	b.WriteString("width=3\nspeed=7\nextspeed=7\n")
	node := func(i int, kind, guid, name string, ports int) {
		fmt.Fprintf(&b, "\nvendid=0x2c9\ndevid=0xd2f2\nsysimgguid=0x%x\n%s=0x%[1]x\n%[3]s %[4]d %[5]q\t# %[5]q", 0xa088c203<<8+i<<4, guid, kind, ports, name)
		if kind == "Switch" {
			b.WriteString(" base port 0 lid 0 lmc 0")
		}
		b.WriteString("\n")
		for p := range ports {
			if q, ok := peers[port{name, p + 1}]; ok {
				fmt.Fprintf(&b, "[%d]\t%q[%d]\t# %[2]q lid 0 4xHDR\n", p+1, q.device, q.num)
			}
		}
	}
	for i := range 8 {
		node(i, "Switch", "switchguid", fmt.Sprintf("leaf-%02d", i+1), 65)
	}
	for i := range 4 {
		node(8+i, "Switch", "switchguid", fmt.Sprintf("spine-%02d", i+1), 65)
	}
	for i := range 32 {
		node(12+i, "Ca", "caguid", fmt.Sprintf("hnode%03d mlx5_%d", i/4+1, i%4), 1)
	}
	slices.Sort(links)
	return b.String(), links
}

// TestInteropIBSim reads what ibnetdiscover prints of a simulated fabric, in
// both forms, and wants exactly the links of the file that was simulated.
func TestInteropIBSim(t *testing.T) {
	text, want := simNet()
	sim := ibsimtest.Start(t, text, "hnode001 mlx5_0")
	for name, args := range map[string][]string{"topology": nil, "full": {"--full"}, "grouped": {"-g"}, "report": {"-p"}} {
		t.Run(name, func(t *testing.T) {
			o := parse(t, sim.Run("ibnetdiscover", args...))
			if diff := cmp.Diff(want, linkTexts(o)); diff != "" {
				t.Errorf("links (-net file +ibnetdiscover):\n%s", diff)
			}
			if len(o.Inconsistencies) > 0 || o.Count(Switch) != 12 || o.Count(CA) != 32 {
				t.Errorf("%d switches, %d adapters, %v; want 12, 32 and no inconsistency", o.Count(Switch), o.Count(CA), o.Inconsistencies)
			}
			for _, n := range o.Nodes {
				if want := map[Kind]int{Switch: 65, CA: 1}[n.Kind]; n.NumPorts != want {
					t.Errorf("%s has %d ports; want %d", n.Label(), n.NumPorts, want)
				}
			}
		})
	}
}

// TestNetFile reads the simulator's own file, which has the same form.
func TestNetFile(t *testing.T) {
	text, want := simNet()
	if diff := cmp.Diff(want, linkTexts(parse(t, text))); diff != "" {
		t.Errorf("links (-made +read):\n%s", diff)
	}
}
