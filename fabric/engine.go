package fabric

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"firstlight/fabric/mad"
)

// request is a question to a node, and the state of its transmission.
type request struct {
	node  *swept        // who is asked, or beyond whose port; nil: the local node
	path  []byte        // to the node, of subnet management
	sent  time.Duration // since the sweep began
	tid   uint32
	attr  mad.Attribute
	block uint16 // of a table
	lid   uint16 // of the node, of performance management
	class mad.Class
	port  uint8 // asked about; of NodeInfo the port to go on by, 0 being the node itself
	tries uint8
	state slotState
}

type slotState uint8

const (
	slotFree   slotState = iota
	slotSent             // on the way
	slotRepeat           // waits to be sent again
)

// lane is one local port with what it has to ask.
type lane struct {
	transport Transport
	root      *swept // the node of the local port; nil until it answered
	rootPort  uint8
	smp, gmp  traffic
	slots     []request // by the lower half of the TID
	free      []uint16
	out       []request // to be sent, by the sender
	wake      *sync.Cond
	asked     bool // since the last pump
	failed    error
}

// traffic is one of a lane's two kinds of requests.
type traffic struct {
	window
	queue  []request
	next   int // in queue
	repeat []uint16
}

// engine runs a sweep. All of it is under mu but what senders and receivers do
// with their transport. Whoever holds mu never waits.
type engine struct {
	Sweep
	mu       sync.Mutex
	lanes    []*lane
	nodes    map[uint64]*swept
	observed *Observed
	all      []*swept
	silent   []Unanswered
	stats    Stats
	began    time.Time
	open     int // requests that are neither answered nor given up
	counting bool
	counted  int
	moduling bool
	spoke    int // devices that know the vendor's class
	strange  int // and that do not
	links    int
	ports    int  // that the nodes say to have
	full     bool // maxNodes or maxPorts were found
	stopping bool
	done     chan struct{} // closed when nothing is open
	quit     chan struct{} // closed by stop
}

func newEngine(s Sweep) *engine {
	e := &engine{Sweep: s, nodes: map[uint64]*swept{}, observed: &Observed{}, began: time.Now(), done: make(chan struct{}), quit: make(chan struct{})}
	for _, t := range s.Transports {
		e.lanes = append(e.lanes, &lane{
			transport: t,
			smp:       traffic{window: newWindow(smpStart, smpCeiling)},
			gmp:       traffic{window: newWindow(gmpStart, gmpCeiling)},
			wake:      sync.NewCond(&e.mu),
		})
	}
	return e
}

// start runs a sender and a receiver for each lane, and the clock. All end
// after stop and a deadline on the transports.
func (e *engine) start() *sync.WaitGroup {
	var wg sync.WaitGroup
	for _, l := range e.lanes {
		wg.Go(func() { e.send(l) })
		wg.Go(func() { e.receive(l) })
	}
	wg.Go(e.clock)
	return &wg
}

func (e *engine) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopping = true
	close(e.quit)
	for _, l := range e.lanes {
		l.wake.Signal()
	}
}

// send hands over what pump took from the queues.
func (e *engine) send(l *lane) {
	var batch []request
	var p mad.Packet
	for {
		e.mu.Lock()
		for len(l.out) == 0 && !e.stopping && l.failed == nil {
			l.wake.Wait()
		}
		if e.stopping || l.failed != nil {
			e.mu.Unlock()
			return
		}
		batch, l.out = l.out, batch[:0]
		e.mu.Unlock()
		for i := range batch {
			e.packet(&p, &batch[i])
			if err := l.transport.Send(&p); err != nil {
				e.broke(l, err)
				return
			}
		}
	}
}

// packet makes the MAD of a request.
func (e *engine) packet(p *mad.Packet, r *request) {
	p.Timeout = e.Timeout
	if r.class == mad.ClassVendor {
		p.LID, p.QP = r.lid, mad.QPGeneral
		putVendor(&p.MAD, r)
		return
	}
	if r.class == mad.ClassPerf {
		p.LID, p.QP = r.lid, mad.QPGeneral
		port := r.port
		if r.attr == mad.AttrClassPortInfo {
			port = 0 // it is of the node
		}
		mad.PutPerfGet(&p.MAD, uint64(r.tid), r.attr, port)
		return
	}
	p.LID, p.QP = mad.PermissiveLID, mad.QPSubnet
	if r.attr == mad.AttrNodeInfo {
		mad.PutDirectedGet(&p.MAD, uint64(r.tid), r.path, r.port, r.attr, 0)
		return
	}
	modifier := uint32(r.port)
	if r.attr == mad.AttrPKeyTable {
		modifier = uint32(r.block) // of the port that the question comes in by
	}
	mad.PutDirectedGet(&p.MAD, uint64(r.tid), r.path, 0, r.attr, modifier)
}

func (e *engine) receive(l *lane) {
	var p mad.Packet
	for {
		err := l.transport.Receive(&p)
		if err != nil && !errors.Is(err, mad.ErrForeign) {
			e.broke(l, err)
			return
		}
		e.mu.Lock()
		if e.stopping {
			e.mu.Unlock()
			return
		}
		if err != nil {
			e.stats.Foreign++
		} else {
			e.arrived(l, &p)
			for _, other := range e.lanes {
				if other == l || other.asked {
					e.pump(other)
				}
			}
			e.finish()
		}
		e.mu.Unlock()
	}
}

// broke takes a lane out of use: its device went away, or the sweep is over.
func (e *engine) broke(l *lane, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping || l.failed != nil {
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.Canceled // somebody else set a deadline
	}
	l.failed = err
	l.wake.Signal()
	e.silent = append(e.silent, Unanswered{What: "the device failed", Why: err.Error()})
	for _, t := range []*traffic{&l.smp, &l.gmp} {
		e.open -= len(t.queue) - t.next
		t.queue, t.next = nil, 0
	}
	for i := range l.slots {
		if l.slots[i].state != slotFree {
			l.slots[i].state = slotFree
			e.open--
		}
	}
	e.finish()
}

// subnet makes the question for an attribute of a node, or of one of its ports.
func subnet(n *swept, attr mad.Attribute, port uint8) request {
	return request{class: mad.ClassSubnDirected, attr: attr, node: n, port: port, path: n.path}
}

// failed is why the last local port went out of use, where none is left.
func (e *engine) failed() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	for _, l := range e.lanes {
		if l.failed == nil {
			return nil
		}
		err = l.failed
	}
	return err
}

// ask queues a question.
func (e *engine) ask(l *lane, r request) {
	if l.failed != nil {
		return
	}
	t := l.traffic(r.class)
	if t.next > len(t.queue)/2 { // what was sent is most of it
		n := copy(t.queue, t.queue[t.next:])
		clear(t.queue[n:])
		t.queue, t.next = t.queue[:n], 0
	}
	t.queue = append(t.queue, r)
	l.asked = true
	e.open++
}

func (l *lane) traffic(c mad.Class) *traffic {
	if c == mad.ClassSubnDirected {
		return &l.smp
	}
	return &l.gmp
}

// pump moves what the windows have room for to the sender.
func (e *engine) pump(l *lane) {
	if l.failed != nil {
		return
	}
	l.asked = false
	now := time.Since(e.began)
	for _, t := range []*traffic{&l.smp, &l.gmp} {
		for t.room() {
			i, ok := e.nextSlot(l, t)
			if !ok {
				break
			}
			r := &l.slots[i]
			r.state, r.sent = slotSent, now
			r.tries++
			t.onTheWay++
			l.out = append(l.out, *r)
		}
	}
	if len(l.out) > 0 {
		l.wake.Signal()
	}
}

// nextSlot is what to send next: first what was lost, then what is new. What
// has become moot meanwhile is dropped.
func (e *engine) nextSlot(l *lane, t *traffic) (uint16, bool) {
	for len(t.repeat) > 0 {
		i := t.repeat[0]
		t.repeat = t.repeat[1:]
		if l.slots[i].state != slotRepeat {
			continue // its answer came after all
		}
		if e.moot(&l.slots[i]) {
			l.release(i)
			e.open--
			continue
		}
		e.stats.Repeats++
		return i, true
	}
	for t.next < len(t.queue) {
		r := t.queue[t.next]
		t.next++
		if e.moot(&r) {
			e.open--
			continue
		}
		e.stats.Requests++
		return l.take(r), true
	}
	return 0, false
}

// take gives a request a slot. The windows together are far smaller than 65536.
func (l *lane) take(r request) uint16 {
	var i uint16
	if n := len(l.free); n > 0 {
		i, l.free = l.free[n-1], l.free[:n-1]
	} else {
		i = uint16(len(l.slots))
		// A sweep before may have left answers on the way.
		l.slots = append(l.slots, request{tid: rand.Uint32()})
	}
	// The upper half counts the users of a slot, so that the answer to an
	// earlier one is not taken for this one's.
	r.tid = l.slots[i].tid&^0xffff + 0x10000 | uint32(i)
	l.slots[i] = r
	return i
}

func (l *lane) release(i uint16) {
	l.slots[i].state = slotFree
	l.slots[i].node = nil
	l.free = append(l.free, i)
}

// arrived takes a packet: an answer, or a request that was not answered. An
// answer to any transmission of a request counts.
func (e *engine) arrived(l *lane, p *mad.Packet) {
	h, err := mad.ParseHeader(p.MAD[:])
	if err != nil {
		e.stats.Foreign++
		return
	}
	tid := uint32(h.TID & mad.TIDMask)
	i := int(tid & 0xffff)
	if i >= len(l.slots) || l.slots[i].tid != tid || l.slots[i].state == slotFree {
		e.stats.Late++
		return
	}
	r := l.slots[i]
	if p.TimedOut {
		if r.state == slotSent {
			e.lost(l, uint16(i), time.Since(e.began))
		}
		return
	}
	if h.Method != mad.MethodGetResp || h.Class != r.class || h.Attribute != r.attr {
		e.stats.Foreign++
		return
	}
	t := l.traffic(r.class)
	if r.state == slotSent {
		t.onTheWay--
	}
	if h.Status&mad.StatusBusy != 0 {
		// The node took it and has no time: as good as lost.
		t.onTheWay++
		l.slots[i].state = slotSent
		e.lost(l, uint16(i), time.Since(e.began))
		return
	}
	t.answered()
	l.release(uint16(i))
	e.open--
	e.answer(l, &r, h.Status, p)
}

// lost sends a request again, or gives it up.
func (e *engine) lost(l *lane, i uint16, now time.Duration) {
	r := &l.slots[i]
	t := l.traffic(r.class)
	t.onTheWay--
	t.lost(r.sent, now)
	if int(r.tries) < e.Attempts && !e.moot(r) {
		r.state = slotRepeat
		t.repeat = append(t.repeat, i)
		return
	}
	given := *r
	l.release(i)
	e.open--
	e.giveUp(&given)
}

// clock finds requests that nobody says anything of, and tells of the progress.
// The transports keep the time themselves, so this waits a little longer.
func (e *engine) clock() {
	tick := time.NewTicker(max(e.Timeout/8, 5*time.Millisecond))
	defer tick.Stop()
	for {
		var now time.Time
		select {
		case <-e.quit:
			return
		case now = <-tick.C:
		}
		e.mu.Lock()
		if e.stopping {
			e.mu.Unlock()
			return
		}
		at := now.Sub(e.began)
		overdue := at - e.Timeout*5/4
		for _, l := range e.lanes {
			for i := range l.slots {
				if l.slots[i].state == slotSent && l.slots[i].sent < overdue {
					e.lost(l, uint16(i), at)
				}
			}
			e.pump(l)
		}
		e.finish()
		p := Progress{Switches: e.observed.Count(Switch), HCAs: e.observed.Count(CA), Links: e.links,
			Counters: e.counted, Waiting: e.open, Elapsed: at}
		e.mu.Unlock()
		if e.Progress != nil {
			e.Progress(p)
		}
	}
}

// finish goes on to the counters when the topology is read, and ends the sweep
// when nothing is open.
func (e *engine) finish() {
	for e.open == 0 && !e.stopping {
		if e.stats.Discovery == 0 {
			e.stats.Discovery = time.Since(e.began)
		}
		if e.Counters && !e.counting {
			e.counting = true
			e.askCounters()
			for _, l := range e.lanes {
				e.pump(l)
			}
			continue
		}
		if e.Modules && !e.moduling {
			e.moduling = true
			e.askModules()
			for _, l := range e.lanes {
				e.pump(l)
			}
			continue
		}
		e.stopping = true
		close(e.done)
		for _, l := range e.lanes {
			l.wake.Signal()
		}
	}
}
