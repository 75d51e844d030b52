package importer

import (
	"testing"
	"time"
)

// TestNationalSystem imports 766 nodes with 8 adapters each.
func TestNationalSystem(t *testing.T) {
	assets, fabric := assetsOf(t, 766, nil), newPlant(766, 8, 32).Fabric
	begin := time.Now()
	made := mustMake(t, Sources{Assets: assets, Fabric: fabric})
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("making the inventory took %s", took)
	}
	c := load(t, made)
	if f := made.Found; len(c.Nodes) != 766 || len(c.Hardware) != 1 || f.Nodes != 766 || f.Hosts != 766 || f.Switches != len(c.Switches) || f.Cables != len(fabric.Links) {
		t.Errorf("found %+v; %d nodes, %d classes, %d switches in the inventory", f, len(c.Nodes), len(c.Hardware), len(c.Switches))
	}
	if n := len(made.Files["nodes.hcl"]); n > 2000 {
		t.Errorf("nodes.hcl has %d bytes: one node block is enough", n)
	}
}
