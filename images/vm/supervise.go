package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"firstlight/internal/refbmc"
)

// run is a lab that is up.
type run struct {
	lab     *Lab
	host    host
	ns      *nsThread
	bridges map[string]string // network name -> bridge
	guests  []*guest
	since   time.Time
	log     *slog.Logger

	mu     sync.Mutex
	record record
	pids   map[string]process // by machine name, of those that are on
}

// Supervise brings the lab up and holds it up until ctx ends, then powers all
// machines off and removes everything that it made, but for Logs and Capture.
// It first clears away what a crashed lab of the same name left. Machines start
// powered off, with empty disks. ready is called once all BMCs answer; nil is
// fine. It fails with an *UpError when a lab of that name is up.
//
// Everything ends with the process that called it: QEMU too, even on SIGKILL.
func (l *Lab) Supervise(ctx context.Context, ready func()) (err error) {
	if err := l.Validate(); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("lab %s: not root: a lab makes a network namespace and tap interfaces; run it with sudo", l.Name)
	}
	h, err := probe()
	if err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	r := &run{lab: l, host: h, since: time.Now(), log: l.Log, bridges: map[string]string{}, pids: map[string]process{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	held, err := lock(l.Name)
	if err != nil {
		return err
	}
	defer func() {
		if uerr := unlock(l.Name, held); err == nil {
			err = uerr
		}
	}()
	if remains(l.Name) {
		r.log.Warn("clearing away what a crashed lab left", "lab", l.Name)
		if _, err := clear(l.Name); err != nil {
			return fmt.Errorf("lab %s: clear away what a crashed lab left: %w", l.Name, err)
		}
	}
	defer func() { err = errors.Join(err, r.clear()) }()
	if err := r.up(ctx, ready); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	return nil
}

// clear removes all that was recorded and says who still sits in the namespace.
func (r *run) clear() error {
	inside, err := clear(r.lab.Name)
	if len(inside) > 0 {
		r.log.Warn("processes in the lab's namespace lost their network", "lab", r.lab.Name, "pids", inside)
	}
	if err != nil {
		return fmt.Errorf("lab %s: clear away: %w", r.lab.Name, err)
	}
	return nil
}

// up makes everything, serves until ctx ends, and takes down what has a
// goroutine; what has a name, the caller clears.
func (r *run) up(ctx context.Context, ready func()) error {
	if err := r.prepare(); err != nil {
		return err
	}
	ns, err := newNSThread(r.lab.Name)
	if err != nil {
		return err
	}
	defer ns.close()
	r.ns = ns
	if err := ns.do(r.lab.wire); err != nil {
		return err
	}
	for _, n := range r.lab.Networks {
		r.bridges[n.Name] = n.bridge()
	}

	ctx, stop := context.WithCancelCause(ctx)
	var services sync.WaitGroup // all end with ctx
	defer services.Wait()
	defer stop(nil)
	if err := r.startCapture(ctx, stop, &services); err != nil {
		return err
	}
	defer func() {
		for _, g := range r.guests {
			g.end(context.WithoutCancel(ctx))
		}
	}()
	for i := range r.lab.Machines {
		if err := r.addGuest(i); err != nil {
			return err
		}
	}
	if err := r.startBMCs(ctx, stop, &services); err != nil {
		return err
	}
	if err := r.serveControl(ctx, func() { stop(errAsked) }, &services); err != nil {
		return err
	}
	r.log.Info("lab is up", "lab", r.lab.Name, "namespace", Namespace(r.lab.Name), "machines", len(r.guests), "accel", r.host.accel())
	if ready != nil {
		ready()
	}
	<-ctx.Done()
	r.log.Info("lab goes down", "lab", r.lab.Name)
	if cause := context.Cause(ctx); !errors.Is(cause, errAsked) && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// errAsked ends a lab that Down asked to end.
var errAsked = errors.New("asked to go down")

// prepare records everything that is to be made, then makes the files.
func (r *run) prepare() error {
	me, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(r.lab.Dir)
	if err != nil {
		return err
	}
	lab := *r.lab // the caller's stays as it is
	lab.Dir, r.lab = dir, &lab
	r.record = record{Lab: lab.Name, Supervisor: me, Since: r.since}
	for i := range lab.Machines {
		m := &lab.Machines[i]
		f := lab.files(m)
		r.record.Files = append(r.record.Files, f.all()...)
		r.record.Dirs = append(r.record.Dirs, f.dir)
		if lab.Logs == "" {
			r.record.Files = append(r.record.Files, lab.ConsoleLog(m.Name))
		}
	}
	r.record.Dirs = append(r.record.Dirs, missingDirs(dir)...)
	if err := r.record.write(); err != nil {
		return err
	}
	for _, d := range []string{dir, lab.Logs} {
		if d == "" {
			continue
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for i := range lab.Machines {
		m := &lab.Machines[i]
		if err := lab.files(m).make(m, r.host); err != nil {
			return fmt.Errorf("machine %s: %w", m.Name, err)
		}
	}
	return nil
}

// missingDirs lists a directory and its parents that are yet to be made, the
// innermost first.
func missingDirs(dir string) []string {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Lstat(d); err == nil || d == filepath.Dir(d) {
			return missing
		}
		missing = append(missing, d)
	}
}

// remember keeps the record of running machines; nil: it is off.
func (r *run) remember(machine string, p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pids, machine)
	if p != nil {
		r.pids[machine] = *p
	}
	r.record.Machines = nil
	for _, p := range r.pids {
		r.record.Machines = append(r.record.Machines, p)
	}
	if err := r.record.write(); err != nil {
		r.log.Error("record of running machines not written: after a crash they may have to be ended by hand", "error", err)
	}
}

func (r *run) startCapture(ctx context.Context, stop context.CancelCauseFunc, services *sync.WaitGroup) error {
	network := r.lab.CaptureNetwork
	if network == "" && len(r.lab.Machines) > 0 && len(r.lab.Machines[0].NICs) > 0 {
		network = r.lab.Machines[0].NICs[0].Network
	}
	if r.lab.Capture == "" || network == "" {
		return nil
	}
	var c *capture
	if err := r.ns.do(func() (err error) {
		c, err = newCapture(r.lab.Capture, r.bridges[network])
		return err
	}); err != nil {
		return err
	}
	services.Go(func() {
		c.run(ctx)
		if err := <-c.done; err != nil {
			r.log.Error("packet capture ended", "file", r.lab.Capture, "error", err)
		}
	})
	return nil
}

func (r *run) addGuest(i int) error {
	m := &r.lab.Machines[i]
	g := &guest{spec: m, index: i, files: r.lab.files(m), run: r, since: time.Now(), log: r.log.With("machine", m.Name)}
	c, err := newConsole(Console(r.lab.Name, m.Name), r.lab.ConsoleLog(m.Name))
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	g.console = c
	g.bmc = &refbmc.BMC{
		Listen:       netip.AddrPortFrom(m.BMC.Address, ipmiPort).String(),
		Username:     m.BMC.Username,
		Password:     m.BMC.Password,
		Manufacturer: m.manufacturer(),
		Product:      m.product(),
		Serial:       m.Serial,
		Machine:      g,
		Console: func(ctx context.Context) (io.ReadWriteCloser, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", Console(r.lab.Name, m.Name))
		},
		Faults: refbmc.Faults{
			IgnoreBootOverride: m.has(FaultIgnoreBootOverride),
			RevertBootOverride: m.has(FaultRevertBootOverride),
			Silent:             m.has(FaultDeadBMC),
		},
		Log: g.log,
	}
	r.guests = append(r.guests, g)
	return nil
}

// startBMCs returns when all of them have their sockets.
func (r *run) startBMCs(ctx context.Context, stop context.CancelCauseFunc, services *sync.WaitGroup) error {
	for _, g := range r.guests {
		bound := make(chan error, 1)
		g.bmc.Ready = func(netip.AddrPort) { bound <- nil }
		services.Go(func() {
			// The goroutine stays locked to its thread: the thread ends with it,
			// rather than serve others from inside the namespace.
			err := Enter(r.lab.Name)
			if err == nil {
				err = g.bmc.Serve(ctx)
			}
			if err != nil {
				err = fmt.Errorf("machine %s: BMC: %w", g.spec.Name, err)
				stop(err)
			}
			select {
			case bound <- err: // it did not come to Ready
			default:
			}
		})
		select {
		case err := <-bound:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
