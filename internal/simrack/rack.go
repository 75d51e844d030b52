// Package simrack is the rack that isn't there: many simulated nodes in one
// process that speak the real protocols on real sockets, so that the same
// controller drives them as drives metal. Each node has a BMC that answers IPMI
// over LAN or Redfish on its own address, firmware that does DHCP in frames from its own
// MAC and TFTP, an iPXE that fetches and follows the controller's script, and
// the real agent over a tree of files that plays its hardware.
//
// What a simulated node has is what the inventory declares for it, but for its
// faults.
package simrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"firstlight/inventory"
	"firstlight/provision/burnin"
)

// Kind is a way in which a machine or its BMC misbehaves.
type Kind string

// The kinds of fault.
const (
	DeadBMC               Kind = "dead-bmc"                 // nobody has the BMC's address
	FrozenBMC             Kind = "frozen-bmc"               // falls silent after After events at it
	IgnoreBootOverride    Kind = "ignore-boot-override"     // reads back what was set and boots the disk
	IgnoreOneTimeOverride Kind = "ignore-one-time-override" // honours only a persistent one
	RevertBootOverride    Kind = "revert-boot-override"     // answers OK and does not keep it
	RevertUntilReset      Kind = "revert-until-bmc-reset"   // so it is until the BMC is restarted
	IgnoreEFIFlag         Kind = "ignore-efi-flag"          // keeps the override, to boot by the legacy BIOS
	LyingBMC              Kind = "lying-bmc"                // answers OK to a power action and does nothing
	WrongMAC              Kind = "wrong-mac"                // the boot NIC is another: see ActualMAC
	WrongSerial           Kind = "wrong-serial"             // SMBIOS names another chassis: see ActualSerial
	DiskMissing           Kind = "disk-missing"             // the last disk declared is not there
	DIMMMissing           Kind = "dimm-missing"             // the last DIMM declared is not there
	BMCPassword           Kind = "bmc-password"             // the BMC wants another password: see ActualPassword
	MissingOutlet         Kind = "missing-outlet"           // its PDU knows none of its outlets
	LostPackets           Kind = "lost-packets"             // Share of its DHCP frames is lost, each way
	HangAfterLoader       Kind = "hang-after-loader"        // stands still once the loader is read
	BadGPU                Kind = "bad-gpu"                  // a GPU is faulty under load: see Fault.GPU
	SickGPU               Kind = "sick-gpu"                 // its last GPU has another reading: see Fault.Quantity
)

// Fault is one fault of one node.
type Fault struct {
	Node  string
	Kind  Kind
	After int     // of frozen-bmc: events at the BMC before it; of faults in a boot: boots that go well first
	Share float64 // of lost-packets: 0 to 1
	// Protocol is the one by which a BMC misbehaves that is declared by two; "":
	// by both.
	Protocol string
	GPU      *burnin.Fault // of bad-gpu: which, and how

	Quantity burnin.Quantity // of sick-gpu: what is read, and the number that it has
	Number   int64
}

// Rack is all nodes of an inventory, simulated. Cluster is needed; the zero
// value of everything else is useful. Set the fields, then call Serve.
//
// It serves in the network namespace of its process, where every network that
// nodes or BMCs are on has an interface of the name that the network gives the
// controller's own (see Wire).
type Rack struct {
	Cluster *inventory.Cluster
	Faults  []Fault
	Retry   time.Duration // firmware's first pause before it repeats a DHCP packet, doubling to 4 times this; 0: 300 ms (EDK2: 4 s)
	Pause   time.Duration // iPXE's between two tries of a download; 0: 1 s (the script: 3 s)
	Patient time.Duration // how long firmware asks for a network boot before it takes the disk; 0: 60 s, as EDK2
	POST    time.Duration // from power-on to the firmware's first packet
	Ready   func()        // called once every BMC listens; nil: nobody waits
	// Powered is called when a node starts, also when it starts anew, and when it
	// loses its power; nil: nobody has to know.
	Powered func(node string, on bool)
	Log     *slog.Logger // nil: silent

	mu       sync.Mutex
	counters map[string]*Counters
	starts   []Start
}

// Start is one time that a node's BMC switched it on.
type Start struct {
	Node    string
	On      time.Time // when its power came
	Running time.Time // when a kernel ran, before its agent called anybody; zero: not yet, or never
	Off     time.Time // when it lost its power; zero: not yet
}

// Starts are those of all nodes since Serve began, in order.
func (r *Rack) Starts() []Start {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.starts)
}

// starting records that a node was switched on.
func (r *Rack) starting(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts = append(r.starts, Start{Node: node, On: time.Now()})
}

// started completes the record of a node's last start.
func (r *Rack) started(node string, what func(*Start)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.starts) - 1; i >= 0; i-- {
		if r.starts[i].Node == node {
			what(&r.starts[i])
			return
		}
	}
}

// Counters are what was done to one node since Serve began.
type Counters struct {
	PowerOns, PowerOffs, PowerCycles, Resets int // accepted by its BMC
	LoginAttempts, Logins, LoginsRefused     int // at its BMC
	Overrides                                int // boot overrides written
	AgentReboots                             int // asked of its agent and carried out
	NetworkBoots, DiskBoots                  int // by its firmware
	Leases                                   int // addresses given to its firmware or iPXE
	BMCResets                                int
	PowerCuts                                int // at the PDU, of all its outlets
	BMCEvents                                int
}

// Counters returns those of a node; zero for one that is not simulated.
func (r *Rack) Counters(node string) Counters {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.counters[node]; c != nil {
		return *c
	}
	return Counters{}
}

// count changes a node's counters.
func (r *Rack) count(node string, change func(*Counters)) Counters {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counters == nil {
		r.counters = map[string]*Counters{}
	}
	c := r.counters[node]
	if c == nil {
		c = &Counters{}
		r.counters[node] = c
	}
	change(c)
	return *c
}

// fault returns a node's fault of that kind.
func (r *Rack) fault(node string, kind Kind) (Fault, bool) {
	for _, f := range r.Faults {
		if f.Node == node && f.Kind == kind {
			return f, true
		}
	}
	return Fault{}, false
}

func (r *Rack) has(node string, kind Kind) bool {
	_, ok := r.fault(node, kind)
	return ok
}

func (r *Rack) log() *slog.Logger {
	if r.Log != nil {
		return r.Log
	}
	return slog.New(slog.DiscardHandler)
}

func orDefault(d, standard time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return standard
}

func (r *Rack) retry() time.Duration   { return orDefault(r.Retry, 300*time.Millisecond) }
func (r *Rack) pause() time.Duration   { return orDefault(r.Pause, time.Second) }
func (r *Rack) patient() time.Duration { return orDefault(r.Patient, time.Minute) }

// Serve runs the rack until ctx ends, which is no error: every machine then
// loses its power. It fails when an interface or an address cannot be had.
func (r *Rack) Serve(ctx context.Context) error {
	if r.Cluster == nil {
		return errors.New("simrack: no cluster to simulate")
	}
	for _, f := range r.Faults {
		if r.Cluster.Node(f.Node) == nil {
			return fmt.Errorf("simrack: fault %s is of node %q, which is not declared", f.Kind, f.Node)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "simrack-")
	if err != nil {
		return fmt.Errorf("simrack: %w", err)
	}
	defer os.RemoveAll(dir)
	wires, err := openWires(r.Cluster)
	if err != nil {
		return fmt.Errorf("simrack: %w", err)
	}
	defer wires.close()

	var running sync.WaitGroup // everything in it ends with ctx
	defer running.Wait()
	defer cancel()
	for _, seg := range wires.segments {
		running.Go(func() { seg.receive(ctx) })
	}
	machines := map[string]*machine{}
	failed := make(chan error, len(r.Cluster.Nodes)+len(r.Cluster.PDUs))
	var listening sync.WaitGroup
	for i, n := range r.Cluster.Nodes {
		m, err := newMachine(r, n, i, wires, dir)
		if err != nil {
			return fmt.Errorf("simrack: %s: %w", n.Name, err)
		}
		running.Go(func() { m.run(ctx) })
		machines[n.Name] = m
		if n.BMC == nil || r.has(n.Name, DeadBMC) && n.BMC.Other == nil {
			continue
		}
		for _, at := range bmcAddresses(n.BMC) {
			if err := wires.addAddress(at); err != nil {
				return fmt.Errorf("simrack: %s: BMC: %w", n.Name, err)
			}
		}
		listening.Add(1)
		m.ready = listening.Done
		running.Go(func() {
			if err := m.bmc.Serve(ctx); err != nil {
				failed <- fmt.Errorf("simrack: %s: %w", n.Name, err)
			}
		})
	}
	for _, p := range r.Cluster.PDUs {
		if err := wires.addAddress(p.Address); err != nil {
			return fmt.Errorf("simrack: pdu %s: %w", p.Name, err)
		}
		pdu := r.newPDU(ctx, p, machines)
		listening.Add(1)
		pdu.Ready = func(netip.AddrPort) { listening.Done() }
		running.Go(func() {
			if err := pdu.Serve(ctx); err != nil {
				failed <- fmt.Errorf("simrack: pdu %s: %w", p.Name, err)
			}
		})
	}
	return r.wait(ctx, &listening, failed)
}

// bmcAddresses are where a BMC answers, each once.
func bmcAddresses(b *inventory.BMC) []netip.Addr {
	at := []netip.Addr{b.Address}
	if b.Other != nil && b.Other.Address != b.Address {
		at = append(at, b.Other.Address)
	}
	return at
}

// wait calls Ready once every BMC listens, and ends with ctx or the first BMC
// that failed.
func (r *Rack) wait(ctx context.Context, listening *sync.WaitGroup, failed <-chan error) error {
	up := make(chan struct{})
	go func() { // ends when every BMC listens; abandoned if one never does
		listening.Wait()
		close(up)
	}()
	for {
		select {
		case <-up:
			up = nil
			if r.Ready != nil {
				r.Ready()
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}
