package vm

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// console is a machine's serial line. Everything that the machine writes goes
// to the log and to whoever is connected; what they type goes to the machine.
// It outlives power cycles.
type console struct {
	log      *os.File
	listener net.Listener

	mu      sync.Mutex
	machine *os.File // QEMU's end, nil while the power is off
	clients map[net.Conn]struct{}

	group sync.WaitGroup
}

// clientStall is how long a client may not read before it is dropped: the
// machine does not wait for a person's terminal.
const clientStall = 250 * time.Millisecond

// newConsole listens until close.
func newConsole(socket, log string) (*console, error) {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("console log: %w", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("console socket: %w", err)
	}
	c := &console{log: f, listener: l, clients: map[net.Conn]struct{}{}}
	c.group.Go(c.accept)
	return c, nil
}

// accept ends when the listener is closed.
func (c *console) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.clients[conn] = struct{}{}
		c.mu.Unlock()
		c.group.Go(func() { c.typing(conn) })
	}
}

// typing carries what one client types, and ends when it hangs up.
func (c *console) typing(conn net.Conn) {
	defer c.drop(conn)
	buf := make([]byte, 1024)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		c.mu.Lock()
		machine := c.machine
		c.mu.Unlock()
		if machine != nil { // else typed at a machine that is off
			machine.SetWriteDeadline(time.Now().Add(clientStall))
			machine.Write(buf[:n])
		}
	}
}

func (c *console) drop(conn net.Conn) {
	c.mu.Lock()
	delete(c.clients, conn)
	c.mu.Unlock()
	conn.Close()
}

// attach connects a machine that starts. What it writes is carried until QEMU
// closes its end; done says when all of it is in the log.
func (c *console) attach(machine *os.File) (done <-chan struct{}) {
	c.mu.Lock()
	c.machine = machine
	c.mu.Unlock()
	ended := make(chan struct{})
	c.group.Go(func() {
		defer close(ended)
		defer machine.Close()
		buf := make([]byte, 16<<10)
		for {
			n, err := machine.Read(buf)
			if n > 0 {
				c.carry(buf[:n])
			}
			if err != nil {
				break
			}
		}
		c.mu.Lock()
		if c.machine == machine {
			c.machine = nil
		}
		c.mu.Unlock()
	})
	return ended
}

func (c *console) carry(b []byte) {
	c.log.Write(b) // a full disk must not stop the machine
	c.mu.Lock()
	clients := make([]net.Conn, 0, len(c.clients))
	for conn := range c.clients {
		clients = append(clients, conn)
	}
	c.mu.Unlock()
	for _, conn := range clients {
		conn.SetWriteDeadline(time.Now().Add(clientStall))
		if _, err := conn.Write(b); err != nil {
			c.drop(conn)
		}
	}
}

// close hangs up. The machine must be off.
func (c *console) close() error {
	err := c.listener.Close()
	c.mu.Lock()
	for conn := range c.clients {
		conn.Close()
	}
	c.mu.Unlock()
	c.group.Wait()
	c.log.Close()
	return err
}
