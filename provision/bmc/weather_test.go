package bmc

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// weather is a bad network between the engine and its real sockets.
type weather struct {
	loss  float64       // share of packets lost each way
	twice float64       // share of packets doubled each way
	delay time.Duration // of each reply
	// carries is how many packets it carries at once, each for as long as delay:
	// what is more is lost; 0: any number.
	carries int
	// narrow says which BMCs are behind what carries so few; nil: all.
	narrow func(netip.AddrPort) bool
	// frozen says which BMCs are never reached; nil: none.
	frozen func(netip.AddrPort) bool
	// forge returns packets that come before a reply; nil: none.
	forge func(reply []byte) [][]byte
}

// open is for Client.open.
func (w *weather) open(v6 bool) (packetConn, error) {
	conn, err := openSocket(v6)
	if err != nil {
		return nil, err
	}
	c := &badConn{packetConn: conn, weather: w, random: rand.New(rand.NewPCG(1, 2)), late: make(chan datagram, 1<<15), done: make(chan struct{})}
	go c.read() // ends with the socket
	return c, nil
}

// badConn is a socket in bad weather.
type badConn struct {
	packetConn
	weather *weather
	mu      sync.Mutex // guards random
	random  *rand.Rand
	carried atomic.Int64
	late    chan datagram
	done    chan struct{} // closed with the socket
}

func (c *badConn) chance(share float64) bool {
	if share == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.Float64() < share
}

// copies is how often a packet arrives.
func (c *badConn) copies(peer netip.AddrPort) int {
	switch {
	case c.full(peer):
		return 0
	case c.chance(c.weather.loss):
		return 0
	case c.chance(c.weather.twice):
		return 2
	}
	return 1
}

// full takes a packet's room on the network, or says that there is none.
func (c *badConn) full(peer netip.AddrPort) bool {
	if c.weather.carries == 0 || c.weather.narrow != nil && !c.weather.narrow(peer) {
		return false
	}
	if c.carried.Add(1) > int64(c.weather.carries) {
		c.carried.Add(-1)
		return true
	}
	time.AfterFunc(c.weather.delay, func() { c.carried.Add(-1) })
	return false
}

func (c *badConn) send(out []datagram) (failed []datagram) {
	var through []datagram
	for _, d := range out {
		if c.weather.frozen != nil && c.weather.frozen(d.peer) {
			continue
		}
		for range c.copies(d.peer) {
			through = append(through, d)
		}
	}
	return c.packetConn.send(through)
}

// read takes packets off the real socket.
func (c *badConn) read() {
	memory := make([]datagram, batchSize)
	for i := range memory {
		memory[i].data = make([]byte, packetSize)
	}
	for {
		got, err := c.packetConn.receive(memory)
		if err != nil {
			close(c.done)
			return
		}
		for _, d := range got {
			d.data = append([]byte(nil), d.data...)
			for range c.copies(d.peer) {
				c.deliver(d)
			}
		}
	}
}

func (c *badConn) deliver(d datagram) {
	var all []datagram
	if c.weather.forge != nil && d.err == nil {
		for _, pkt := range c.weather.forge(d.data) {
			all = append(all, datagram{peer: d.peer, data: pkt})
		}
	}
	all = append(all, d)
	push := func() {
		for _, d := range all {
			select {
			case c.late <- d:
			case <-c.done:
			}
		}
	}
	if c.weather.delay == 0 {
		push()
		return
	}
	time.AfterFunc(c.weather.delay, push)
}

func (c *badConn) receive(into []datagram) ([]datagram, error) {
	n := 0
	take := func(d datagram) {
		into[n].peer, into[n].err = d.peer, d.err
		into[n].data = append(into[n].data[:0], d.data...)
		n++
	}
	select {
	case d := <-c.late:
		take(d)
	case <-c.done:
		return nil, net.ErrClosed
	}
	for n < len(into) {
		select {
		case d := <-c.late:
			take(d)
		default:
			return into[:n], nil
		}
	}
	return into[:n], nil
}
