package fabricsim

import (
	"errors"
	"fmt"
	"slices"
)

// Kind is a way in which a fabric is not what it should be.
type Kind string

// The kinds of fault, and the fields of a Fault that each takes.
const (
	Unlink    Kind = "unlink"    // At: its cable is taken away
	Plug      Kind = "plug"      // At, To: a cable joins two ports that have none
	Swap      Kind = "swap"      // At, To: their cables change places
	Move      Kind = "move"      // At, To: At's cable is in To, which had none
	Slow      Kind = "slow"      // At: runs at no more than Speed
	Narrow    Kind = "narrow"    // At: runs on no more than Width lanes
	Count     Kind = "count"     // At: Counter is Value and grows by PerSecond
	Lossy     Kind = "lossy"     // At: Share of what passes is lost, each way
	Partition Kind = "partition" // At: its partition keys are Keys
	Heat      Kind = "heat"      // At: its module is at Value °C
	BitErrors Kind = "biterrors" // At: Share of the bits that it receives is wrong, after correction
	Opaque    Kind = "opaque"    // Node: does not know the vendor's class
	Dead      Kind = "dead"      // Node: has no power
	Revive    Kind = "revive"    // Node: has it again
	Mute      Kind = "mute"      // Node: its ports are up, and it answers nothing
	Describe  Kind = "describe"  // Node: says it is Text
	GUID      Kind = "guid"      // Node: its GUID is Value
	LiePorts  Kind = "lie-ports" // Node: claims Value ports, and that all are up
	Garble    Kind = "garble"    // Node: answers with what comes by lot
	Loop      Kind = "loop"      // At: what leaves it comes in by it again
	Endless   Kind = "endless"   // At: behind it is a chain of switches without an end
)

// Fault is one thing that is wrong.
type Fault struct {
	Kind      Kind
	At, To    End
	Node      string
	Speed     string // as "HDR"
	Width     int
	Counter   string // of PortCountersExtended, as "SymbolErrorCounter"
	Value     uint64
	PerSecond float64
	Share     float64 // 0 to 1
	Keys      []uint16
	Text      string
}

// Inject makes faults, one after another, also while the fabric is served. With
// an error those before it have been made.
func (f *Fabric) Inject(faults ...Fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range faults {
		if err := f.inject(fault); err != nil {
			return fmt.Errorf("fault %s: %w", fault.Kind, err)
		}
	}
	return nil
}

func (f *Fabric) inject(fault Fault) error {
	switch fault.Kind {
	case Dead, Revive, Mute, Describe, GUID, LiePorts, Garble, Opaque:
		id, ok := f.byName[fault.Node]
		if !ok {
			return fmt.Errorf("there is no node %q", fault.Node)
		}
		return f.injectNode(fault, &f.nodes[id])
	}
	at, err := f.end(fault.At)
	if err != nil {
		return err
	}
	switch fault.Kind {
	case Plug, Swap, Move:
		to, err := f.end(fault.To)
		if err != nil {
			return err
		}
		return f.recable(fault, at, to)
	}
	return f.injectPort(fault, at)
}

func (f *Fabric) injectNode(fault Fault, n *node) error {
	switch fault.Kind {
	case Dead, Revive:
		n.dead = fault.Kind == Dead
		for num := 1; num <= n.Ports; num++ {
			f.train(n.first + int32(num))
		}
	case Mute:
		n.mute = true
	case Describe:
		n.Description = fault.Text
	case GUID:
		// An adapter's first port has the GUID of its node, and a switch's all have.
		for num := 0; num <= n.Ports; num++ {
			p := f.portOf(n, num)
			p.guid = p.guid - n.GUID + fault.Value
		}
		n.GUID = fault.Value
	case LiePorts:
		if fault.Value < 1 || fault.Value > 255 {
			return fmt.Errorf("%d is no NumPorts", fault.Value)
		}
		n.lie = int(fault.Value)
	case Garble:
		n.noise = true
	case Opaque:
		n.opaque = true
	}
	return nil
}

// recable changes where cables end.
func (f *Fabric) recable(fault Fault, at, to int32) error {
	p, q := &f.ports[at], &f.ports[to]
	if at == to {
		return errors.New("both ends are one port")
	}
	switch fault.Kind {
	case Plug:
		if p.peer != none || q.peer != none {
			return fmt.Errorf("%s or %s has a cable", fault.At, fault.To)
		}
		p.peer, q.peer = to, at
		f.train(at)
		return nil
	case Move:
		if p.peer == none || q.peer != none {
			return fmt.Errorf("%s has no cable, or %s has one", fault.At, fault.To)
		}
	case Swap:
		if p.peer == none || q.peer == none {
			return fmt.Errorf("%s or %s has no cable", fault.At, fault.To)
		}
		if p.peer == to {
			return fmt.Errorf("%s and %s are the two ends of one cable", fault.At, fault.To)
		}
	}
	a, b := p.peer, q.peer
	f.unplug(at)
	f.unplug(to)
	for _, c := range [][2]int32{{at, b}, {to, a}} {
		if c[1] != none {
			f.ports[c[0]].peer, f.ports[c[1]].peer = c[1], c[0]
			f.train(c[0])
		}
	}
	return nil
}

// unplug takes the cable away that a port has, at both ends.
func (f *Fabric) unplug(i int32) {
	p := &f.ports[i]
	if p.peer == none {
		return
	}
	q := p.peer
	p.peer, f.ports[q].peer = none, none
	f.train(i)
	f.train(q)
}

func (f *Fabric) injectPort(fault Fault, at int32) error {
	p := &f.ports[at]
	switch fault.Kind {
	case Unlink:
		if p.peer == none {
			return fmt.Errorf("%s has no cable", fault.At)
		}
		f.unplug(at)
	case Slow:
		speed, ok := speedIndex(fault.Speed)
		if !ok {
			return fmt.Errorf("no link runs at %q", fault.Speed)
		}
		p.mostSpeed = speed
		f.retrain(at)
	case Narrow:
		if widthBit(fault.Width) == 0 {
			return fmt.Errorf("no link has %d lanes", fault.Width)
		}
		p.mostWidth = uint8(fault.Width)
		f.retrain(at)
	case Count:
		for c, name := range counterNames {
			if name == fault.Counter {
				f.count(p, counter(c), 0)
				p.counters.put(counter(c), fault.Value, fault.PerSecond, f.opt.Now())
				return nil
			}
		}
		return fmt.Errorf("there is no counter %q", fault.Counter)
	case Lossy:
		p.loss = fault.Share
	case Heat:
		if fault.Value > 127 {
			return fmt.Errorf("%d °C is more than a module can say", fault.Value)
		}
		p.module().celsius = float64(fault.Value)
	case BitErrors:
		p.module().ber = berOf(fault.Share)
	case Partition:
		p.pkeys = append([]uint16{}, fault.Keys...)
	case Loop:
		f.unplug(at)
		p.peer = at
		f.train(at)
	case Endless:
		f.unplug(at)
		p.endless = true
		f.train(at)
	default:
		return errors.New("there is no such kind of fault")
	}
	return nil
}

// Peer is the other end of the cable of a port; false where it has none.
func (f *Fabric) Peer(e End) (End, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, err := f.end(e)
	if err != nil || f.ports[i].peer == none {
		return End{}, false
	}
	q := &f.ports[f.ports[i].peer]
	return End{f.nodes[q.node].Name, int(q.num)}, true
}

// Counters are the names that a Count can have.
func Counters() []string { return slices.Clone(counterNames[:]) }
