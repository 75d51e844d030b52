package provision

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
)

// TestReplace proves a ready node anew from the BMC up and leaves the others
// alone.
func TestReplace(t *testing.T) {
	r := newRig(3)
	if _, _, err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	r.want.Replace = map[string]bool{"n2": true}
	known, plan, err := r.apply(t)
	if err != nil {
		t.Fatal(err)
	}
	s := plan.Nodes[1]
	var all []State
	for _, st := range Chain[1:] {
		all = append(all, st.State)
	}
	if s.Action != ActionChange || !s.Replace || !slices.Equal(s.Redo, all) || !slices.Contains(s.Reasons, "replaced by request") ||
		s.Disruption != (Disruption{PowerCycles: 1, Reboots: 1}) || !slices.Equal(plan.Replace, []string{"n2"}) {
		t.Errorf("plan %v, step %+v; want n2 replaced by request, all proofs sought anew", plan.Replace, s)
	}
	for name, want := range map[string][3]int{"n1": {1, 0, 1}, "n2": {1, 1, 2}, "n3": {1, 0, 1}} {
		m := r.world.machines[name]
		if got := [3]int{m.ons, m.cycles, m.reboots}; got != want || known.Nodes[name].State != Ready {
			t.Errorf("%s is %s after %d power-ons, cycles, reboots; want ready after %d", name, known.Nodes[name].State, got, want)
		}
	}
	r.want.Replace = nil
	if p := MakePlan(r.want, known, nil, time.Now()); p.Changes() {
		t.Errorf("plan after it %+v; want no changes", p.Summary)
	}
}

// TestReplaceResumes kills the controller after each journal write of a
// replacement: a plain apply then takes it up, without a second power cycle.
func TestReplaceResumes(t *testing.T) {
	once := newRig(1)
	if _, _, err := once.apply(t); err != nil {
		t.Fatal(err)
	}
	before := len(once.log.(*memory).events)
	once.want.Replace = map[string]bool{"n1": true}
	if _, _, err := once.apply(t); err != nil {
		t.Fatal(err)
	}
	writes := len(once.log.(*memory).events)
	if writes-before < 15 {
		t.Fatalf("a replacement wrote %d events; want at least 15", writes-before)
	}
	for at := before + 2; at < writes; at++ { // the first write begins it
		t.Run(fmt.Sprint("after write ", at-before), func(t *testing.T) {
			t.Parallel()
			r := newRig(1)
			if _, _, err := r.apply(t); err != nil {
				t.Fatal(err)
			}
			r.want.Replace = map[string]bool{"n1": true}
			m := r.log.(*memory)
			m.after = at
			if _, _, err := r.apply(t); !errors.Is(err, errKilled) {
				t.Fatalf("Run = %v; want the crash", err)
			}
			r.world.mu.Lock()
			r.world.engine = nil
			r.world.mu.Unlock()
			m.full, m.after = nil, 0
			r.want.Replace = nil
			known, _, err := r.apply(t)
			mc := r.world.machines["n1"]
			if err != nil || known.Nodes["n1"].State != Ready || mc.ons != 1 || mc.cycles != 1 || mc.reboots != 2 {
				t.Errorf("%s, %v: %d power-ons, %d cycles, %d reboots; want ready, 1, 1, 2", known.Nodes["n1"], err, mc.ons, mc.cycles, mc.reboots)
			}
		})
	}
}

// TestReplaceHeld: what waits for a person stays with the person.
func TestReplaceHeld(t *testing.T) {
	c := testCluster(2)
	known := NewKnown()
	for i, st := range []State{Quarantined, Maintenance} {
		n := NewNode(c.Nodes[i].Name)
		n.State = st
		known.Nodes[n.Name] = n
	}
	p := MakePlan(Want{Cluster: c, Replace: map[string]bool{"n1": true, "n2": true}}, known, nil, epoch)
	if p.Changes() || p.Summary.Held != 2 || p.Replace != nil {
		t.Errorf("plan %+v, replaces %v; want both held", p.Summary, p.Replace)
	}
}

// TestMatchAdapters holds an adapter found against the declared device, place
// and GUID.
func TestMatchAdapters(t *testing.T) {
	n := &inventory.Node{Name: "n1", Hardware: &inventory.Hardware{Name: "h", HCAs: []inventory.HCA{
		{Name: "rail1", Rail: 1, Device: "mlx5_0", PCI: "0000:18:00.0"}, {Name: "ibn2", Rail: 2, Device: "ibn2"}}},
		HCAs: []inventory.NodeHCA{{Name: "rail1", GUID: 0xa088c20300ab1234}}}
	found := func(d api.RDMADevice) *api.Inspection {
		return &api.Inspection{BootMode: "uefi", RDMA: []api.RDMADevice{d, {Name: "mlx5_ibn2"}}}
	}
	right := api.RDMADevice{Name: "mlx5_0", PCI: "0000:18:00.0", NodeGUID: "a088:c203:00ab:1234"}
	tests := []struct {
		name   string
		found  api.RDMADevice
		failed []string
	}{
		{"as declared", right, nil},
		{"other device", api.RDMADevice{Name: "mlx5_1", PCI: right.PCI, NodeGUID: right.NodeGUID}, []string{"rdma.rail1"}},
		{"other place", api.RDMADevice{Name: "mlx5_0", PCI: "0000:40:00.0", NodeGUID: right.NodeGUID}, []string{"rdma.rail1.pci"}},
		{"other adapter", api.RDMADevice{Name: "mlx5_0", PCI: right.PCI, NodeGUID: "a088:c203:00ab:9999"}, []string{"rdma.rail1.guid"}},
		{"GUID not said", api.RDMADevice{Name: "mlx5_0", PCI: right.PCI}, []string{"rdma.rail1.guid"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var failed []string
			for _, c := range Match(n, found(tt.found)) {
				if c.Verdict != acceptance.Pass {
					failed = append(failed, c.Name)
				}
			}
			if !slices.Equal(failed, tt.failed) {
				t.Errorf("failed: %v; want %v", failed, tt.failed)
			}
		})
	}
}
