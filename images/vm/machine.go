package vm

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"firstlight/internal/refbmc"
)

// guest is a machine at run time. It is what its BMC drives: a refbmc.Machine.
type guest struct {
	spec    *Machine
	index   int
	files   machineFiles
	run     *run
	console *console
	bmc     *refbmc.BMC
	log     *slog.Logger

	watchers sync.WaitGroup // one per boot, ends with QEMU

	mu      sync.Mutex
	child   *child // nil: off
	boot    refbmc.Boot
	since   time.Time // power on or off since; a reboot does not count
	boots   int
	closing bool // the lab goes down: no more power
}

// PowerOn starts the machine; boot.Device "pxe" makes the firmware try the first
// NIC and then the disks, anything else only the disks.
func (g *guest) PowerOn(_ context.Context, boot refbmc.Boot) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.child != nil {
		return nil
	}
	if err := g.start(boot); err != nil {
		return err
	}
	g.since = time.Now()
	return nil
}

// start launches QEMU; the caller holds mu.
func (g *guest) start(boot refbmc.Boot) error {
	if g.closing {
		return fmt.Errorf("machine %s: the lab is going down", g.spec.Name)
	}
	c, err := g.run.launch(g, boot)
	if err != nil {
		g.log.Error("machine does not start", "error", err)
		return fmt.Errorf("machine %s: %w", g.spec.Name, err)
	}
	g.child, g.boot = c, boot
	g.boots++
	g.log.Info("machine starts", "boot", bootName(boot), "pid", c.PID, "accel", g.run.host.accel())
	g.run.remember(g.spec.Name, &c.process)
	g.watchers.Go(func() { g.watch(c) })
	return nil
}

// watch waits for one QEMU's end and says what comes after: a reset by the guest
// is a new boot, for which the BMC may hold an override.
func (g *guest) watch(c *child) {
	err := c.cmd.Wait()
	<-c.qmp.done // its last events are read
	c.qmp.conn.Close()
	<-c.console // its last words are in the log
	close(c.exited)
	reason := c.qmp.reason()

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.child != c { // powered off by us
		return
	}
	g.child = nil
	switch reason {
	case "guest-reset":
		g.log.Info("guest reboots")
		if g.start(g.bmc.TakeBoot()) == nil {
			return
		}
	case "guest-shutdown":
		g.log.Info("guest powered off")
	default:
		g.log.Error("qemu ended by itself: the machine is off", "reason", reason, "error", err, "stderr", c.stderr.String())
	}
	g.since = time.Now()
	g.run.remember(g.spec.Name, nil)
}

// PowerOff pulls the plug.
func (g *guest) PowerOff(context.Context) error {
	g.mu.Lock()
	c := g.child
	if c != nil {
		g.child, g.since = nil, time.Now()
	}
	g.mu.Unlock()
	if c == nil {
		return nil
	}
	c.cmd.Process.Kill()
	<-c.exited // its taps and its disks are free
	g.log.Info("machine powered off")
	g.run.remember(g.spec.Name, nil)
	return nil
}

// SoftOff presses the power button; whether the operating system listens is its
// own affair.
func (g *guest) SoftOff(context.Context) error {
	g.mu.Lock()
	c := g.child
	g.mu.Unlock()
	if c == nil {
		return nil
	}
	g.log.Info("power button pressed")
	return c.qmp.execute("system_powerdown")
}

// Powered says whether the machine runs now.
func (g *guest) Powered() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.child != nil
}

// end powers the machine off for good and waits for everything that served it.
func (g *guest) end(ctx context.Context) {
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	g.PowerOff(ctx)
	g.watchers.Wait()
	if g.console != nil {
		g.console.close()
	}
}

func bootName(b refbmc.Boot) string {
	if b.Device == "" {
		return "firmware default"
	}
	return b.Device
}
