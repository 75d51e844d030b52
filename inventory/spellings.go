package inventory

import (
	"net"
	"net/netip"
)

// ParseMAC reads a MAC address in any spelling that an inventory may have:
// colons, dashes, dots, or twelve bare digits.
func ParseMAC(text string) (net.HardwareAddr, error) { return parseMAC(text) }

// ParseAddr reads an IPv4 address as an inventory writes it.
func ParseAddr(text string) (netip.Addr, error) { return parseAddr(text) }

// ParseGUID reads a GUID in any spelling that an inventory may have.
func ParseGUID(text string) (GUID, error) { return parseGUID(text) }

// IsHostName reports whether a node can have that name.
func IsHostName(name string) bool { return hostName.MatchString(name) }

// CompareNames orders names so that numbers in them count by value: n2 before n10.
func CompareNames(a, b string) int { return natural(a, b) }
