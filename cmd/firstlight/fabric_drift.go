package main

import (
	"cmp"
	"context"
	"time"

	"firstlight/fabric"
	"firstlight/provision"
)

// fabricDrift reads the fabric once where nodes are validated on it, and adds to
// them what it finds now. It returns why the fabric was not read; "" where it was,
// or where no node rests on it. The reading is not kept.
func (a *app) fabricDrift(ctx context.Context, s *site, known provision.Known, rows []driftNode) (unread string) {
	any := false
	for _, r := range rows {
		n := s.Cluster.Node(r.Name)
		_, validated := known.Node(r.Name).Proofs[provision.Validated]
		any = any || n != nil && validated && provision.FabricWindow(n) > 0
	}
	if !any {
		return ""
	}
	reader, err := a.newFabricReader(s, nil)
	if err != nil {
		return err.Error()
	}
	if reader == nil {
		return ""
	}
	from := reader.from
	from.counters, from.quiet, from.deadline = false, false, 2*time.Minute
	read, err := a.readFabric(ctx, from)
	if err != nil {
		return err.Error()
	}
	what := knownOf(s.Cluster, known)
	read.Describe(what.Learned)
	j := reader.declared.Judge(read.Observed, what)
	if read.err != nil {
		unread = "in part: " + read.err.Error()
	}
	for i := range rows {
		rows[i].addFabric(j, known.Node(rows[i].Name))
	}
	return unread
}

// addFabric adds the findings that concern a validated node.
func (r *driftNode) addFabric(j *fabric.Judged, k provision.Node) {
	if _, validated := k.Proofs[provision.Validated]; !validated {
		return
	}
	for i, f := range j.Findings {
		for _, n := range j.Nodes[i] {
			if n == r.Name {
				r.Drift = append(r.Drift, driftItem{What: "fabric", Known: "as declared", Found: string(f.Class) + ", " + f.Message + ": " + cmp.Or(f.Action, "look at it"), In: driftFabric, At: f.DeclaredAt})
			}
		}
	}
}
