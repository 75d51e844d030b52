// Package boot makes the agent PID 1 of an initramfs: it mounts what a Linux
// user space needs, loads drivers, configures the boot NIC, fetches and
// enters the node's image when the boot is for one, and runs the agent. The
// same binary is /sbin/init of the image; it then finds Handover in /run and
// carries on with the network as it is.
package boot

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent"
	"firstlight/provision/agent/api"
)

// IsInit says whether this process is the node's init: PID 1 under a name
// that the kernel or Handover starts it by. In a container, where a verb is
// given, the agent may be PID 1 and is no init.
func IsInit(args []string) bool {
	if os.Getpid() != 1 || len(args) == 0 {
		return false
	}
	_, err := os.Stat(handoverPath)
	return args[0] == "/init" || args[0] == "/sbin/init" || args[0] == "init" || err == nil
}

// machine is one boot as PID 1.
type machine struct {
	version string
	log     *slog.Logger
	buffer  *agent.LogBuffer
	args    agent.Args
	address string

	token       string
	modulesDone chan struct{} // closed when coldplug has nothing more to load
	once        sync.Once     // for what a second attempt at run must not do again
}

// Main is PID 1. It never returns: the kernel panics when PID 1 ends, and a
// node that says nothing is worse than one that tries again.
func Main(version string) {
	m := &machine{version: version, buffer: new(agent.LogBuffer), modulesDone: make(chan struct{})}
	m.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	m.protect("mount", m.mountBasics)
	m.openLog()
	go m.reap() // never ends, as PID 1 does not
	for {
		m.protect("init", m.run)
		time.Sleep(5 * time.Second)
	}
}

// protect runs f, logs its error or panic, and returns.
func (m *machine) protect(what string, f func() error) {
	defer func() {
		if p := recover(); p != nil {
			m.log.Error(what+" panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if err := f(); err != nil {
		m.log.Error(what+" failed", "err", err)
	}
}

// reap waits for orphans, which become children of PID 1.
func (m *machine) reap() {
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	for range child {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 || (err != nil && err != unix.EINTR) {
				break
			}
		}
	}
}

// run is one attempt at the whole boot. It returns only when it cannot go on.
func (m *machine) run() error {
	ctx := context.Background() // PID 1 is cancelled by power only
	h, err := readHandover()
	if err == nil {
		return m.serveImage(ctx, h)
	}
	if !os.IsNotExist(err) {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if m.args, err = agent.ParseArgs(string(cmdline)); err != nil {
		return fmt.Errorf("%w: boot this node through its controller", err)
	}
	m.log.Info("firstlight agent is init", "version", m.version, "node", m.args.Node, "boot", m.args.BootID, "kind", m.args.Kind, "controller", m.args.Controller)
	m.once.Do(func() {
		m.token = readToken(m.log)
		go m.protect("loading drivers", func() error { // ends when there is nothing more to load
			defer close(m.modulesDone)
			return m.coldplug()
		})
	})
	if m.address, err = m.network(ctx); err != nil {
		return err
	}
	a := m.agent()
	if m.args.Kind == api.BootImage && m.args.Root != "" {
		<-m.modulesDone
		err := m.enterImage(ctx) // returns only when it could not
		m.log.Error("cannot boot the image; waiting for orders", "err", err)
		a.Reports = []api.Report{reportOf(err)}
	}
	return a.Run(ctx)
}

// agent is what both the initramfs and the image run.
func (m *machine) agent() *agent.Agent {
	return &agent.Agent{
		Args: m.args, Token: m.token, Address: m.address, Version: m.version,
		FS: "/", Log: m.log, Stream: m.buffer, Reboot: m.reboot, Settle: m.settle,
	}
}

// settle waits until coldplug is done.
func (m *machine) settle(ctx context.Context) error {
	select {
	case <-m.modulesDone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serveImage is PID 1 inside the node's image.
func (m *machine) serveImage(ctx context.Context, h Handover) error {
	m.args, m.address = h.Args, h.Address
	m.once.Do(func() {
		m.token = h.Token
		close(m.modulesDone) // by the initramfs: the image has no modules
		m.log.Info("image is up", "node", m.args.Node, "boot", m.args.BootID, "image", m.args.Image, "root", h.RootDigest)
	})
	if err := h.forget(); err != nil {
		return err
	}
	a := m.agent()
	a.RootDigest = h.RootDigest
	return a.Run(ctx)
}

// readToken takes the one-time token and removes it from the file system.
func readToken(log *slog.Logger) string {
	b, err := os.ReadFile(api.TokenPath)
	if err != nil {
		log.Error("there is no one-time token: was the token initrd given to the kernel?", "err", err)
		return ""
	}
	if err := os.Remove(api.TokenPath); err != nil {
		log.Warn("cannot remove the token", "err", err)
	}
	return strings.TrimSpace(string(b))
}

// rebootPatience is how long the kernel may take to shut its devices down.
const rebootPatience = 30 * time.Second

// reboot ends this boot. When the kernel refuses or hangs in a driver, SysRq
// is asked; when that fails too the controller's BMC must do it.
func (m *machine) reboot(kind string) {
	unix.Sync()
	unmountAll()
	m.linksDown()
	cmd, key := unix.LINUX_REBOOT_CMD_RESTART, "b"
	if kind == api.JobPowerOff {
		cmd, key = unix.LINUX_REBOOT_CMD_POWER_OFF, "o"
	}
	refused := make(chan error, 1)
	go func() { refused <- unix.Reboot(cmd) }() // ends with this boot, or with a refusal
	var err error
	select {
	case err = <-refused:
	case <-time.After(rebootPatience):
		err = fmt.Errorf("not done after %s", rebootPatience)
	}
	m.log.Error("kernel does not "+kind+"; trying SysRq", "err", err)
	if err := os.WriteFile("/proc/sysrq-trigger", []byte(key), 0); err != nil {
		m.log.Error("SysRq failed: use the BMC", "err", err)
	}
}
