package inventory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestPartitions has the default one that everybody is in, and one key with full
// members and limited ones.
func TestPartitions(t *testing.T) {
	c := mustLoad(t, map[string]string{"f.hcl": `
fabric "a" {
  link_layer = "infiniband"
  partition "default" {
    pkey       = "0x7FFF"
    membership = "limited"
  }
  dynamic "partition" {
    for_each = { servers = "0x10", nobody = "0x0011" }
    content {
      pkey  = partition.value
      nodes = []
    }
    labels = [partition.key]
  }
}
fabric "b" {
  link_layer = "infiniband"
}
`}, Options{})
	want := []Partition{{Name: "default", Key: 0x7fff}, {Name: "nobody", Key: 0x11, Full: true, Nodes: []string{}}, {Name: "servers", Key: 0x10, Full: true, Nodes: []string{}}}
	if diff := cmp.Diff(want, c.Fabrics["a"].Partitions, cmpopts.IgnoreFields(Partition{}, "Range")); diff != "" {
		t.Errorf("partitions of a (-want +got):\n%s", diff)
	}
	if p := c.Fabrics["b"].Partitions; p != nil {
		t.Errorf("partitions of b are %v; want none", p)
	}
	if p := want[0]; !p.Has("n1") || want[2].Has("n1") {
		t.Error("a node is in every partition that names none, and in no other")
	}
}
