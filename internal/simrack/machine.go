package simrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/inventory"
	"firstlight/provision/agent"
)

// machine is one simulated node. Its BMC powers it through refbmc.Machine.
type machine struct {
	rack  *Rack
	node  *inventory.Node
	wires *wires
	bmc   board  // nil: none is declared
	ready func() // called once the BMC listens
	log   *slog.Logger
	fs    agent.FS
	mac   net.HardwareAddr // of the boot NIC it really has
	rng   *rand.Rand       // run's goroutine only
	has   netip.Addr       // its address; run's goroutine only
	tty   serial

	starts chan *life

	mu     sync.Mutex
	life   *life           // nil: off
	dark   map[string]bool // outlets of it that are off
	thawed bool            // its BMC has lost its power, and with it its freeze
}

// board is a machine's BMC, of either protocol.
type board interface {
	Serve(ctx context.Context) error
	TakeBoot() refbmc.Boot
	freeze() // does not answer again before it loses its power
	thaw()   // has lost its power, and has it again
}

// ipmi is a BMC that answers IPMI.
type ipmi struct{ *refbmc.BMC }

func (b ipmi) freeze() { b.SetFaults(refbmc.Faults{Silent: true}) }
func (b ipmi) thaw()   { b.SetFaults(refbmc.Faults{}) }

func (b *Redfish) freeze() { b.SetFaults(RedfishFaults{FreezeAfter: -1}) }

func (b *Redfish) thaw() {
	b.SetFaults(RedfishFaults{})
	b.EndSessions()
}

// life is one time of having power.
type life struct {
	boot refbmc.Boot
	cut  chan struct{} // closed when power is cut
	end  chan struct{} // closed when the machine stands still
	once sync.Once
}

func (l *life) stop() { l.once.Do(func() { close(l.cut) }) }

func newMachine(r *Rack, n *inventory.Node, index int, w *wires, dir string) (*machine, error) {
	m := &machine{rack: r, node: n, wires: w, log: r.log().With("node", n.Name), starts: make(chan *life),
		rng: rand.New(rand.NewPCG(1, uint64(index)))}
	if nic := n.BootNIC(); nic != nil {
		m.mac = nic.MAC
		if r.has(n.Name, WrongMAC) {
			m.mac = ActualMAC(nic.MAC)
		}
	}
	fs, err := m.writeTree(filepath.Join(dir, fmt.Sprint(index)))
	if err != nil {
		return nil, err
	}
	m.fs = fs
	if n.BMC != nil {
		m.bmc = m.newBMC()
	}
	return m, nil
}

// ActualMAC is the MAC that a node with fault wrong-mac has in place of the
// declared one.
func ActualMAC(declared net.HardwareAddr) net.HardwareAddr {
	mac := append(net.HardwareAddr(nil), declared...)
	mac[len(mac)-1] ^= 0x80
	return mac
}

// ActualPassword is what the BMC of a node with fault bmc-password wants.
func ActualPassword(declared inventory.Secret) string {
	return declared.Reveal()[:min(len(declared), 14)] + "-other"
}

// ActualSerial is what SMBIOS says on a node with fault wrong-serial.
func ActualSerial(declared string) string { return declared + "-OTHER" }

func (m *machine) newBMC() board {
	name, b := m.node.Name, m.node.BMC
	vendor, product := "firstlight", "simulated node"
	if h := m.node.Hardware; h != nil && h.Vendor != "" {
		vendor, product = h.Vendor, h.Product
	}
	if b.Other == nil {
		return m.newBoard(b, m, vendor, product, func(netip.AddrPort) { m.ready() })
	}
	listening := &sync.WaitGroup{}
	listening.Add(2)
	heard := func(netip.AddrPort) { listening.Done() }
	t := &twin{ready: func() {
		listening.Wait()
		m.ready()
	}}
	t.boards[0] = m.newBoard(b, side{m, t, 1}, vendor, product, heard)
	t.boards[1] = m.newBoard(b.Other, side{m, t, 0}, vendor, product, heard)
	for i, declared := range []*inventory.BMC{b, b.Other} {
		if f, dead := m.rack.fault(name, DeadBMC); dead && f.of(declared) {
			t.boards[i] = deaf{t.boards[i], heard}
		}
	}
	return t
}

// newBoard is the BMC by one protocol.
func (m *machine) newBoard(b *inventory.BMC, machine refbmc.Machine, vendor, product string, ready func(netip.AddrPort)) board {
	name := m.node.Name
	user, password := "", ""
	if b.Credential != nil {
		user, password = b.Credential.Username, b.Credential.Password.Reveal()
		if m.rack.has(name, BMCPassword) {
			password = ActualPassword(b.Credential.Password)
		}
	}
	has := func(k Kind) bool {
		f, ok := m.rack.fault(name, k)
		return ok && f.of(b)
	}
	f, _ := m.rack.fault(name, FrozenBMC)
	frozen := has(FrozenBMC) && f.After == 0
	listen := netip.AddrPortFrom(b.Address, uint16(b.Port)).String()
	observe := func(ev refbmc.Event) { m.observe(b, ev) }
	if b.Protocol == "redfish" {
		out := &Redfish{Listen: listen, Serial: m.node.Serial, Manufacturer: vendor, Model: product, Username: user, Password: password,
			Machine: machine, Observe: observe, Ready: ready, Log: m.log,
			Faults: RedfishFaults{IgnoreOverride: has(IgnoreBootOverride), RevertOverride: has(RevertBootOverride),
				RevertUntilReset: has(RevertUntilReset), IgnoreMode: has(IgnoreEFIFlag), Lie: has(LyingBMC)}}
		if frozen {
			out.Faults.FreezeAfter = -1
		}
		return out
	}
	return ipmi{&refbmc.BMC{Listen: listen, Serial: m.node.Serial, Manufacturer: vendor, Product: product, Username: user, Password: password,
		Machine: machine, Observe: observe, Ready: ready, Log: m.log, Console: m.tty.attach,
		Faults: refbmc.Faults{IgnoreBootOverride: has(IgnoreBootOverride), RevertBootOverride: has(RevertBootOverride),
			RevertUntilReset: has(RevertUntilReset), IgnoreEFI: has(IgnoreEFIFlag), Lie: has(LyingBMC), Silent: frozen}}}
}

// observe counts what is done to the BMC.
func (m *machine) observe(by *inventory.BMC, ev refbmc.Event) {
	c := m.rack.count(m.node.Name, func(c *Counters) {
		c.BMCEvents++
		switch ev.Kind {
		case "login-attempt":
			c.LoginAttempts++
		case "login":
			c.Logins++
		case "login-refused":
			c.LoginsRefused++
		case "power-on":
			c.PowerOns++
		case "power-off", "soft-off":
			c.PowerOffs++
		case "power-cycle":
			c.PowerCycles++
		case "reset":
			c.Resets++
		case "boot-override":
			c.Overrides++
		case "bmc-reset":
			c.BMCResets++
		}
	})
	if f, ok := m.rack.fault(m.node.Name, FrozenBMC); ok && f.of(by) && c.BMCEvents >= f.After && !m.isThawed() {
		m.freeze(by)
	}
}

// PowerOn implements refbmc.Machine.
func (m *machine) PowerOn(ctx context.Context, boot refbmc.Boot) error {
	m.mu.Lock()
	if m.life != nil {
		m.mu.Unlock()
		return errors.New("is on already")
	}
	l := &life{boot: boot, cut: make(chan struct{}), end: make(chan struct{})}
	m.life = l
	m.mu.Unlock()
	m.rack.starting(m.node.Name)
	select {
	case m.starts <- l:
		return nil
	case <-ctx.Done():
		m.off(l)
		return ctx.Err()
	}
}

// PowerOff implements refbmc.Machine.
func (m *machine) PowerOff(ctx context.Context) error {
	m.mu.Lock()
	l := m.life
	m.mu.Unlock()
	if l == nil {
		return nil
	}
	l.stop()
	select {
	case <-l.end:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SoftOff implements refbmc.Machine: whatever runs obeys.
func (m *machine) SoftOff(ctx context.Context) error { return m.PowerOff(ctx) }

// Powered implements refbmc.Machine.
func (m *machine) Powered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life != nil
}

func (m *machine) off(l *life) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == l {
		m.life = nil
		m.rack.started(m.node.Name, func(s *Start) { s.Off = time.Now() })
	}
}

// run lives every life of the machine; it ends with ctx.
func (m *machine) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-m.starts:
			live, cancel := context.WithCancel(ctx)
			go func() { // ends with live
				select {
				case <-l.cut:
					cancel()
				case <-live.Done():
				}
			}()
			m.live(live, l.boot)
			cancel()
			m.off(l)
			close(l.end)
		}
	}
}

// live boots, and boots again when told to, until power is cut or the node
// turns itself off.
func (m *machine) live(ctx context.Context, boot refbmc.Boot) {
	defer m.powered(false)
	for ctx.Err() == nil {
		m.powered(true)
		m.log.Info("machine starts", "device", boot.Device, "persistent", boot.Persistent)
		if !sleep(ctx, m.rack.POST) {
			return
		}
		again := m.boot(ctx, boot)
		if !again {
			return
		}
		boot = refbmc.Boot{}
		if m.bmc != nil {
			boot = m.bmc.TakeBoot()
		}
	}
}

func (m *machine) powered(on bool) {
	if m.rack.Powered != nil {
		m.rack.Powered(m.node.Name, on)
	}
}

// boot is one pass of the firmware and of what it loads. It returns true when
// the machine resets itself, and false when it has lost its power.
func (m *machine) boot(ctx context.Context, boot refbmc.Boot) (again bool) {
	defer func() { m.wires.removeAddress(m.has) }()
	network := boot.Device == "pxe"
	if !boot.Persistent && m.rack.has(m.node.Name, IgnoreOneTimeOverride) {
		network = false
	}
	if network {
		if loaded := m.firmware(ctx); loaded != nil {
			return m.kernel(ctx, loaded)
		}
	}
	if ctx.Err() == nil {
		m.rack.count(m.node.Name, func(c *Counters) { c.DiskBoots++ })
		m.log.Info("machine boots its disk")
	}
	<-ctx.Done() // what is on the disk knows nothing of us
	return false
}

// sleep waits for d, or less and false when ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
