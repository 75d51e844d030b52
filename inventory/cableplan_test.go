package inventory

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPortLabel(t *testing.T) {
	c := loadWith(t, "")
	qm9700, qm8700 := c.SwitchModels["qm9700"], c.SwitchModels["qm8700"]
	tests := []struct {
		sw   Switch
		port int
		want string
	}{
		{Switch{Model: qm9700}, 1, "1/1"},
		{Switch{Model: qm9700}, 34, "17/2"},
		{Switch{Model: qm9700}, 64, "32/2"},
		{Switch{Model: qm9700, Split: true}, 1, "1/1/1"},
		{Switch{Model: qm9700, Split: true}, 67, "17/2/1"},
		{Switch{Model: qm9700, Split: true}, 68, "17/2/2"},
		{Switch{Model: qm9700, Split: true}, 128, "32/2/2"},
		{Switch{Model: qm8700}, 17, "17"},
		{Switch{Model: qm8700, Split: true}, 80, "40/2"},
		{Switch{}, 5, "5"},
	}
	for _, tt := range tests {
		if got := tt.sw.PortLabel(tt.port); got != tt.want {
			t.Errorf("PortLabel(%d) of %v split %v = %q; want %q", tt.port, tt.sw.Model, tt.sw.Split, got, tt.want)
		}
	}
}

// TestCableLength holds the estimate against sums done by hand.
func TestCableLength(t *testing.T) {
	rack := func(row string, position int) *Rack { return &Rack{Height: 42, Row: row, Position: position} }
	a1, high := rack("A", 1), &Rack{Height: 80}
	p := &cablePlanner{rows: map[string]int{"A": 0, "B": 1, "C": 2}}
	tests := []struct {
		name   string
		a, b   placed
		length string
		class  string
	}{
		{"same rack", placed{rack: a1, unit: 1}, placed{rack: a1, unit: 40}, "2.23", "3m copper"},
		{"same rack, next unit", placed{rack: a1, unit: 1}, placed{rack: a1, unit: 2}, "0.54", "1m copper"},
		{"same rack, unit not declared", placed{rack: a1}, placed{rack: a1, unit: 2}, "2.37", "3m copper"},
		{"same rack, higher than copper reaches", placed{rack: high}, placed{rack: high}, "4.06", "5m optical"},
		// 1.82 + 0.5 up, 1.8 along, 0 + 0.5 down, 0.5 slack
		{"same row", placed{rack: a1, unit: 1}, placed{rack: rack("A", 4), unit: 42}, "5.12", "7m optical"},
		// two rows across, 4.8, on top of that
		{"other row", placed{rack: a1, unit: 1}, placed{rack: rack("C", 4), unit: 42}, "9.92", "10m optical"},
		{"far", placed{rack: a1, unit: 42}, placed{rack: rack("A", 200), unit: 42}, "120.90", "over 100m"},
		{"no row", placed{rack: a1, unit: 1}, placed{rack: rack("", 4), unit: 42}, "", ""},
		{"no position", placed{rack: a1, unit: 1}, placed{rack: rack("A", 0), unit: 42}, "", ""},
		{"no rack", placed{rack: a1, unit: 1}, placed{}, "", ""},
	}
	for _, tt := range tests {
		length, class := "", ""
		if got, ok := p.length(tt.a, tt.b); ok {
			length, class = fmt.Sprintf("%.2f", got), cableClass(got, tt.a.rack == tt.b.rack)
		}
		if length != tt.length || class != tt.class {
			t.Errorf("%s: %s m, %q; want %s m, %q", tt.name, length, class, tt.length, tt.class)
		}
	}
}

// TestCablePlan holds order, places, rates and labels of a plan's rows.
func TestCablePlan(t *testing.T) {
	c := loadWith(t, rackedNodes(12, 2, "NDR200")+`
fabric "compute" {
  link_layer = "infiniband"
  topology "rail_optimized" {
    unit_nodes = 8
    leaf {
      model    = switch_model.qm9700
      racks    = [rack["r1"], rack["r5"]]
      unit     = 41
      per_rack = 2
    }
    spine {
      model = switch_model.qm9700
      split = true
    }
  }
}
`)
	var got []string
	for i, r := range c.CablePlan(c.Fabrics["compute"]) {
		if i%9 == 0 {
			end := func(e CableEnd) string {
				rack := "-"
				if e.Rack != nil {
					rack = e.Rack.Name
				}
				return fmt.Sprintf("%s %s (%s) %s:%d", e.Device, e.Port, e.Label, rack, e.Unit)
			}
			got = append(got, fmt.Sprintf("%s %s, %s, %s %.1f %q", r.Tier, end(r.A), end(r.B), r.Rate, r.Length, r.Class))
		}
	}
	want := []string{
		`node-leaf n1 ibn1 (ibn1) r1:1, leaf-01 1 (1/1) r1:41, NDR200 2.3 "3m copper"`,
		`node-leaf n5 ibn2 (ibn2) r1:5, leaf-02 5 (3/1) r1:42, NDR200 2.1 "3m copper"`,
		`leaf-spine leaf-01 35 (18/1) r1:41, spine-01 3 (1/2/1) -:0, NDR200 0.0 ""`,
		`leaf-spine leaf-02 36 (18/2) r1:42, spine-01 12 (3/2/2) -:0, NDR200 0.0 ""`,
		`node-leaf n11 ibn1 (ibn1) r2:3, leaf-03 3 (2/1) r5:41, NDR200 6.3 "7m optical"`,
		`leaf-spine leaf-03 38 (19/2) r5:41, spine-01 22 (6/1/2) -:0, NDR200 0.0 ""`,
		`leaf-spine leaf-04 39 (20/1) r5:42, spine-01 31 (8/2/1) -:0, NDR200 0.0 ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("every ninth row (-want +got):\n%s", diff)
	}
}
