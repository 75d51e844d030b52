package boot

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"firstlight/provision/agent"
)

// network brings the boot NIC up and returns its address. It tries until it
// has one: a switch port may come up minutes later.
func (m *machine) network(ctx context.Context) (string, error) {
	if lo, err := netlink.LinkByName("lo"); err == nil {
		_ = netlink.LinkSetUp(lo) // nothing here depends on it
	}
	link, err := m.bootNIC(ctx)
	if err != nil {
		return "", err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return "", fmt.Errorf("boot NIC %s (%s): %w", link.Attrs().Name, m.args.MAC, err)
	}
	lease, err := m.lease(ctx, link)
	if err != nil {
		return "", err
	}
	if err := configure(link, lease); err != nil {
		return "", fmt.Errorf("boot NIC %s: %w", link.Attrs().Name, err)
	}
	if err := writeResolver(lease); err != nil {
		m.log.Warn("cannot write /etc/resolv.conf", "err", err)
	}
	m.log.Info("network is up", "nic", link.Attrs().Name, "mac", m.args.MAC, "address", lease.Address.String(), "gateway", lease.Gateway.String(), "server", lease.Server.String())
	return lease.Address.Addr().String(), nil
}

// bootNIC waits for the interface with the MAC of the command line.
func (m *machine) bootNIC(ctx context.Context) (netlink.Link, error) {
	want, err := net.ParseMAC(m.args.MAC)
	if err != nil {
		return nil, err
	}
	next := time.Now().Add(10 * time.Second)
	for {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, err
		}
		var have []string
		for _, l := range links {
			if l.Attrs().HardwareAddr.String() == want.String() && l.Type() == "device" {
				return l, nil
			}
			have = append(have, l.Attrs().Name+" "+l.Attrs().HardwareAddr.String())
		}
		if time.Now().After(next) {
			m.log.Warn("the boot NIC has not appeared: is its driver in the initramfs?", "mac", m.args.MAC, "have", strings.Join(have, ", "))
			next = time.Now().Add(30 * time.Second)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lease repeats the DHCP exchange until a server answers.
func (m *machine) lease(ctx context.Context, link netlink.Link) (Lease, error) {
	name := link.Attrs().Name
	for attempt := 1; ; attempt++ {
		lease, err := Acquire(ctx, name, link.Attrs().HardwareAddr, m.log)
		if err == nil || ctx.Err() != nil {
			return lease, err
		}
		carrier := agent.FS("/").Carrier(name)
		m.log.Warn("no DHCP lease; trying on", "nic", name, "mac", m.args.MAC, "attempt", attempt, "carrier", carrier, "err", err)
		select {
		case <-ctx.Done():
			return Lease{}, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// configure replaces address and default route, so that it may be repeated.
// The address does not expire: it is a reservation in the inventory, and a
// node must not lose its network because the controller was down.
func configure(link netlink.Link, lease Lease) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP:   lease.Address.Addr().AsSlice(),
		Mask: net.CIDRMask(lease.Address.Bits(), lease.Address.Addr().BitLen()),
	}}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("set address %s: %w", lease.Address, err)
	}
	if lease.MTU > 0 {
		if err := netlink.LinkSetMTU(link, lease.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", lease.MTU, err)
		}
	}
	if !lease.Gateway.IsValid() || lease.Gateway == (netip.Addr{}) {
		return nil
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: lease.Gateway.AsSlice()}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("set default route via %s: %w", lease.Gateway, err)
	}
	return nil
}

func writeResolver(lease Lease) error {
	if len(lease.DNS) == 0 {
		return nil
	}
	var b strings.Builder
	for _, s := range lease.DNS {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	return os.WriteFile("/etc/resolv.conf", []byte(b.String()), 0o644)
}

// linksDown takes every interface down before the kernel shuts its devices
// down: virtio_net spins for ever when something is sent (IPv6 announces itself
// a second after the link came up) through a device that is shut down already.
func (m *machine) linksDown() {
	done := make(chan struct{})
	go func() { // ends when all are down; abandoned when a driver hangs
		defer close(done)
		links, err := netlink.LinkList()
		if err != nil {
			m.log.Warn("cannot list interfaces", "err", err)
		}
		for _, l := range links {
			if err := netlink.LinkSetDown(l); err != nil {
				m.log.Warn("cannot take an interface down", "nic", l.Attrs().Name, "err", err)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		m.log.Warn("taking the interfaces down hangs; going on")
	}
}
