package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
)

// Ways by which a boot comes about.
const (
	viaPowerOn     = "power-on"
	viaPowerCycle  = "power-cycle"
	viaAgentReboot = "agent-reboot"
	viaItself      = "itself"
)

// agentSilence is how long an agent that polls every few seconds may be quiet
// and still be asked to reboot its node instead of having it power-cycled.
const agentSilence = 2 * time.Minute

// agentReturns is how long an agent is waited for that a controller which was
// started anew has not heard: its poll that was cut off ends within 40 s.
const agentReturns = 45 * time.Second

// bootBringUp boots the bring-up agent through the firmware's network boot.
func (e *Engine) bootBringUp(ctx context.Context, n *inventory.Node, act Action) (PassedData, error) {
	boot, err := e.order(ctx, n, act, api.BootBringUp, e.BringUp)
	if err != nil {
		return PassedData{}, err
	}
	known, err := e.homecoming(ctx, n, boot, "")
	if err != nil {
		return PassedData{}, err
	}
	return e.conclude(n, Enrolled, e.bootChecks(n, known.Boot))
}

// bootImage boots the declared image, by the agent's reboot where there is an
// agent, and takes its digest from the node.
func (e *Engine) bootImage(ctx context.Context, n *inventory.Node, act Action) (PassedData, error) {
	if n.Image == nil {
		return PassedData{}, &Refused{Reason: fmt.Sprintf("no image is declared for it (%s)", where(n.Range))}
	}
	img, ok := e.Images[n.Image.Name]
	if !ok {
		return PassedData{}, &Refused{Reason: fmt.Sprintf("image %s (%s) is not in the catalogue: firstlight image build", n.Image.Name, where(n.Image.Range))}
	}
	boot, err := e.order(ctx, n, act, api.BootImage, img)
	if err != nil {
		return PassedData{}, err
	}
	known, err := e.homecoming(ctx, n, boot, img.Root)
	if err != nil {
		return PassedData{}, err
	}
	return e.conclude(n, Provisioned, append(imageChecks(n, img, known.Boot), e.bootChecks(n, known.Boot)...))
}

// order brings a boot about, or takes up the one that was under way. It never
// repeats a power action of the same boot.
func (e *Engine) order(ctx context.Context, n *inventory.Node, act Action, kind string, img Image) (BootRecord, error) {
	if n.BootNIC() == nil {
		return BootRecord{}, &Refused{Reason: fmt.Sprintf("no nic block is declared for it (%s): it cannot be booted over the network, and was not powered on", where(n.Range))}
	}
	known := e.node(n.Name)
	if b := known.Boot; b != nil && !known.Started.IsZero() && known.Attempts[act.Proof] == act.Attempt && b.Kind == kind && b.Image == img.Digest {
		return *b, e.resumeBoot(ctx, n, known)
	}
	power := ""
	if err := e.bmc(ctx, func() (err error) { power, err = e.board(n).Power(ctx, n); return err }); err != nil {
		return BootRecord{}, err
	}
	id := BootID{ID: e.NewID(), Kind: kind, Image: img.Digest, Via: viaPowerOn, Rung: known.rung(),
		// A netbooted image must come back by itself after a power cut, so it
		// asks for the network at every boot.
		Persistent: known.rung() != RungOnce || kind == api.BootImage}
	if power == "on" {
		id.Via = viaPowerCycle
		if kind == api.BootImage && act.Attempt == 1 && e.agentAnswers(ctx, n.Name, known) {
			id.Via = viaAgentReboot
		}
	}
	if id.Via == viaAgentReboot {
		e.turns.giveBack(n.Name)
	} else if err := e.turns.due(e.loadFor(n)); err != nil {
		return BootRecord{}, err
	}
	if err := e.announce(ctx, n, act, &id); err != nil {
		return BootRecord{}, err
	}
	if err := e.setBoot(ctx, n, id); err != nil {
		return BootRecord{}, err
	}
	if id.Via != viaAgentReboot {
		if err := e.power(ctx, n, id.Via); err != nil {
			return BootRecord{}, err
		}
	}
	return BootRecord{BootID: id}, nil
}

// resumeBoot takes up a boot that a stopped controller had ordered.
func (e *Engine) resumeBoot(ctx context.Context, n *inventory.Node, known Node) error {
	b := known.Boot
	if b.Home != nil || !b.Powered.IsZero() || len(b.Seen) > 0 {
		return nil
	}
	if b.Via == viaAgentReboot {
		return e.setBoot(ctx, n, b.BootID) // it may not have been set yet, and setting it twice is harmless
	}
	// The power action was announced; whether it was carried out is not
	// known. A machine that is on is left alone: its DHCP decides.
	power := ""
	if err := e.bmc(ctx, func() (err error) { power, err = e.board(n).Power(ctx, n); return err }); err != nil {
		return err
	}
	if power == "on" {
		return nil
	}
	if err := e.turns.due(e.loadFor(n)); err != nil {
		return err
	}
	if err := e.setBoot(ctx, n, b.BootID); err != nil {
		return err
	}
	return e.power(ctx, n, viaPowerOn)
}

// setBoot asks the BMC for a network boot, which it reads back.
func (e *Engine) setBoot(ctx context.Context, n *inventory.Node, id BootID) error {
	if err := e.bmc(ctx, func() error { return e.board(n).SetBootPXE(ctx, n, id.Persistent) }); err != nil {
		return err
	}
	return e.recordOne(ctx, n.Name, EventOverride, OverrideData{BootID: id.ID})
}

func (e *Engine) power(ctx context.Context, n *inventory.Node, via string) error {
	op := "on"
	if via == viaPowerCycle {
		op = "cycle"
	}
	err := e.bmc(ctx, func() error {
		return e.turns.send(ctx, e.loadFor(n), func() error { return e.board(n).SetPower(ctx, n, op) })
	})
	var unconfirmed *Unconfirmed
	if errors.As(err, &unconfirmed) {
		e.Log.Warn("power action not confirmed; waiting for the boot itself", "node", n.Name, "op", op, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	return e.recordOne(ctx, n.Name, EventPowered, PoweredData{Op: op, Power: "on"})
}

// agentAnswers says whether the agent that came home with a node's last boot
// can be asked to reboot it. A controller that was started anew has not heard
// it yet, and cycling the power of a healthy node is worse than a short wait.
func (e *Engine) agentAnswers(ctx context.Context, name string, known Node) bool {
	if known.Boot == nil || known.Boot.Home == nil {
		return false
	}
	until := e.Now().Add(min(agentReturns, e.deadline(Provisioned)/2))
	for {
		if at, ok := e.Agents.Seen(name); ok {
			return e.Now().Sub(at) < agentSilence
		}
		if !e.Now().Before(until) || !sleep(ctx, 100*time.Millisecond) {
			return false
		}
	}
}

// homecoming waits for the agent of a boot, and asks the agent of the boot
// before it to reboot where that is how the boot comes about. An agent that
// calls without the root file system the image has is still in its initramfs:
// what it has to say is a report.
func (e *Engine) homecoming(ctx context.Context, n *inventory.Node, boot BootRecord, root string) (Node, error) {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	drawn := e.watchDraw(waiting, n, boot)
	known := e.node(n.Name)
	if boot.Via == viaAgentReboot && known.Boot.Home == nil && known.Previous != nil {
		previous := known.Previous.ID
		go func() { // ends with waiting
			job := api.Job{ID: boot.ID + "-reboot", Kind: api.JobReboot}
			if _, err := e.Agents.Do(waiting, n.Name, previous, job); err != nil && waiting.Err() == nil {
				e.Log.Warn("reboot not taken by the agent", "node", n.Name, "error", err)
			}
		}()
	}
	known, err := e.await(ctx, n.Name, func(k Node) bool {
		home := k.Boot != nil && k.Boot.Home != nil && (root == "" || k.Boot.Home.RootDigest != "")
		return home || k.Boot == nil || k.Boot.ID != boot.ID || k.Boot.told() != nil
	})
	if known.Boot != nil && known.Boot.ID == boot.ID {
		if t := known.Boot.told(); t != nil && t.What == api.ReportDigestMismatch {
			return known, &Refused{Reason: t.Detail}
		} else if t != nil {
			return known, fmt.Errorf("the node reported: %s%s", t.Detail, e.lastLines(n.Name))
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err := errors.New(e.whyNoBoot(n, known, e.deadlineOf(boot.Kind)) + e.lastLines(n.Name))
		if known.Boot != nil && len(known.Boot.Seen) == 0 {
			return known, obstacle{err}
		}
		return known, err
	}
	if err != nil {
		return known, err
	}
	if known.Boot == nil || known.Boot.ID != boot.ID {
		return known, errors.New("the node booted again by itself before its agent called home")
	}
	return known, drawn(ctx)
}

// told is the node's own word that this boot failed, if it gave one.
func (b *BootRecord) told() *Sighting {
	for i := range b.Seen {
		if b.Seen[i].What == api.ReportBootFailed || b.Seen[i].What == api.ReportDigestMismatch {
			return &b.Seen[i]
		}
	}
	return nil
}

func (e *Engine) deadlineOf(kind string) time.Duration {
	if kind == api.BootImage {
		return e.deadline(Provisioned)
	}
	return e.deadline(Enrolled)
}

// whyNoBoot says how far a boot came, from the wire's own evidence.
func (e *Engine) whyNoBoot(n *inventory.Node, known Node, waited time.Duration) string {
	nic := n.BootNIC()
	b := known.Boot
	last := ""
	if b != nil && len(b.Seen) > 0 {
		s := b.Seen[len(b.Seen)-1]
		last = strings.TrimSpace(s.What + " " + s.Detail)
	}
	switch {
	case b != nil && b.Via == viaAgentReboot && last == "":
		return fmt.Sprintf("the agent was asked to reboot %s ago and no DHCP came from %s since", waited, nic.MAC)
	case last == "":
		s := fmt.Sprintf("no DHCP from %s (nic %q, %s) in %s since power-on: the BMC at %s accepted the %s PXE override, and the machine booted something else or its boot NIC is another",
			nic.MAC, nic.Name, where(nic.Range), waited, n.BMC.Address, onceOr(b.Persistent))
		if mac := e.strangerSince(b.Ordered); mac != "" {
			s += fmt.Sprintf("; undeclared %s asked for DHCP meanwhile: is it this node's?", mac)
		}
		return s
	case strings.HasPrefix(last, "dhcp"):
		return fmt.Sprintf("%s got as far as %s and fetched no boot loader in %s: look at its console and at TFTP on the provisioning network", nic.MAC, last, waited)
	}
	return fmt.Sprintf("the agent did not call home in %s; the last step seen was %s: look at its console", waited, last)
}

// lastLines quotes a node's console, as far as it is known.
func (e *Engine) lastLines(node string) string {
	const most = 160 // characters of each line
	if e.Console == nil {
		return ""
	}
	var quoted []string
	for _, line := range e.Console(node) {
		if r := []rune(line); len(r) > most {
			line = string(r[:most]) + "…"
		}
		quoted = append(quoted, fmt.Sprintf("%q", line))
	}
	if len(quoted) == 0 {
		return ""
	}
	return "; its console showed last: " + strings.Join(quoted, ", ")
}

func onceOr(persistent bool) string {
	if persistent {
		return "persistent"
	}
	return "one-time"
}

// bootChecks turns what was seen of a boot into evidence.
func (e *Engine) bootChecks(n *inventory.Node, b *BootRecord) []acceptance.Check {
	src := where(n.Range)
	override := acceptance.Check{Name: "boot.override", Verdict: acceptance.Pass, Part: "BMC " + n.BMC.Address.String(),
		Reading: onceOr(b.Persistent) + " PXE, read back; boot by " + b.Via, Threshold: "read back as set", Source: overrideSource(n.BMC)}
	if b.Rung != "" && b.Rung != RungOnce && b.Rung != RungPersistent {
		override.Reading += ", after " + b.Rung.Does()
	}
	if b.Set.IsZero() {
		// The controller was stopped between announcing and setting it, or the
		// node booted by itself. That it came by the network is proven below.
		override.Verdict, override.Reading = acceptance.NotApplicable, "not set by this controller for this boot"
	}
	wire := acceptance.Check{Name: "boot.path", Verdict: acceptance.Fail, Part: "boot NIC " + n.BootNIC().MAC.String(),
		Reading: seenPath(b), Threshold: "this boot's script fetched by the declared MAC", Source: "the boot services' own log"}
	for _, s := range b.Seen {
		if s.What == SawScript {
			wire.Verdict = acceptance.Pass
		}
	}
	home := acceptance.Check{Name: "agent.token", Verdict: acceptance.Pass, Part: "agent", Source: src,
		Reading: fmt.Sprintf("one-time token of this boot used from %s, %.1f s after power-on", b.Home.Address, b.HomeAt.Sub(b.start()).Seconds()), Threshold: "this boot's token, once, from the declared address"}
	return []acceptance.Check{override, wire, home}
}

// overrideSource is what says how the override is set and read.
func overrideSource(b *inventory.BMC) string {
	if b.Protocol == "redfish" {
		return "DMTF DSP0268, ComputerSystem.Boot"
	}
	return "IPMI v2.0 §28.13"
}

func (b *BootRecord) start() time.Time {
	if !b.Powered.IsZero() {
		return b.Powered
	}
	return b.Ordered
}

func seenPath(b *BootRecord) string {
	if len(b.Seen) == 0 {
		return "nothing"
	}
	var steps []string
	for _, s := range b.Seen {
		steps = append(steps, fmt.Sprintf("%s +%.1fs", s.What, s.At.Sub(b.start()).Seconds()))
	}
	return strings.Join(steps, ", ")
}

func imageChecks(n *inventory.Node, img Image, b *BootRecord) []acceptance.Check {
	src := where(n.Image.Range)
	digest := acceptance.Check{Name: "image.digest", Part: "image " + img.Name, Reading: "the node was started with " + short(orNone(b.Home.Image)), Threshold: short(img.Digest), Source: src, Verdict: verdictOf(b.Home.Image == img.Digest)}
	kernel := acceptance.Check{Name: "image.kernel", Part: "image " + img.Name, Reading: b.Home.Kernel, Threshold: img.Kernel, Source: src, Verdict: verdictOf(b.Home.Kernel == img.Kernel)}
	root := acceptance.Check{Name: "image.root", Part: "image " + img.Name, Reading: "measured on the node: " + short(orNone(b.Home.RootDigest)), Threshold: short(img.Root), Source: src, Verdict: verdictOf(b.Home.RootDigest == img.Root)}
	if img.Root == "" {
		root.Verdict, root.Threshold = acceptance.NotApplicable, "the image has no root file system of its own"
	}
	return []acceptance.Check{digest, root, kernel}
}

func verdictOf(ok bool) acceptance.Verdict {
	if ok {
		return acceptance.Pass
	}
	return acceptance.Fail
}
