package netboot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(udhcpcScript), 0o755); err != nil {
				t.Fatal(err)
			}
			args := []string{"-i", "cli0", "-f", "-q", "-n", "-t", "3", "-T", "1", "-s", script}
			if broadcast {
				args = append(args, "-B")
			}
			out, err := r.run("udhcpc", args...)
			if err != nil {
				t.Fatalf("udhcpc: %v\n%s", err, out)
			}
			want := "ip=10.99.0.11 mask=24 serverid=10.99.0.1 hostname=n1 router=10.99.0.1 lease=3600"
			if !strings.Contains(out, want) {
				t.Errorf("udhcpc printed %q; want %q in it", out, want)
			}
			for _, kind := range []Kind{KindDHCPDiscover, KindDHCPOffer, KindDHCPRequest, KindDHCPAck} {
				if e := r.want(kind); e.Node != "n1" || e.MAC.String() != nodeMAC.String() || e.Address != nodeAddr {
					t.Errorf("%s = %+v; want node n1 with its MAC and address", kind, e)
				}
			}
			netlink.LinkDel(mustLink(t, "srv"))
		})
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
