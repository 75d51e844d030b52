package provision

import (
	"fmt"
	"time"
)

// State of the whole cluster as the journal tells it.
type Known struct {
	Serial     int64
	Nodes      map[string]Node
	Discovered map[string]Discovery // by MAC
}

// Discovery is a machine that asked for a boot and is not declared.
type Discovery struct {
	MAC         string
	Detail      string
	First, Last time.Time
	Count       int
}

// NewKnown returns the state before the first event.
func NewKnown() Known {
	return Known{Nodes: map[string]Node{}, Discovered: map[string]Discovery{}}
}

// Fold adds events in order. It changes k and returns, per event that asked
// for any, the actions of the last one of each node. Nodes that k gave out
// before are left alone.
func (k *Known) Fold(events []Event) (map[string][]Action, error) {
	acts := map[string][]Action{}
	own := map[string]*Node{} // cloned once, however many events they have
	for _, ev := range events {
		if ev.Serial != k.Serial+1 {
			return nil, fmt.Errorf("journal: event %d follows event %d", ev.Serial, k.Serial)
		}
		a, err := k.add(ev, own)
		if err != nil {
			return nil, err
		}
		if a != nil {
			acts[ev.Node] = a
		}
	}
	for name, n := range own {
		k.Nodes[name] = *n
	}
	return acts, nil
}

func (k *Known) add(ev Event, own map[string]*Node) ([]Action, error) {
	k.Serial = ev.Serial
	if ev.Node == "" {
		return nil, k.addClusterEvent(ev)
	}
	if ev.Kind == EventForget {
		delete(k.Nodes, ev.Node)
		delete(own, ev.Node)
		return nil, nil
	}
	n := own[ev.Node]
	if n == nil {
		c := k.Node(ev.Node)
		c = c.clone()
		n = &c
		own[ev.Node] = n
	}
	return n.take(ev, ev.Time)
}

func (k *Known) addClusterEvent(ev Event) error {
	if ev.Kind != EventDiscovered {
		return nil
	}
	d, err := decode[DiscoveredData](ev)
	if err != nil {
		return err
	}
	seen, ok := k.Discovered[d.MAC]
	if !ok {
		seen = Discovery{MAC: d.MAC, First: ev.Time}
	}
	seen.Detail, seen.Last = d.Detail, ev.Time
	seen.Count++
	k.Discovered[d.MAC] = seen
	return nil
}

// Node returns what is known of a node; a new one when nothing is.
func (k *Known) Node(name string) Node {
	if n, ok := k.Nodes[name]; ok {
		return n
	}
	return NewNode(name)
}
