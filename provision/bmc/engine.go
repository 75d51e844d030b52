package bmc

import (
	"container/heap"
	"net/netip"
	"sync"
	"time"
)

// linger is how long the engine keeps its sockets when there is nothing to do.
const linger = time.Second

// engine carries all conversations of a Client with one goroutine, and one more
// for each socket: at most three, however many BMCs there are. The goroutines
// run while there are conversations, and end a second after the last.
type engine struct {
	concurrency int
	open        func(v6 bool) (packetConn, error)
	count       counters

	wake    chan struct{} // holds a token when something was posted
	mu      sync.Mutex    // guards posted and running
	posted  []func()
	running bool

	// The rest belongs to the goroutine of run, or to nobody.
	now     time.Time // of the event that is handled
	targets map[netip.AddrPort]*target
	timers  timers
	live    int       // conversations that are not over
	talking int       // those that hold a slot
	typical roundTrip // of all BMCs
	// The networks that BMCs are on, with their names beside them.
	lans    []*lan
	names   []string
	turn    int             // of the networks
	socks   [2]*socketState // for IPv4 and IPv6, from the first use on
	in      chan batch
	stopped chan struct{} // closed when run ends
}

// socketState is a socket and what waits to be sent on it.
type socketState struct {
	conn packetConn
	out  []datagram
}

// batch is what one call of receive gave; room takes the memory back.
type batch struct {
	packets []datagram
	memory  []datagram
	room    chan []datagram
}

func newEngine(concurrency int, open func(bool) (packetConn, error)) *engine {
	return &engine{concurrency: concurrency, open: open, wake: make(chan struct{}, 1), targets: make(map[netip.AddrPort]*target)}
}

// post has f called by the engine's goroutine.
func (e *engine) post(f func()) {
	e.mu.Lock()
	e.posted = append(e.posted, f)
	if !e.running {
		e.running = true
		e.in, e.stopped = make(chan batch, 4), make(chan struct{})
		go e.run() // ends a second after the last conversation
	}
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run is the event loop.
func (e *engine) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	e.now = time.Now()
	idleSince := e.now
	for {
		e.callPosted()
		e.expire()
		e.admit()
		again := e.flush()
		next := linger
		if again {
			next = 0
		} else if e.live > 0 {
			idleSince = e.now
			if len(e.timers) > 0 {
				next = e.timers[0].due.Sub(e.now)
			}
		} else if e.now.Sub(idleSince) >= linger && e.stop() {
			return
		}
		timer.Reset(max(next, 0))
		select {
		case <-e.wake:
			e.now = time.Now()
		case <-timer.C:
			e.now = time.Now()
		case b := <-e.in:
			e.now = time.Now()
			for _, d := range b.packets {
				e.receive(d)
			}
			b.room <- b.memory
		}
	}
}

// stop closes the sockets, unless something has been posted meanwhile.
func (e *engine) stop() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.posted) > 0 {
		return false
	}
	close(e.stopped)
	for i, s := range e.socks {
		if s != nil {
			s.conn.Close()
			e.socks[i] = nil
		}
	}
	e.running = false
	return true
}

func (e *engine) callPosted() {
	e.mu.Lock()
	posted := e.posted
	e.posted = nil
	e.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// expire tells each conversation whose time has come.
func (e *engine) expire() {
	for len(e.timers) > 0 && !e.timers[0].due.After(e.now) {
		v := e.timers[0]
		e.disarm(v)
		v.timeout()
	}
}

// begin queues v for its BMC's turn and then for a slot, in this order, so that
// those who wait for a hung BMC hold no slot.
func (e *engine) begin(v *conversation) {
	e.live++
	addr := plain(v.ep.Address)
	v.t = e.targets[addr]
	if v.t == nil {
		v.t = &target{addr: addr, lan: e.lanOf(v.ep.Network)}
		e.targets[addr] = v.t
	}
	if v.t.current != nil {
		v.t.queue = append(v.t.queue, v)
		return
	}
	v.t.current = v
	v.t.lan.waiting = append(v.t.lan.waiting, v)
}

// end gives back what v holds.
func (e *engine) end(v *conversation) {
	e.disarm(v)
	e.park(v)
	e.live--
	e.pass(v)
}

// pass gives v's turn with its BMC to the next.
func (e *engine) pass(v *conversation) {
	if v.t.current != v {
		return // it has waited in the queue, which skips it
	}
	v.t.current = nil
	for len(v.t.queue) > 0 {
		next := v.t.queue[0]
		v.t.queue = v.t.queue[1:]
		if next.phase == phaseWaiting {
			v.t.current = next
			v.t.lan.waiting = append(v.t.lan.waiting, next)
			return
		}
	}
	v.t.queue = nil
}

// measured takes a round-trip time of t.
func (e *engine) measured(t *target, sample time.Duration) {
	t.rtt.add(sample)
	e.typical.add(sample)
}

// park gives v's slot to others while its BMC is silent or its caller waits:
// frozen BMCs must not hold up the fleet.
func (e *engine) park(v *conversation) {
	if v.talking {
		v.talking = false
		e.talking--
		v.t.lan.talking--
	}
}

// unpark counts v again. The slots may be exceeded by those whose BMCs came back.
func (e *engine) unpark(v *conversation) {
	if !v.talking {
		v.talking = true
		e.talking++
		v.t.lan.talking++
	}
}

// arm has v.timeout called at due.
func (e *engine) arm(v *conversation, due time.Time) {
	v.due = due
	if v.timer > 0 {
		heap.Fix(&e.timers, v.timer-1)
		return
	}
	heap.Push(&e.timers, v)
}

func (e *engine) disarm(v *conversation) {
	if v.timer > 0 {
		heap.Remove(&e.timers, v.timer-1)
	}
}

// timers is a heap of the armed conversations. A conversation's timer is its
// place plus one, so that zero is "not armed".
type timers []*conversation

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].timer, h[j].timer = i+1, j+1
}

// Push implements heap.Interface.
func (h *timers) Push(x any) {
	v := x.(*conversation)
	*h = append(*h, v)
	v.timer = len(*h)
}

// Pop implements heap.Interface.
func (h *timers) Pop() any {
	last := len(*h) - 1
	v := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	v.timer = 0
	return v
}

// transmit sends pkt to t when the event is handled.
func (e *engine) transmit(t *target, pkt []byte) error {
	i := 0
	if t.addr.Addr().Is6() {
		i = 1
	}
	if e.socks[i] == nil {
		conn, err := e.open(i == 1)
		if err != nil {
			return err
		}
		e.socks[i] = &socketState{conn: conn}
		go listen(conn, e.in, e.stopped) // ends when the socket is closed
	}
	e.count.Sent.Add(1)
	e.socks[i].out = append(e.socks[i].out, datagram{peer: t.addr, data: pkt})
	return nil
}

// flush sends what was gathered, with one system call for many packets. It says
// whether failures have changed anything.
func (e *engine) flush() (failed bool) {
	for _, s := range e.socks {
		if s == nil || len(s.out) == 0 {
			continue
		}
		out := s.out
		s.out = nil
		for _, d := range s.conn.send(out) {
			e.receive(d)
			failed = true
		}
		if s.out == nil { // else a failure has led to more
			clear(out)
			s.out = out[:0]
		}
	}
	return failed
}

// listen hands packets to the loop until the socket is closed.
func listen(conn packetConn, in chan<- batch, stopped <-chan struct{}) {
	const buffers = 2 // one is filled while the other is worked on
	room := make(chan []datagram, buffers)
	for range buffers {
		memory := make([]datagram, batchSize)
		space := make([]byte, batchSize*packetSize)
		for i := range memory {
			memory[i].data = space[i*packetSize : i*packetSize : (i+1)*packetSize]
		}
		room <- memory
	}
	for {
		var memory []datagram
		select {
		case memory = <-room:
		case <-stopped:
			return
		}
		packets, err := conn.receive(memory)
		if err != nil {
			return
		}
		select {
		case in <- batch{packets: packets, memory: memory, room: room}:
		case <-stopped:
			return
		}
	}
}

// receive gives one packet to the BMC that it comes from.
func (e *engine) receive(d datagram) {
	t := e.targets[d.peer]
	switch {
	case t == nil:
		e.count.Foreign.Add(1)
	case d.err != nil:
		if t.current != nil {
			t.current.unreachable(d.err)
		}
	default:
		e.count.Received.Add(1)
		e.packet(t, d.data)
	}
}
