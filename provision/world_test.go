package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
)

// memory is a Journal that forgets with the test. The conformance suite of
// package journaltest holds the durable one.
type memory struct {
	mu     sync.Mutex
	events []Event
	full   error // returned by Append once set
	after  int   // crash: Append fails once this many events are in; 0 never
}

var errKilled = errors.New("killed")

func (m *memory) Append(_ context.Context, after int64, events ...Event) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full != nil {
		return 0, m.full
	}
	if after != int64(len(m.events)) {
		return 0, ErrConflict
	}
	for _, ev := range events {
		ev.Serial = int64(len(m.events)) + 1
		m.events = append(m.events, ev)
	}
	if m.after > 0 && len(m.events) >= m.after {
		// The write is durable and the process is gone before it learns of it.
		m.full = errKilled
		return 0, errKilled
	}
	return int64(len(m.events)), nil
}

func (m *memory) Read(_ context.Context, after int64) ([]Event, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Event(nil), m.events[after:]...), int64(len(m.events)), nil
}

// shelf is an Archive in memory.
type shelf struct{ m sync.Map }

func (s *shelf) Put(b []byte) (string, error) {
	sum := sha256.Sum256(b)
	d := "sha256:" + hex.EncodeToString(sum[:])
	s.m.Store(d, append([]byte(nil), b...))
	return d, nil
}

func (s *shelf) Get(d string) ([]byte, error) {
	v, ok := s.m.Load(d)
	if !ok {
		return nil, fmt.Errorf("no evidence %s", d)
	}
	return v.([]byte), nil
}

// world is machines that outlive the controller: the engine talks to them, and
// a new engine after a crash finds them as they are.
type world struct {
	mu       sync.Mutex
	machines map[string]*machine
	engine   *Engine                 // whom they call
	meter    *meter                  // nil: nobody counts
	done     func(node, what string) // called for what is done to a machine; nil: nobody looks
}

func (w *world) did(m *machine, what string) {
	if w.done != nil {
		w.done(m.node.Name, what)
	}
}

type machine struct {
	node   *inventory.Node
	power  string
	pxe    bool
	sticky bool
	agent  *api.Hello // who runs on it now
	polled time.Time

	ons, cycles, reboots int  // what was done to it
	resets               int  // of its BMC
	cuts                 int  // of its power at the PDU
	dark                 bool // its outlets are off
	revertsUntilCut      bool
	wakes                bool // it turns on by itself when it has power again
	reverts              bool // its BMC does not keep the override, until it is reset
	revertsHere          bool // so it is by its first protocol, for ever
	byOther              bool // it is asked by its other protocol
	stays                bool // its BMC does not come back from a reset
	hangs                bool // after the boot services have served it
	oldAgent             bool // it reads no GPUs
	ignoreOnce           bool
	ignoreAll            bool
	mute                 bool     // does what it is told and does not answer
	refuse, refuseBoot   *Refused // the login, at the identity or at the boot override
	detour               string   // of whoever asks its BMC
	disksLess            int
	badRoot              bool
	muteAfter            int // the BMC stops answering after so many power reads; 0: never
	powerReads           int
	answers              map[string]api.Result // by job, as the agent of this boot remembers them
	offs                 int
	life                 int                                      // how often it lost what ran on it
	burned               []string                                 // stages that it burned in, in order
	burn                 func(m *machine, job api.Job) api.Result // nil: it passes
	crash                bool                                     // once, under load
}

func (w *world) machine(n *inventory.Node) *machine { return w.machines[n.Name] }

func (w *world) Identity(_ context.Context, n *inventory.Node) (BMCIdentity, error) {
	if r := w.machine(n).refuse; r != nil {
		return BMCIdentity{}, r
	}
	return BMCIdentity{Serial: n.Serial, Firmware: "1.0", Detour: w.machine(n).detour}, nil
}

func (w *world) Power(_ context.Context, n *inventory.Node) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machine(n)
	m.powerReads++
	if m.muteAfter > 0 && m.powerReads > m.muteAfter {
		return "", errors.New("BMC did not answer")
	}
	return m.power, nil
}

func (w *world) SetBootPXE(_ context.Context, n *inventory.Node, persistent bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machine(n)
	switch {
	case m.refuseBoot != nil:
		return m.refuseBoot
	case m.reverts || m.revertsUntilCut || m.revertsHere && !m.byOther:
		return errors.New("accepted the boot override and did not keep it")
	}
	m.pxe, m.sticky = true, persistent
	return nil
}

func (w *world) ResetBMC(_ context.Context, n *inventory.Node) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machine(n)
	m.resets++
	w.did(m, "bmc-reset")
	if m.stays {
		return errors.New("restarted, and not back 5m later")
	}
	m.reverts = false
	return nil
}

func (w *world) CycleOutlets(_ context.Context, n *inventory.Node, takeUp bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machine(n)
	if takeUp && !m.dark {
		return nil
	}
	if !takeUp {
		m.cuts++
		w.did(m, "outlet")
	}
	m.dark, m.power, m.agent = false, "off", nil
	m.muteAfter, m.revertsUntilCut = 0, false
	if m.wakes {
		m.power = "on"
		w.meter.switchedOn(n.Name)
	}
	return nil
}

// other is the BMCs of a world by their other protocol.
type other struct{ *world }

func (o other) SetBootPXE(ctx context.Context, n *inventory.Node, persistent bool) error {
	o.mu.Lock()
	o.machine(n).byOther = true
	o.mu.Unlock()
	err := o.world.SetBootPXE(ctx, n, persistent)
	o.mu.Lock()
	o.machine(n).byOther = false
	o.mu.Unlock()
	return err
}

func (w *world) SetPower(_ context.Context, n *inventory.Node, op string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machine(n)
	w.did(m, op)
	switch op {
	case "on":
		m.ons++
	case "cycle":
		m.cycles++
	case "off":
		m.offs++
		m.power, m.agent, m.life = "off", nil, m.life+1
		return nil
	}
	m.power = "on"
	w.meter.switchedOn(m.node.Name)
	w.start(m)
	if m.mute {
		return &Unconfirmed{Reason: "no answer"}
	}
	return nil
}

// start boots a machine; w.mu is held.
func (w *world) start(m *machine) {
	net := m.pxe && !m.ignoreAll && !(m.ignoreOnce && !m.sticky)
	if !m.sticky {
		m.pxe = false
	}
	m.agent, m.answers, m.life = nil, map[string]api.Result{}, m.life+1
	if net {
		go w.netboot(m, m.life)
	}
}

// netboot is firmware, loader and agent: each repeats itself until somebody
// answers, as the real ones do.
func (w *world) netboot(m *machine, life int) {
	w.meter.selfTest(m.node.Name)
	var hello *api.Hello
	for range 2000 {
		w.mu.Lock()
		e, alive := w.engine, m.life == life
		w.mu.Unlock()
		if !alive {
			return
		}
		if e != nil && hello == nil {
			hello = w.load(e, m)
		}
		if hello != nil && m.hangs {
			return
		}
		if e != nil && hello != nil && w.callHome(e, m, *hello) {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// load is firmware and loader, up to the agent's start; nil: not answered.
func (w *world) load(e *Engine, m *machine) *api.Hello {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	nic := m.node.BootNIC()
	_, id, err := e.BootOf(ctx, nic.MAC)
	if err != nil {
		return nil
	}
	for _, what := range []string{"kernel", "token"} {
		e.Observe(Sight{Time: e.Now(), MAC: nic.MAC, What: what, BootID: id.ID})
	}
	h := &api.Hello{Node: m.node.Name, BootID: id.ID, Kind: id.Kind, Nonce: id.ID, Image: id.Image, KernelRelease: "6.1", Time: e.Now()}
	if id.Kind == api.BootImage {
		h.RootDigest = "sha256:root"
	}
	return h
}

func (w *world) callHome(e *Engine, m *machine, h api.Hello) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if m.badRoot && h.Kind == api.BootImage {
		return e.Report(ctx, h.Node, h.BootID, api.Report{Kind: api.ReportDigestMismatch, Message: "root file system digest is sha256:bad, manifest says sha256:root"}) == nil
	}
	w.meter.started(m.node.Name)
	if err := e.Admit(ctx, h, m.node.BootNIC().Address); err != nil {
		return false
	}
	w.mu.Lock()
	m.agent, m.polled = &h, e.Now()
	w.mu.Unlock()
	return true
}

func (w *world) Seen(node string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machines[node]
	return m.polled, m.agent != nil
}

func (w *world) Do(ctx context.Context, node, bootID string, job api.Job) (api.Result, error) {
	for ctx.Err() == nil {
		w.mu.Lock()
		m := w.machines[node]
		here := m.agent != nil && m.agent.BootID == bootID
		if here && job.Kind == api.JobReboot {
			m.reboots++
			w.start(m)
		}
		w.mu.Unlock()
		if here && job.Kind == api.JobBurnIn && m.crash {
			m.crash = false
			w.mu.Lock()
			w.start(m)
			w.mu.Unlock()
			<-ctx.Done()
			return api.Result{}, ctx.Err()
		}
		if here {
			return w.answer(m, job), nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return api.Result{}, ctx.Err()
}

// answer is the agent's: an ID that it knows it answers from memory.
func (w *world) answer(m *machine, job api.Job) api.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, known := m.answers[job.ID]
	if !known {
		r = m.work(job)
		m.answers[job.ID] = r
	}
	return r
}

func (m *machine) work(job api.Job) api.Result {
	r := api.Result{JobID: job.ID, Kind: job.Kind}
	switch job.Kind {
	case api.JobInspect:
		ins := &api.Inspection{BootMode: "uefi", System: api.System{Serial: m.node.Serial}, CPU: api.CPU{Sockets: 1, Cores: 1},
			Memory: api.Memory{DIMMs: []api.DIMM{{Locator: "DIMM 0", Size: 1 << 30}}, Slots: 1}}
		for i := range 2 - m.disksLess {
			ins.Disks = append(ins.Disks, api.Disk{Name: fmt.Sprintf("nvme%dn1", i), Transport: "nvme", Size: 4 << 30})
		}
		for _, nic := range m.node.NICs {
			ins.NICs = append(ins.NICs, api.NIC{Name: "eth0", MAC: nic.MAC.String()})
		}
		for _, h := range m.node.Hardware.HCAs {
			ins.RDMA = append(ins.RDMA, api.RDMADevice{Name: device(h), NodeGUID: guidOf(m.node, h)})
		}
		r.Inspection = ins
	case api.JobBurnIn:
		for _, s := range job.BurnIn.Stages {
			m.burned = append(m.burned, s.Name)
			r.Checks = append(r.Checks, api.Check{Name: "burn-in." + s.Name, Verdict: "pass", Reading: "0 wrong", Threshold: "0 wrong", Source: s.Source, Part: "GPUs"})
		}
		r.BurnIn = &api.BurnInResult{Engine: job.BurnIn.Engine, Data: []byte(`{}`)}
		if m.burn != nil {
			r = m.burn(m, job)
		}
	case api.JobCheck:
		r.Checks = []api.Check{{Name: "kernel.log", Verdict: "pass", Reading: "clean", Threshold: "clean", Source: "agent", Part: "kernel"}}
		if job.GPUs != nil && !m.oldAgent {
			r.Checks = append(r.Checks, api.Check{Name: "gpu.driver", Verdict: "pass", Reading: "570", Threshold: "answers", Source: job.GPUs.Source, Part: "driver"})
		}
	}
	return r
}

// testCluster declares n healthy nodes of one small class.
func testCluster(n int) *inventory.Cluster {
	network := &inventory.Network{Name: "provision", CIDR: netip.MustParsePrefix("10.10.0.0/22"), DHCP: "full"}
	class := &inventory.Hardware{Name: "vm", CPU: &inventory.CPU{Sockets: 1, Cores: 1},
		Memory: &inventory.Memory{Total: inventory.Size{Bytes: 1 << 30, Text: "1GiB"}, DIMMs: 1},
		Disks:  []inventory.Disk{{Name: "root", Count: 2, Size: inventory.Size{Bytes: 4 << 30, Text: "4GiB"}, Transport: "nvme"}}}
	image := &inventory.Image{Name: "compute", Method: "netboot"}
	rack := &inventory.Rack{Name: "a01"}
	c := &inventory.Cluster{Name: "test", Digest: "sha256:inventory", Images: map[string]*inventory.Image{"compute": image}}
	c.Settings = inventory.Settings{Concurrency: 64, BMCConcurrency: 16, Attempts: 3, Backoff: time.Millisecond,
		Deadlines: map[string]time.Duration{"reachable": time.Second, "enrolled": 2 * time.Second, "matched": time.Second, "provisioned": 2 * time.Second, "validated": time.Second}}
	for i := range n {
		c.Nodes = append(c.Nodes, &inventory.Node{Name: fmt.Sprintf("n%d", i+1), Rack: rack, Serial: fmt.Sprintf("S%d", i+1), Hardware: class, Image: image,
			BMC: &inventory.BMC{Address: netip.AddrFrom4([4]byte{10, 20, 0, byte(i + 11)}), Protocol: "ipmi", Credential: &inventory.Credential{Username: "admin", Password: "secret"}},
			NICs: []inventory.NIC{{Name: "boot", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i + 1)}, Network: network,
				Address: netip.AddrFrom4([4]byte{10, 10, 0, byte(i + 11)})}}})
	}
	return c
}

func newWorld(c *inventory.Cluster) *world {
	w := &world{machines: map[string]*machine{}}
	for _, n := range c.Nodes {
		w.machines[n.Name] = &machine{node: n, power: "off"}
	}
	return w
}

// rig is a controller over a world: what survives a crash is passed in.
type rig struct {
	want   Want
	world  *world
	log    Journal
	shelf  *shelf
	fabric Fabric
	// console is what the nodes' consoles showed last; nil: nobody looks.
	console func(node string) []string
}

// inspectJob is an inspection that nobody asked for.
var inspectJob = api.Job{ID: "look", Kind: api.JobInspect}

// evidenceOf is the evidence of a digest.
func (r rig) evidenceOf(t testing.TB, digest string) (ev acceptance.Evidence) {
	t.Helper()
	raw, err := r.shelf.Get(digest)
	if err == nil {
		err = json.Unmarshal(raw, &ev)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

var bootCount atomic.Int64

func (r rig) engine(t testing.TB) (*Engine, Known) {
	t.Helper()
	e := &Engine{Want: r.want, BringUp: Image{Name: "bring-up", Digest: "sha256:bringup", Kernel: "6.1"},
		Images:  map[string]Image{"compute": {Name: "compute", Digest: r.want.Images["compute"], Root: "sha256:root", Kernel: "6.1"}},
		Journal: r.log, Archive: r.shelf, Baseboard: r.world, Other: other{r.world}, Recovery: r.world, Agents: r.world, Fabric: r.fabric, Console: r.console, Lab: true, Engine: acceptance.EngineNode,
		Signer: func(acceptance.Record) ([]byte, error) { return []byte("signed"), nil },
		Now:    time.Now, NewID: func() string { return fmt.Sprintf("boot%d", bootCount.Add(1)) },
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	known, err := e.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r.world.mu.Lock()
	r.world.engine = e
	r.world.mu.Unlock()
	return e, known
}

// apply plans and carries out.
func (r rig) apply(t testing.TB) (Known, Plan, error) {
	t.Helper()
	e, known := r.engine(t)
	p := MakePlan(r.want, known, nil, time.Now())
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	known, err := e.Run(ctx, p)
	return known, p, err
}

func newRig(n int) rig {
	c := testCluster(n)
	return rig{want: Want{Cluster: c, Images: map[string]string{"compute": "sha256:image1"}, Key: []byte("key")},
		world: newWorld(c), log: &memory{}, shelf: &shelf{}}
}
