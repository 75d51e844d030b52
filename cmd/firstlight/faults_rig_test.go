package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"firstlight/images"
	"firstlight/internal/simrack"
	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/agent/api"
)

// faultRig is a simulated rack and the means to run the program against it.
type faultRig struct {
	*testing.T
	dir        string // of the inventory
	program    string
	controller netns.NsHandle
	spec       rackSpec
	rack       *simrack.Rack
	log        *lockedBuffer // the rack's
}

// newFaultRig writes the inventory, fills its catalogue and starts the rack.
func newFaultRig(t *testing.T, spec rackSpec, faults ...simrack.Fault) *faultRig {
	t.Helper()
	r := newIdleRig(t, spec)
	r.start(&simrack.Rack{Faults: faults, Retry: 200 * time.Millisecond, Pause: 500 * time.Millisecond})
	return r
}

// newIdleRig is a rig whose rack is not started yet.
func newIdleRig(t *testing.T, spec rackSpec) *faultRig {
	t.Helper()
	r := newRigOf(t, spec.write)
	r.spec = spec
	return r
}

// newRigOf is one of an inventory that write writes.
func newRigOf(t *testing.T, write func(t *testing.T, dir string)) *faultRig {
	t.Helper()
	// A short path: the journal's socket lies below it.
	dir, err := os.MkdirTemp("", "faults-")
	if err != nil {
		t.Fatal(err)
	}
	r := &faultRig{T: t, dir: dir, program: os.Getenv(faultBinaryEnv), log: &lockedBuffer{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the rack:\n%s", r.log.tail(120))
			if raw, err := os.ReadFile(filepath.Join(dir, ".firstlight", "logs", "controller.log")); err == nil {
				t.Logf("the controller's log:\n%s", tail(string(raw), 60))
			}
		}
		os.RemoveAll(dir)
	})
	write(t, dir)
	r.fillCatalogue()
	return r
}

// start wires and starts the rack and stops it when the test ends.
func (r *faultRig) start(rack *simrack.Rack) {
	r.Helper()
	c, _, diags := inventory.Load(r.dir, inventory.Options{Env: os.LookupEnv})
	if diags.HasErrors() {
		r.Fatal(diags)
	}
	rack.Cluster, r.rack = c, rack
	rack.Log = slog.New(slog.NewTextHandler(r.log, nil))
	r.makeController(c)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	rack.Ready = func() { close(ready) }
	go func() { done <- rack.Serve(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		r.Fatalf("rack: %v", err)
	}
	r.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.Errorf("rack: %v", err)
		}
	})
}

// makeController makes the controller's namespace and the wires to it.
func (r *faultRig) makeController(c *inventory.Cluster) {
	r.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	r.must(err)
	defer home.Close()
	r.controller, err = netns.New() // also enters it
	r.must(err)
	r.must(upLoopback())
	r.must(netns.Set(home))
	r.must(upLoopback())
	remove, err := simrack.Wire(c, r.controller)
	r.must(err)
	r.Cleanup(func() {
		r.must(remove())
		r.controller.Close()
	})
}

func upLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func (r *faultRig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// atController runs f on a thread in the controller's namespace.
func (r *faultRig) atController(f func() error) {
	r.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	r.must(err)
	defer home.Close()
	r.must(netns.Set(r.controller))
	ferr := f()
	r.must(netns.Set(home))
	r.must(ferr)
}

// fillCatalogue puts a bring-up image and the declared image into the
// inventory's catalogue. Simulated kernels begin with their release.
func (r *faultRig) fillCatalogue() {
	r.Helper()
	store := images.Store{Dir: filepath.Join(r.dir, ".firstlight", "images")}
	put := func(text string) images.Blob {
		b, err := store.Put(strings.NewReader(text))
		r.must(err)
		return b
	}
	padding := strings.Repeat("x", 64<<10)
	bringUp := images.Manifest{Name: images.BringUpName, Kind: api.BootBringUp, KernelRelease: "6.1.0-bring-up",
		Kernel: put("6.1.0-bring-up\n" + padding), Initramfs: put("bring-up initramfs" + padding), Inputs: digestOfNothing}
	compute := images.Manifest{Name: "compute", Kind: api.BootImage, KernelRelease: "6.1.0-compute",
		Kernel: put("6.1.0-compute\n" + padding), Initramfs: put("compute initramfs" + padding), Inputs: digestOfNothing}
	root := put("the root file system" + padding)
	compute.Root = &root
	r.must(store.PutManifest(bringUp))
	r.must(store.PutManifest(compute))
}

const digestOfNothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// process is the program running.
type process struct {
	rig    *faultRig
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr lockedBuffer
	lines  chan string // of stdout; closed at its end
	copied chan struct{}
}

// outcome is how the program ended.
type outcome struct {
	code           int
	stdout, stderr string
	rss            int64 // most memory resident, in KiB
}

// begin starts the program with the inventory as its last argument.
func (r *faultRig) begin(args ...string) *process {
	r.Helper()
	p := &process{rig: r, lines: make(chan string, 1<<16), copied: make(chan struct{})}
	p.cmd = exec.Command(r.program, append(args, r.dir)...)
	p.cmd.Env = append(os.Environ(), enteredEnv+"=1")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	r.must(err)
	r.atController(p.cmd.Start)
	go func() { // ends with the program
		defer close(p.copied)
		defer close(p.lines)
		sc := bufio.NewScanner(io.TeeReader(out, &p.stdout))
		sc.Buffer(nil, 16<<20)
		for sc.Scan() {
			p.lines <- sc.Text()
		}
	}()
	return p
}

// end waits for the program's end.
func (p *process) end() outcome {
	p.rig.Helper()
	late := time.AfterFunc(120*time.Second, func() { p.cmd.Process.Signal(syscall.SIGQUIT) })
	defer late.Stop()
	<-p.copied
	err := p.cmd.Wait()
	var ex *exec.ExitError
	if err != nil && !errors.As(err, &ex) {
		p.rig.Fatal(err)
	}
	o := outcome{code: p.cmd.ProcessState.ExitCode(), stdout: p.stdout.String(), stderr: p.stderr.String()}
	if u, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		o.rss = u.Maxrss
	}
	return o
}

// kill is kill -9.
func (p *process) kill() {
	p.rig.must(p.cmd.Process.Kill())
	p.end()
}

// cli runs the program to its end.
func (r *faultRig) cli(args ...string) outcome {
	r.Helper()
	return r.begin(args...).end()
}

// apply runs apply, wants an exit status, and returns what it said.
func (r *faultRig) apply(want int, more ...string) outcome {
	r.Helper()
	o := r.cli(append([]string{"apply", "-auto-approve"}, more...)...)
	if o.code != want {
		r.Fatalf("apply %v exits %d; want %d\nstdout:\n%s\nstderr:\n%s", more, o.code, want, o.stdout, o.stderr)
	}
	return o
}

// progressEvent is a line of apply -json.
type progressEvent struct {
	Type string `json:"type"`
	Data struct {
		Event provision.Event `json:"event"`
		State string          `json:"state"`
	} `json:"data"`
}

// until reads events until one satisfies stop; false when the program ends first.
func (p *process) until(stop func(progressEvent) bool) bool {
	for line := range p.lines {
		var ev progressEvent
		if json.Unmarshal([]byte(line), &ev) == nil && stop(ev) {
			return true
		}
	}
	return false
}

// statusReport is status -json.
type statusReport struct {
	Serial     int64        `json:"serial"`
	Nodes      []nodeStatus `json:"nodes"`
	Discovered []discovered `json:"discovered"`
}

func (r *faultRig) status() statusReport {
	r.Helper()
	o := r.cli("status", "-json")
	if o.code != 0 {
		r.Fatalf("status exits %d: %s", o.code, o.stderr)
	}
	var s statusReport
	r.must(json.Unmarshal([]byte(o.stdout), &s))
	return s
}

// wantStates holds the states of all nodes, from node-1 on.
func (r *faultRig) wantStates(want ...provision.State) {
	r.Helper()
	s := r.status()
	if len(s.Nodes) != len(want) {
		r.Fatalf("status has %d nodes; want %d", len(s.Nodes), len(want))
	}
	for i, n := range s.Nodes {
		if n.State != string(want[i]) {
			r.Errorf("%s is %s (%s); want %s", n.Name, n.State, n.Reason, want[i])
		}
	}
}

// wantText wants every part in a message that a person reads.
func wantText(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	flat := regexp.MustCompile(`\s+`).ReplaceAllString(text, " ")
	for _, p := range parts {
		if !strings.Contains(flat, p) {
			t.Errorf("%s does not say %q; it says:\n%s", what, p, text)
		}
	}
}

// wantPower holds what was done to a node's power.
func (r *faultRig) wantPower(i, ons, cycles, reboots int) {
	r.Helper()
	c := r.rack.Counters(nodeName(i))
	if c.PowerOns != ons || c.PowerCycles != cycles || c.Resets != 0 || c.PowerOffs != 0 || c.AgentReboots != reboots {
		r.Errorf("%s: %d power-ons, %d cycles, %d resets, %d power-offs, %d agent reboots; want %d, %d, 0, 0, %d",
			nodeName(i), c.PowerOns, c.PowerCycles, c.Resets, c.PowerOffs, c.AgentReboots, ons, cycles, reboots)
	}
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) tail(n int) string { return tail(l.String(), n) }

// tail is the last n lines.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
