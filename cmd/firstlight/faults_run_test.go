package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"firstlight/internal/simrack"
	"firstlight/provision"
)

// testPortInUse takes each port of the boot services in turn, at the
// controller.
func testPortInUse(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 1})
	comm, err := os.ReadFile("/proc/self/comm")
	r.must(err)
	holder := fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), os.Getpid())
	for _, port := range []struct{ name, network, address string }{
		{"DHCP: UDP port 67", "udp4", "0.0.0.0:67"},
		{"TFTP: UDP port 69", "udp4", "10.10.0.1:69"},
		{"HTTP: TCP port 8080", "tcp4", "0.0.0.0:8080"},
	} {
		var taken interface{ Close() error }
		r.atController(func() (err error) {
			lc := &net.ListenConfig{}
			if port.network == "tcp4" {
				taken, err = lc.Listen(context.Background(), port.network, port.address)
			} else {
				taken, err = lc.ListenPacket(context.Background(), port.network, port.address)
			}
			return err
		})
		o := r.apply(1)
		r.must(taken.Close())
		wantText(t, "apply", o.stderr, port.name+" on provision is in use by "+holder, "stop it")
		if c := r.rack.Counters("node-1"); c != (simrack.Counters{}) {
			t.Errorf("%s taken: the machine was touched: %+v", port.name, c)
		}
	}
	r.wantStates(provision.Declared)
	r.apply(0)
	r.wantPower(1, 1, 0, 1)
}

func testStalePlan(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 2})
	save := func(name string) string {
		file := filepath.Join(r.dir, name)
		if o := r.cli("plan", "-out", file); o.code != 0 {
			t.Fatalf("plan -out exits %d: %s", o.code, o.stderr)
		}
		return file
	}
	first, second := save("first.plan"), save("second.plan")
	r.spec.note = "changed"
	r.spec.write(t, r.dir)
	o := r.cli("apply", "-plan", first)
	if o.code != 1 {
		t.Errorf("apply of a plan of another inventory exits %d; want 1", o.code)
	}
	wantText(t, "apply", o.stderr, first+" is stale: the inventory has changed since it was made; make a new plan")
	r.spec.note = ""
	r.spec.write(t, r.dir)
	for i := 1; i <= 2; i++ {
		if c := r.rack.Counters(nodeName(i)); c != (simrack.Counters{}) {
			t.Errorf("%s was touched: %+v", nodeName(i), c)
		}
	}
	if o := r.cli("apply", "-plan", first); o.code != 0 {
		t.Fatalf("apply -plan exits %d: %s", o.code, o.stderr)
	}
	o = r.cli("apply", "-plan", second)
	if o.code != 1 {
		t.Errorf("apply of a plan of an earlier serial exits %d; want 1", o.code)
	}
	wantText(t, "apply", o.stderr, second+" is stale: it was made at serial 0 of the journal, which is at ", "make a new plan")
	for i := 1; i <= 2; i++ {
		r.wantPower(i, 1, 0, 1)
	}
}

func testTwoApplies(t *testing.T) {
	r := newIdleRig(t, rackSpec{nodes: 2})
	r.start(&simrack.Rack{POST: 3 * time.Second}) // leaves time to get in its way
	first := r.begin("apply", "-auto-approve", "-json")
	if !first.until(func(ev progressEvent) bool { return ev.Data.Event.Kind == provision.EventPowered }) {
		t.Fatalf("the first apply ended: %+v", first.end())
	}
	o := r.apply(1)
	wantText(t, "the second apply", o.stderr, fmt.Sprintf("locked by apply, process %d on ", first.cmd.Process.Pid))
	if s := r.status(); len(s.Nodes) != 2 || s.Nodes[0].State == string(provision.Declared) {
		t.Errorf("status meanwhile = %+v; want both nodes under way", s.Nodes)
	}
	o = r.cli("plan", "-json")
	if o.code != 0 {
		t.Errorf("plan meanwhile exits %d: %s", o.code, o.stderr)
	}
	o = r.cli("quarantine", "-reason", "test", "node-1")
	if o.code != 1 {
		t.Errorf("quarantine meanwhile exits %d; want 1", o.code)
	}
	wantText(t, "quarantine", o.stderr, "locked by apply, process ")
	if o := first.end(); o.code != 0 {
		t.Errorf("the first apply exits %d; want 0\n%s", o.code, o.stderr)
	}
	r.wantStates(provision.Ready, provision.Ready)
	for i := 1; i <= 2; i++ {
		r.wantPower(i, 1, 0, 1)
	}
}

// killPoint is an event by its kind, a part of its data and, where boots must be
// told apart, the state that the node is in.
type killPoint struct {
	name, kind, part string
	state            provision.State
}

func (k killPoint) is(ev progressEvent) bool {
	return ev.Data.Event.Kind == k.kind && strings.Contains(string(ev.Data.Event.Data), k.part) &&
		(k.state == "" || ev.Data.State == string(k.state))
}

// killPoints are the moments at which the controller is killed: as soon as the
// event has been journalled, in the order of a node's life.
func killPoints() []killPoint {
	return []killPoint{
		{"identity about to be read", provision.EventAttempt, `"reachable"`, ""},
		{"power state read", provision.EventPowered, `"status"`, ""},
		{"reachable", provision.EventPassed, `"reachable"`, ""},
		{"power-on announced", provision.EventAttempt, `"enrolled"`, ""},
		{"firmware's DHCP seen", provision.EventSeen, `"dhcp-ack"`, provision.Reachable},
		{"loader read", provision.EventSeen, `"tftp-read"`, provision.Reachable},
		{"script fetched", provision.EventSeen, `"script"`, provision.Reachable},
		{"token fetched", provision.EventSeen, `"token"`, provision.Reachable},
		{"agent home", provision.EventHello, `"bring-up"`, ""},
		{"enrolled", provision.EventPassed, `"enrolled"`, ""},
		{"inspection about to begin", provision.EventAttempt, `"matched"`, ""},
		{"matched", provision.EventPassed, `"matched"`, ""},
		{"reboot announced", provision.EventAttempt, `"provisioned"`, ""},
		{"image's script fetched", provision.EventSeen, `"script"`, provision.Matched},
		{"image's agent home", provision.EventHello, `"image"`, ""},
		{"provisioned", provision.EventPassed, `"provisioned"`, ""},
		{"check about to begin", provision.EventAttempt, `"validated"`, ""},
		{"validated", provision.EventPassed, `"validated"`, ""},
		{"burned in", provision.EventPassed, `"burned-in"`, ""},
		{"record about to be signed", provision.EventAttempt, `"ready"`, ""},
	}
}

// testKill kills the controller at every point of a node's life and applies
// again. One node has one life: a point that its boot passed while no
// controller was up does not come again, and is left out.
func testKill(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 1})
	killed := 0
	serial := int64(0)
	points := killPoints()
	p := r.begin("apply", "-auto-approve", "-json")
	for i := 0; i < len(points); {
		hit := -1
		p.until(func(ev progressEvent) bool {
			for j := i; j < len(points); j++ {
				if points[j].is(ev) {
					hit = j
					return true
				}
			}
			return false
		})
		if hit < 0 {
			break // ready before the next point
		}
		p.kill()
		killed++
		now := r.status()
		if now.Serial < serial {
			t.Errorf("killed at %q: journal is at serial %d; it was at %d", points[hit].name, now.Serial, serial)
		}
		serial = now.Serial
		t.Logf("killed at %q: %s at serial %d", points[hit].name, now.Nodes[0].State, serial)
		i = hit + 1
		p = r.begin("apply", "-auto-approve", "-json")
	}
	if o := p.end(); o.code != 0 {
		t.Fatalf("the last apply exits %d; want 0\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	if killed < 14 {
		t.Errorf("killed at %d of %d points; want 14 at least", killed, len(points))
	}
	r.wantStates(provision.Ready)
	r.wantPower(1, 1, 0, 1)
	wantText(t, "show", r.cli("show", "node-1").stdout, "reachable", "enrolled", "matched", "provisioned", "validated", "burned-in", "ready")
	if o := r.cli("plan", "-detailed-exitcode"); o.code != 0 {
		t.Errorf("plan after all exits %d; want 0\n%s", o.code, o.stdout)
	}
}

func testInterrupt(t *testing.T) {
	r := newIdleRig(t, rackSpec{nodes: 2})
	r.start(&simrack.Rack{POST: time.Second})
	p := r.begin("apply", "-auto-approve", "-json")
	if !p.until(func(ev progressEvent) bool { return ev.Data.Event.Kind == provision.EventSeen }) {
		t.Fatalf("apply ended: %+v", p.end())
	}
	began := time.Now()
	r.must(p.cmd.Process.Signal(syscall.SIGINT))
	o := p.end()
	if o.code != 130 {
		t.Errorf("interrupted apply exits %d; want 130", o.code)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s to end", took)
	}
	wantText(t, "interrupted apply", o.stderr, "interrupted; what was done is recorded, run the same command again to go on")
	for _, address := range []string{"0.0.0.0:67", "0.0.0.0:69"} {
		r.atController(func() error {
			c, err := net.ListenPacket("udp4", address)
			if err != nil {
				return fmt.Errorf("still held after the interrupt: %w", err)
			}
			return c.Close()
		})
	}
	r.atController(func() error {
		l, err := net.Listen("tcp4", "0.0.0.0:8080")
		if err != nil {
			return fmt.Errorf("still held after the interrupt: %w", err)
		}
		return l.Close()
	})
	r.apply(0)
	r.wantStates(provision.Ready, provision.Ready)
	for i := 1; i <= 2; i++ {
		r.wantPower(i, 1, 0, 1)
	}
}

// testFullDisk has the journal on a file system of its own.
func testFullDisk(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 1})
	dir := filepath.Join(r.dir, ".firstlight", "etcd")
	r.must(os.MkdirAll(dir, 0o700))
	mount := func(size string, flags uintptr) error {
		return syscall.Mount("tmpfs", dir, "tmpfs", flags, "size="+size)
	}
	if err := mount("16m", 0); errors.Is(err, syscall.EPERM) {
		t.Skip("needs the right to mount a tmpfs")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	o := r.apply(1)
	wantText(t, "apply", o.stderr, dir, " MiB free and 64 MiB are kept in reserve: free some and run the command again")
	if c := r.rack.Counters("node-1"); c != (simrack.Counters{}) {
		t.Errorf("the machine was touched: %+v", c)
	}
	r.must(mount("400m", syscall.MS_REMOUNT))
	r.apply(0)
	r.wantStates(provision.Ready)
	r.wantPower(1, 1, 0, 1)
}

// testHundredNodes prints what it took.
func testHundredNodes(t *testing.T) {
	r := newFaultRig(t, rackSpec{nodes: 100, deadlines: map[string]string{"enrolled": "90s", "provisioned": "90s"}})
	began := time.Now()
	o := r.apply(0, "-json")
	took := time.Since(began)
	wantText(t, "apply", tail(o.stdout, 1), `"ready":100`)
	for i := 1; i <= 100; i++ {
		r.wantPower(i, 1, 0, 1)
	}
	t.Logf("100 simulated nodes declared to ready in %.1f s; controller's most memory resident %d MB", took.Seconds(), o.rss/1024)
	var done struct{ Data struct{ Total int } }
	if err := json.Unmarshal([]byte(tail(o.stdout, 1)), &done); err != nil || done.Data.Total != 100 {
		t.Errorf("done = %+v, %v; want a total of 100", done, err)
	}
}
