package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"firstlight/images"
	"firstlight/internal/simrack"
	"firstlight/provision"
)

func containsBytes(raw []byte, s string) bool { return bytes.Contains(raw, []byte(s)) }

// lineOf is the line of a text that begins with a prefix, or the whole text.
func lineOf(text, prefix string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return text
}

func testWrongMAC(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 2, attempts: 1, deadlines: map[string]string{"enrolled": "4s"}},
		simrack.Fault{Node: "node-1", Kind: simrack.WrongMAC})
	declared, err := net.ParseMAC(nodeMAC(1))
	r.must(err)
	actual := simrack.ActualMAC(declared).String()
	o := r.apply(1)
	wantText(t, "apply", lineOf(o.stderr, "node-1: failed: "), "no DHCP from "+nodeMAC(1), "nodes.hcl:",
		"undeclared "+actual+" asked for DHCP meanwhile: is it this node's?")
	r.wantStates(provision.Failed, provision.Ready)
	s := r.status()
	if len(s.Discovered) != 1 || s.Discovered[0].MAC != actual {
		t.Errorf("discovered = %+v; want %s alone", s.Discovered, actual)
	}
	wantText(t, "status", r.cli("status").stdout, "undeclared: "+actual+" asked for a boot", "it was not answered")
	if c := r.rack.Counters("node-1"); c.Leases != 0 || c.NetworkBoots != 1 {
		t.Errorf("node-1 had %d leases in %d network boots; want 0 in 1", c.Leases, c.NetworkBoots)
	}
}

func testOtherHardware(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 4},
		simrack.Fault{Node: "node-1", Kind: simrack.WrongSerial},
		simrack.Fault{Node: "node-2", Kind: simrack.DiskMissing},
		simrack.Fault{Node: "node-3", Kind: simrack.DIMMMissing})
	o := r.apply(1)
	wantText(t, "apply", lineOf(o.stderr, "node-1: failed: "),
		"system.serial: found SN-node-1-OTHER, declared SN-node-1 (nodes.hcl:1), look at chassis")
	wantText(t, "apply", lineOf(o.stderr, "node-2: failed: "),
		"disks.scratch: found 1 (nvme0n1), declared 2 x 7.68TB nvme (rack.hcl:", "look at disk scratch; the node has nvme0n1 nvme 7680 GB")
	wantText(t, "apply", lineOf(o.stderr, "node-3: failed: "),
		"memory.dimms: found 3, declared 4 (rack.hcl:", "look at DIMM missing or failed; 3 of 4 slots populated: DIMM 1, DIMM 2, DIMM 3",
		"memory.total: found 96GiB, declared 128GiB")
	r.wantStates(provision.Failed, provision.Failed, provision.Failed, provision.Ready)
	for i := 1; i <= 3; i++ {
		r.wantPower(i, 1, 0, 0)
	}
	for i := 1; i <= 3; i++ { // it failed on its way to matched
		wantText(t, "show", r.cli("show", nodeName(i)).stdout, "enrolled", "failed")
	}
}

// testImageDigest has the store serve other bytes than the manifest names.
func testImageDigest(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 2})
	store := images.Store{Dir: filepath.Join(r.dir, ".firstlight", "images")}
	m, err := store.Manifest("compute")
	r.must(err)
	path, err := store.Path(m.Root.Digest)
	r.must(err)
	r.must(os.WriteFile(path, []byte("rotten"), 0o644))
	rotten, err := store.Put(strings.NewReader("rotten"))
	r.must(err)
	o := r.apply(1)
	for i := 1; i <= 2; i++ {
		line := lineOf(o.stderr, nodeName(i)+": failed: ")
		wantText(t, "apply", line, "root file system digest is "+rotten.Digest+", manifest says "+m.Root.Digest)
		if strings.Contains(line, "attempt") {
			t.Errorf("it was tried again: %s", line)
		}
		r.wantPower(i, 1, 0, 1)
	}
	r.wantStates(provision.Failed, provision.Failed)
	o = r.cli("image", "verify")
	if o.code != 1 {
		t.Errorf("image verify exits %d; want 1", o.code)
	}
	wantText(t, "image verify", o.stderr, path, m.Root.Digest, rotten.Digest)
}

func testLostPackets(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 3},
		simrack.Fault{Node: "node-1", Kind: simrack.LostPackets, Share: 0.2},
		simrack.Fault{Node: "node-2", Kind: simrack.LostPackets, Share: 0.2})
	r.apply(0)
	for i := 1; i <= 3; i++ {
		r.wantPower(i, 1, 0, 1)
	}
}

func testHangAfterLoader(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 2, attempts: 1, deadlines: map[string]string{"enrolled": "4s", "provisioned": "4s"}},
		simrack.Fault{Node: "node-1", Kind: simrack.HangAfterLoader},
		simrack.Fault{Node: "node-2", Kind: simrack.HangAfterLoader, After: 1})
	o := r.apply(1)
	for i := 1; i <= 2; i++ {
		wantText(t, "apply", lineOf(o.stderr, nodeName(i)+": failed: "), "the agent did not call home in 4s; the last step seen was tftp-read",
			"look at its console; its console showed last: ", `"iPXE initialising devices..."`)
		log, err := os.ReadFile(filepath.Join(r.dir, ".firstlight", "logs", nodeName(i), "console.log"))
		r.must(err)
		wantText(t, "the console's log", string(log), "Z iPXE initialising devices...")
	}
	r.wantStates(provision.Failed, provision.Failed)
	r.wantPower(1, 1, 0, 0)
	r.wantPower(2, 1, 0, 1)
}

// testForeignClient has a DHCP client that is not ours ask from a MAC that
// nobody declared, while nodes boot.
func testForeignClient(t *testing.T) {
	client := ""
	for _, name := range []string{"udhcpc", "dhclient"} {
		if _, err := exec.LookPath(name); err == nil {
			client = name
			break
		}
	}
	if client == "" {
		t.Skip("needs udhcpc or dhclient")
	}
	r := newIdleRig(t, rackSpec{nodes: 2})
	r.start(&simrack.Rack{POST: 2 * time.Second}) // the client asks every second
	ifi, err := net.InterfaceByName("provision")  // the rack's end has a MAC of its own
	r.must(err)
	leased := filepath.Join(r.dir, "leased")
	script := filepath.Join(r.dir, "got.sh")
	writeFile(t, script, "#!/bin/sh\ncase \"$1$reason\" in *bound*|*BOUND*) touch "+leased+";; esac\n")
	r.must(os.Chmod(script, 0o755))
	cmd := exec.Command("udhcpc", "-f", "-i", "provision", "-t", "100", "-T", "1", "-A", "1", "-s", script)
	if client == "dhclient" {
		cmd = exec.Command("dhclient", "-d", "-sf", script, "-lf", filepath.Join(r.dir, "leases"), "-pf", filepath.Join(r.dir, "pid"), "provision")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r.must(cmd.Start())
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	r.apply(0)
	r.wantStates(provision.Ready, provision.Ready)
	s := r.status()
	if len(s.Discovered) != 1 || s.Discovered[0].MAC != ifi.HardwareAddr.String() {
		t.Errorf("discovered = %+v; want %s alone", s.Discovered, ifi.HardwareAddr)
	}
	if _, err := os.Stat(leased); err == nil {
		t.Errorf("%s was given an address", client)
	}
}
