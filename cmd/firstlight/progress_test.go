package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"firstlight/inventory"
	"firstlight/provision"
)

// TestWaitsForPower: a node that is not switched on yet is told with what it waits
// for, wherever somebody asks.
func TestWaitsForPower(t *testing.T) {
	const waits = "waits for power: rack a01 30.6kW of 31kW starting"
	data, err := json.Marshal(provision.WaitsData{For: "rack a01 30.6kW of 31kW starting"})
	if err != nil {
		t.Fatal(err)
	}
	ev := provision.Event{Time: time.Now(), Node: "n1", Kind: provision.EventWaits, Data: data}
	n := provision.NewNode("n1")
	n.Active, n.State, n.Since = true, provision.Reachable, time.Now()
	n.Proofs[provision.Reachable] = provision.Proof{Evidence: "sha256:e"}
	n, _, err = provision.Next(n, ev, time.Now())
	if err != nil {
		t.Fatal(err)
	}

	known := provision.NewKnown()
	known.Nodes["n1"] = n
	rack := &inventory.Rack{Name: "a01"}
	rows := statusRows([]*inventory.Node{{Name: "n1", Rack: rack}}, known, nil)
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs}
	a.printStatus(rows, nil, nil)
	if !strings.Contains(out.String(), waits+"\n") || rows[0].Reason != waits {
		t.Errorf("status: reason %q, text\n%s", rows[0].Reason, out.String())
	}
	n.Reason = "no agent called home; trying again (attempt 1 of 3 failed)"
	if got, want := n.Why(), waits+"; before: "+n.Reason; got != want {
		t.Errorf("Why = %q; want %q", got, want)
	}
	n.Reason = ""

	plan := provision.Plan{Nodes: []provision.PlanStep{{Name: "n1", Rack: "a01", Action: provision.ActionBringUp}}}
	p := a.newProgress(nil, plan)
	p.update(provision.Update{Event: ev, Node: n})
	p.close()
	if !strings.Contains(errs.String(), "s  n1: "+waits+"\n") {
		t.Errorf("progress: %q", errs.String())
	}
	if got := p.summary(p.racks["a01"]); !strings.Contains(got, "0/1 ready, 1 waits for power; n1 reachable, "+waits) {
		t.Errorf("bar: %q", got)
	}
	out.Reset()
	a.json = true
	p = a.newProgress(nil, plan)
	p.update(provision.Update{Event: ev, Node: n})
	p.close()
	if !strings.Contains(out.String(), `"reason":"`+waits+`"`) {
		t.Errorf("apply -json: %s", out.String())
	}
}
