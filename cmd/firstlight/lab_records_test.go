package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLabThatDoesNotComeUpKeepsRecords: lab up closes the records of the
// machines before, but only once there are new ones.
func TestLabThatDoesNotComeUpKeepsRecords(t *testing.T) {
	dir := t.TempDir()
	const hcl = `cluster "keeps" {
  domain = "keeps.example"
}
lab "keeps" {}
credential "bmc" {
  username = "admin"
  password = "lab-only"
}
network "oob" {
  cidr = "10.20.0.0/24"
}
network "provision" {
  cidr = "10.10.0.0/24"
}
node "n1" {
  bmc {
    address  = "10.20.0.11"
    protocol = "ipmi"
    credential = credential.bmc
  }
  nic "boot" {
    mac     = "52:54:00:00:00:11"
    network = network.provision
  }
}
`
	if err := os.WriteFile(filepath.Join(dir, "lab.hcl"), []byte(hcl), 0o644); err != nil {
		t.Fatal(err)
	}
	do := func(want int, args ...string) string {
		var out, errs bytes.Buffer
		if got := run(t.Context(), args, strings.NewReader(""), &out, &errs); got != want {
			t.Fatalf("%s exits %d; want %d\n%s", args, got, want, &errs)
		}
		return out.String()
	}
	do(0, "quarantine", "-reason", "burnt smell", "n1", dir)
	do(1, "lab", "up", "-foreground", dir) // its networks name no interface
	if got := do(0, "status", dir); !strings.Contains(got, "burnt smell") {
		t.Errorf("status after a lab that did not come up:\n%s\nwant n1 still quarantined", got)
	}
}
