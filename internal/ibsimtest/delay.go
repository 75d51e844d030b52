//go:build bench

package ibsimtest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// The parts of ibsim's messages that a delay looks at.
const (
	controlSize = 80
	packetSize  = 288
	typeConnect = 1
	offClient   = 4
	offType     = 8
	offID       = 16 // of connect: the client's number; of its answer: the simulator's
)

// Delay puts a relay before the simulator that holds every packet back for half
// a round trip each way, and returns the simulator as seen through it. What the
// relay itself takes comes on top.
func (s *Sim) Delay(roundTrip time.Duration) *Sim {
	s.t.Helper()
	r := &relay{inside: s.Socket, outside: s.Socket + "-slow", half: roundTrip / 2, clients: map[uint32]*client{}}
	ctl, err := net.ListenUnixgram("unixgram", abstract(r.outside, "ctl"))
	if err != nil {
		s.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { r.control(ctl) }) // ends with its socket
	s.t.Cleanup(func() {
		ctl.Close()
		wg.Wait()
	})
	return &Sim{Console: s.Console, Socket: r.outside, t: s.t, preload: s.preload, host: s.host}
}

type relay struct {
	inside, outside string
	half            time.Duration
	clients         map[uint32]*client // by the simulator's number
}

// client is one connection through the relay.
type client struct {
	ctl, in, out *net.UnixConn // to the simulator's control and data sockets; to the client
}

func (c *client) close() {
	for _, conn := range []*net.UnixConn{c.ctl, c.in, c.out} {
		if conn != nil {
			conn.Close()
		}
	}
}

func abstract(socket, what string) *net.UnixAddr {
	return &net.UnixAddr{Name: "@" + socket + ":" + what + "\x00", Net: "unixgram"}
}

// control passes control messages on, each with its answer.
func (r *relay) control(ctl *net.UnixConn) {
	defer func() {
		for _, c := range r.clients {
			c.close()
		}
	}()
	for {
		m := make([]byte, controlSize)
		_, from, err := ctl.ReadFromUnix(m)
		if err != nil {
			return
		}
		n := binary.NativeEndian.Uint32(m[offClient:])
		if binary.NativeEndian.Uint32(m[offType:]) == typeConnect {
			r.connect(m)
		} else if c := r.clients[n]; c != nil {
			ask(c.ctl, m)
		}
		// The zero byte at the end of the name does not come with it.
		if _, err := ctl.WriteToUnix(m, &net.UnixAddr{Name: from.Name + "\x00", Net: "unixgram"}); err != nil {
			return
		}
	}
}

// connect makes a connection of the relay's own for a client; m becomes the answer.
func (r *relay) connect(m []byte) {
	id, own := binary.NativeEndian.Uint32(m[offID:]), 1<<30|rand.Uint32N(1<<30)
	c := &client{}
	err := func() (err error) {
		if c.ctl, err = net.DialUnix("unixgram", abstract(r.inside, fmt.Sprintf("ctl%d", own)), abstract(r.inside, "ctl")); err != nil {
			return err
		}
		if c.in, err = net.ListenUnixgram("unixgram", abstract(r.inside, fmt.Sprintf("in%d", own))); err != nil {
			return err
		}
		binary.NativeEndian.PutUint32(m[offID:], own)
		if err := ask(c.ctl, m); err != nil {
			return err
		}
		n := binary.NativeEndian.Uint32(m[offID:])
		if old := r.clients[n]; old != nil {
			old.close()
		}
		r.clients[n] = c
		if c.out, err = net.ListenUnixgram("unixgram", abstract(r.outside, fmt.Sprintf("out%d", n))); err != nil {
			return err
		}
		if err := connectTo(c.out, abstract(r.outside, fmt.Sprintf("in%d", id)).Name); err != nil {
			return err
		}
		return connectTo(c.in, abstract(r.inside, fmt.Sprintf("out%d", n)).Name)
	}()
	if err != nil {
		c.close()
		binary.NativeEndian.PutUint32(m[offType:], 0) // an error
		return
	}
	go r.carry(c.out, c.in) // both end with the sockets
	go r.carry(c.in, c.out)
}

// ask is one exchange of control messages.
func ask(ctl *net.UnixConn, m []byte) error {
	if _, err := ctl.Write(m); err != nil {
		return err
	}
	_, err := ctl.Read(m)
	return err
}

func connectTo(c *net.UnixConn, name string) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Connect(int(fd), &syscall.SockaddrUnix{Name: name}) }); err != nil {
		return err
	}
	return failed
}

// carry brings packets from one socket to the other, each when it is due.
func (r *relay) carry(from, to *net.UnixConn) {
	type held struct {
		due time.Time
		m   []byte
	}
	way := make(chan held, 1<<14)
	go func() { // ends when way is closed
		for h := range way {
			// time.Sleep may wait in epoll, which counts in milliseconds.
			if wait := time.Until(h.due); wait > 0 {
				ts := syscall.NsecToTimespec(int64(wait))
				_ = syscall.Nanosleep(&ts, nil)
			}
			if _, err := to.Write(h.m); err != nil {
				from.Close()
			}
		}
	}()
	defer close(way)
	for {
		m := make([]byte, packetSize)
		n, err := from.Read(m)
		if err != nil {
			return
		}
		way <- held{time.Now().Add(r.half), m[:n]}
	}
}

// Command is a tool that has not run yet, to be run against the simulated
// fabric by somebody else.
func (s *Sim) Command(tool string, args ...string) *exec.Cmd {
	cmd := exec.Command("timeout", append([]string{"60", tool}, args...)...)
	// The library makes a sys-PID directory where a tool is started, and leaves
	// it there when the tool is killed.
	cmd.Dir = s.t.TempDir()
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+s.preload, "SIM_HOST="+s.host, "IBSIM_SOCKNAME="+s.Socket)
	return cmd
}
