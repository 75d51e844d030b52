package burnin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Worker is one worker at its order.
type Worker struct {
	Events io.ReadCloser // JSON lines, until it ends
	Stop   func()        // asks it to report and end
	Kill   func()        // ends it, whatever it does
	Wait   func() error  // after the end of Events: how it ended
}

// Starter starts a worker with an order. An error means that there is none.
type Starter func(o Order) (*Worker, error)

// errorTail is how much of a worker's standard error is kept.
const errorTail = 2 << 10

// endsWithin is how long a worker that was killed may take to be gone: one that
// hangs in a driver is not waited for.
const endsWithin = 5 * time.Second

// Process starts workers as child processes: one that crashes, or hangs in a
// driver, takes nothing else with it.
func Process(command ...string) Starter {
	return func(o Order) (*Worker, error) {
		raw, err := json.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("encode order: %w", err)
		}
		cmd := exec.Command(command[0], command[1:]...)
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, fmt.Errorf("start worker: %w", err)
		}
		// A pipe of our own: Wait would close that of os/exec while it is read.
		events, out, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("start worker: %w", err)
		}
		tail := &tailBuffer{most: errorTail}
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, tail, endsWithin
		// A Ctrl-C at the terminal is for us: we have the workers report first.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		err = cmd.Start()
		out.Close()
		if err != nil {
			events.Close()
			return nil, fmt.Errorf("start worker: %w", err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }() // ends with the child
		if _, err := in.Write(append(raw, '\n')); err != nil {
			// It ended before it read: how is said by its end.
			in.Close()
		}
		return &Worker{Events: events, Stop: func() { in.Close() },
			Kill: func() {
				_ = cmd.Process.Kill() // fails when it is gone already
				events.Close()
			},
			Wait: func() error { return ended(done, tail) }}, nil
	}
}

// ended is how a child ended, with its last words.
func ended(done <-chan error, tail *tailBuffer) error {
	timer := time.NewTimer(endsWithin)
	defer timer.Stop()
	select {
	case err := <-done:
		if said := tail.String(); err != nil && said != "" {
			return fmt.Errorf("worker: %w: %s", err, said)
		} else if err != nil {
			return fmt.Errorf("worker: %w", err)
		}
		return nil
	case <-timer.C:
		return errors.New("worker cannot be killed: it hangs in the kernel")
	}
}

// InProcess starts workers of the reference engine in this process, for
// simulated nodes: there may be thousands, and a worker there harms nobody.
func InProcess(o Order) (*Worker, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode order: %w", err)
	}
	in, feed := io.Pipe()
	events, out := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { // ends with the worker; one that hangs on purpose is abandoned
		err := ServeReference(ctx, in, out)
		cancel()
		in.Close()
		out.Close()
		done <- err
	}()
	go feed.Write(raw) // ends when it is read or in is closed
	return &Worker{Events: events, Stop: func() { feed.Close() },
		Kill: func() {
			cancel()
			in.Close()
			events.Close()
		},
		Wait: func() error { return ended(done, &tailBuffer{}) }}, nil
}

// tailBuffer keeps the end of what is written to it.
type tailBuffer struct {
	most int
	mu   sync.Mutex
	buf  bytes.Buffer
}

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - t.most; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(t.buf.String()), " ")
}
