package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"firstlight/inventory"
)

// wattmeter gives a node's readings one after the other, and its last again and
// again. A negative one is an error.
type wattmeter struct {
	readings map[string][]float64

	mu   sync.Mutex
	read map[string]int
}

func (m *wattmeter) Watts(_ context.Context, n *inventory.Node) (float64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.readings[n.Name]
	w := of[min(m.read[n.Name], len(of)-1)]
	m.read[n.Name]++
	if w < 0 {
		return 0, errors.New("frozen")
	}
	return w, nil
}

// enough says that a node may end its start.
func (m *wattmeter) enough(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.readings[node]
	return m.read[node] >= len(of) || of[0] <= 0 || m.read[node] > 0 && of[1] <= 0
}

// TestMeasuredDraw: a start that was watched to its end is journalled with its
// highest reading; one with a reading missing, or a BMC that does not measure, is
// not. The next plan counts what was measured, where that is declared, but never
// less than half the nameplate.
func TestMeasuredDraw(t *testing.T) {
	t.Parallel()
	r, m := metered(4, "20kW", 2)
	r.want.Cluster.Settings.PowerMeasured = true
	meter := &wattmeter{read: map[string]int{}, readings: map[string][]float64{
		"n1": {900, 6400, 6100, 3000}, "n2": {800, 2000.4, 1900, 1800}, "n3": {900, -1, 6000}, "n4": {0}}}
	m.until = meter.enough
	e, known := r.engine(t)
	e.Meter, e.MeterEvery = meter, time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	first := MakePlan(r.want, known, nil, time.Now())
	known, err := e.Run(ctx, first)
	r.wantReady(t, known, err)
	if len(first.Waves) != 2 || *first.Waves[0].Measured != 0 || first.Waves[0].Watts != 20000 {
		t.Errorf("before anything was measured: waves %+v", first.Waves)
	}
	got := ""
	for _, n := range r.want.Cluster.Nodes {
		k := known.Node(n.Name)
		w, measured := drawOf(r.want.Cluster, n, k)
		got += fmt.Sprintf("%s %v %d %v; ", n.Name, k.Drawn != nil, w, measured)
	}
	if want := "n1 true 6400 true; n2 true 5000 true; n3 false 10000 false; n4 false 10000 false; "; got != want {
		t.Errorf("drawn: %s\nwant   %s", got, want)
	}

	r.want.Replace = map[string]bool{"n1": true, "n2": true, "n3": true, "n4": true}
	p := MakePlan(r.want, known, nil, time.Now())
	waves := ""
	for _, w := range p.Waves {
		waves += fmt.Sprint(w.Nodes, w.Watts, " ", *w.Measured, "; ")
	}
	if want := "[n1 n2] 11400 2; [n3 n4] 20000 0; "; waves != want {
		t.Errorf("waves %s; want %s", waves, want)
	}
	starts := NewStarts(r.want.Cluster, time.Now)
	starts.TakeUp(known, nil)
	if l := starts.load(r.want.Cluster.Nodes[0]); l.Watts != 6400 {
		t.Errorf("switched on by hand n1 counts %d W; want the 6400 that were measured", l.Watts)
	}

	// Another nameplate is another machine; and nameplates count unless it is declared.
	for _, n := range r.want.Cluster.Nodes {
		n.Hardware.Power.Watts = 9000
	}
	if w, measured := drawOf(r.want.Cluster, r.want.Cluster.Nodes[0], known.Node("n1")); w != 9000 || measured {
		t.Errorf("with another nameplate n1 draws %d, measured: %v", w, measured)
	}
	r.want.Cluster.Settings.PowerMeasured = false
	if p := MakePlan(r.want, known, nil, time.Now()); p.Waves[0].Measured != nil || p.Waves[0].Watts != 18000 {
		t.Errorf("by nameplate: waves %+v", p.Waves)
	}
}
