package fabricsim

import (
	"strings"
	"testing"

	"firstlight/fabric/mad"
)

// TestFaults injects each kind and looks at what a client sees of it. From
// hnode001 mlx5_0 leaf-01 is at [1], hnode002 mlx5_0 at [1 2], spine-01 at
// [1 33], leaf-02 at [1 33 2].
func TestFaults(t *testing.T) {
	cases := []struct {
		fault Fault
		check func(t *testing.T, p probe)
	}{
		{Fault{Kind: Unlink, At: End{"leaf-01", 2}}, func(t *testing.T, p probe) {
			if got := p.portInfo(2, 1); got.State != mad.PortDown || got.PhysState != mad.PhysPolling {
				t.Errorf("leaf-01 port 2 is %v, %v", got.State, got.PhysState)
			}
		}},
		{Fault{Kind: Swap, At: End{"leaf-01", 2}, To: End{"leaf-02", 1}}, func(t *testing.T, p probe) {
			if a, b := p.description(1, 2), p.description(1, 33, 2, 1); a != "hnode001 mlx5_1" || b != "hnode002 mlx5_0" {
				t.Errorf("leaf-01 port 2 leads to %s, leaf-02 port 1 to %s", a, b)
			}
		}},
		{Fault{Kind: Move, At: End{"leaf-01", 2}, To: End{"leaf-01", 9}}, func(t *testing.T, p probe) {
			if got := p.description(1, 9); got != "hnode002 mlx5_0" || p.portInfo(2, 1).State != mad.PortDown {
				t.Errorf("leaf-01 port 9 leads to %s, port 2 is %v", got, p.portInfo(2, 1).State)
			}
		}},
		{Fault{Kind: Plug, At: End{"leaf-01", 9}, To: End{"leaf-02", 9}}, func(t *testing.T, p probe) {
			if got := p.description(1, 9); got != "leaf-02" {
				t.Errorf("leaf-01 port 9 leads to %s", got)
			}
		}},
		{Fault{Kind: Dead, Node: "hnode002 mlx5_0"}, func(t *testing.T, p probe) {
			if got := p.portInfo(2, 1); got.State != mad.PortDown {
				t.Errorf("the port of a dead node is %v", got.State)
			}
			if err := p.f.Inject(Fault{Kind: Revive, Node: "hnode002 mlx5_0"}); err != nil || p.description(1, 2) != "hnode002 mlx5_0" {
				t.Errorf("it does not come back: %v", err)
			}
		}},
		{Fault{Kind: Mute, Node: "hnode002 mlx5_0"}, func(t *testing.T, p probe) {
			if _, fate := p.directed(mad.MethodGet, []byte{1, 2}, mad.AttrNodeInfo, 0, nil); fate != lost || p.portInfo(2, 1).PhysState != mad.PhysLinkUp {
				t.Errorf("a mute node: fate %d, %v", fate, p.portInfo(2, 1).PhysState)
			}
		}},
		{Fault{Kind: Describe, Node: "leaf-02", Text: "localhost"}, func(t *testing.T, p probe) {
			if got := p.description(1, 33, 2); got != "localhost" {
				t.Errorf("leaf-02 says it is %q", got)
			}
		}},
		{Fault{Kind: GUID, Node: "hnode002 mlx5_0", Value: 0xabc}, func(t *testing.T, p probe) {
			if got := p.nodeInfo(1, 2); got.NodeGUID != 0xabc || got.PortGUID != 0xabc {
				t.Errorf("NodeInfo = %+v", got)
			}
		}},
		{Fault{Kind: LiePorts, Node: "leaf-01", Value: 255}, func(t *testing.T, p probe) {
			if got := p.portInfo(200, 1); p.nodeInfo(1).NumPorts != 255 || got.State != mad.PortActive || got.Speed() != "NDR" {
				t.Errorf("%d ports; port 200 is %v at %s", p.nodeInfo(1).NumPorts, got.State, got.Speed())
			}
			if _, fate := p.directed(mad.MethodGet, []byte{1, 200}, mad.AttrNodeInfo, 0, nil); fate != lost {
				t.Errorf("something is behind port 200: fate %d", fate)
			}
		}},
		{Fault{Kind: Garble, Node: "leaf-01"}, func(t *testing.T, p probe) {
			a, b := p.get([]byte{1}, mad.AttrNodeInfo, 0), p.get([]byte{1}, mad.AttrNodeInfo, 0)
			if string(a) == string(b) {
				t.Error("a garbling node gave the same answer twice")
			}
		}},
		{Fault{Kind: Loop, At: End{"leaf-01", 2}}, func(t *testing.T, p probe) {
			if got := p.nodeInfo(1, 2, 2, 2); got.LocalPort != 2 || p.description(1, 2, 2) != "leaf-01" {
				t.Errorf("behind port 2 is %s, reached by port %d", p.description(1, 2, 2), got.LocalPort)
			}
		}},
		{Fault{Kind: Partition, At: End{"hnode002 mlx5_0", 1}, Keys: []uint16{0x8123}}, func(t *testing.T, p probe) {
			if got, _ := mad.ParsePKeyTable(p.get([]byte{1, 2}, mad.AttrPKeyTable, 0)); got[0] != 0x8123 || got[1] != 0 {
				t.Errorf("partition keys = %x", got)
			}
		}},
		{Fault{Kind: Lossy, At: End{"leaf-01", 2}, Share: 0.5}, func(t *testing.T, p probe) {
			n := 0
			for range 400 {
				if _, fate := p.directed(mad.MethodGet, []byte{1, 2}, mad.AttrNodeInfo, 0, nil); fate == answered {
					n++
				}
			}
			if n < 60 || n > 140 { // both ways: a quarter comes back
				t.Errorf("%d of 400 came back", n)
			}
		}},
	}
	for _, c := range cases {
		t.Run(string(c.fault.Kind), func(t *testing.T) {
			f := build(t, small(), Options{Managed: true})
			p := at(t, f, "hnode001 mlx5_0")
			if err := f.Inject(c.fault); err != nil {
				t.Fatal(err)
			}
			c.check(t, p)
			// There from the beginning, it is the same and nothing went down.
			f = build(t, small(), Options{Managed: true, Faults: []Fault{c.fault}})
			c.check(t, at(t, f, "hnode001 mlx5_0"))
			if got := f.ports[f.nodes[f.byName["spine-01"]].first+1].counters; got != nil && got[linkDowned].value != 0 {
				t.Errorf("spine-01 port 1 went down %d times", got[linkDowned].value)
			}
		})
	}
}

// TestEndless follows a chain without an end as far as a route can lead.
func TestEndless(t *testing.T) {
	f := build(t, small(), Options{Managed: true, Faults: []Fault{{Kind: Endless, At: End{"leaf-01", 9}}}})
	p := at(t, f, "hnode001 mlx5_0")
	seen := map[uint64]bool{}
	path := []byte{1, 9}
	for len(path) <= mad.MaxHops {
		info := p.nodeInfo(path...)
		if seen[info.NodeGUID] || info.NumPorts != 2 || info.LocalPort != 1 || p.portInfo(2, path...).PhysState != mad.PhysLinkUp {
			t.Fatalf("by %v: %+v", path, info)
		}
		seen[info.NodeGUID] = true
		path = append(path, 2)
	}
	if got := p.description(1, 9, 2, 2, 1, 1, 1); got != "leaf-01" {
		t.Errorf("the way back out leads to %q", got)
	}
	if got := p.nodeInfo(1, 9, 2, 2, 1); got.LocalPort != 2 {
		t.Errorf("on the way back it is entered by port %d", got.LocalPort)
	}
}

func TestInjectErrors(t *testing.T) {
	f := build(t, small(), Options{})
	for _, c := range []struct {
		fault Fault
		want  string
	}{
		{Fault{Kind: Dead, Node: "x"}, `fault dead: there is no node "x"`},
		{Fault{Kind: Unlink, At: End{"leaf-01", 40}}, "leaf-01 port 40 has no cable"},
		{Fault{Kind: Unlink, At: End{"leaf-01", 66}}, "it has ports 1 to 65"},
		{Fault{Kind: Swap, At: End{"leaf-01", 1}, To: End{"leaf-01", 40}}, "has no cable"},
		{Fault{Kind: Swap, At: End{"leaf-01", 1}, To: End{"hnode001 mlx5_0", 1}}, "the two ends of one cable"},
		{Fault{Kind: Move, At: End{"leaf-01", 1}, To: End{"leaf-01", 2}}, "has one"},
		{Fault{Kind: Plug, At: End{"leaf-01", 1}, To: End{"leaf-01", 9}}, "has a cable"},
		{Fault{Kind: Slow, At: End{"leaf-01", 1}, Speed: "QQR"}, `no link runs at "QQR"`},
		{Fault{Kind: Narrow, At: End{"leaf-01", 1}, Width: 3}, "no link has 3 lanes"},
		{Fault{Kind: Count, At: End{"leaf-01", 1}, Counter: "Luck"}, `there is no counter "Luck"`},
		{Fault{Kind: LiePorts, Node: "leaf-01", Value: 300}, "300 is no NumPorts"},
		{Fault{Kind: "rain", At: End{"leaf-01", 1}}, "fault rain: there is no such kind of fault"},
	} {
		if err := f.Inject(c.fault); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Inject(%+v) = %v; want %q", c.fault, err, c.want)
		}
	}
}
