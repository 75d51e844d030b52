package boot

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"firstlight/provision/agent"
)

// inNamespace runs f on a thread in a network namespace of its own, which
// goes away with the thread.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { // ends with f; the thread is not unlocked, so that it ends too
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("network namespace: %v", err)
			return
		}
		f()
	}()
	<-done
}

// The exchange and the configuration, against a foreign server.
func TestDHCPWithDnsmasq(t *testing.T) {
	dnsmasq, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Skip("needs dnsmasq")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	inNamespace(t, func() {
		mac, _ := net.ParseMAC("52:54:00:aa:00:01")
		client := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "nic0", HardwareAddr: mac}, PeerName: "srv0"}
		if err := netlink.LinkAdd(client); err != nil {
			t.Errorf("veth: %v", err)
			return
		}
		// The server's end is in a namespace of the server's, as two ends in
		// one would be local to each other.
		server := exec.Command("unshare", "-n", "sh", "-ec", fmt.Sprintf(`
			until ip link show srv0 >/dev/null 2>&1; do sleep 0.05; done
			ip addr add 10.9.0.1/24 dev srv0; ip link set srv0 up
			exec %s -d --no-hosts --no-resolv --port=0 --user=root --conf-file=/dev/null --leasefile-ro --bind-interfaces --interface=srv0 \
			  --dhcp-range=10.9.0.0,static --dhcp-host=52:54:00:aa:00:01,10.9.0.17 --dhcp-option=3,10.9.0.254 \
			  --dhcp-option=6,10.9.0.2 --dhcp-option=26,1400`, dnsmasq))
		if err := server.Start(); err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
		time.Sleep(300 * time.Millisecond) // until unshare has made its namespace
		peer, err := netlink.LinkByName("srv0")
		if err == nil {
			err = netlink.LinkSetNsPid(peer, server.Process.Pid)
		}
		if err != nil {
			t.Errorf("give the server its end: %v", err)
			return
		}
		link, err := netlink.LinkByName("nic0")
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		m := machine{log: slog.New(slog.DiscardHandler), args: agent.Args{MAC: mac.String()}}
		got, err := m.lease(ctx, link)
		want := Lease{
			Address: netip.MustParsePrefix("10.9.0.17/24"), Gateway: netip.MustParseAddr("10.9.0.254"),
			Server: netip.MustParseAddr("10.9.0.1"), DNS: []netip.Addr{netip.MustParseAddr("10.9.0.2")}, MTU: 1400,
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" || err != nil {
			t.Errorf("lease: %v (-want +got)\n%s", err, d)
			return
		}
		for range 2 { // it may be repeated
			if err := configure(link, got); err != nil {
				t.Errorf("configure = %v", err)
			}
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != "10.9.0.17/24" {
			t.Errorf("addresses %v, %v; want 10.9.0.17/24", addrs, err)
		}
		routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 1))
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != "10.9.0.254" {
			t.Errorf("route to elsewhere %v, %v; want via 10.9.0.254", routes, err)
		}
	})
}

func TestDHCPWithoutAnswer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	inNamespace(t, func() {
		mac, _ := net.ParseMAC("52:54:00:aa:00:01")
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "nic0", HardwareAddr: mac}, PeerName: "srv0"}); err != nil {
			t.Errorf("veth: %v", err)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := Acquire(ctx, "nic0", mac, slog.New(slog.DiscardHandler)); err == nil || ctx.Err() == nil {
			t.Errorf("Acquire = %v; want an error when ctx ends", err)
		}
	})
}
