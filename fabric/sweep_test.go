package fabric

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric/mad"
)

// guidLinks are the links as "0x100[1] 0x10[1]", sorted; a node of two with one
// GUID is not told from the other.
func guidLinks(o *Observed) []string {
	out := []string{}
	for _, l := range o.Links() {
		ends := []string{fmt.Sprintf("0x%x[%d]", l.A.Node.GUID, l.A.Num), fmt.Sprintf("0x%x[%d]", l.B.Node.GUID, l.B.Num)}
		slices.Sort(ends)
		out = append(out, strings.Join(ends, " "))
	}
	slices.Sort(out)
	return out
}

var pairLinks = []string{"0x100[1] 0x10[1]", "0x10[2] 0x200[1]"}

// TestSweepFabrics are fabrics that are broken, strange or hostile. Each ends
// with what can be known of it, and with words for the rest.
func TestSweepFabrics(t *testing.T) {
	cases := []struct {
		name  string
		make  func() *fake
		sweep Sweep
		links []string
		doubt string // part of an inconsistency; "": none
		vain  string // part of an unanswered question; "": none
	}{
		{"plain", func() *fake { root, _, _ := pair(); return &fake{root: root} }, Sweep{}, pairLinks, "", ""},
		{"every answer twice, and nonsense", func() *fake { root, _, _ := pair(); return &fake{root: root, twice: true} }, Sweep{}, pairLinks, "", ""},
		{"a third is lost", func() *fake { root, _, _ := pair(); return &fake{root: root, loss: 0.33} }, Sweep{Attempts: 12}, pairLinks, "", ""},
		{"busy at first", func() *fake { root, sw, _ := pair(); sw.busy = 2; return &fake{root: root} }, Sweep{}, pairLinks, "", ""},
		{"a switch that hangs", func() *fake { root, sw, _ := pair(); sw.mute = true; return &fake{root: root} }, Sweep{},
			pairLinks[:1], "", "switch 0x0000000000000010: everything: it stopped answering"},
		{"an HCA that does not answer", func() *fake {
			root, sw, other := pair()
			sw.links[3] = fakeEnd{&fakeNode{info: other.info, busy: 1 << 30}, 1}
			return &fake{root: root}
		}, Sweep{}, pairLinks, "", `what is behind "switch" port 3 is not known: no answer to 3 attempts`},
		{"more ports than there are", func() *fake { root, sw, _ := pair(); sw.info.NumPorts, sw.ports = 255, 4; return &fake{root: root} }, Sweep{},
			pairLinks, "", "port 255: PortInfo: invalid attribute or modifier"},
		{"fewer ports than are used", func() *fake {
			root, sw, _ := pair()
			liar := fakeSwitch(0x20, 2)
			plug(sw, 3, liar, 7)
			return &fake{root: root}
		}, Sweep{}, pairLinks, "", "says that this is its port 7, and that it has 2 ports"},
		{"a node of no type", func() *fake {
			root, sw, _ := pair()
			plug(sw, 3, &fakeNode{links: map[uint8]fakeEnd{}}, 1)
			return &fake{root: root}
		}, Sweep{}, pairLinks, "", "NodeInfo of node type 0"},
		{"a port plugged into itself", func() *fake { root, sw, _ := pair(); plug(sw, 3, sw, 3); return &fake{root: root} }, Sweep{},
			pairLinks, "is linked to itself", ""},
		{"two ports of one switch", func() *fake { root, sw, _ := pair(); plug(sw, 3, sw, 4); return &fake{root: root} }, Sweep{},
			append([]string{"0x10[3] 0x10[4]"}, pairLinks...), "", ""},
		{"a ring", func() *fake {
			root, sw, _ := pair()
			b, c := fakeSwitch(0x11, 4), fakeSwitch(0x12, 4)
			plug(sw, 3, b, 1)
			plug(b, 2, c, 1)
			plug(c, 2, sw, 4)
			return &fake{root: root}
		}, Sweep{}, append([]string{"0x10[3] 0x11[1]", "0x10[4] 0x12[2]", "0x11[2] 0x12[1]"}, pairLinks...), "", ""},
		{"two HCAs of one GUID", func() *fake {
			root, sw, _ := pair()
			plug(fakeHCA(0x200, "hca-c"), 1, sw, 3)
			return &fake{root: root}
		}, Sweep{}, append([]string{"0x10[3] 0x200[1]"}, pairLinks...), "two nodes have the GUID 0x0000000000000200", ""},
		{"two switches of one GUID", func() *fake {
			root, sw, _ := pair()
			twin := fakeSwitch(0x10, 4)
			plug(sw, 3, twin, 2)
			plug(twin, 1, fakeHCA(0x300, "hca-d"), 1)
			return &fake{root: root}
		}, Sweep{}, append([]string{"0x10[1] 0x300[1]", "0x10[2] 0x10[3]"}, pairLinks...), "two nodes have the GUID 0x0000000000000010", ""},
		{"far away", func() *fake {
			root, sw, _ := pair()
			far := fakeSwitch(0x11, 4)
			plug(sw, 3, far, 1)
			plug(far, 2, fakeSwitch(0x12, 4), 1)
			return &fake{root: root}
		}, Sweep{MaxHops: 2}, append([]string{"0x10[3] 0x11[1]"}, pairLinks...), "", "more than 2 hops from the local port"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			found, err := run(t, c.make(), c.sweep)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Sorted(slices.Values(c.links))
			if diff := cmp.Diff(want, guidLinks(found.Observed)); diff != "" {
				t.Errorf("links (-want +swept):\n%s", diff)
			}
			if got := fmt.Sprint(found.Inconsistencies); c.doubt == "" && len(found.Inconsistencies) > 0 || !strings.Contains(got, c.doubt) {
				t.Errorf("inconsistencies %s; want %q", got, c.doubt)
			}
			if got := fmt.Sprint(found.Unanswered); c.vain == "" && len(found.Unanswered) > 0 || !strings.Contains(got, c.vain) {
				t.Errorf("unanswered %s; want %q", got, c.vain)
			}
		})
	}
}

// TestSweepPorts holds what is known of a port, NDR200 here.
func TestSweepPorts(t *testing.T) {
	root, _, _ := pair()
	found, err := run(t, &fake{root: root}, Sweep{})
	if err != nil {
		t.Fatal(err)
	}
	sw := found.Nodes[0]
	if sw.Kind != Switch || sw.LID != 0x10 || sw.NumPorts != 4 || len(sw.Ports) != 4 || sw.Description != "switch" {
		t.Errorf("the first node: %+v; want the switch, with LID and four ports", sw)
	}
	up, dark := sw.Port(2), sw.Port(3)
	if up.Rate() != "NDR200" || up.Peer.GUID != 0x201 || up.Peer.LID != 0x200 || up.Peer.Node.Description != "hca-b" {
		t.Errorf("port 2: %+v behind it %+v; want NDR200, and the HCA's GUID and LID", up, up.Peer)
	}
	if dark.Peer != nil || dark.Rate() != "" || dark.Info.PhysState != mad.PhysPolling {
		t.Errorf("port 3: %+v; want it dark and polling", dark)
	}
}

// TestSweepPKeys reads tables of one block and of two.
func TestSweepPKeys(t *testing.T) {
	root, _, other := pair()
	root.info.PartitionCap, other.info.PartitionCap = 128, 64
	root.pkeys[0] = 0xffff
	for i := range other.pkeys {
		other.pkeys[i] = 0x8000 + uint16(i)
	}
	other.more[1] = 0x7fff
	found, err := run(t, &fake{root: root}, Sweep{PKeys: true})
	if err != nil || len(found.Unanswered) > 0 {
		t.Fatal(err, found.Unanswered)
	}
	for _, n := range found.Nodes {
		switch keys := n.Ports[0].PKeys; {
		case n.GUID == 0x100 && !slices.Equal(keys, []uint16{0xffff}):
			t.Errorf("the local port's keys are %#x; want ffff", keys)
		case n.GUID == 0x200 && (len(keys) != 33 || keys[31] != 0x801f || keys[32] != 0x7fff):
			t.Errorf("the other port's keys are %#x; want the 32 of its first block and 7fff", keys)
		case n.Kind == Switch && keys != nil:
			t.Errorf("the switch's keys are %#x; want them not read", keys)
		}
	}
}

// endless is a fabric that has no end: behind every port is one more switch.
func endless(guid func(n uint64) uint64, ports uint8) *fake {
	made := uint64(0)
	var grow func() *fakeNode
	grow = func() *fakeNode {
		made++
		sw := fakeSwitch(guid(made), ports)
		sw.beyond = func(port uint8) (fakeEnd, bool) {
			if port == 0 || port > ports {
				return fakeEnd{}, false
			}
			if _, ok := sw.links[port]; !ok {
				sw.links[port] = fakeEnd{grow(), 1}
			}
			return sw.links[port], true
		}
		return sw
	}
	root := fakeHCA(1, "hca")
	root.links[1] = fakeEnd{grow(), 1}
	return &fake{root: root}
}

// TestSweepEndless are fabrics made up by whoever answers: they end by a bound,
// or by the deadline with what was found by then.
func TestSweepEndless(t *testing.T) {
	t.Run("new switches without end", func(t *testing.T) {
		found, err := run(t, endless(func(n uint64) uint64 { return 0x1000 + n }, 254), Sweep{Deadline: 300 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), "the fabric was not read within 300ms") || found == nil || len(found.Nodes) < 10 {
			t.Errorf("%v, found %v; want the deadline, and what was found until then", err, found)
		}
	})
	t.Run("a chain", func(t *testing.T) {
		found, err := run(t, endless(func(n uint64) uint64 { return 0x1000 + n }, 2), Sweep{})
		if err != nil || len(found.Nodes) != mad.MaxHops+1 || !strings.Contains(fmt.Sprint(found.Unanswered), "more than 63 hops") {
			t.Errorf("%v, found %d nodes, unanswered %v; want 63 switches and an HCA", err, len(found.Nodes), found.Unanswered)
		}
	})
	t.Run("one GUID everywhere", func(t *testing.T) {
		found, err := run(t, endless(func(uint64) uint64 { return 0x1000 }, 64), Sweep{})
		if err != nil || found.Count(Switch) != sameGUID || len(found.Inconsistencies) < sameGUID-1 {
			t.Errorf("%v, found %d switches, %v; want %d", err, found.Count(Switch), found.Inconsistencies, sameGUID)
		}
	})
}

func TestSweepErrors(t *testing.T) {
	if _, err := (Sweep{}).Run(t.Context()); err == nil || err.Error() != "no local port to read the fabric from" {
		t.Errorf("without a transport: %v", err)
	}
	found, err := run(t, &fake{root: fakeHCA(1, "a"), loss: 1}, Sweep{})
	if err == nil || found != nil || err.Error() != "nothing of the fabric answered: the local port: NodeInfo: no answer to 3 attempts" {
		t.Errorf("when nothing answers: %v, %v", found, err)
	}
	root, _, _ := pair()
	gone := errors.New("the adapter went away")
	found, err = run(t, &fake{root: root, broken: gone, after: 4}, Sweep{})
	if found == nil || !errors.Is(err, gone) || len(found.Nodes) == 0 {
		t.Errorf("when the device fails: %v, %v; want partial results, and why", found, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	slow := fakeHCA(1, "a")
	slow.mute = true
	time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("interrupted")) })
	found, err = Sweep{Transports: []Transport{&fake{root: slow}}, Timeout: 10 * time.Second}.Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "interrupted") || found == nil || len(found.Nodes) != 1 {
		t.Errorf("when cancelled: %v, %v; want the local node and the reason", found, err)
	}
}

// TestSweepProgress wants it told while the sweep waits.
func TestSweepProgress(t *testing.T) {
	root, sw, _ := pair()
	sw.mute = true
	var last Progress
	if _, err := run(t, &fake{root: root}, Sweep{Progress: func(p Progress) { last = p }}); err != nil {
		t.Fatal(err)
	}
	if last.Switches != 1 || last.HCAs != 1 || last.Links != 1 || last.Elapsed == 0 {
		t.Errorf("the last progress: %+v; want a switch, an HCA and their link", last)
	}
}

func TestWindow(t *testing.T) {
	w := newWindow(8, 64)
	begin := 100 * time.Second
	for range 8 {
		w.answered()
	}
	if int(w.size) != 16 {
		t.Errorf("after 8 answers the window is %v; want 16", w.size)
	}
	w.lost(begin, begin+time.Second)
	w.lost(begin, begin+time.Second) // of the same flight
	if int(w.size) != 8 {
		t.Errorf("after a loss of two the window is %v; want 8", w.size)
	}
	for range 8 {
		w.answered()
	}
	if got := int(w.size); got != 8 && got != 9 {
		t.Errorf("after a flight without loss the window is %v; want about 9", w.size)
	}
	for i := range 20 {
		now := begin + time.Duration(i+2)*time.Second
		w.lost(now, now+time.Millisecond)
	}
	if w.size != smallestWindow {
		t.Errorf("after many losses the window is %v; want %v", w.size, smallestWindow)
	}
	for range 100000 {
		w.answered()
	}
	if w.size != 64 {
		t.Errorf("after many answers the window is %v; want 64", w.size)
	}
	w.onTheWay = 64
	if w.room() {
		t.Error("a full window has room")
	}
}
