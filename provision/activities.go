package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"firstlight/inventory"
	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
)

// perform runs one activity to its proof. A *Refused error is final.
func (e *Engine) perform(ctx context.Context, n *inventory.Node, act Action) (PassedData, error) {
	if act.Do != Boot && act.Do != BootImage {
		if err := e.announce(ctx, n, act, nil); err != nil {
			return PassedData{}, err
		}
	}
	switch act.Do {
	case Identify:
		return e.identify(ctx, n)
	case Boot:
		return e.bootBringUp(ctx, n, act)
	case Inspect:
		return e.inspect(ctx, n, act)
	case BootImage:
		return e.bootImage(ctx, n, act)
	case CheckNode:
		return e.check(ctx, n, act)
	case BurnIn:
		return e.burnIn(ctx, n, act)
	case Sign:
		return e.sign(n)
	}
	return PassedData{}, &Refused{Reason: fmt.Sprintf("no way to %s in this version", act.Do)}
}

// announce journals an attempt before it acts.
func (e *Engine) announce(ctx context.Context, n *inventory.Node, act Action, boot *BootID) error {
	return e.recordOne(ctx, n.Name, EventAttempt, AttemptData{Proof: act.Proof, N: act.Attempt,
		Deadline: secondsOf(e.allowed(n, act.Proof)), Boot: boot})
}

// conclude files the evidence of an activity; it passes only when every check
// does.
func (e *Engine) conclude(n *inventory.Node, proof State, checks []acceptance.Check) (PassedData, error) {
	return e.file(n, acceptance.Evidence{Node: n.Name, State: string(proof), Engine: e.Engine, Lab: e.Lab, Checks: checks})
}

// file keeps evidence for a state, and is its proof where every check passes.
func (e *Engine) file(n *inventory.Node, ev acceptance.Evidence) (PassedData, error) {
	ev.Time = e.Now().UTC()
	raw, err := json.Marshal(ev)
	if err != nil {
		return PassedData{}, err
	}
	digest, err := e.Archive.Put(raw)
	if err != nil {
		return PassedData{}, fmt.Errorf("file evidence: %w", err)
	}
	proof := State(ev.State)
	st, _ := StageOf(proof)
	data := PassedData{Proof: proof, Evidence: digest, Facets: only(e.Want.Facets(n), st.Facets)}
	if ev.Verdict() != acceptance.Pass {
		return data, &Refused{Reason: failures(ev.Checks)}
	}
	return data, nil
}

// CheckSerial names the check that reads the machine's serial over its BMC.
const CheckSerial = "bmc.serial"

// opStatus is the operation of a power state that was read only.
const opStatus = "status"

// identify reads who answers at the BMC's address. Its place among the BMC
// conversations was taken before its deadline began: others' silence is not its.
func (e *Engine) identify(ctx context.Context, n *inventory.Node) (PassedData, error) {
	if n.BMC == nil {
		return PassedData{}, &Refused{Reason: fmt.Sprintf("no bmc block is declared for it (%s)", where(n.Range))}
	}
	id, err := e.Baseboard.Identity(ctx, n)
	if err != nil {
		return PassedData{}, err
	}
	power, err := e.Baseboard.Power(ctx, n)
	if err != nil {
		return PassedData{}, err
	}
	if err := e.recordOne(ctx, n.Name, EventPowered, PoweredData{Op: opStatus, Power: power, Detour: id.Detour}); err != nil {
		return PassedData{}, err
	}
	src := where(n.BMC.Range)
	checks := []acceptance.Check{{Name: "bmc.credential", Verdict: acceptance.Pass, Part: "BMC " + n.BMC.Address.String(),
		Reading: "accepted; " + strings.TrimSpace(strings.Join([]string{id.Manufacturer, id.Product, "firmware", orNone(id.Firmware)}, " ")), Threshold: "one login", Source: src}}
	if id.Detour != "" {
		checks[0].Reading += "; " + id.Detour
	}
	serial := acceptance.Check{Name: CheckSerial, Verdict: acceptance.NotApplicable, Part: "BMC " + n.BMC.Address.String(),
		Reading: orNone(id.Serial), Threshold: orNone(n.Serial), Source: where(n.Range)}
	switch {
	case n.Serial == "" || id.Serial == "":
		// Many BMCs carry no product serial; the agent reads it in-band later.
	case id.Serial == n.Serial:
		serial.Verdict = acceptance.Pass
	default:
		serial.Verdict = acceptance.Fail
		serial.Part += ": this address belongs to another machine, or the FRU was not rewritten after a board swap"
	}
	return e.conclude(n, Reachable, append(checks, serial))
}

// inspect has the agent look, and holds what it found against the inventory.
func (e *Engine) inspect(ctx context.Context, n *inventory.Node, act Action) (PassedData, error) {
	res, err := e.ask(ctx, n, act, api.JobInspect)
	if err != nil {
		return PassedData{}, err
	}
	if res.Inspection == nil {
		return PassedData{}, errors.New("the agent sent no inspection")
	}
	data, err := e.conclude(n, Matched, Match(n, res.Inspection))
	data.Adapters = adaptersOf(n, res.Inspection)
	return data, err
}

// check has the agent in the running image judge the node's health.
func (e *Engine) check(ctx context.Context, n *inventory.Node, act Action) (PassedData, error) {
	res, err := e.ask(ctx, n, act, api.JobCheck)
	if err != nil {
		return PassedData{}, err
	}
	var checks []acceptance.Check
	if boot := e.node(n.Name).Boot; n.Image != nil && boot != nil && boot.Home != nil {
		// The boot that was checked may be a later one than the one that proved
		// the image.
		checks = imageChecks(n, e.Images[n.Image.Name], boot)
	}
	for _, c := range res.Checks {
		checks = append(checks, acceptance.Check{Name: c.Name, Verdict: acceptance.Verdict(c.Verdict), Reading: c.Reading,
			Threshold: c.Threshold, Source: c.Source, Part: c.Part})
	}
	return e.concludeChecks(n, slices.Concat(checks, e.cabling.unchecked(n), unmeasured(n, res.Checks)), e.checkFabric(ctx, n))
}

// jobID is that of a job for the agent of the current boot: the same however
// often a restarted controller asks for it, and another in every bring-up, for an
// agent answers an ID that it knows from memory, and the same boot may have been
// asked before a part was mended or a cable pulled.
func (e *Engine) jobID(node string, act Action, what string) string {
	known := e.node(node)
	var began time.Time
	if len(known.History) > 0 {
		began = known.History[0].At
	}
	return fmt.Sprintf("%s-%s-%x-%d", known.Boot.ID, what, began.UnixNano(), act.Attempt)
}

// ask gives the agent of the current boot a job and waits for its result.
func (e *Engine) ask(ctx context.Context, n *inventory.Node, act Action, kind string) (api.Result, error) {
	known := e.node(n.Name)
	boot := known.Boot
	if boot == nil || boot.Home == nil {
		return api.Result{}, errors.New("no agent has called home")
	}
	job := api.Job{ID: e.jobID(n.Name, act, kind), Kind: kind}
	if kind == api.JobCheck {
		job.GPUs = declaredGPUs(n)
	}
	res, err := e.Agents.Do(ctx, n.Name, boot.ID, job)
	if err != nil {
		return res, fmt.Errorf("%s: %w; %s", kind, err, e.lastWord(n.Name))
	}
	if res.Error != "" {
		return res, fmt.Errorf("%s on the node: %s", kind, res.Error)
	}
	return res, nil
}

// declaredGPUs are those that a node's check reads, nil where none are declared.
func declaredGPUs(n *inventory.Node) *api.GPUs {
	if n.Hardware == nil || n.Hardware.GPU == nil {
		return nil
	}
	g := n.Hardware.GPU
	return &api.GPUs{Count: g.Count, PCIID: strings.ToLower(g.PCIID), Model: g.Model, Memory: int64(g.Memory.Bytes), NVLinks: g.NVLinks, Source: where(g.Range)}
}

func (e *Engine) lastWord(node string) string {
	at, ok := e.Agents.Seen(node)
	if !ok {
		return "its agent has not spoken"
	}
	return fmt.Sprintf("its agent last spoke %s ago", e.Now().Sub(at).Round(time.Second))
}

// sign makes the acceptance record of the proofs in hand.
func (e *Engine) sign(n *inventory.Node) (PassedData, error) {
	known := e.node(n.Name)
	rec := acceptance.Record{Node: n.Name, Serial: n.Serial, Cluster: e.Want.Cluster.Name, Inventory: e.Want.Cluster.Digest,
		Lab: e.Lab, Made: e.Now().UTC()}
	if n.Image != nil {
		rec.Image = e.Images[n.Image.Name].Digest
	}
	for _, st := range Chain[1 : len(Chain)-1] {
		proof, ok := known.Proofs[st.State]
		if !ok {
			return PassedData{}, &Refused{Reason: fmt.Sprintf("no proof of %s", st.State)}
		}
		raw, err := e.Archive.Get(proof.Evidence)
		if err != nil {
			return PassedData{}, &Refused{Reason: fmt.Sprintf("evidence for %s: %v", st.State, err)}
		}
		var ev acceptance.Evidence
		if err := json.Unmarshal(raw, &ev); err != nil {
			return PassedData{}, &Refused{Reason: fmt.Sprintf("evidence for %s (%s): %v", st.State, proof.Evidence, err)}
		}
		rec.States = append(rec.States, acceptance.StateProof{State: string(st.State), Entered: proof.At, Evidence: proof.Evidence, Proof: ev})
	}
	signed, err := e.Signer(rec)
	if err != nil {
		return PassedData{}, &Refused{Reason: err.Error()}
	}
	digest, err := e.Archive.Put(signed)
	if err != nil {
		return PassedData{}, fmt.Errorf("file record: %w", err)
	}
	return PassedData{Proof: Ready, Evidence: digest}, nil
}

// bmc bounds the conversations with BMCs that are under way at once.
func (e *Engine) bmc(ctx context.Context, talk func() error) error {
	select {
	case e.bmcs <- struct{}{}:
		defer func() { <-e.bmcs }()
		if err := talk(); err != nil {
			return obstacle{err}
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
