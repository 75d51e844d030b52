package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/term"

	"firstlight/internal/refbmc"
)

// serialLine is a machine that greets whoever attaches to its serial line, and
// echoes what is typed in capitals.
type serialLine struct {
	net.Conn
	breaks *atomic.Int32
}

func (l serialLine) SendBreak() error {
	l.breaks.Add(1)
	return nil
}

// newConsoleSite is a site of one node, i1, with a serial line, and the breaks that
// it was sent.
func newConsoleSite(t *testing.T) (r *redfishSite, breaks *atomic.Int32) {
	t.Helper()
	r, breaks = newRedfishSite(t), &atomic.Int32{}
	b := &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Serial: "S-i1", Machine: lamp{t, true},
		Console: func(context.Context) (io.ReadWriteCloser, error) {
			ours, theirs := net.Pipe()
			go func() { // ends when the BMC closes its end
				io.WriteString(ours, "i1 login: ")
				buf := make([]byte, 256)
				for {
					n, err := ours.Read(buf)
					if err != nil {
						return
					}
					ours.Write(bytes.ToUpper(buf[:n]))
				}
			}()
			return serialLine{theirs, breaks}, nil
		}}
	text := strings.Replace(driftInventoryText, `"secret"`, `"`+redfishPassword+`"`, 1)
	r.write("site.hcl", text+redfishNode("i1", "ipmi", r.serve(2, b))+redfishNode("r1", "redfish", 9))
	return r, breaks
}

// notedBuffer is a buffer that tests wait for.
type notedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *notedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *notedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *notedBuffer) await(t *testing.T, text string) {
	t.Helper()
	for began := time.Now(); !strings.Contains(b.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("no %q in %q after 20 s", text, b.String())
		}
	}
}

// TestConsole types, uses the keys and leaves; meanwhile nobody else gets the
// console but by force.
func TestConsole(t *testing.T) {
	r, breaks := newConsoleSite(t)
	var out, errs notedBuffer
	in, keys := io.Pipe()
	ended := make(chan int, 1)
	go func() { ended <- run(t.Context(), []string{"console", "i1", r.dir}, in, &out, &errs) }()
	out.await(t, "i1 login: ")
	io.WriteString(keys, "ro~ot\r~?")
	out.await(t, "RO~OT\r")
	errs.await(t, "send a break")
	io.WriteString(keys, "\r~B\r~~x")
	out.await(t, "~X")

	_, busy, code := inProcess(t, "console", "i1", r.dir)
	if code != 1 || !strings.Contains(busy, "user 2 from 127.0.0.1 has the console: wait, or take it over with -force") {
		t.Errorf("a second console: exit %d, %q; want it told who has the first", code, busy)
	}
	io.WriteString(keys, "\r~")
	io.WriteString(keys, ".never typed")
	if code := <-ended; code != 0 {
		t.Errorf("console exits %d, %q; want 0", code, errs.String())
	}
	if breaks.Load() != 1 || strings.Contains(out.String(), "NEVER") {
		t.Errorf("%d breaks, shown %q; want 1, and nothing after ~.", breaks.Load(), out.String())
	}
	r.noSecret(out.String(), errs.String())
}

// TestConsoleForced: who is thrown out is told.
func TestConsoleForced(t *testing.T) {
	r, _ := newConsoleSite(t)
	var out, errs notedBuffer
	in, _ := io.Pipe()
	ended := make(chan int, 1)
	go func() { ended <- run(t.Context(), []string{"console", "i1", r.dir}, in, &out, &errs) }()
	out.await(t, "i1 login: ")
	var second notedBuffer
	if code := run(t.Context(), []string{"console", "-force", "i1", r.dir}, strings.NewReader("~."), &second, io.Discard); code != 0 {
		t.Errorf("console -force exits %d", code)
	}
	if code := <-ended; code != 1 || !strings.Contains(errs.String(), "somebody else has taken it") {
		t.Errorf("the first console exits %d, %q; want 1, and why", code, errs.String())
	}
}

// TestConsoleTerminal: the terminal is raw while attached and as before
// afterwards.
func TestConsoleTerminal(t *testing.T) {
	r, _ := newConsoleSite(t)
	shown := onTerminal(t, "x\n~.", func(tty *os.File) {
		before, err := term.GetState(int(tty.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if code := run(t.Context(), []string{"console", "i1", r.dir}, tty, tty, tty); code != 0 {
			t.Errorf("console exits %d", code)
		}
		if after, err := term.GetState(int(tty.Fd())); err != nil || *after != *before {
			t.Errorf("the terminal was left changed: %v", err)
		}
	})
	if !strings.Contains(shown, "attached to i1; ~. at the start of a line leaves") {
		t.Errorf("the terminal shows %q", shown)
	}
}

func TestConsoleRefused(t *testing.T) {
	r, _ := newConsoleSite(t)
	for args, want := range map[string]string{
		"r1": `consoles are reached by IPMI: declare that too`,
		"n9": "n9",
	} {
		if _, errs, code := inProcess(t, "console", args, r.dir); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("console %s: exit %d, %q; want %q", args, code, errs, want)
		}
	}
}
