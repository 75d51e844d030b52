package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firstlight/inventory"
	"firstlight/provision"
)

// TestReadable: before apply begins, the sources of the nodes that change are
// read, each once, and of no other node.
func TestReadable(t *testing.T) {
	dir := t.TempDir()
	sh := func(name, script string) *inventory.Credential {
		return &inventory.Credential{Name: name, PasswordCommand: []string{"sh", "-c", "echo " + name + " >> log; " + script}}
	}
	works, fails, idle := sh("works", "echo pw"), sh("fails", "echo sealed >&2; exit 1"), sh("idle", "exit 1")
	unset := &inventory.Credential{Name: "unset"}
	c := &inventory.Cluster{Dir: dir}
	var p provision.Plan
	for i, of := range []struct {
		credential *inventory.Credential
		action     string
	}{
		{works, "bring-up"}, {works, "bring-up"}, {fails, "change"}, {fails, "bring-up"}, {unset, "bring-up"},
		{idle, provision.ActionNone}, {idle, provision.ActionHeld}, {nil, "bring-up"},
	} {
		name := string(rune('a' + i))
		c.Nodes = append(c.Nodes, &inventory.Node{Name: name, BMC: &inventory.BMC{Credential: of.credential}})
		p.Nodes = append(p.Nodes, provision.PlanStep{Name: name, Action: of.action})
	}
	known, err := (&site{Cluster: c}).credentials()
	if err != nil {
		t.Fatal(err)
	}
	err = known.readable(p)
	if err == nil || strings.Count(err.Error(), "it says: sealed") != 1 || strings.Contains(err.Error(), "unset") {
		t.Errorf("readable: %v; want the one that fails, once", err)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "log")); string(log) != "works\nfails\n" {
		t.Errorf("ran %q, %v; want each source of a node that changes, once", log, err)
	}
}
