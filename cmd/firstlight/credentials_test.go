package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/bmc/secrets"
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

// TestLabPasswords: a lab's BMCs want what the inventory declares, from wherever
// it comes, or what bmc rotate has set, as real ones do after a power cut.
func TestLabPasswords(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, withoutState{os.DirFS("../../examples/two-node-lab")}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "lab.hcl")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(raw), `password = "firstlight-lab"`, `password_command = ["echo", "by-command"]`, 1)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s := loadSite(t, dir)
	if _, err := s.mkdir(); err != nil {
		t.Fatal(err)
	}
	store, err := secrets.Open(s.path(passwordsFile))
	if err != nil {
		t.Fatal(err)
	}
	n := s.Cluster.Nodes[0]
	e := secrets.Entry{Account: accountOf(n, n.BMC), Password: "by-rotate"}
	if err := store.Put(e); err != nil {
		t.Fatal(err)
	}
	lab, err := (&app{stderr: io.Discard}).labOf(s)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := lab.Machines[0].BMC.Password, lab.Machines[1].BMC.Password; a != "by-rotate" || b != "by-command" {
		t.Errorf("the BMCs want %q and %q; want what was set, and what is declared", a, b)
	}
	e.Next, e.Sent = "unknown", true
	if err := store.Put(e); err != nil {
		t.Fatal(err)
	}
	if _, err := (&app{stderr: io.Discard}).labOf(s); err == nil || !strings.Contains(err.Error(), "was interrupted") {
		t.Errorf("labOf in the middle of a change: %v; want it refused", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
