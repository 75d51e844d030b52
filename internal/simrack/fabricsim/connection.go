package fabricsim

import (
	"encoding/binary"
	"errors"
	"net"
	"syscall"
	"time"
)

// queued is how many packets wait for a client that does not read; more are lost.
const queued = 4096

// connection is a client's data socket.
type connection struct {
	server *Server
	client *client
	conn   *net.UnixConn
	queue  chan *flight // what others send it, and what took its time
	closed chan struct{}
}

// push hands the client a packet; it never waits.
func (c *connection) push(fl *flight) {
	select {
	case c.queue <- fl:
	default:
	}
}

// write sends what is pushed, until the client is gone.
func (c *connection) write() {
	defer c.server.wait.Done()
	var b [requestSize]byte
	for {
		select {
		case fl := <-c.queue:
			fl.request(&b)
			c.send(&b)
		case <-c.closed:
			return
		}
	}
}

// send writes one packet. A client whose socket is gone has ended.
func (c *connection) send(b *[requestSize]byte) {
	if _, err := c.conn.Write(b[:]); errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
		c.conn.Close()
	}
}

// read answers the client's packets until its socket is closed. What takes no
// time is answered from here: a client that does not read its answers is not
// read from.
func (c *connection) read() {
	defer c.server.wait.Done()
	defer c.server.drop(c)
	defer close(c.closed)
	var in, out [requestSize]byte
	fl := &flight{}
	for {
		n, err := c.conn.Read(in[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != requestSize {
			if errors.Is(err, syscall.ECONNRESET) {
				continue // what a write met; it has closed the socket if it must
			}
			c.server.Log.Debug("a packet that is none of ibsim's", "client", c.client.id, "bytes", n, "error", err)
			if err != nil {
				c.conn.Close()
				return
			}
			continue
		}
		fl.take(&in)
		c.server.Fabric.start(fl, c.client, c.server.Timeout > 0)
		switch {
		case fl.fate == flying, fl.fate == lost && c.server.Timeout > 0:
			c.later(fl)
		case fl.fate == arrived:
			other := *fl
			c.server.land(&other)
		case fl.fate == answered, fl.fate == lost && fl.answerable():
			fl.request(&out)
			c.send(&out)
		}
	}
}

// later puts a flight on the agenda.
func (c *connection) later(fl *flight) {
	other := *fl
	if other.fate == lost {
		other.due = other.due.Add(c.server.Timeout)
	}
	c.server.agenda.add(&other)
}

// take reads a packet of ibsim's clients.
func (fl *flight) take(b *[requestSize]byte) {
	*fl = flight{
		dlid: binary.BigEndian.Uint16(b[:]), slid: binary.BigEndian.Uint16(b[requestSLID:]),
		dqp: binary.BigEndian.Uint32(b[requestDQP:]), sqp: binary.BigEndian.Uint32(b[requestSQP:]),
	}
	copy(fl.mad[:], b[requestMAD:])
	fl.sent = fl.mad
}

// serve tells the fabric where packets for a client go.
func (f *Fabric) serve(c *client, to *connection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.server = to
}

// start puts a client's packet on its way. In a fabric where nothing takes time
// it is then at its end. stamp: its time is needed all the same.
func (f *Fabric) start(fl *flight, c *client, stamp bool) {
	timed := f.opt.Hop > 0 || f.opt.VL15.Depth > 0
	if timed || stamp {
		fl.due = time.Now()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.fate = f.launch(fl, c)
	for !timed && fl.fate == flying {
		fl.fate = f.step(fl)
	}
}

// advance takes a flight on as far as it gets at a time.
func (f *Fabric) advance(fl *flight, now time.Time) fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if fate := f.step(fl); fate != flying || fl.due.After(now) {
			return fate
		}
	}
}
