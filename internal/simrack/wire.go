package simrack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"firstlight/inventory"
)

// Wire joins the network namespace of the calling thread, which is to be the
// rack's, with the controller's: for each network of the inventory that the
// controller has an interface on, a pair of that name in both, with the
// controller's address on its end. remove takes the wires away again.
func Wire(c *inventory.Cluster, controller netns.NsHandle) (remove func() error, err error) {
	there, err := netlink.NewHandleAt(controller)
	if err != nil {
		return nil, fmt.Errorf("controller's network namespace: %w", err)
	}
	defer there.Close()
	var made []netlink.Link
	remove = func() (err error) {
		for _, l := range made {
			err = errors.Join(err, netlink.LinkDel(l))
		}
		return err
	}
	for _, n := range c.Networks {
		if n.Interface == "" {
			continue
		}
		link, err := wire(n, controller, there)
		if link != nil {
			made = append(made, link)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("wire of network %s: %w", n.Name, err), remove())
		}
	}
	return remove, nil
}

// keeper stays on the rack's end of a wire: the kernel drops every route of an
// interface that loses its last address.
var keeper = netip.AddrFrom4([4]byte{169, 254, 0, 1})

// wire makes one pair. Its rack end routes the whole network, so that any
// address of it can be put there.
func wire(n *inventory.Network, controller netns.NsHandle, there *netlink.Handle) (netlink.Link, error) {
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: n.Interface}, PeerName: n.Interface,
		PeerNamespace: netlink.NsFd(int(controller))}
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(n.Interface)
	if err != nil {
		return nil, err
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(keeper, 32), Scope: int(netlink.SCOPE_LINK)}); err != nil {
		return link, err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return link, err
	}
	peer, err := there.LinkByName(n.Interface)
	if err != nil {
		return link, err
	}
	if err := there.AddrAdd(peer, &netlink.Addr{IPNet: ipNet(n.Address, n.CIDR.Bits())}); err != nil {
		return link, fmt.Errorf("address %s: %w", n.Address, err)
	}
	if err := there.LinkSetUp(peer); err != nil {
		return link, err
	}
	return link, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK,
		Dst: ipNet(n.CIDR.Masked().Addr(), n.CIDR.Bits())})
}

func ipNet(a netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
}

// wires are the rack's ends.
type wires struct {
	segments map[string]*segment // by network name
	links    map[string]netlink.Link
	networks []*inventory.Network

	mu    sync.Mutex
	added map[netip.Addr]netlink.Link
}

func openWires(c *inventory.Cluster) (*wires, error) {
	w := &wires{segments: map[string]*segment{}, links: map[string]netlink.Link{}, added: map[netip.Addr]netlink.Link{}}
	for _, n := range c.Networks {
		if n.Interface == "" {
			continue
		}
		link, err := netlink.LinkByName(n.Interface)
		if err == nil {
			w.networks = append(w.networks, n)
			w.links[n.Name] = link
			if n.DHCP != "" {
				w.segments[n.Name], err = openSegment(link.Attrs().Index)
			}
		}
		if err != nil {
			w.close()
			return nil, fmt.Errorf("network %s: interface %s of the rack: %w", n.Name, n.Interface, err)
		}
	}
	return w, nil
}

// addAddress puts an address of a node or BMC on the rack's end of its network.
func (w *wires) addAddress(a netip.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.added[a] != nil {
		return nil
	}
	for _, n := range w.networks {
		if !n.CIDR.Contains(a) {
			continue
		}
		if err := netlink.AddrAdd(w.links[n.Name], &netlink.Addr{IPNet: ipNet(a, a.BitLen())}); err != nil {
			return fmt.Errorf("address %s on %s: %w", a, n.Interface, err)
		}
		w.added[a] = w.links[n.Name]
		return nil
	}
	return fmt.Errorf("address %s is in no network that has an interface", a)
}

// removeAddress takes it away; one that is not there is no matter.
func (w *wires) removeAddress(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if link := w.added[a]; link != nil {
		delete(w.added, a)
		_ = netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(a, a.BitLen())}) // gone with the interface, then
	}
}

func (w *wires) close() {
	for _, s := range w.segments {
		if s != nil {
			s.conn.Close()
		}
	}
	w.mu.Lock()
	left := make([]netip.Addr, 0, len(w.added))
	for a := range w.added {
		left = append(left, a)
	}
	w.mu.Unlock()
	for _, a := range left {
		w.removeAddress(a)
	}
}
