package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"firstlight/fabric"
	"firstlight/inventory"
	"firstlight/provision"
)

// fabricReader reads the fabrics of an inventory for the engine. One goroutine
// uses it.
type fabricReader struct {
	app      *app
	site     *site
	fabrics  []*inventory.Fabric
	declared *fabric.Declared
	limits   fabric.Limits
	from     fabricSource
	history  *fabric.History
	log      *slog.Logger

	closed  int // times in a row that no port could be opened
	picture *fabric.Picture
	drawn   time.Time
}

// openTries is how often ports that cannot be opened are tried before a node that
// waits is told so: a cable may be on its way, but nobody waits for an adapter
// that this machine does not have.
const openTries = 3

// drawnEvery is how often the picture of the fabric is written while nodes wait.
const drawnEvery = 30 * time.Second

var _ provision.Fabric = (*fabricReader)(nil)

// newFabricReader makes the reader of a site; nil where no node has an adapter.
func (a *app) newFabricReader(s *site, log *slog.Logger) (*fabricReader, error) {
	any := false
	for _, n := range s.Cluster.Nodes {
		any = any || provision.FabricWindow(n) > 0
	}
	if !any {
		return nil, nil
	}
	r := &fabricReader{app: a, site: s, limits: fabric.DefaultLimits(), history: fabric.NewHistory(), log: log}
	if len(s.Cluster.Fabrics) > 0 {
		var err error
		if r.fabrics, err = infinibandFabrics(s.Cluster, ""); err != nil {
			return nil, nil // all are Ethernet: the engine says what that means
		}
	}
	var err error
	if r.limits, err = limitsOf(s.Cluster, r.fabrics); err != nil {
		return nil, fmt.Errorf("%w: apply judges all links by one set of limits; leave them out, or declare the fabrics as one", err)
	}
	r.declared = fabric.Declare(s.Cluster, r.fabrics...)
	r.from, err = fabricSource{deadline: 2 * time.Minute, counters: true, quiet: true}.or(s.Cluster, r.fabrics...)
	return r, err
}

// limitsOf are the limits of some fabrics. Counters are judged by one set.
func limitsOf(c *inventory.Cluster, fabrics []*inventory.Fabric) (fabric.Limits, error) {
	if len(fabrics) == 1 {
		return fabric.LimitsOf(c, fabrics[0]), nil
	}
	for _, f := range fabrics {
		if f.Limits != nil {
			return fabric.Limits{}, fmt.Errorf("fabric %s (%s) has limits of its own, and there are others", f.Name, c.DeclaredAt(f.Range))
		}
	}
	return fabric.DefaultLimits(), nil
}

// knownOf is what the journal knows that the fabric does not say.
func knownOf(c *inventory.Cluster, known provision.Known) fabric.Known {
	out := fabric.Known{Learned: learnedGUIDs(known), Dark: map[string]bool{}}
	for _, n := range c.Nodes {
		if !known.Node(n.Name).Runs() {
			out.Dark[n.Name] = true
		}
	}
	return out
}

// Sweep implements provision.Fabric.
func (r *fabricReader) Sweep(ctx context.Context, known provision.Known, waiting map[string]time.Time) (map[string]provision.FabricVerdict, error) {
	began := time.Now()
	read, err := r.app.readFabric(ctx, r.from)
	if err != nil {
		if r.closed++; r.closed >= openTries {
			return nil, &provision.Refused{Reason: fmt.Sprintf("%v (tried %d times)", err, r.closed)}
		}
		return nil, err
	}
	r.closed = 0
	what := knownOf(r.site.Cluster, known)
	read.Describe(what.Learned)
	j := r.declared.Judge(read.Observed, what)
	// The reading counts from its beginning: no port was read before.
	r.history.Add(read.Observed, began, r.limits.Load)
	judge := &fabric.Acceptance{Judged: j, Limits: r.limits, Recent: r.recent(read, j, waiting)}
	if read.err != nil {
		judge.Part = read.err.Error()
	}
	out := make(map[string]provision.FabricVerdict, len(waiting))
	for name := range waiting {
		v := judge.Node(name, provision.FabricWindow(r.site.Cluster.Node(name)))
		out[name] = provision.FabricVerdict{Checks: v.Checks, Do: v.Do}
	}
	r.keep(read, j, what)
	return out, nil
}

// recent is what the links of the nodes that wait counted since they do.
func (r *fabricReader) recent(read *readFabric, j *fabric.Judged, waiting map[string]time.Time) map[fabric.PortID]*fabric.Recent {
	since := map[fabric.PortID]time.Time{}
	for name, at := range waiting {
		for _, p := range j.Places[name] {
			if p.Port != nil {
				since[p.Port.ID()], since[p.Port.Peer.ID()] = at, at
			}
		}
	}
	return r.history.RecentFrom(read.Observed, r.limits, func(id fabric.PortID) (time.Time, bool) {
		at, ok := since[id]
		return at, ok
	})
}

// keep leaves the reading to the verbs that tell. The picture takes longer to
// draw, and is drawn now and then.
func (r *fabricReader) keep(read *readFabric, j *fabric.Judged, known fabric.Known) {
	if err := readingOf(read, j, time.Now()).keep(r.site); err != nil {
		r.log.Warn("reading of the fabric not kept", "error", err)
	}
	p := read.pictureOf(r.site, j.Verdict, r.fabrics, r.declared, known)
	r.picture = &p
	if time.Since(r.drawn) >= drawnEvery {
		r.draw()
	}
}

// draw writes the picture of the last reading, if it is not written yet.
func (r *fabricReader) draw() {
	if r == nil || r.picture == nil {
		return
	}
	if err := keepPicture(r.site, *r.picture); err != nil {
		r.log.Warn("picture of the fabric not kept", "error", err)
	}
	r.picture, r.drawn = nil, time.Now()
}
