package provision

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"firstlight/inventory"
	"firstlight/provision/agent/api"
)

// Sight is one thing the boot services saw.
type Sight struct {
	Time   time.Time
	MAC    net.HardwareAddr
	What   string // dhcp-discover, tftp-read, script, kernel, …
	BootID string // where the step names its boot
	Detail string
}

// SawScript is the sighting that BootOf itself records.
const SawScript = "script"

// strangerPause is how often an undeclared MAC is journalled: firmware repeats
// its DHCP for ever.
const strangerPause = time.Minute

// maxStrangers bounds the undeclared MACs that one run journals: a host that
// makes up a new one for each packet must not fill the journal.
const maxStrangers = 1000

// Observe takes note of what the boot services saw. It never blocks: what
// comes faster than the journal's queue is dropped, and said.
func (e *Engine) Observe(s Sight) {
	ev, err := e.sightEvent(s)
	if err != nil || ev.Kind == "" {
		return
	}
	select {
	case e.sights <- sighted{event: ev}:
	default:
		e.Log.Warn("journal queue is full: a step on the wire was not recorded", "mac", s.MAC, "step", s.What)
	}
}

func (e *Engine) sightEvent(s Sight) (Event, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.byMAC[s.MAC.String()]
	if n == nil {
		last, ok := e.foreign[s.MAC.String()]
		if ok && s.Time.Sub(last) < strangerPause || len(s.MAC) == 0 || !ok && len(e.foreign) >= maxStrangers {
			return Event{}, nil
		}
		e.foreign[s.MAC.String()] = s.Time
		return newEvent(s.Time, "", EventDiscovered, DiscoveredData{MAC: s.MAC.String(), Detail: s.Detail})
	}
	known := e.known.Node(n.Name)
	if known.Boot == nil || known.Boot.Home != nil {
		return Event{}, nil // no boot of ours is under way
	}
	return newEvent(s.Time, n.Name, EventSeen, SeenData{What: s.What, BootID: s.BootID, Detail: s.Detail})
}

// sighted is a sighting on its way to the journal, or, with reached set, a mark
// in the queue that is closed when all before it is journalled.
type sighted struct {
	event   Event
	reached chan struct{}
}

// recordSights journals sightings until ctx ends.
func (e *Engine) recordSights(ctx context.Context) {
	for {
		select {
		case s := <-e.sights:
			if s.reached != nil {
				close(s.reached)
			} else if err := e.record(ctx, s.event); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// caughtUp waits until all that was seen so far is journalled.
func (e *Engine) caughtUp(ctx context.Context) error {
	mark := sighted{reached: make(chan struct{})}
	select {
	case e.sights <- mark:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-mark.reached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// strangerSince is the undeclared MAC that asked for a boot last, after a moment.
func (e *Engine) strangerSince(t time.Time) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := ""
	for mac, d := range e.known.Discovered {
		if d.Last.After(t) {
			last, t = mac, d.Last
		}
	}
	return last
}

// ErrNothingToBoot says that a machine has no boot ordered.
var ErrNothingToBoot = errors.New("nothing to boot")

// BootOf is the boot that a node's firmware or loader is to be given now. A
// node whose agent is already home boots again by itself: that boot gets an
// identity of its own, so that its token is fresh. ErrNothingToBoot: leave the
// machine to its next boot device.
func (e *Engine) BootOf(ctx context.Context, mac net.HardwareAddr) (*inventory.Node, BootID, error) {
	n := e.byMAC[mac.String()]
	if n == nil {
		return nil, BootID{}, fmt.Errorf("%s is not declared: %w", mac, ErrNothingToBoot)
	}
	e.scripts.Lock() // two fetches at once must not each begin a boot
	defer e.scripts.Unlock()
	known := e.node(n.Name)
	if !known.Boots() {
		return n, BootID{}, fmt.Errorf("%s is %s: %w", n.Name, known.State, ErrNothingToBoot)
	}
	boot := known.Boot.BootID
	if known.Boot.Home != nil {
		boot.ID, boot.Via = e.NewID(), viaItself
		if err := e.recordOne(ctx, n.Name, EventRebooted, AttemptData{Boot: &boot}); err != nil {
			return n, BootID{}, err
		}
	}
	// That this boot came to us is journalled before it is answered: it is
	// what the proof of the boot path rests on, and a crash must not lose it.
	if err := e.caughtUp(ctx); err != nil {
		return n, BootID{}, err
	}
	return n, boot, e.recordOne(ctx, n.Name, EventSeen, SeenData{What: SawScript, BootID: boot.ID})
}

// Admit lets the agent of a node's current boot in, once. The same nonce is
// the same Hello: an answer may have been lost.
func (e *Engine) Admit(ctx context.Context, h api.Hello, from netip.Addr) error {
	n := e.nodes[h.Node]
	if n == nil {
		return fmt.Errorf("node %q is not declared", h.Node)
	}
	known := e.node(h.Node)
	nic := n.BootNIC()
	switch b := known.Boot; {
	case b == nil || b.ID != h.BootID:
		return fmt.Errorf("%s: boot %s is not its current boot", h.Node, h.BootID)
	case b.Kind != h.Kind:
		return fmt.Errorf("%s: says it is a %s boot; %s was ordered", h.Node, h.Kind, b.Kind)
	case nic != nil && nic.Address.IsValid() && nic.Address != from.Unmap():
		return fmt.Errorf("%s: called from %s, its address is %s", h.Node, from, nic.Address)
	case b.Home != nil && b.Home.Nonce != h.Nonce:
		return fmt.Errorf("%s: the token of boot %s was used before", h.Node, h.BootID)
	case b.Home != nil:
		return nil
	}
	// What was seen of the boot comes first: the proof rests on it.
	if err := e.caughtUp(ctx); err != nil {
		return err
	}
	return e.recordOne(ctx, h.Node, EventHello, HelloData{BootID: h.BootID, Nonce: h.Nonce, Kind: h.Kind, Image: h.Image,
		RootDigest: h.RootDigest, Kernel: h.KernelRelease, Agent: h.AgentVersion, Address: from.String(),
		Uptime: Seconds(h.UptimeSeconds), ClockSkew: secondsOf(h.Time.Sub(e.Now()))})
}

// Report takes a node's word that its boot failed.
func (e *Engine) Report(ctx context.Context, node, bootID string, r api.Report) error {
	if r.Kind != api.ReportBootFailed && r.Kind != api.ReportDigestMismatch {
		return fmt.Errorf("%s: unknown report %q", node, r.Kind)
	}
	known := e.node(node)
	if known.Boot == nil || known.Boot.ID != bootID {
		return fmt.Errorf("%s: boot %s is not its current boot", node, bootID)
	}
	return e.recordOne(ctx, node, EventSeen, SeenData{What: r.Kind, BootID: bootID, Detail: r.Message})
}
