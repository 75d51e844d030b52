package bmc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"firstlight/internal/refbmc"
)

// serialPort is the machine's end of a serial line that a BMC attaches to.
type serialPort struct {
	mu     sync.Mutex
	conn   net.Conn // the machine's end; nil: nobody is attached
	typed  bytes.Buffer
	breaks int
	ended  bool
}

// portEnd is the BMC's end.
type portEnd struct {
	net.Conn
	port *serialPort
}

func (e portEnd) SendBreak() error {
	e.port.mu.Lock()
	defer e.port.mu.Unlock()
	e.port.breaks++
	return nil
}

func (p *serialPort) attach(context.Context) (io.ReadWriteCloser, error) {
	ours, theirs := net.Pipe()
	p.mu.Lock()
	p.conn = ours
	p.mu.Unlock()
	go func() { // ends when the BMC closes its end
		buf := make([]byte, 1024)
		for {
			n, err := ours.Read(buf)
			p.mu.Lock()
			p.typed.Write(buf[:n])
			p.ended = p.ended || err != nil
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return portEnd{theirs, p}, nil
}

// print has the machine write.
func (p *serialPort) print(s string) {
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	io.WriteString(conn, s)
}

func (p *serialPort) got() (typed string, breaks int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.typed.String(), p.breaks
}

// eventually waits for something that must come.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("after 20 s not yet: %s", what)
		}
	}
}

// TestConsole types and reads over good and bad networks: every character comes
// once, in order.
func TestConsole(t *testing.T) {
	for name, w := range map[string]weather{"good": {}, "loss": {loss: 0.2}, "doubled": {twice: 0.3}, "slow": {delay: 300 * time.Millisecond}, "forged": {forge: forgeries()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := &serialPort{}
			r := startRef(t, &refbmc.BMC{Console: port.attach})
			c := &Client{open: w.open}
			var shown lockedBuffer
			x, err := c.OpenConsole(t.Context(), endpoint(r.addr), false, func(b []byte) { shown.Write(b) })
			if err != nil {
				t.Fatal(err)
			}
			var printed, typed strings.Builder
			for i := range 40 {
				line := fmt.Sprintf("line %d of the machine\r\n", i)
				printed.WriteString(line)
				port.print(line)
				keys := fmt.Sprintf("key %d;", i)
				typed.WriteString(keys)
				if _, err := x.Write([]byte(keys)); err != nil {
					t.Fatal(err)
				}
			}
			if err := x.Break(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "all is shown", func() bool { return len(shown.String()) >= printed.Len() })
			eventually(t, "all is typed", func() bool { got, breaks := port.got(); return len(got) >= typed.Len() && breaks > 0 })
			// Power goes through the console's session meanwhile: there is no other login.
			if got, err := c.Power(t.Context(), endpoint(r.addr)); err != nil || got != PowerOff {
				t.Errorf("Power = %q, %v; want off", got, err)
			}
			x.Close()
			if err := x.Err(); err != nil {
				t.Errorf("Err after Close = %v", err)
			}
			if shown.String() != printed.String() {
				t.Errorf("shown %q; want %q", shown.String(), printed.String())
			}
			if got, _ := port.got(); got != typed.String() {
				t.Errorf("typed %q; want %q", got, typed.String())
			}
			if _, err := x.Write([]byte("x")); err == nil {
				t.Error("a closed console takes what is typed")
			}
			eventually(t, "the line is given back", func() bool { port.mu.Lock(); defer port.mu.Unlock(); return port.ended })
			if _, err := c.Power(t.Context(), endpoint(r.addr)); err != nil {
				t.Errorf("Power after Close: %v", err)
			}
		})
	}
}

// TestConsoleShares: while a console is open, the fleet's other work needs no
// second session, and each call gets its own answer.
func TestConsoleShares(t *testing.T) {
	port := &serialPort{}
	r := startRef(t, &refbmc.BMC{Console: port.attach})
	c := &Client{}
	x, err := c.OpenConsole(t.Context(), endpoint(r.addr), false, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := c.Power(t.Context(), endpoint(r.addr)); err != nil || got != PowerOff {
				t.Errorf("Power = %q, %v", got, err)
			}
			if id, err := c.Identity(t.Context(), endpoint(r.addr)); err != nil || id.Serial != "SN0042" {
				t.Errorf("Identity = %+v, %v", id, err)
			}
		})
	}
	c.PowerAll(t.Context(), []Endpoint{endpoint(r.addr), endpoint(r.addr)}, func(_ int, p PowerReading) {
		if p.Err != nil || p.State != PowerOff {
			t.Errorf("PowerAll: %+v", p)
		}
	})
	wg.Wait()
	if n := r.count("login-attempt"); n != 1 {
		t.Errorf("%d logins; want the console's", n)
	}
	if _, err := c.OpenConsole(t.Context(), endpoint(r.addr), false, func([]byte) {}); err == nil || !strings.Contains(err.Error(), "open already") {
		t.Errorf("a second console of one client: %v", err)
	}
}

// TestConsoleBusy: who has the console is said, and it is taken over only by force.
func TestConsoleBusy(t *testing.T) {
	port := &serialPort{}
	r := startRef(t, &refbmc.BMC{Console: port.attach})
	ep := endpoint(r.addr)
	var first, second Client
	x, err := first.OpenConsole(t.Context(), ep, false, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	_, err = second.OpenConsole(t.Context(), ep, false, func([]byte) {})
	var busy *ConsoleBusyError
	if !errors.As(err, &busy) || !strings.Contains(busy.Owner, "user 2") || !strings.Contains(err.Error(), "node hnode001") {
		t.Fatalf("the second console: %v; want *ConsoleBusyError with its owner", err)
	}
	y, err := second.OpenConsole(t.Context(), ep, true, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	<-x.Done()
	if err := x.Err(); err == nil || !strings.Contains(err.Error(), "somebody else has taken it") {
		t.Errorf("the first console ended with %v", err)
	}
	y.Close()
	x.Close()
}

// TestConsoleOfRestartedBMC: a session that a restart has killed under the console
// does not stand in the way of other work.
func TestConsoleOfRestartedBMC(t *testing.T) {
	port := &serialPort{}
	r := startRef(t, &refbmc.BMC{Console: port.attach})
	c := &Client{Timeout: time.Second}
	x, err := c.OpenConsole(t.Context(), endpoint(r.addr), false, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	other := &Client{BMCQuiet: 10 * time.Millisecond}
	if err := other.ResetBMC(t.Context(), endpoint(r.addr)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Power(t.Context(), endpoint(r.addr)); err != nil || got != PowerOff {
		t.Errorf("Power after the restart = %q, %v; want off", got, err)
	}
	<-x.Done()
	if x.Err() == nil {
		t.Error("the console has ended without an error")
	}
	x.Close()
	y, err := c.OpenConsole(t.Context(), endpoint(r.addr), false, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	y.Close()
	nothingHeld(t, c)
}

// TestConsoleRefused: a BMC without a console, and one that falls silent.
func TestConsoleRefused(t *testing.T) {
	none := startRef(t, &refbmc.BMC{})
	var c Client
	if _, err := c.OpenConsole(t.Context(), endpoint(none.addr), false, nil); err == nil || !strings.Contains(err.Error(), "no serial console over LAN") {
		t.Errorf("a console of a BMC that has none: %v", err)
	}
	port := &serialPort{}
	r := startRef(t, &refbmc.BMC{Console: port.attach})
	short := &Client{Timeout: 300 * time.Millisecond}
	x, err := short.OpenConsole(t.Context(), endpoint(r.addr), false, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	r.bmc.SetFaults(refbmc.Faults{Silent: true})
	if _, err := short.Power(t.Context(), endpoint(r.addr)); err == nil {
		t.Error("a silent BMC told its power")
	}
	<-x.Done()
	if x.Err() == nil {
		t.Error("the console of a silent BMC ended without an error")
	}
	r.bmc.SetFaults(refbmc.Faults{})
	if _, err := short.Power(t.Context(), endpoint(r.addr)); err != nil {
		t.Errorf("Power when the BMC is back: %v", err)
	}
	x.Close()
}

// TestManyConsoles has a rack row's consoles open at once, over one socket.
func TestManyConsoles(t *testing.T) {
	const count = 100
	c := &Client{Concurrency: 16}
	ports := make([]*serialPort, count)
	shown := make([]lockedBuffer, count)
	consoles := make([]*Console, count)
	var wg sync.WaitGroup
	for i := range count {
		ports[i] = &serialPort{}
		r := startRef(t, &refbmc.BMC{Console: ports[i].attach})
		wg.Go(func() {
			x, err := c.OpenConsole(t.Context(), endpoint(r.addr), false, func(b []byte) { shown[i].Write(b) })
			if err != nil {
				t.Error(err)
				return
			}
			consoles[i] = x
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i, p := range ports {
		p.print(fmt.Sprintf("node %d\r\n", i))
	}
	for i := range shown {
		eventually(t, fmt.Sprint("what node ", i, " shows"), func() bool { return shown[i].String() == fmt.Sprintf("node %d\r\n", i) })
	}
	for _, x := range consoles {
		wg.Go(x.Close)
	}
	wg.Wait()
	nothingHeld(t, c)
	t.Logf("%+v", c.Stats())
}
