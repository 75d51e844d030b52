package fabric

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"firstlight/fabric/mad"
)

// fake is a fabric inside the test, which lies as the test wants. It answers as
// a local port of root.
type fake struct {
	root   *fakeNode
	loss   float64 // share of requests that nothing comes back for
	twice  bool    // every answer comes twice, with a packet of nonsense between
	broken error   // what Send gives after some requests
	after  int
	agents bool   // it answers by LID, too
	spoil  []byte // how answers are spoilt, by three bytes each: see spoiled

	mu      sync.Mutex
	rand    *rand.Rand
	sent    int
	answers []mad.Packet
	arrived chan struct{}
	ended   time.Time
}

// fakeNode is a node of it. Any of its answers can be replaced.
type fakeNode struct {
	info  mad.NodeInfo
	name  string
	lid   uint16
	links map[uint8]fakeEnd
	// beyond makes up who is behind a port; nil: links say it.
	beyond func(port uint8) (fakeEnd, bool)
	mute   bool // it answers NodeInfo only
	busy   int  // so many requests are refused as busy first
	pkeys  mad.PKeyTable
	more   mad.PKeyTable // the second block
	ports  int           // that it answers PortInfo of; 0: as many as it says to have
}

// fakeEnd is a port of a node.
type fakeEnd struct {
	node *fakeNode
	port uint8
}

func fakeSwitch(guid uint64, ports uint8) *fakeNode {
	return &fakeNode{info: mad.NodeInfo{Type: mad.NodeSwitch, NumPorts: ports, NodeGUID: guid, SystemGUID: guid, PortGUID: guid},
		name: "switch", lid: uint16(guid), links: map[uint8]fakeEnd{}}
}

func fakeHCA(guid uint64, name string) *fakeNode {
	return &fakeNode{info: mad.NodeInfo{Type: mad.NodeCA, NumPorts: 1, NodeGUID: guid, SystemGUID: guid, PortGUID: guid + 1},
		name: name, lid: uint16(guid), links: map[uint8]fakeEnd{}}
}

func plug(a *fakeNode, ap uint8, b *fakeNode, bp uint8) {
	a.links[ap], b.links[bp] = fakeEnd{b, bp}, fakeEnd{a, ap}
}

func (n *fakeNode) next(port uint8) (fakeEnd, bool) {
	if n.beyond != nil {
		return n.beyond(port)
	}
	end, ok := n.links[port]
	return end, ok
}

func (f *fake) SetDeadline(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = t
	if f.arrived == nil {
		f.arrived = make(chan struct{}, 1)
		f.rand = rand.New(rand.NewPCG(1, 2))
	}
	f.tell()
	return nil
}

func (f *fake) tell() {
	select {
	case f.arrived <- struct{}{}:
	default:
	}
}

func (f *fake) Receive(p *mad.Packet) error {
	for {
		f.mu.Lock()
		if !f.ended.IsZero() && f.ended.Before(time.Now()) {
			f.mu.Unlock()
			return os.ErrDeadlineExceeded
		}
		if len(f.answers) > 0 {
			*p = f.answers[0]
			f.answers = f.answers[1:]
			f.mu.Unlock()
			if p.QP == 99 {
				return mad.ErrForeign
			}
			return nil
		}
		f.mu.Unlock()
		<-f.arrived
	}
}

func (f *fake) Send(p *mad.Packet) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent++; f.broken != nil && f.sent > f.after {
		return f.broken
	}
	defer f.tell()
	if f.rand.Float64() < f.loss {
		return nil
	}
	reply, ok := f.reply(p)
	if !ok {
		return nil
	}
	f.spoiled(&reply)
	f.answers = append(f.answers, reply)
	if f.twice {
		nonsense := reply
		nonsense.MAD[17]++ // another attribute
		f.answers = append(f.answers, nonsense, reply, mad.Packet{QP: 99}, mad.Packet{})
	}
	return nil
}

// spoiled changes bits of an answer behind its transaction: bits, and a place of it.
// The first of three bytes says after how many answers.
func (f *fake) spoiled(p *mad.Packet) {
	if len(f.spoil) < 3 {
		return
	}
	if f.spoil[0] > 0 {
		f.spoil[0]--
		return
	}
	p.MAD[max(int(f.spoil[1]), 16)] ^= f.spoil[2]
	f.spoil = f.spoil[3:]
}

// reply answers a directed route.
func (f *fake) reply(p *mad.Packet) (mad.Packet, bool) {
	s, err := mad.ParseSMP(p.MAD[:])
	if err != nil {
		return f.general(p)
	}
	at := fakeEnd{f.root, 1}
	for i, port := range s.Path {
		if at.node.info.Type == mad.NodeCA && i > 0 {
			return mad.Packet{}, false
		}
		next, ok := at.node.next(port)
		if !ok {
			return mad.Packet{}, false
		}
		at = next
	}
	n := at.node
	s.Method, s.Returning, s.TID = mad.MethodGetResp, true, s.TID|0xabcd<<32
	switch {
	case n.busy > 0:
		n.busy--
		s.Status = mad.StatusBusy
	case s.Attribute == mad.AttrNodeInfo:
		info := n.info
		info.LocalPort = at.port
		mad.AppendNodeInfo(s.Data[:0], info)
	case n.mute:
		return mad.Packet{}, false
	case s.Attribute == mad.AttrNodeDescription:
		mad.AppendNodeDescription(s.Data[:0], n.name)
	case s.Attribute == mad.AttrPKeyTable && s.Modifier < 2:
		mad.AppendPKeyTable(s.Data[:0], []mad.PKeyTable{n.pkeys, n.more}[s.Modifier])
	case s.Attribute == mad.AttrPKeyTable:
		s.Status = 0x1c
	case s.Attribute == mad.AttrPortInfo:
		if n.ports != 0 && int(s.Modifier) > n.ports {
			s.Status = 0x1c
			break
		}
		info := mad.PortInfo{LocalPort: at.port, State: mad.PortDown, PhysState: mad.PhysPolling}
		if _, up := n.next(uint8(s.Modifier)); up {
			info.State, info.PhysState, info.WidthActive, info.SpeedExtActive = mad.PortActive, mad.PhysLinkUp, 16, 8
		}
		if s.Modifier == 0 || n.info.Type == mad.NodeCA {
			info.LID = n.lid
		}
		mad.AppendPortInfo(s.Data[:0], info)
	}
	out := mad.Packet{LID: mad.PermissiveLID}
	mad.AppendSMP(out.MAD[:0], s)
	return out, true
}

// general answers for whoever is asked by LID, where there are such agents at all:
// every counter is zero, and so is every register.
func (f *fake) general(p *mad.Packet) (mad.Packet, bool) {
	h, err := mad.ParseHeader(p.MAD[:])
	if err != nil || !f.agents {
		return mad.Packet{}, false
	}
	out := *p
	out.MAD[3] = byte(mad.MethodGetResp)
	if h.Class == mad.ClassVendor && h.Attribute == mad.AttrGeneralInfo {
		copy(mad.VendorData(&out.MAD), mad.AppendGeneralInfo(nil, mad.GeneralInfo{Registers: true}))
	}
	if h.Class == mad.ClassPerf && h.Attribute == mad.AttrClassPortInfo {
		copy(mad.PerfData(&out.MAD), mad.AppendClassPortInfo(nil, mad.ClassPortInfo{CapabilityMask: 1 << 9}))
	}
	return out, true
}

// pair is a switch with two HCAs; the local port is of the first.
func pair() (root, sw, other *fakeNode) {
	root, sw, other = fakeHCA(0x100, "hca-a"), fakeSwitch(0x10, 4), fakeHCA(0x200, "hca-b")
	plug(root, 1, sw, 1)
	plug(other, 1, sw, 2)
	return root, sw, other
}

// run sweeps a fabric of the test, which must end in good time.
func run(t *testing.T, f *fake, s Sweep) (*Swept, error) {
	t.Helper()
	s.Transports = []Transport{f}
	if s.Timeout == 0 {
		s.Timeout = 40 * time.Millisecond
	}
	type result struct {
		found *Swept
		err   error
	}
	done := make(chan result, 1)
	go func() { // ends with Run, or the test has failed
		found, err := s.Run(t.Context())
		done <- result{found, err}
	}()
	select {
	case r := <-done:
		return r.found, r.err
	case <-time.After(30 * time.Second):
		t.Fatal("the sweep hangs")
		return nil, errors.New("unreachable")
	}
}
