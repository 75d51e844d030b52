package netboot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

var (
	nodeMAC    = net.HardwareAddr{0x52, 0x54, 0x00, 0x0a, 0x00, 0x11}
	foreignMAC = net.HardwareAddr{0x52, 0x54, 0x00, 0x0a, 0x00, 0x99}
	nodeAddr   = netip.MustParseAddr("10.99.0.11")
	serverAddr = netip.MustParseAddr("10.99.0.1")
	network    = netip.MustParsePrefix("10.99.0.0/24")
)

const reexec = "NETBOOT_TEST_IN_NAMESPACE"

// inNamespace runs the rest of the test in a child process in a network
// namespace of its own, which ends with it: nothing is left on the host, and
// every goroutine's socket is in it, whichever thread it runs on. It returns
// true in the child.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(reexec) == t.Name() {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a network namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=300s")
	cmd.Env = append(os.Environ(), reexec+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in its namespace: %v\n%s", err, out)
	}
	if testing.Verbose() || strings.Contains(string(out), "--- SKIP") {
		t.Logf("%s", out)
	}
	return false
}

func needTool(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			t.Skip("needs " + n)
		}
	}
}

// rig is a server on veth "srv" and a client namespace that holds the other
// end, "cli0".
type rig struct {
	t      *testing.T
	server *Server
	client netns.NsHandle
	blobs  dirBlobs

	mu     sync.Mutex
	events []Event
	boot   func(BootRequest) (*Boot, error)
}

func (r *rig) Boot(_ context.Context, q BootRequest) (*Boot, error) {
	if r.boot == nil {
		return nil, nil
	}
	return r.boot(q)
}

// dirBlobs is a directory of files named by digest.
type dirBlobs string

func (d dirBlobs) Open(digest string) (*os.File, error) {
	return os.Open(filepath.Join(string(d), strings.TrimPrefix(digest, "sha256:")))
}

func (d dirBlobs) add(t *testing.T, data []byte) string {
	t.Helper()
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	if err := os.WriteFile(filepath.Join(string(d), name), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return "sha256:" + name
}

func reserveNode(mac net.HardwareAddr) (Reservation, bool) {
	if slices.Equal(mac, nodeMAC) {
		return Reservation{Node: "n1", Address: nodeAddr, Hostname: "n1"}, true
	}
	return Reservation{}, false
}

// newRig makes the links and a server that is not started yet.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, blobs: dirBlobs(t.TempDir())}
	r.server = &Server{Interface: "srv", Prefix: network, Reservations: reserveNode, Booter: r, Blobs: r.blobs, Observe: r.see}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(err)
	defer home.Close()
	r.client, err = netns.New() // also enters it
	must(err)
	must(linkUp("lo"))
	must(netns.Set(home))
	must(linkUp("lo"))
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "srv"}, PeerName: "cli0",
		PeerHardwareAddr: nodeMAC, PeerNamespace: netlink.NsFd(int(r.client))}))
	srv, err := netlink.LinkByName("srv")
	must(err)
	t.Cleanup(func() {
		netlink.LinkDel(srv) // frees the name for the next subtest
		r.client.Close()
	})
	must(netlink.AddrAdd(srv, &netlink.Addr{IPNet: &net.IPNet{IP: serverAddr.AsSlice(), Mask: net.CIDRMask(24, 32)}}))
	must(linkUp("srv"))
	r.inClient(func() error { return linkUp("cli0") })
	return r
}

func linkUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// inClient runs f on a thread that is in the client's namespace.
func (r *rig) inClient(f func() error) {
	r.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		r.t.Fatal(err)
	}
	defer home.Close()
	if err := netns.Set(r.client); err != nil {
		r.t.Fatal(err)
	}
	ferr := f()
	if err := netns.Set(home); err != nil {
		r.t.Fatal(err)
	}
	if ferr != nil {
		r.t.Fatal(ferr)
	}
}

// run runs a foreign client in its namespace and returns what it printed.
func (r *rig) run(name string, args ...string) (string, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	r.inClient(cmd.Start)
	err := cmd.Wait()
	return out.String(), err
}

// start serves until the test ends.
func (r *rig) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	r.server.Ready = func() { close(ready) }
	go func() { done <- r.server.Serve(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		r.t.Fatalf("Serve: %v", err)
	}
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Serve = %v; want nil after cancel", err)
		}
	})
}

func (r *rig) see(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// find returns the first event of a kind, waiting a moment for it: a client
// may end before the server has noted that it did.
func (r *rig) find(kind Kind, more ...func(Event) bool) (Event, error) {
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		r.mu.Lock()
		i := slices.IndexFunc(r.events, func(e Event) bool {
			return e.Kind == kind && !slices.ContainsFunc(more, func(f func(Event) bool) bool { return !f(e) })
		})
		var e Event
		if i >= 0 {
			e = r.events[i]
		}
		r.mu.Unlock()
		if i >= 0 {
			return e, nil
		}
	}
	return Event{}, errors.New("no event " + string(kind))
}

func (r *rig) want(kind Kind, more ...func(Event) bool) Event {
	r.t.Helper()
	e, err := r.find(kind, more...)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.t.Fatalf("%v; seen: %+v", err, r.events)
	}
	return e
}

func addAddr(name string, a netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}})
}
