package provision

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite generated files")

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// event makes an event for a test.
func event(t testing.TB, serial int64, kind string, data any) Event {
	t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return Event{Serial: serial, Time: epoch.Add(time.Duration(serial) * time.Second), Node: "n1", Kind: kind, Data: raw}
}

// inState returns a node that reached a state by events.
func inState(t testing.TB, s State) Node {
	t.Helper()
	n := NewNode("n1")
	serial := int64(0)
	do := func(kind string, data any) {
		serial++
		var err error
		if n, _, err = Next(n, event(t, serial, kind, data), epoch); err != nil {
			t.Fatalf("to %s: %v", s, err)
		}
	}
	do(EventStart, StartData{Attempts: 3, Backoff: 10})
	switch s {
	case Failed:
		do(EventRefused, RefusedData{Proof: Reachable, Reason: "broken"})
	case Quarantined:
		do(EventRefused, RefusedData{Proof: Reachable, Reason: "locked out", Person: true})
	case Maintenance:
		do(EventMaintain, ReasonData{Reason: "fan swap"})
	default:
		for _, st := range Chain[1 : position(s)+1] {
			do(EventPassed, PassedData{Proof: st.State, Evidence: "sha256:" + string(st.State)})
		}
	}
	if n.State != s {
		t.Fatalf("node is %s; want %s", n.State, s)
	}
	return n
}

// sample is plausible data for an event about a node in a state.
func sample(n Node, kind string) any {
	want := n.wanted()
	switch kind {
	case EventStart:
		return StartData{Attempts: 3}
	case EventAttempt:
		return AttemptData{Proof: want, N: 1}
	case EventRebooted:
		return AttemptData{Boot: &BootID{ID: "again"}}
	case EventWaits:
		return WaitsData{For: "rack a01 30.6kW of 31kW starting"}
	case EventPowered:
		return PoweredData{Op: "on", Power: "on"}
	case EventMeasured:
		return MeasuredData{Watts: 4000, Nameplate: 10200}
	case EventPassed:
		return PassedData{Proof: want, Evidence: "sha256:e"}
	case EventMissed:
		return MissedData{Proof: want, Reason: "silence"}
	case EventRefused:
		return RefusedData{Proof: want, Reason: "wrong part"}
	case EventHello:
		return HelloData{BootID: "b"}
	case EventSeen:
		return SeenData{What: "dhcp-ack"}
	}
	return ReasonData{Reason: "a person said so"}
}

// TestEveryStateAndEvent walks all pairs and holds the outcome against one
// table of state and asked work.
func TestEveryStateAndEvent(t *testing.T) {
	var got strings.Builder
	for _, s := range States() {
		for _, kind := range NodeEvents() {
			before := inState(t, s)
			frozen := fmt.Sprintf("%+v", before)
			after, acts, err := Next(before, event(t, 100, kind, sample(before, kind)), epoch)
			if err != nil {
				t.Errorf("Next(%s, %s) = %v", s, kind, err)
				continue
			}
			if fmt.Sprintf("%+v", before) != frozen {
				t.Errorf("Next(%s, %s) changed its argument", s, kind)
			}
			var do []string
			for _, a := range acts {
				do = append(do, fmt.Sprintf("%s#%d", a.Do, a.Attempt))
			}
			fmt.Fprintf(&got, "%-12s %-11s -> %-12s %s\n", s, kind, after.State, strings.Join(do, " "))
		}
	}
	golden(t, "testdata/lifecycle.golden", strings.ReplaceAll(got.String(), " \n", "\n"))
}

// golden compares with a file, or rewrites it under -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s is not what the code gives (-file +code); go generate ./provision rewrites it:\n%s", file, d)
	}
}

func TestRulesNameAPairOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if !slices.Contains(NodeEvents(), r.Event) {
			t.Errorf("rule for unknown event %s", r.Event)
		}
		for _, c := range r.In {
			key := r.Event + " in " + string(c)
			if seen[key] {
				t.Errorf("two rules for %s", key)
			}
			seen[key] = true
		}
	}
}

func TestParseState(t *testing.T) {
	for _, s := range States() {
		if got, err := ParseState(string(s)); got != s || err != nil {
			t.Errorf("ParseState(%s) = %s, %v", s, got, err)
		}
	}
	if _, err := ParseState("redy"); err == nil || !strings.Contains(err.Error(), "ready") {
		t.Errorf("ParseState(redy) = %v; want an error that lists the states", err)
	}
}

func TestRetriesAreBoundedAndPausesDouble(t *testing.T) {
	n := inState(t, Reachable)
	var pauses []time.Duration
	for i := 1; ; i++ {
		n, _, _ = Next(n, event(t, 10, EventAttempt, AttemptData{Proof: Enrolled, N: i}), epoch)
		var acts []Action
		n, acts, _ = Next(n, event(t, 11, EventMissed, MissedData{Proof: Enrolled, Reason: "no DHCP"}), epoch)
		if len(acts) == 0 {
			break
		}
		pauses = append(pauses, acts[0].NotBefore.Sub(epoch))
		if i > 10 {
			t.Fatal("retries have no bound")
		}
	}
	if d := cmp.Diff([]time.Duration{10 * time.Second, 20 * time.Second}, pauses); d != "" {
		t.Errorf("pauses (-want +got):\n%s", d)
	}
	if want := "no DHCP (attempt 3 of 3)"; n.State != Failed || n.Reason != want {
		t.Errorf("after the last attempt: %s; want failed (%s)", n, want)
	}
}

// TestLostAgentFallsBack: an inspection nobody answered is not repeated into
// the void; the node is booted again.
func TestLostAgentFallsBack(t *testing.T) {
	n := inState(t, Enrolled)
	n, _, _ = Next(n, event(t, 10, EventAttempt, AttemptData{Proof: Matched, N: 1}), epoch)
	n, acts, err := Next(n, event(t, 11, EventMissed, MissedData{Proof: Matched, Reason: "agent silent"}), epoch)
	if err != nil || n.State != Reachable || len(acts) != 1 || acts[0].Do != Boot {
		t.Errorf("after a lost agent: %s, %v, %v; want reachable and a boot", n, acts, err)
	}
}

// TestNeverReadyWithoutEvidence drives random events through Next and holds
// that ready means an unbroken chain of proofs, each with evidence.
func TestNeverReadyWithoutEvidence(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := NewNode("n1")
		for i := range int64(200) {
			kind := NodeEvents()[r.IntN(len(NodeEvents()))]
			data := sample(n, kind)
			if p, ok := data.(PassedData); ok && r.IntN(3) == 0 {
				p.Proof = States()[r.IntN(len(States()))]
				if r.IntN(2) == 0 {
					p.Evidence = ""
				}
				data = p
			}
			if s, ok := data.(StartData); ok && r.IntN(2) == 0 {
				s.Redo = []State{Chain[1+r.IntN(len(Chain)-1)].State}
				data = s
			}
			next, _, err := Next(n, event(t, i+1, kind, data), epoch)
			if err != nil {
				continue // refused: the node stays as it was
			}
			n = next
			if position(n.State) < 0 {
				continue
			}
			for _, st := range Chain[1 : position(n.State)+1] {
				if p, ok := n.Proofs[st.State]; !ok || p.Evidence == "" {
					t.Fatalf("seed %d event %d (%s): node is %s without proof of %s", seed, i, kind, n.State, st.State)
				}
			}
		}
	}
}

// TestLifecycleDocument holds docs/lifecycle.md against the table.
func TestLifecycleDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Lifecycle\n\nGenerated from `provision/lifecycle.go` and `provision/next.go` by `go generate ./provision`. Do not edit.\n\n")
	b.WriteString("A node moves up the chain by proofs alone. A proof is kept with the declared values it rests on; when one of them changes, the proof falls, and with it those named in the last column.\n\n")
	b.WriteString("| state | it means | proof to enter | sought by | deadline of one attempt | when nobody answers | rests on | falls with it |\n|---|---|---|---|---|---|---|---|\n")
	for _, s := range Chain {
		deadline, fall := "–", "–"
		if s.Activity != "" {
			deadline, fall = s.Deadline.String(), "the same again"
		}
		if s.FallBack != "" {
			fall = "back to seek `" + string(s.FallBack) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s |\n", s.State, s.Means, s.Proof, orDash(string(s.Activity)), deadline, fall,
			orDash(strings.Join(s.Facets, " ")), orDash(joinStates(s.Redo)))
	}
	b.WriteString("\nBeside the chain:\n\n| state | it means |\n|---|---|\n")
	for _, s := range Beside {
		fmt.Fprintf(&b, "| `%s` | %s |\n", s.State, s.Means)
	}
	b.WriteString("\nDeadlines are `controller { deadlines = { enrolled = \"30m\" } }` in the inventory, by the state to be entered; attempts and the pause between them are `attempts` and `backoff`. To validate a node with adapters may take the `window` of its `acceptance` besides, in which error counters are watched.\n")
	b.WriteString("\n## Events\n\nWhat an event does depends on the state it finds. A pair that is not in this table is recorded and changes nothing. `working` is `declared` to `burned-in`; `held` is `quarantined`; `untouched` is `maintenance`.\n\n| event | in | does |\n|---|---|---|\n")
	for _, r := range Rules() {
		var in []string
		for _, c := range r.In {
			in = append(in, string(c))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Event, strings.Join(in, ", "), r.Does)
	}
	golden(t, "../docs/lifecycle.md", b.String())
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
