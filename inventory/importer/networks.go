package importer

import (
	"fmt"
	"net/netip"
)

// networks are what the addresses lie in. An invalid prefix: none is known.
type networks struct {
	oob, provision netip.Prefix
	known          [2]bool    // the prefix length stood in the list
	shared         bool       // BMCs are in the provisioning network
	serves         bool       // every node has an address, so DHCP can answer it
	address        netip.Addr // for the controller, where the first address is a node's
}

// infer finds the networks of the BMCs' and the nodes' addresses.
func (n *networks) infer(nodes []*node, bits [2]int) error {
	if len(nodes) == 0 {
		return nil
	}
	var bmcs, hosts []netip.Addr
	for _, node := range nodes {
		bmcs = append(bmcs, node.BMC)
		if node.Address.IsValid() {
			hosts = append(hosts, node.Address)
		}
	}
	var err error
	if n.oob, err = around(bmcs, bits[0]); err != nil {
		return fmt.Errorf("BMC addresses: %w", err)
	}
	if len(hosts) == 0 {
		return nil
	}
	if n.provision, err = around(hosts, bits[1]); err != nil {
		return fmt.Errorf("node addresses: %w", err)
	}
	n.known = [2]bool{bits[0] > 0, bits[1] > 0}
	n.serves = len(hosts) == len(nodes)
	if n.oob.Overlaps(n.provision) {
		n.shared = true
		if n.provision, err = around(append(hosts, bmcs...), min(bits[0], bits[1])); err != nil {
			return fmt.Errorf("addresses: %w", err)
		}
	}
	if n.serves {
		n.controller(append(hosts, bmcs...))
	}
	return nil
}

// controller finds an address that is nobody's, where the default one is taken.
func (n *networks) controller(taken []netip.Addr) {
	used := map[netip.Addr]bool{}
	for _, a := range taken {
		used[a] = true
	}
	first := n.provision.Addr().Next()
	if !used[first] {
		return
	}
	for a := first; n.provision.Contains(a.Next()); a = a.Next() {
		if !used[a] {
			n.address = a
			return
		}
	}
	n.serves = false // it is full: the controller has no place in it
}

// around is the smallest network, from /24 up, with every address as a host.
// bits is the prefix length, where it is known.
func around(addrs []netip.Addr, bits int) (netip.Prefix, error) {
	from, to := 24, 8
	if bits > 0 {
		from, to = bits, bits
	}
	for b := from; b >= to; b-- {
		p := netip.PrefixFrom(addrs[0], b).Masked()
		if holds(p, addrs) {
			return p, nil
		}
	}
	if bits > 0 {
		return netip.Prefix{}, fmt.Errorf("they are not hosts of one /%d, as the list has them: a column for each network, or none with a prefix length, is needed", bits)
	}
	return netip.Prefix{}, fmt.Errorf("%s and the others are not in one network", addrs[0])
}

func holds(p netip.Prefix, addrs []netip.Addr) bool {
	for _, a := range addrs {
		if !p.Contains(a) || a == p.Addr() || !p.Contains(a.Next()) {
			return false
		}
	}
	return true
}
