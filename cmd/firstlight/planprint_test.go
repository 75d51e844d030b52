package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"firstlight/inventory"
	"firstlight/provision"
)

// bigCluster declares n nodes, eight to a rack; every hundredth is a spare.
func bigCluster(n int) *inventory.Cluster {
	c := &inventory.Cluster{Name: "big", Settings: inventory.Settings{Concurrency: 64}}
	image := &inventory.Image{Name: "compute", Method: "netboot"}
	classes := []*inventory.Hardware{{Name: "h200x8", GPU: &inventory.GPU{Count: 8}}, {Name: "spare", GPU: &inventory.GPU{Count: 4}}}
	var rack *inventory.Rack
	for i := range n {
		if i%8 == 0 {
			rack = &inventory.Rack{Name: fmt.Sprintf("a%04d", i/8+1)}
		}
		class := classes[0]
		if i%100 == 99 {
			class = classes[1]
		}
		c.Nodes = append(c.Nodes, &inventory.Node{Name: fmt.Sprintf("hnode%05d", i+1), Rack: rack, Hardware: class, Image: image, Serial: fmt.Sprintf("S%05d", i+1),
			BMC:  &inventory.BMC{Address: netip.AddrFrom4([4]byte{10, 20, byte(i >> 8), byte(i)}), Protocol: "ipmi"},
			NICs: []inventory.NIC{{Name: "boot", MAC: net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}}}})
	}
	return c
}

// readyKnown is a journal's content where every node is ready.
func readyKnown(t *testing.T, want provision.Want) provision.Known {
	t.Helper()
	known := provision.NewKnown()
	for _, n := range want.Cluster.Nodes {
		for _, ev := range bringUp(t, want, n, time.Unix(0, 0), func(provision.State) string { return "sha256:e" }) {
			ev.Serial = known.Serial + 1
			if _, err := known.Fold([]provision.Event{ev}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return known
}

// TestPrintPlan holds what a person reads of plans of a large site, and that it
// stays short.
func TestPrintPlan(t *testing.T) {
	want := provision.Want{Cluster: bigCluster(1000), Images: map[string]string{"compute": "sha256:one"}}
	ready := readyKnown(t, want)
	tests := []struct {
		name   string
		known  provision.Known
		change func(*inventory.Cluster)
		lines  int // at most
		has    []string
	}{
		{"bring-up", provision.NewKnown(), func(*inventory.Cluster) {}, 12, []string{
			"+ hnode[00001-01000] (racks a[0001-0125]): declared -> ready\n    because declared, nothing proven yet\n    costs 1 power cycle each, 1 reboot each, about 22m46s\n",
			"racks a[0001-0125]: 8 to bring up each\n", "hardware h200x8: 990 to bring up\n", "hardware spare: 10 to bring up\n",
			"Plan: 1000 to bring up, 0 to change, 0 to remove. 1000 power cycles, 0 disk erasures, about 6h04m.\n"}},
		{"one node", ready, func(c *inventory.Cluster) { c.Nodes[499].Serial = "OTHER" }, 8, []string{
			"~ hnode00500 (rack a0063): ready -> ready\n    because node.serial: S00500 -> OTHER\n", "Plan: 0 to bring up, 1 to change, 0 to remove. 1 power cycle,"}},
		{"one class", ready, func(c *inventory.Cluster) {
			for _, n := range c.Nodes {
				if n.Hardware.Name == "spare" {
					n.Hardware.GPU = &inventory.GPU{Count: 2}
				}
			}
		}, 12, []string{"~ hnode[00100,00200,00300,00400,00500,00600,00700,00800,00900,01000] (racks a[0013,0025,",
			"because hardware.gpu.count: 4 -> 2\n", "1 to change each\n"}},
		{"every serial", ready, func(c *inventory.Cluster) {
			for _, n := range c.Nodes {
				n.Serial += "x"
			}
		}, 14, []string{"because node.serial: S00001 -> S00001x (this of hnode00001; the others alike)\n"}},
		{"odd nodes gone", ready, func(c *inventory.Cluster) {
			var left []*inventory.Node
			for i, n := range c.Nodes {
				if i%2 == 1 {
					left = append(left, n)
				}
			}
			c.Nodes = left
		}, 8, []string{"- hnode[00001,00003,", ",...] (500 in all): close the record\n", "the machine is not touched"}},
		{"racks that all differ", provision.NewKnown(), func(c *inventory.Cluster) {
			for i, n := range c.Nodes {
				n.Rack = &inventory.Rack{Name: fmt.Sprintf("r%d", int(float64(i)*float64(i)/25000))}
			}
		}, 25, []string{"more racks (-json names them)\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := want
			w.Cluster = bigCluster(1000)
			tt.change(w.Cluster)
			var b strings.Builder
			printPlan(&b, provision.MakePlan(w, tt.known, nil, time.Time{}), false)
			text := b.String()
			for _, has := range tt.has {
				if !strings.Contains(text, has) {
					t.Errorf("the plan lacks %q", has)
				}
			}
			if n := strings.Count(text, "\n"); n > tt.lines {
				t.Errorf("the plan has %d lines; want at most %d", n, tt.lines)
			}
			for line := range strings.Lines(text) {
				if len(line) > 400 {
					t.Errorf("a line of %d bytes: %.80s", len(line), line)
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// TestAlike: where each node's reason is another, entries are bounded and the
// rest is counted.
func TestAlike(t *testing.T) {
	var items []item
	for i := range 500 {
		items = append(items, item{index: i, name: fmt.Sprintf("n%d", i), key: fmt.Sprint(i % 100), reasons: []string{fmt.Sprintf("node.serial: %d -> x", i)}})
	}
	var b strings.Builder
	shown := 0
	printAlike(&b, alike(items), func(g group) { shown += len(g.names) })
	if want := fmt.Sprintf("  80 more entries of %d nodes: -target narrows it down, -json has all\n", 500-shown); b.String() != want || shown != 100 {
		t.Errorf("shown %d nodes, then %q; want 100, then %q", shown, b.String(), want)
	}
}

// TestPrintWavesBasis: a plan says by what it knows the draw of its waves.
func TestPrintWavesBasis(t *testing.T) {
	var out strings.Builder
	wave := func(measured *int) provision.Wave {
		return provision.Wave{Nodes: []string{"n1", "n2"}, Watts: 12500, Measured: measured}
	}
	printWaves(&out, []provision.Wave{wave(nil), wave(new(0)), wave(new(1)), wave(new(2))})
	want := `Switched on in 4 waves, each once the nodes before it have started:
  wave 1: n[1-2], 12.5kW
  wave 2: n[1-2], 12.5kW by nameplate
  wave 3: n[1-2], 12.5kW with 1 of 2 as measured
  wave 4: n[1-2], 12.5kW as measured

`
	if out.String() != want {
		t.Errorf("waves\n%swant\n%s", out.String(), want)
	}
}
