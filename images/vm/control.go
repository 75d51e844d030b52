package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// LabStatus is a lab that is up.
type LabStatus struct {
	Lab       string          `json:"lab"`
	PID       int             `json:"pid"` // the supervisor
	Since     time.Time       `json:"since"`
	Namespace string          `json:"namespace"`
	Accel     string          `json:"accel"` // "kvm" or "tcg"
	Capture   string          `json:"capture,omitempty"`
	Machines  []MachineStatus `json:"machines"`
}

// MachineStatus is one machine of a lab that is up.
type MachineStatus struct {
	Name       string    `json:"name"`
	Power      string    `json:"power"`         // "on" or "off"
	PID        int       `json:"pid,omitempty"` // of QEMU
	Since      time.Time `json:"since"`         // of the power state; a reboot does not change it
	UptimeS    float64   `json:"uptime_s"`      // seconds on; 0: off
	Boots      int       `json:"boots"`         // power-ons and reboots since the lab is up
	Boot       string    `json:"boot,omitempty"`
	BMC        string    `json:"bmc"`
	Console    string    `json:"console"` // unix socket
	ConsoleLog string    `json:"console_log"`
}

// controlRequest and controlReply are what crosses the control socket, one of
// each per connection.
type controlRequest struct {
	Do string `json:"do"` // "status" or "down"
}

type controlReply struct {
	Status *LabStatus `json:"status,omitempty"`
	Error  string     `json:"error,omitempty"`
}

func controlPath(name string) string { return filepath.Join(labDir(name), "control") }

// controlWithin bounds one conversation.
const controlWithin = 5 * time.Second

// serveControl answers until ctx ends.
func (r *run) serveControl(ctx context.Context, down func(), services *sync.WaitGroup) error {
	l, err := net.Listen("unix", controlPath(r.lab.Name))
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	services.Go(func() { // ends when the listener is closed
		defer stop()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			services.Go(func() { r.answer(conn, down) }) // bounded by controlWithin
		}
	})
	return nil
}

func (r *run) answer(conn net.Conn, down func()) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(controlWithin))
	var req controlRequest
	if json.NewDecoder(conn).Decode(&req) != nil {
		return
	}
	reply := controlReply{}
	switch req.Do {
	case "status":
		reply.Status = r.status()
	case "down":
		down()
	default:
		reply.Error = fmt.Sprintf("unknown request %q", req.Do)
	}
	json.NewEncoder(conn).Encode(reply)
}

func (r *run) status() *LabStatus {
	s := &LabStatus{Lab: r.lab.Name, PID: r.record.Supervisor.PID, Since: r.since, Namespace: Namespace(r.lab.Name),
		Accel: r.host.accel(), Capture: r.lab.Capture, Machines: []MachineStatus{}}
	for _, g := range r.guests {
		s.Machines = append(s.Machines, g.status())
	}
	return s
}

func (g *guest) status() MachineStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := MachineStatus{Name: g.spec.Name, Power: "off", Since: g.since, Boots: g.boots, BMC: g.bmc.Listen,
		Console: Console(g.run.lab.Name, g.spec.Name), ConsoleLog: g.run.lab.ConsoleLog(g.spec.Name)}
	if g.child != nil {
		m.Power, m.PID, m.Boot = "on", g.child.PID, bootName(g.boot)
		m.UptimeS = time.Since(g.since).Seconds()
	}
	return m
}

// ask has one conversation with a lab's supervisor.
func ask(ctx context.Context, name, do string) (*LabStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, controlWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", controlPath(name))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if err := json.NewEncoder(conn).Encode(controlRequest{Do: do}); err != nil {
		return nil, err
	}
	var reply controlReply
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return nil, err
	}
	if reply.Error != "" {
		return nil, errors.New(reply.Error)
	}
	return reply.Status, nil
}

// Status asks a running lab how its machines are. It fails with ErrNotUp
// (errors.Is) when there is none, and says so when one has crashed.
func Status(ctx context.Context, name string) (*LabStatus, error) {
	s, err := ask(ctx, name, "status")
	if err == nil {
		return s, nil
	}
	held, lerr := lockIfThere(name)
	switch up := (*UpError)(nil); {
	case errors.As(lerr, &up) && up.PID == 0:
		return nil, lerr
	case errors.As(lerr, &up):
		return nil, fmt.Errorf("lab %s: its supervisor (process %d) does not answer: %w", name, up.PID, err)
	case lerr != nil:
		return nil, lerr
	case held == nil:
		return nil, fmt.Errorf("lab %s: %w", name, ErrNotUp)
	}
	held.Close()
	return nil, fmt.Errorf("lab %s: %w: it crashed, and left things behind that firstlight lab down or lab up clears away", name, ErrNotUp)
}

// Down ends a lab: it asks the supervisor and waits until all is gone. A
// supervisor that takes too long is killed, and what it or a crashed one left is
// cleared away. It fails with ErrNotUp (errors.Is) when there was nothing.
func Down(ctx context.Context, name string) error {
	_, askErr := ask(ctx, name, "down")
	wait := patience
	if askErr != nil {
		wait = 0
	}
	held, err := waitLock(ctx, name, wait)
	if up := (*UpError)(nil); errors.As(err, &up) {
		r, rerr := readRecord(name)
		if rerr != nil {
			return fmt.Errorf("lab %s: its supervisor does not answer and cannot be told: %w", name, rerr)
		}
		if err := r.Supervisor.kill(); err != nil { // QEMU dies with it
			return fmt.Errorf("lab %s: supervisor: %w", name, err)
		}
		held, err = waitLock(ctx, name, patience)
	}
	switch {
	case err != nil:
		return err
	case held == nil && askErr != nil:
		return fmt.Errorf("lab %s: %w", name, ErrNotUp)
	case held == nil:
		return nil
	}
	_, err = clear(name)
	return errors.Join(err, unlock(name, held))
}

// patience is how long a supervisor may take to power its machines off and go.
const patience = 20 * time.Second

// waitLock takes the lock of a lab as soon as its holder lets go; nil when
// nothing of the lab is left. Its error is an *UpError when that takes too long.
func waitLock(ctx context.Context, name string, within time.Duration) (*os.File, error) {
	for deadline := time.Now().Add(within); ; {
		held, err := lockIfThere(name)
		if up := (*UpError)(nil); !errors.As(err, &up) || time.Now().After(deadline) {
			return held, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
