package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"firstlight/inventory"
	"firstlight/provision/bmc"
)

// powerGroup is what nodes have in common: their power, or why it is not known.
type powerGroup struct {
	kind   string // "on", "off", "no answer", "login refused", "not done", "outcome unknown", "not reached" or "failed"
	reason string // "timeout 3s"; "" for power
}

// group says where a row belongs.
func (r *powerRow) group() powerGroup {
	var silent *bmc.NoAnswerError
	var auth *bmc.AuthError
	var back *bmc.ReadBackError
	var cut *interruptedError
	switch {
	case r.err == nil:
		return powerGroup{kind: r.Power}
	case errors.As(r.err, &cut):
		if cut.sent {
			return powerGroup{"outcome unknown", "interrupted"}
		}
		return powerGroup{"not reached", "interrupted"}
	case errors.As(r.err, &silent):
		g := powerGroup{"no answer", "timeout " + brief(silent.After)}
		if silent.MayBeDone {
			g.kind = "outcome unknown"
		}
		switch {
		case silent.PortClosed:
			g.reason = "port closed"
		case silent.Broken != "":
			g.reason = "connection broken"
		}
		return g
	case errors.As(r.err, &auth):
		return powerGroup{"login refused", auth.Reason}
	case errors.As(r.err, &back):
		return powerGroup{"not done", fmt.Sprintf("%s is %s after %s", back.What, back.Got, brief(back.After))}
	}
	return powerGroup{"failed", r.Error}
}

// brief is a time without digits that nobody needs.
func brief(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// printPower prints the nodes in groups, on one line, and then in full the first
// error of each kind.
func (a *app) printPower(rows []powerRow) error {
	groups := map[powerGroup][]string{}
	var failed []powerGroup // in the order of rows
	first := map[powerGroup]*powerRow{}
	for i := range rows {
		r := &rows[i]
		g := r.group()
		groups[g] = append(groups[g], r.Name)
		if r.err != nil && first[g] == nil {
			first[g], failed = r, append(failed, g)
		}
	}
	if a.json {
		if err := printJSON(a.stdout, map[string]any{"nodes": rows}); err != nil {
			return err
		}
	} else {
		if len(groups) > 0 {
			fmt.Fprintln(a.stdout, powerLine(groups))
		}
		for _, r := range rows {
			if r.Detour != "" {
				fmt.Fprintf(a.stderr, "%s: %s\n", r.Name, r.Detour)
			}
		}
		for _, g := range failed {
			more := ""
			if n := len(groups[g]) - 1; n > 0 {
				more = fmt.Sprintf(" (and %d more)", n)
			}
			text := first[g].Error
			if !bmc.NamesBMC(first[g].err) {
				text = first[g].Name + ": " + text
			}
			fmt.Fprintf(a.stderr, "%s%s\n", text, more)
		}
	}
	if slices.ContainsFunc(failed, func(g powerGroup) bool { return g.reason == "interrupted" }) {
		return &exit{code: 130}
	}
	if len(failed) > 0 {
		return &exit{code: 1}
	}
	return nil
}

// powerLine is as "on: hnode[001-764]; off: hnode765; no answer: hnode766 (timeout 3s)".
func powerLine(groups map[powerGroup][]string) string {
	order := []string{"on", "off", "not done", "outcome unknown", "no answer", "login refused", "not reached", "failed"}
	sorted := slices.SortedFunc(maps.Keys(groups), func(a, b powerGroup) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.kind), slices.Index(order, b.kind)), cmp.Compare(a.reason, b.reason))
	})
	parts := make([]string, len(sorted))
	for i, g := range sorted {
		parts[i] = fmt.Sprintf("%s: %s", g.kind, inventory.Fold(groups[g]))
		if g.reason != "" && g.kind != "failed" { // its text follows
			parts[i] += " (" + g.reason + ")"
		}
	}
	return strings.Join(parts, "; ")
}
