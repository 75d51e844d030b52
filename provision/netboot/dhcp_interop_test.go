package netboot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// udhcpcScript prints what the client was told.
const udhcpcScript = "#!/bin/sh\n[ \"$1\" = bound ] && echo \"ip=$ip mask=$mask serverid=$serverid hostname=$hostname router=$router lease=$lease\"\nexit 0\n"

func TestUdhcpcGetsItsReservation(t *testing.T) {
	needTool(t, "udhcpc")
	if !inNamespace(t) {
		return
	}
	for _, broadcast := range []bool{false, true} {
		t.Run(fmt.Sprintf("broadcast=%v", broadcast), func(t *testing.T) {
			r := newRig(t)
			r.server.Gateway = serverAddr
			r.start()
			var args []string
			if broadcast {
				args = append(args, "-B")
			}
			out := r.udhcpc(args...)
			want := "ip=10.99.0.11 mask=24 serverid=10.99.0.1 hostname=n1 router=10.99.0.1 lease=3600"
			if !strings.Contains(out, want) {
				t.Errorf("udhcpc printed %q; want %q in it", out, want)
			}
			for _, kind := range []Kind{KindDHCPDiscover, KindDHCPOffer, KindDHCPRequest, KindDHCPAck} {
				if e := r.want(kind); e.Node != "n1" || e.MAC.String() != nodeMAC.String() || e.Address != nodeAddr {
					t.Errorf("%s = %+v; want node n1 with its MAC and address", kind, e)
				}
			}
		})
	}
}

// udhcpc gets a lease and returns what it printed.
func (r *rig) udhcpc(more ...string) string {
	r.t.Helper()
	script := filepath.Join(r.t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(udhcpcScript), 0o755); err != nil {
		r.t.Fatal(err)
	}
	out, err := r.run("udhcpc", append([]string{"-i", "cli0", "-f", "-q", "-n", "-t", "3", "-T", "1", "-s", script}, more...)...)
	if err != nil {
		r.t.Fatalf("udhcpc: %v\n%s", err, out)
	}
	return out
}

// The link going down and up, as when a switch restarts, is survived; the
// interface going away is an error.
func TestServeAndTheInterface(t *testing.T) {
	needTool(t, "udhcpc")
	if !inNamespace(t) {
		return
	}
	r := newRig(t)
	r.server.Loaders = fakeLoaders(t)
	ready, done := make(chan struct{}), make(chan error, 1)
	r.server.Ready = func() { close(ready) }
	go func() { done <- r.server.Serve(t.Context()) }()
	<-ready
	srv := mustLink(t, "srv")
	for _, change := range []func(netlink.Link) error{netlink.LinkSetDown, netlink.LinkSetUp} {
		if err := change(srv); err != nil {
			t.Fatal(err)
		}
	}
	r.udhcpc()
	if err := netlink.LinkDel(srv); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "on srv: interface is gone") {
			t.Errorf("Serve = %v; want that interface srv is gone", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Serve goes on without its interface")
	}
}

func mustLink(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDhclientGetsItsReservation(t *testing.T) {
	needTool(t, "dhclient")
	if !inNamespace(t) {
		return
	}
	r := newRig(t)
	r.start()
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	body := "#!/bin/sh\necho \"$reason $new_ip_address $new_subnet_mask $new_dhcp_server_identifier\"\n[ \"$reason\" = BOUND ] && kill $PPID\nexit 0\n"
	if err := os.WriteFile(script, []byte(body), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := r.run("dhclient", "-4", "-1", "-d", "-v", "-cf", "/dev/null", "-sf", script,
		"-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), "cli0")
	t.Logf("dhclient: %v (its script ends it once it is bound)", err)
	if want := "BOUND 10.99.0.11 255.255.255.0 10.99.0.1"; !strings.Contains(out, want) {
		t.Errorf("dhclient printed %q; want %q in it", out, want)
	}
}

func TestForeignMACGetsNothingAndIsSeen(t *testing.T) {
	needTool(t, "udhcpc")
	if !inNamespace(t) {
		return
	}
	r := newRig(t)
	r.inClient(func() error {
		l, err := netlink.LinkByName("cli0")
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(l, foreignMAC)
	})
	r.start()
	out, err := r.run("udhcpc", "-i", "cli0", "-f", "-q", "-n", "-t", "2", "-T", "1", "-s", "/bin/true", "-V", "PXEClient:Arch:00007:UNDI:003016")
	if err == nil {
		t.Fatalf("udhcpc got a lease for a foreign MAC:\n%s", out)
	}
	e := r.want(KindForeignMAC)
	if e.MAC.String() != foreignMAC.String() || e.Node != "" || e.VendorClass != "PXEClient:Arch:00007:UNDI:003016" {
		t.Errorf("event = %+v; want the foreign MAC, no node, its vendor class", e)
	}
	if e, err := r.find(KindDHCPOffer); err == nil {
		t.Errorf("an offer was sent: %+v", e)
	}
}
