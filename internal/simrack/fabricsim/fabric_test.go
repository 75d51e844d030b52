package fabricsim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric/mad"
	"firstlight/inventory"
)

// small is one unit of two nodes with two adapters, two leaves, one spine. From
// hnode001 mlx5_0, leaf-01 is at [1], hnode002 mlx5_0 at [1 2], spine-01 at [1 33],
// leaf-02 at [1 33 2], hnode001 mlx5_1 at [1 33 2 1].
func small() *Net { return pods(1, 2, 2, 1, false) }

func TestRoutesAndReturnPaths(t *testing.T) {
	p := at(t, build(t, small(), Options{}), "hnode001 mlx5_0")
	for _, c := range []struct {
		path, back []byte
		want       string
	}{
		{nil, nil, "hnode001 mlx5_0"},
		{[]byte{1}, []byte{1}, "leaf-01"},
		{[]byte{1, 2}, []byte{1, 1}, "hnode002 mlx5_0"},
		{[]byte{1, 33, 2, 1}, []byte{1, 1, 33, 1}, "hnode001 mlx5_1"},
	} {
		smp, fate := p.directed(mad.MethodGet, c.path, mad.AttrNodeDescription, 0, nil)
		text, _ := mad.ParseNodeDescription(smp.Data[:])
		if fate != answered || text != c.want || !bytes.Equal(smp.Return, c.back) {
			t.Errorf("by %v: fate %d, %q, return path %v; want %q, %v", c.path, fate, text, smp.Return, c.want, c.back)
		}
	}
	// A dark port, a port that is none, port 0, and an adapter that should pass on.
	for _, path := range [][]byte{{1, 40}, {1, 66}, {1, 0}, {2}, {1, 2, 1}} {
		if _, fate := p.directed(mad.MethodGet, path, mad.AttrNodeInfo, 0, nil); fate != lost {
			t.Errorf("by %v: fate %d; want lost", path, fate)
		}
	}
	if got := p.nodeInfo(1, 33); got.LocalPort != 1 || got.NumPorts != 65 || got.Type != mad.NodeSwitch || got.VendorID != 0x2c9 {
		t.Errorf("NodeInfo of the spine = %+v", got)
	}
}

func TestRates(t *testing.T) {
	for _, c := range []struct {
		width      int
		speed      string
		otherWidth int
		otherSpeed string
		want       string
	}{
		{4, "NDR", 4, "NDR", "4xNDR"}, {2, "NDR", 4, "NDR", "2xNDR"}, {4, "HDR", 4, "NDR", "4xHDR"}, {2, "HDR", 4, "HDR", "2xHDR"},
		{4, "EDR", 4, "NDR", "4xEDR"}, {4, "FDR", 4, "EDR", "4xFDR"}, {1, "QDR", 4, "NDR", "1xQDR"}, {4, "XDR", 2, "XDR", "2xXDR"},
		{12, "DDR", 12, "DDR", "12xDDR"}, {4, "SDR", 8, "NDR", "4xSDR"},
	} {
		net := &Net{
			Nodes: []Node{{Name: "a", Width: c.width, Speed: c.speed}, {Name: "s", Switch: true, Width: c.otherWidth, Speed: c.otherSpeed}},
			Links: []Link{{End{"a", 1}, End{"s", 7}}},
		}
		p := at(t, build(t, net, Options{}), "a")
		for name, got := range map[string]mad.PortInfo{"adapter": p.portInfo(0), "switch": p.portInfo(7, 1)} {
			if text := fmt.Sprintf("%dx%s", got.Width(), got.Speed()); text != c.want || got.State != mad.PortInit || got.PhysState != mad.PhysLinkUp {
				t.Errorf("%s of %dx%s on %dx%s: %s, %v, %v; want %s, Init, LinkUp", name, c.width, c.speed, c.otherWidth, c.otherSpeed, text, got.State, got.PhysState, c.want)
			}
		}
		width, speed := p.portInfo(0).Best()
		if width != c.width || speed != c.speed {
			t.Errorf("best of the adapter = %dx%s; want %dx%s", width, speed, c.width, c.speed)
		}
	}
	p := at(t, build(t, small(), Options{}), "hnode001 mlx5_0")
	if dark := p.portInfo(40, 1); dark.State != mad.PortDown || dark.PhysState != mad.PhysPolling || dark.Width() != 4 || dark.Speed() != "SDR" {
		t.Errorf("a port without a cable: %v, %v, %dx%s; want Down, Polling, 4xSDR", dark.State, dark.PhysState, dark.Width(), dark.Speed())
	}
}

// TestManagerSets does by hand what a subnet manager does.
func TestManagerSets(t *testing.T) {
	f := build(t, small(), Options{})
	p := at(t, f, "hnode001 mlx5_0")
	set := func(want mad.Status, attr mad.Attribute, mod uint32, data []byte, path ...byte) []byte {
		t.Helper()
		smp, fate := p.directed(mad.MethodSet, path, attr, mod, data)
		if fate != answered || smp.Status != want {
			t.Fatalf("set %x %x by %v: fate %d, status %v; want %v", attr, mod, path, fate, smp.Status, want)
		}
		return smp.Data[:]
	}
	state := func(s mad.PortState) []byte {
		return mad.AppendPortInfo(nil, mad.PortInfo{State: s, LID: 5, MasterSMLID: 5})
	}
	set(statusBadValue, mad.AttrPortInfo, 0, state(mad.PortActive)) // not from Init
	set(0, mad.AttrPortInfo, 0, state(mad.PortArmed))
	set(0, mad.AttrPortInfo, 0, state(mad.PortActive))
	set(statusBadValue, mad.AttrPortInfo, 40, state(mad.PortArmed), 1) // a dark port
	set(statusBadValue, mad.AttrPortInfo, 70, state(0), 1)             // no port
	if got := p.portInfo(0); got.State != mad.PortActive || got.LID != 5 {
		t.Errorf("after Armed and Active: %v, LID %d", got.State, got.LID)
	}
	// Down takes the link down and up again, at both ends, at what is enabled.
	slower := mad.AppendPortInfo(nil, mad.PortInfo{State: mad.PortDown, SpeedExtOn: 2, WidthEnabled: 1, LID: 5})
	set(0, mad.AttrPortInfo, 0|extendedSpeeds, slower)
	for _, got := range []mad.PortInfo{p.portInfo(0), p.portInfo(1, 1)} {
		if got.State != mad.PortInit || got.Width() != 1 || got.Speed() != "EDR" {
			t.Errorf("after Down: %v, %dx%s; want Init, 1xEDR", got.State, got.Width(), got.Speed())
		}
	}
	// Disabled takes the other end down too; Polling brings both back.
	port33 := func(phys mad.PhysState) []byte { return mad.AppendPortInfo(nil, mad.PortInfo{PhysState: phys}) }
	set(0, mad.AttrPortInfo, 2, port33(mad.PhysDisabled), 1)
	if got := p.portInfo(2, 1); got.PhysState != mad.PhysDisabled || got.State != mad.PortDown {
		t.Errorf("disabled: %v, %v", got.PhysState, got.State)
	}
	set(0, mad.AttrPortInfo, 2, port33(mad.PhysPolling), 1)
	if got := p.portInfo(0, 1, 2); got.PhysState != mad.PhysLinkUp {
		t.Errorf("enabled again: %v", got.PhysState)
	}

	table := bytes.Repeat([]byte{noPort}, mad.DataSize)
	table[5] = 1
	set(0, mad.AttrLinearForwardingTable, 3, table, 1)
	if got := p.get([]byte{1}, mad.AttrLinearForwardingTable, 3); !bytes.Equal(got, table) {
		t.Errorf("forwarding table = %v", got)
	}
	if got := p.get([]byte{1}, mad.AttrLinearForwardingTable, 0); got[5] != noPort {
		t.Errorf("a block that nobody set leads LID 5 to port %d", got[5])
	}
	set(statusBadAttribute, mad.AttrLinearForwardingTable, 0, table)
	group := bytes.Repeat([]byte{0, 2}, 32)
	set(0, attrMulticast, 1<<28|4, group, 1)
	if got := p.get([]byte{1}, attrMulticast, 1<<28|4); !bytes.Equal(got, group) {
		t.Errorf("multicast table = %v", got)
	}
	info := set(0, mad.AttrSwitchInfo, 0, mad.AppendSwitchInfo(nil, mad.SwitchInfo{LinearFDBTop: 77, PortStateChange: true}), 1)
	if got, _ := mad.ParseSwitchInfo(info); got.LinearFDBTop != 77 || got.PortStateChange || !got.EnhancedPort0 {
		t.Errorf("SwitchInfo = %+v; want top 77, no state change, an enhanced port 0", got)
	}
	keys := mad.AppendPKeyTable(nil, mad.PKeyTable{0x7fff, 0x8001})
	set(0, mad.AttrPKeyTable, 1<<16, keys, 1)
	if got := p.get([]byte{1}, mad.AttrPKeyTable, 1<<16); !bytes.Equal(got, keys) {
		t.Errorf("partition keys = %x", got)
	}
	if got := p.get(nil, mad.AttrPKeyTable, 0); binary.BigEndian.Uint16(got) != 0xffff {
		t.Errorf("partition keys to begin with = %x", got)
	}
	set(0, attrSLtoVL, 1<<8|2, []byte{0x11}, 1)
	if got := p.get([]byte{1}, attrSLtoVL, 1<<8|2); got[0] != 0x11 {
		t.Errorf("SL to VL = %x", got)
	}
	set(0, mad.AttrNodeDescription, 0, mad.AppendNodeDescription(nil, "renamed"), 1)
	if got := p.description(1); got != "renamed" {
		t.Errorf("description = %q", got)
	}
	if got := binary.BigEndian.Uint64(p.get([]byte{1, 2}, attrGUIDInfo, 0)); got != p.nodeInfo(1, 2).PortGUID {
		t.Errorf("GUIDInfo = %x", got)
	}
}

// TestManaged: in a fabric that a subnet manager has left, every port is reached
// by LID from every other, and still is when a cable is gone.
func TestManaged(t *testing.T) {
	f := build(t, pods(2, 2, 2, 2, false), Options{Managed: true})
	p := at(t, f, "hnode001 mlx5_0")
	reach := func() (n int) {
		t.Helper()
		for lid := uint16(1); lid <= f.topLID; lid++ {
			port := uint8(1)
			if _, fate := p.perf(mad.MethodGet, mad.AttrPortCounters, lid, port, nil); fate == answered {
				n++
			}
		}
		return n
	}
	if got := reach(); got != 6+8 {
		t.Errorf("%d of 14 LIDs answer", got)
	}
	if err := f.Inject(Fault{Kind: Unlink, At: End{"leaf-03", 33}}); err != nil {
		t.Fatal(err)
	}
	if got := reach(); got != 6+8 {
		t.Errorf("%d of 14 LIDs answer once leaf-03 has one uplink", got)
	}
	if err := f.Inject(Fault{Kind: Unlink, At: End{"leaf-03", 34}}); err != nil {
		t.Fatal(err)
	}
	if got := reach(); got != 6+8-3 {
		t.Errorf("%d LIDs answer without leaf-03 and its two adapters; want 11", got)
	}
}

func TestCounters(t *testing.T) {
	now := time.Unix(1000, 0)
	f := build(t, small(), Options{Managed: true, Now: func() time.Time { return now }, WideErrors: true})
	p := at(t, f, "hnode001 mlx5_0")
	leaf := f.lidOf("leaf-01", 0)
	faults := []Fault{
		{Kind: Count, At: End{"leaf-01", 2}, Counter: "SymbolErrorCounter", Value: 7, PerSecond: 2.5},
		{Kind: Count, At: End{"leaf-01", 2}, Counter: "LinkDownedCounter", Value: 300},
		{Kind: Count, At: End{"leaf-01", 2}, Counter: "LocalLinkIntegrityErrors", Value: 99},
		{Kind: Count, At: End{"leaf-01", 2}, Counter: "PortXmitWait", Value: 1 << 40},
	}
	if err := f.Inject(faults...); err != nil {
		t.Fatal(err)
	}
	now = now.Add(10 * time.Second)
	want := mad.PortCounters{Port: 2, SymbolErrorCounter: 32, LinkDownedCounter: 255, LocalLinkIntegrityErrors: 15, PortXmitWait: 1<<32 - 1}
	if diff := cmp.Diff(want, p.counters(leaf, 2)); diff != "" {
		t.Errorf("PortCounters (-want +got):\n%s", diff)
	}
	data, _ := p.perf(mad.MethodGet, mad.AttrPortCountersExtended, leaf, 2, nil)
	wide, _ := mad.ParsePortCountersExtended(data)
	if diff := cmp.Diff(mad.PortCountersExtended{Port: 2, SymbolErrorCounter: 32, LinkDownedCounter: 300, LocalLinkIntegrityErrors: 99, PortXmitWait: 1 << 40}, wide); diff != "" {
		t.Errorf("PortCountersExtended (-want +got):\n%s", diff)
	}
	// A reset leaves what is not chosen, and what grows goes on.
	p.perf(mad.MethodSet, mad.AttrPortCounters, leaf, 2, func(data []byte) { binary.BigEndian.PutUint16(data[2:], 1<<0|1<<9) })
	now = now.Add(2 * time.Second)
	want.SymbolErrorCounter, want.LocalLinkIntegrityErrors = 5, 0
	if diff := cmp.Diff(want, p.counters(leaf, 2)); diff != "" {
		t.Errorf("after a reset (-want +got):\n%s", diff)
	}
	// All ports at once; port 1 has carried the questions.
	all := p.counters(leaf, allPorts)
	if all.SymbolErrorCounter != 5 || all.PortRcvPkts == 0 {
		t.Errorf("sum over all ports = %+v", all)
	}
	if data, fate := p.perf(mad.MethodGet, mad.AttrPortCounters, leaf, 70, nil); fate != answered || data[1] != 70 {
		t.Errorf("counters of port 70: fate %d", fate)
	}
}

func TestLoad(t *testing.T) {
	now := time.Unix(1000, 0)
	f := build(t, small(), Options{Managed: true, Now: func() time.Time { return now }, Load: 0.5})
	p := at(t, f, "hnode001 mlx5_0")
	now = now.Add(time.Second)
	data, _ := p.perf(mad.MethodGet, mad.AttrPortCountersExtended, f.lidOf("leaf-01", 0), 33, nil)
	got, _ := mad.ParsePortCountersExtended(data)
	if got.PortXmitData*4 != 25e9 || got.PortRcvData*4 != 25e9 { // half of 400 Gb/s for a second
		t.Errorf("4xNDR at half load moved %d and %d bytes in a second", got.PortXmitData*4, got.PortRcvData*4)
	}
}

func TestNetErrors(t *testing.T) {
	sw, hca := Node{Name: "s", Switch: true}, Node{Name: "a"}
	for _, c := range []struct {
		net  Net
		want string
	}{
		{Net{Nodes: []Node{hca, hca}}, `node "a": every node needs a name of its own`},
		{Net{Nodes: []Node{{Name: "a", Ports: 255}}}, "255 ports; a node has 1 to 254"},
		{Net{Nodes: []Node{{Name: "a", Speed: "QQR"}}}, "no link is 4xQQR"},
		{Net{Nodes: []Node{{Name: "a", Width: 3}}}, "no link is 3xNDR"},
		{Net{Nodes: []Node{sw}, Links: []Link{{End{"s", 1}, End{"b", 1}}}}, `there is no node "b"`},
		{Net{Nodes: []Node{sw, hca}, Links: []Link{{End{"s", 66}, End{"a", 1}}}}, "s port 66: it has ports 1 to 65"},
		{Net{Nodes: []Node{sw, hca}, Links: []Link{{End{"s", 1}, End{"a", 1}}, {End{"s", 2}, End{"a", 1}}}}, "one of these ports has another cable"},
	} {
		if _, err := New(&c.net, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New = %v; want %q", err, c.want)
		}
	}
}

// TestFromCluster builds the largest example, and looks at one node of it.
func TestFromCluster(t *testing.T) {
	cluster, _, diags := inventory.Load("../../../examples/abci3", inventory.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	net, err := FromCluster(cluster, cluster.Fabrics["compute"])
	if err != nil {
		t.Fatal(err)
	}
	if len(net.Nodes) != 6128+480 || len(net.Links) != 18416 {
		t.Errorf("%d nodes and %d links; want 6608 and 18416", len(net.Nodes), len(net.Links))
	}
	f := build(t, net, Options{Managed: true})
	p := at(t, f, "hnode766 mlx5_ibn8")
	if got := p.portInfo(0); fmt.Sprintf("%dx%s", got.Width(), got.Speed()) != "2xNDR" || got.State != mad.PortActive {
		t.Errorf("hnode766 mlx5_ibn8 runs at %dx%s, %v; want 2xNDR, Active", got.Width(), got.Speed(), got.State)
	}
	if got := p.nodeInfo(1); got.NumPorts != 65 || got.Type != mad.NodeSwitch {
		t.Errorf("its leaf = %+v", got)
	}
	if _, fate := p.perf(mad.MethodGet, mad.AttrPortCounters, f.lidOf("hnode001 mlx5_ibn1", 1), 1, nil); fate != answered {
		t.Errorf("hnode001 does not answer by LID: fate %d", fate)
	}
}
