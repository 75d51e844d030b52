package fabric

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// small is a fabric of one leaf and some adapters at NDR, whose counters a test sets.
type small struct {
	*Observed
	values map[PortID]map[CounterName]uint64
}

func newSmall(hcas int) *small {
	s := &small{Observed: &Observed{}, values: map[PortID]map[CounterName]uint64{}}
	leaf := &Node{Kind: Switch, Description: "leaf-01", GUID: 1000}
	s.Nodes = append(s.Nodes, leaf)
	for i := range hcas {
		hca := &Node{Kind: CA, Description: fmt.Sprintf("hnode%03d mlx5_0", i+1), GUID: uint64(i + 1)}
		a, b := hca.port(1), leaf.port(i+1)
		a.Peer, b.Peer = b, a
		s.Nodes = append(s.Nodes, hca)
	}
	for _, n := range s.Nodes {
		for _, p := range n.Ports {
			p.Width, p.Speed = 4, "NDR"
			s.values[p.ID()] = map[CounterName]uint64{}
		}
	}
	return s
}

// read gives every port the counters as they are set, and traffic if busy.
func (s *small) read(at time.Time, busy bool) *Observed {
	for _, n := range s.Nodes {
		for _, p := range n.Ports {
			if busy {
				s.values[p.ID()][ReceiveData] += 1e13
			}
			p.Counters = counters(at, true, s.values[p.ID()])
		}
	}
	return s.Observed
}

// seen is what a history has of a port: the sum, and of how many pieces.
func seen(h *History, id PortID) (sum Span, pieces int) {
	h.Each(func(at PortID, series []Span, _ *Reading) {
		if at == id {
			for _, s := range series {
				sum.add(s)
			}
			pieces = len(series)
		}
	})
	return sum, pieces
}

// TestHistory: errors land at their port and in their time, a port that was not
// read is made up for, and another cable begins anew.
func TestHistory(t *testing.T) {
	s, h := newSmall(3), NewHistory()
	at := func(k int) time.Time { return noon.Add(time.Duration(k) * 30 * time.Second) }
	h.Add(s.read(at(0), true), at(0), 0.01)
	if sum, n := seen(h, PortID{2, 1}); n != 0 || sum.Elapsed != 0 || h.Samples() != 0 {
		t.Errorf("after one reading: %v in %d pieces; want nothing yet", sum, n)
	}
	s.values[PortID{2, 1}][SymbolErrors] = 5
	s.values[PortID{1000, 3}][LinkDowned] = 1
	h.Add(s.read(at(1), true), at(1), 0.01)
	unread := s.read(at(2), false)
	unread.Nodes[2].Ports[0].Counters = nil
	s.values[PortID{2, 1}][SymbolErrors] = 6
	h.Add(unread, at(2), 0.01)
	h.Add(s.read(at(3), true), at(3), 0.01)

	half := 30 * time.Second
	for id, want := range map[PortID]Span{
		{2, 1}:    {Elapsed: 3 * half, Traffic: 3 * half, Counts: []Count{n(SymbolErrors, 6, "")}}, // the traffic of two pieces, seen at once
		{1, 1}:    {Elapsed: 3 * half, Traffic: 2 * half},
		{1000, 3}: {Elapsed: 3 * half, Traffic: 2 * half, Counts: []Count{n(LinkDowned, 1, "")}},
	} {
		sum, pieces := seen(h, id)
		if diff := cmp.Diff(want, sum, cmpopts.EquateEmpty()); diff != "" || pieces != 3 {
			t.Errorf("%v in %d pieces (-want +got):\n%s", id, pieces, diff)
		}
	}
	if h.Since() != noon {
		t.Errorf("since %v; want %v", h.Since(), noon)
	}
	recent := h.Recent(s.Observed, DefaultLimits())
	if r := recent[PortID{2, 1}]; len(recent) != 6 || r.Last.Of(SymbolErrors).N != 1 || r.Windows[0].N != 6 {
		t.Errorf("recent of %d ports; %+v; want 1 symbol error last and 6 in all", len(recent), r)
	}

	// Its cable now goes elsewhere: what the old one counted is not the new one's.
	hca, leaf := s.Nodes[2].Ports[0], s.Nodes[0]
	leaf.Port(2).Peer, leaf.Port(2).Counters = nil, nil
	p := leaf.port(9)
	p.Width, p.Speed, p.Peer, hca.Peer = 4, "NDR", hca, p
	s.values[p.ID()] = map[CounterName]uint64{}
	s.values[PortID{2, 1}][SymbolErrors] = 7
	h.Add(s.read(at(4), true), at(4), 0.01)
	if sum, n := seen(h, PortID{2, 1}); n != 1 || sum.Of(SymbolErrors).N != 1 {
		t.Errorf("after recabling: %v in %d pieces; want only the newest", sum, n)
	}
}

// TestHistorySameGUID: two nodes of one GUID are not mixed up.
func TestHistorySameGUID(t *testing.T) {
	s, h := newSmall(3), NewHistory()
	s.Nodes[2].GUID = 1
	s.values[PortID{1, 1}][SymbolErrors] = 9
	h.Add(s.read(noon, false), noon, 0.01)
	h.Add(s.read(noon.Add(time.Minute), false), noon.Add(time.Minute), 0.01)
	if _, ok := h.Newest(PortID{1, 1}); ok {
		t.Error("a port of a GUID that is there twice was read")
	}
	if _, ok := h.Newest(PortID{3, 1}); !ok {
		t.Error("a port beside them was not read")
	}
}

// TestHistoryDay: a day of samples stays small, and its sums stay what they
// were counted to be.
func TestHistoryDay(t *testing.T) {
	s, h := newSmall(200), NewHistory()
	const samples = 25 * 3600 / 30
	at := noon
	for k := range samples {
		if k%100 == 50 {
			s.values[PortID{5, 1}][SymbolErrors]++
			s.values[PortID{1000, k%200 + 1}][ReceiveErrors] += 2
		}
		at = noon.Add(time.Duration(k) * 30 * time.Second)
		h.Add(s.read(at, k%3 != 0), at, 0.01)
	}
	sum, pieces := seen(h, PortID{5, 1})
	if sum.Of(SymbolErrors).N != samples/100 || sum.Elapsed != (samples-1)*30*time.Second || pieces > keptSingly+25*12+2 {
		t.Errorf("%v in %d pieces; want %d errors in %v, in some 420", sum, pieces, samples/100, (samples-1)*30*time.Second)
	}
	if want := sum.Elapsed * 2 / 3; sum.Traffic < want-time.Minute || sum.Traffic > want+time.Minute {
		t.Errorf("%v under traffic; want two thirds of %v", sum.Traffic, sum.Elapsed)
	}
	var file bytes.Buffer
	if err := h.Write(&file); err != nil {
		t.Fatal(err)
	}
	if file.Len() > 100<<10 {
		t.Errorf("a day of 400 ports is %d bytes", file.Len())
	}
	later := at.Add(26 * time.Hour)
	h.Add(s.read(later, false), later, 0.01)
	if h.Samples() != 1 {
		t.Errorf("a day later there are %d pieces; want the newest", h.Samples())
	}
}

// TestHistoryFile: what is written is read, and goes on; what is damaged is
// refused.
func TestHistoryFile(t *testing.T) {
	s, h := newSmall(3), NewHistory()
	for k := range 5 {
		at := noon.Add(time.Duration(k) * time.Minute)
		s.values[PortID{2, 1}][SymbolErrors] += uint64(k)
		h.Add(s.read(at, true), at, 0.01)
	}
	var file bytes.Buffer
	if err := h.Write(&file); err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(file.Bytes())
	again, err := ReadHistory(&file)
	if err != nil {
		t.Fatal(err)
	}
	s.values[PortID{2, 1}][SymbolErrors]++
	later := noon.Add(time.Hour)
	for _, h := range []*History{h, again} {
		h.Add(s.read(later, false), later, 0.01)
	}
	if diff := cmp.Diff(h, again, cmp.AllowUnexported(History{}, watched{}, interval{}, alike{}, owner{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("went on (-in memory +from the file):\n%s", diff)
	}
	if sum, _ := seen(again, PortID{2, 1}); sum.Of(SymbolErrors).N != 11 || sum.Elapsed != time.Hour {
		t.Errorf("from the file: %v; want 11 errors in an hour", sum)
	}

	for cut := range len(whole) {
		if _, err := ReadHistory(bytes.NewReader(whole[:cut])); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for a history", cut, len(whole))
		}
	}
}

// TestHistoryDamaged: a file that unpacks and cannot be so.
func TestHistoryDamaged(t *testing.T) {
	names := []CounterName{SymbolErrors, "NoSuchCounter", LinkDowned}
	port := func(guid uint64) storedPort {
		return storedPort{ID: PortID{guid, 1}, Values: []uint64{1, 2, 3}, Bits: []uint8{16, 16, 8}}
	}
	good := func() historyFile {
		return historyFile{Names: names, Ports: []storedPort{port(1), port(2)}, Intervals: []interval{{End: noon, Times: []alike{{2, time.Minute, 0}},
			Owners: []owner{{0, 2}, {1, 1}}, Counts: []Count{{0, 1, ""}, {2, 2, ""}, {1, 9, ""}}}}}
	}
	f := good()
	h, err := f.history()
	if err != nil {
		t.Fatal(err)
	}
	// Counters are found by name, and one that is not known any more is dropped.
	if got := h.intervals[0]; len(got.Owners) != 1 || got.Counts[1] != n(LinkDowned, 2, "") || h.ports[1].Last.Values[indexOf(LinkDowned)] != 3 {
		t.Errorf("read %+v, %+v; want LinkDowned 2 of the first port", got, h.ports[1])
	}
	for name, spoil := range map[string]func(f *historyFile){
		"port twice":              func(f *historyFile) { f.Ports[1].ID = f.Ports[0].ID },
		"port without values":     func(f *historyFile) { f.Ports[1].Values = nil },
		"more ports than there":   func(f *historyFile) { f.Intervals[0].Times[0].Ports = 3 },
		"run of no port":          func(f *historyFile) { f.Intervals[0].Times[0].Ports = 0 },
		"more traffic than time":  func(f *historyFile) { f.Intervals[0].Times[0].Traffic = time.Hour },
		"owner beyond the ports":  func(f *historyFile) { f.Intervals[0].Owners[1].Port = 2 },
		"owners out of order":     func(f *historyFile) { f.Intervals[0].Owners[1].Port = 0 },
		"owner of too many":       func(f *historyFile) { f.Intervals[0].Owners[1].Counts = 2 },
		"owner of none":           func(f *historyFile) { f.Intervals[0].Owners[1].Counts = 0 },
		"counts of nobody":        func(f *historyFile) { f.Intervals[0].Owners = f.Intervals[0].Owners[:1] },
		"no such counter":         func(f *historyFile) { f.Intervals[0].Counts[0].Counter = 3 },
		"counter below the first": func(f *historyFile) { f.Intervals[0].Counts[0].Counter = -1 },
	} {
		f := good()
		spoil(&f)
		if _, err := f.history(); err == nil {
			t.Errorf("%s: taken for a history", name)
		}
	}
}
