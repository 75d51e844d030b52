package inventory

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rackedNodes declares nodes n1… with rails adapters each, and racks.
func rackedNodes(n, rails int, rate string) string {
	var b strings.Builder
	b.WriteString("hardware \"h\" {\n")
	for r := range rails {
		fmt.Fprintf(&b, "  hca \"ibn%d\" {\n    rail = %d\n    rate = %q\n  }\n", r+1, r+1, rate)
	}
	fmt.Fprintf(&b, `}
rack "r" {
  for_each = { for i in range(1, 9) : "r${i}" => i }
  row      = each.value < 5 ? "A" : "B"
  position = (each.value - 1) %% 4 + 1
}
node "n" {
  for_each = { for i in range(1, %d) : "n${i}" => i }
  rack     = rack["r${1 + floor((each.value - 1) / 8)}"]
  unit     = (each.value - 1) %% 8 + 1
  hardware = hardware.h
  bmc {
    address    = cidrhost("10.20.0.0/24", 10 + each.value)
    credential = credential.bmc
  }
  nic "boot" {
    mac     = format("52:54:00:00:00:%%02x", each.value)
    network = network.provision
    address = cidrhost("10.10.0.0/24", 10 + each.value)
  }
}
`, n+1)
	return b.String()
}

// loadWith loads testdata/base.hcl with more.
func loadWith(t *testing.T, more string) *Cluster {
	t.Helper()
	base, err := os.ReadFile("testdata/base.hcl")
	if err != nil {
		t.Fatal(err)
	}
	c, src, diags := Load(write(t, map[string]string{"base.hcl": string(base), "more.hcl": more, "image/image.hcl": ""}), Options{Env: noEnv})
	if c == nil {
		t.Fatalf("Load:\n%s", text(t, src, diags))
	}
	return c
}

// TestTopology loads fabrics that their topology makes: how many switches and
// cables, and what stands where.
func TestTopology(t *testing.T) {
	const racked = `
fabric "compute" {
  link_layer = "infiniband"
  rate       = "NDR"
  topology "rail_optimized" {
    reserved = 1
    leaf {
      model    = switch_model.qm9700
      name     = "l%03d"
      racks    = [rack["r1"], rack["r5"]]
      unit     = 30
      per_rack = 4
    }
    spine {
      model = switch_model.qm9700
      racks = [rack["r5"]]
      unit  = 40
      count = 3
      name  = "s%d"
    }
    appliance "ufm" {
      ports = 4
      rack  = rack["r5"]
      unit  = 1
    }
  }
}
`
	c := loadWith(t, rackedNodes(31, 6, "NDR200")+racked)
	var got []string
	for _, s := range c.Switches {
		got = append(got, fmt.Sprintf("%s %s %d %s:%d %s %s", s.Name, s.Role, s.Rail, s.Rack.Name, s.Unit, s.Fabric, s.Model.Name))
	}
	want := []string{
		"l001 leaf 1 r1:30 compute qm9700", "l002 leaf 2 r1:31 compute qm9700", "l003 leaf 3 r1:32 compute qm9700", "l004 leaf 4 r1:33 compute qm9700",
		"l005 leaf 5 r5:30 compute qm9700", "l006 leaf 6 r5:31 compute qm9700",
		"s1 spine 0 r5:40 compute qm9700", "s2 spine 0 r5:41 compute qm9700", "s3 spine 0 r5:42 compute qm9700",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("switches (-want +got):\n%s", diff)
	}
	tiers := map[string]int{}
	for _, k := range c.Fabrics["compute"].Cables {
		tiers[k.Tier]++
	}
	if diff := cmp.Diff(map[string]int{"node-leaf": 31*6 + 4, "leaf-spine": 6 * 32}, tiers); diff != "" {
		t.Errorf("cables by tier (-want +got):\n%s", diff)
	}
}

// TestTopologyRoCE: an Ethernet fabric is laid out by the same rules; its split
// leaves take twice the nodes.
func TestTopologyRoCE(t *testing.T) {
	c := loadWith(t, rackedNodes(64, 4, "400GbE")+`
fabric "roce" {
  link_layer = "ethernet"
  rate       = "400GbE"
  topology "rail_optimized" {
    leaf {
      model = switch_model.sn5600
      split = true
    }
    spine {
      model = switch_model.sn5600
      split = true
    }
  }
}
`)
	f := c.Fabrics["roce"]
	if len(c.Switches) != 4+2 || len(f.Cables) != 64*4+4*64 {
		t.Fatalf("%d switches and %d cables; want 6 and 512", len(c.Switches), len(f.Cables))
	}
	last := f.Cables[len(f.Cables)-1]
	if got := fmt.Sprint(last.ADevice, " ", last.APort, " ", last.BDevice, " ", last.BPort); got != "leaf-04 128 spine-02 128" {
		t.Errorf("the last cable is %s; want leaf-04 128 spine-02 128", got)
	}
}

// TestTopologyFatTree: nodes are listed in an order of their own, and fill
// leaves with all their adapters side by side.
func TestTopologyFatTree(t *testing.T) {
	c := loadWith(t, rackedNodes(12, 4, "HDR")+`
fabric "compute" {
  link_layer = "infiniband"
  topology "fat_tree" {
    nodes = concat(["n12"], hostlist("n[1-11]"))
    leaf {
      model = switch_model.qm8700
    }
    spine {
      model = switch_model.qm8700
    }
  }
}
`)
	f := c.Fabrics["compute"]
	var got []string
	for _, k := range f.Cables[:8] {
		got = append(got, k.ADevice+" "+k.APort+" "+k.BDevice+" "+k.BPort)
	}
	want := []string{"n12 ibn1 leaf-01 1", "n12 ibn2 leaf-01 2", "n12 ibn3 leaf-01 3", "n12 ibn4 leaf-01 4",
		"n1 ibn1 leaf-01 5", "n1 ibn2 leaf-01 6", "n1 ibn3 leaf-01 7", "n1 ibn4 leaf-01 8"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cables (-want +got):\n%s", diff)
	}
	if n := len(c.Switches); n != 3+2 {
		t.Errorf("%d switches; want 3 leaves and 2 spines", n)
	}
}

// TestTopologyAbsentRail: an adapter without a rail is not in the topology, and
// may be cabled by another fabric to a switch of its own.
func TestTopologyAbsentRail(t *testing.T) {
	c := loadWith(t, strings.Replace(rackedNodes(2, 3, "NDR200"), "    rail = 3\n", "", 1)+`
switch "storage" {
  model = switch_model.qm8700
}
fabric "compute" {
  link_layer = "infiniband"
  topology "rail_optimized" {
    leaf {
      model = switch_model.qm9700
    }
    spine {
      model = switch_model.qm9700
    }
  }
}
fabric "storage" {
  link_layer = "infiniband"
  cables = [
    { a_device = "n1", a_port = "ibn3", b_device = "leaf-01", b_port = "32" },
    { a_device = "n2", a_port = "ibn3", b_device = "storage", b_port = "2" },
  ]
}
`)
	for _, k := range c.Fabrics["compute"].Cables {
		if k.APort == "ibn3" {
			t.Errorf("cable %v is of an adapter without a rail", k)
		}
	}
}

// TestLimits: what is declared is kept with its line, and defaults are not taken
// for declared.
func TestLimits(t *testing.T) {
	c := mustLoad(t, map[string]string{"f.hcl": `
fabric "a" {
  link_layer = "infiniband"
  limits {
    flaps   = "2"
    traffic = 5
  }
}
fabric "b" {
  link_layer = "infiniband"
}
`}, Options{})
	if l := c.Fabrics["a"].Limits; len(l) != 2 || l["flaps"].Most != 2 || l["traffic"].Most != 5 || l["flaps"].Range.Start.Line != 5 {
		t.Errorf("limits of a: %+v; want flaps 2 of line 5, and traffic 5", l)
	}
	if l := c.Fabrics["b"].Limits; len(l) != 0 {
		t.Errorf("limits of b: %+v; want none declared", l)
	}
}
