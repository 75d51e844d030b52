package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/acceptance"
)

// Where the other side of a drift is found.
const (
	driftBMC       = "bmc"       // read just now
	driftInventory = "inventory" // declared
	driftFabric    = "fabric"    // read just now
)

// driftItem is one thing that is not as it is known.
type driftItem struct {
	What  string `json:"what"`  // "power", "node.serial", "bmc", or a declared value
	Known string `json:"known"` // by the journal
	Found string `json:"found"` // now
	In    string `json:"in"`    // bmc, inventory or fabric
	At    string `json:"at,omitempty"`
}

// String is the line of a report.
func (d driftItem) String() string {
	if d.In == driftInventory {
		s := fmt.Sprintf("%s: proven with %s, declared %s", d.What, orNone(d.Known), orNone(d.Found))
		if d.At != "" {
			s += " (" + d.At + ")"
		}
		return s
	}
	s := fmt.Sprintf("%s: known %s, found %s", d.What, orNone(d.Known), orNone(d.Found))
	if d.At != "" {
		s += " (" + d.At + ")"
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// driftNode is one node of the report.
type driftNode struct {
	Name    string      `json:"name"`
	Rack    string      `json:"rack"`
	State   string      `json:"state"`
	Read    bool        `json:"read"`               // its BMC was asked
	NotRead string      `json:"not_read,omitempty"` // why not
	Drift   []driftItem `json:"drift"`
}

// drift reports what is no longer as it is known. It only reads: the journal is
// not written and no power action is sent.
func (a *app) drift(ctx context.Context, dir, out string, detailed bool) error {
	if out != "" || len(a.replace) > 0 {
		return errors.New("-refresh-only makes no plan: leave -out and -replace out")
	}
	s, err := a.load(dir)
	if err != nil {
		return err
	}
	nodes, err := a.chosenNodes(s)
	if err != nil {
		return err
	}
	if !a.entered {
		if err := a.labIsUp(ctx, s); err != nil {
			return err
		}
	}
	if err := a.enterLab(s); err != nil {
		return err
	}
	known, err := s.known(ctx)
	if err != nil {
		return err
	}
	rows, err := a.findDrift(ctx, s, known, nodes)
	if err != nil {
		return err
	}
	if len(a.targets)+len(a.exclude) == 0 {
		rows = append(rows, undeclared(s.Cluster, known)...)
	}
	unread := a.fabricDrift(ctx, s, known, rows)
	drifted, err := a.printDrift(s, known, rows, unread)
	if err == nil && detailed && drifted > 0 {
		return &exit{code: 2}
	}
	return err
}

// findDrift compares what is declared, and what the BMCs say, with what is known.
func (a *app) findDrift(ctx context.Context, s *site, known provision.Known, nodes []*inventory.Node) ([]driftNode, error) {
	want, err := s.want(s.keyIfAny)
	if err != nil {
		return nil, err
	}
	declared := provision.Drift(want, known, nodes)
	rows := make([]driftNode, len(nodes))
	var ask []int
	for i, n := range nodes {
		k := known.Node(n.Name)
		rows[i] = driftNode{Name: n.Name, State: string(k.State), NotRead: leaveUnread(n, k), Drift: []driftItem{}}
		if n.Rack != nil {
			rows[i].Rack = n.Rack.Name
		}
		for _, c := range declared[n.Name] {
			rows[i].Drift = append(rows[i].Drift, driftItem{What: c.What, Known: c.Was, Found: c.Is, In: driftInventory, At: c.At})
		}
		if rows[i].NotRead == "" {
			ask = append(ask, i)
		}
	}
	return rows, a.askBMCs(ctx, s, known, nodes, rows, ask)
}

// leaveUnread says why a node's BMC is not asked; "" when it is.
func leaveUnread(n *inventory.Node, k provision.Node) string {
	switch {
	case k.State == provision.Maintenance:
		return "in maintenance"
	case k.State == provision.Quarantined && k.Refused != nil && k.Refused.Person:
		return "its BMC refused the login, and asking again may lock the account"
	case len(k.Proofs) == 0:
		return "nothing of it is proven"
	case n.BMC == nil:
		return "no bmc is declared"
	}
	return ""
}

// askBMCs reads BMCs, some at a time, each within the deadline of an
// identification.
func (a *app) askBMCs(ctx context.Context, s *site, known provision.Known, nodes []*inventory.Node, rows []driftNode, ask []int) error {
	var done, bad atomic.Int64
	boards, err := s.newBoards(nil)
	if err != nil {
		return err
	}
	defer boards.Close()
	stop := a.showAsking(int64(len(ask)), &done, &bad)
	slots := make(chan struct{}, max(s.Cluster.Settings.BMCConcurrency, 1))
	var wg sync.WaitGroup
	for _, i := range ask {
		wg.Go(func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return
			}
			found := s.askBMC(ctx, boards, nodes[i], known.Node(nodes[i].Name))
			rows[i].Read = true
			rows[i].Drift = slices.Insert(rows[i].Drift, 0, found...)
			done.Add(1)
			if len(found) > 0 {
				bad.Add(1)
			}
		})
	}
	wg.Wait()
	stop()
	return ctx.Err()
}

// askBMC reads identity and power in one login.
func (s *site) askBMC(ctx context.Context, boards *boards, n *inventory.Node, k provision.Node) []driftItem {
	ctx, cancel := context.WithTimeout(ctx, s.identifyWithin())
	defer cancel()
	b, err := boards.of(n)
	var id provision.BMCIdentity
	var power string
	if err == nil {
		defer boards.leave(n)
		id, power, err = b.Look(ctx)
	}
	what, known := "bmc", "answering"
	switch {
	case refusedLogin(err):
		what, known = "bmc.credential", "accepted"
	case otherCertificate(err):
		what, known = "bmc.certificate", "as pinned"
	}
	if err != nil {
		return []driftItem{{What: what, Known: known, Found: err.Error(), In: driftBMC}}
	}
	var drift []driftItem
	if id.Detour != "" && k.Detour == "" {
		drift = append(drift, driftItem{What: "bmc", Known: "answering by " + n.BMC.Protocol, Found: id.Detour, In: driftBMC})
	}
	if serial := s.knownSerial(k); serial != "" && serial != id.Serial {
		drift = append(drift, driftItem{What: "node.serial", Known: serial, Found: id.Serial, In: driftBMC})
	}
	// While a step is under way the power is what that step makes it.
	if k.Power != "" && k.Power != power && !k.Active {
		drift = append(drift, driftItem{What: "power", Known: k.Power, Found: power, In: driftBMC})
	}
	return drift
}

func (s *site) identifyWithin() time.Duration {
	if d := s.Cluster.Settings.Deadlines[string(provision.Reachable)]; d > 0 {
		return d
	}
	st, _ := provision.StageOf(provision.Reachable)
	return st.Deadline
}

// knownSerial is what the BMC called itself when the node was identified; where
// that evidence is gone, the serial that was declared then; "" when neither
// says.
func (s *site) knownSerial(k provision.Node) string {
	proof := k.Proofs[provision.Reachable]
	raw, err := s.evidence().Get(proof.Evidence)
	var ev acceptance.Evidence
	if err != nil || json.Unmarshal(raw, &ev) != nil {
		return proof.Facets["node.serial"]
	}
	for _, c := range ev.Checks {
		if c.Name == provision.CheckSerial && c.Reading != "none" {
			return c.Reading
		}
	}
	return ""
}

// showAsking shows on a terminal how far the reading is.
func (a *app) showAsking(total int64, done, bad *atomic.Int64) (stop func()) {
	if total == 0 || a.json || !drawable(a.stderr) {
		return func() {}
	}
	bars := mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(30), mpb.WithRefreshRate(200*time.Millisecond))
	bar := bars.AddBar(total, mpb.BarRemoveOnComplete(), mpb.PrependDecorators(decor.Name("asking BMCs ")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			return fmt.Sprintf(" %d/%d, %d drifted", done.Load(), total, bad.Load())
		})))
	ended := make(chan struct{})
	var drawn sync.WaitGroup
	drawn.Go(func() { // ends with stop
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				bar.SetCurrent(done.Load())
			case <-ended:
				return
			}
		}
	})
	return func() {
		close(ended)
		drawn.Wait()
		bar.Abort(true)
		bars.Wait()
	}
}
