package main

import (
	"net/netip"
	"testing"

	"firstlight/inventory"
)

func TestNetworkOf(t *testing.T) {
	c := &inventory.Cluster{Networks: map[string]*inventory.Network{}}
	for name, cidr := range map[string]string{"oob": "10.20.0.0/16", "row": "10.20.4.0/22", "provision": "10.10.0.0/22"} {
		c.Networks[name] = &inventory.Network{Name: name, CIDR: netip.MustParsePrefix(cidr)}
	}
	for addr, want := range map[string]string{"10.20.0.1": "oob", "10.20.5.1": "row", "10.10.0.9": "provision", "192.0.2.1": ""} {
		if got := networkOf(c, netip.MustParseAddr(addr)); got != want {
			t.Errorf("networkOf(%s) = %q; want %q", addr, got, want)
		}
	}
}
