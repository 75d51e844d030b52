package bmc

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/bougou/go-ipmi/pkg/types"
)

// User is one of a BMC's users (§22.26 to §22.29).
type User struct {
	ID        uint8
	Name      string // "": a login without a name
	Enabled   bool
	Messaging bool   // it may use this LAN channel
	Privilege string // "administrator", "operator", "user", "callback", "oem" or "none"
}

// Access is who may use a BMC over LAN, and how it is reached.
type Access struct {
	Users []User
	Limit int // users that it has room for
	IP    netip.Addr
	// Source of the address: "static", "dhcp", "bios", "other" or "" when not told.
	Source  string
	MAC     net.HardwareAddr
	Netmask netip.Addr
	Gateway netip.Addr
	VLAN    int // 0: none
	// Suites are the cipher suites with the highest privilege that each may have;
	// those that may not be used are left out. nil: not told.
	Suites map[int]string
}

// Access reads users and LAN configuration in a session of its own.
func (c *Client) Access(ctx context.Context, ep Endpoint) (out Access, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		out, err = s.Access(ctx)
		return err
	})
	return out, err
}

// LAN configuration parameters (§23.1, table 23-4).
const (
	lanIP           = 3
	lanSource       = 4
	lanMAC          = 5
	lanNetmask      = 6
	lanGateway      = 12
	lanVLAN         = 20
	lanSuites       = 23
	lanSuiteEntries = 22
	lanSuiteLevels  = 24
	presentChannel  = 0x0e
	maxUsers        = 63
)

// Access reads the users and the LAN configuration of the channel that the session
// came by. What a BMC does not tell is left empty.
func (s *Session) Access(ctx context.Context) (out Access, err error) {
	if err := s.users(ctx, &out); err != nil {
		return out, err
	}
	for _, p := range []struct {
		parameter byte
		take      func(data []byte)
	}{
		{lanIP, func(d []byte) { out.IP = address(d) }},
		{lanSource, func(d []byte) { out.Source = source(d) }},
		{lanMAC, func(d []byte) {
			if len(d) >= 6 {
				out.MAC = append(net.HardwareAddr(nil), d[:6]...)
			}
		}},
		{lanNetmask, func(d []byte) { out.Netmask = address(d) }},
		{lanGateway, func(d []byte) { out.Gateway = address(d) }},
		{lanVLAN, func(d []byte) { out.VLAN = vlan(d) }},
	} {
		data, err := s.lan(ctx, p.parameter)
		if err != nil {
			return out, err
		}
		p.take(data)
	}
	var lists [3][]byte
	for i, parameter := range []byte{lanSuiteEntries, lanSuites, lanSuiteLevels} {
		if lists[i], err = s.lan(ctx, parameter); err != nil {
			return out, err
		}
	}
	out.Suites = suiteLevels(lists[0], lists[1], lists[2])
	return out, nil
}

// users reads the users one by one.
func (s *Session) users(ctx context.Context, out *Access) error {
	for id := byte(1); id <= maxUsers && (int(id) <= max(out.Limit, 2)); id++ {
		data, err := s.wire.call(ctx, request{command: types.CommandGetUserAccess, data: []byte{presentChannel, id}})
		if completion(err) != types.CodeOK {
			continue // an ID that it has no user for
		}
		if err != nil {
			return err
		}
		if len(data) < 4 {
			return fmt.Errorf("get user access: reply of %d bytes is too short", len(data))
		}
		u, limit := parseUser(id, data)
		out.Limit = limit
		name, err := s.wire.call(ctx, request{command: types.CommandGetUsername, data: []byte{id}})
		if err != nil && completion(err) == types.CodeOK {
			return err
		}
		u.Name = printable(string(name[:min(len(name), maxUsername)]))
		out.Users = append(out.Users, u)
	}
	return nil
}

// parseUser decodes the reply to Get User Access (§22.27).
func parseUser(id byte, data []byte) (u User, limit int) {
	const known, enabled = 0xc0, 0x40
	u = User{ID: id, Messaging: data[3]&0x10 != 0, Privilege: privilege(data[3] & 0x0f)}
	// Older firmware does not tell whether a user is enabled: one that may use the
	// channel counts as enabled.
	u.Enabled = data[1]&known == enabled || data[1]&known == 0 && u.Messaging
	return u, int(data[0] & 0x3f)
}

// privilege names a privilege level (§6.8).
func privilege(level byte) string {
	switch level {
	case 1:
		return "callback"
	case 2:
		return "user"
	case 3:
		return "operator"
	case 4:
		return "administrator"
	case 5:
		return "oem"
	}
	return "none"
}

// lan is Get LAN Configuration Parameters (§23.2); nil: the BMC does not tell.
func (s *Session) lan(ctx context.Context, parameter byte) ([]byte, error) {
	data, err := s.wire.call(ctx, request{command: types.CommandGetLanConfigParam, data: []byte{presentChannel, parameter, 0, 0}})
	if completion(err) != types.CodeOK {
		return nil, nil
	}
	if err != nil || len(data) < 2 {
		return nil, err
	}
	return data[1:], nil // after the parameter's revision
}

func address(d []byte) netip.Addr {
	if len(d) < 4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(d[:4]))
}

func source(d []byte) string {
	if len(d) < 1 {
		return ""
	}
	switch d[0] & 0x0f {
	case 1:
		return "static"
	case 2:
		return "dhcp"
	case 3:
		return "bios"
	case 4:
		return "other"
	}
	return ""
}

func vlan(d []byte) int {
	const enabled = 0x8000
	if len(d) < 2 {
		return 0
	}
	if v := binary.LittleEndian.Uint16(d); v&enabled != 0 {
		return int(v & 0x0fff)
	}
	return 0
}

// suiteLevels joins the entries with their privileges: a nibble each, the first in
// the low half of the second byte (table 23-4, 22 to 24).
func suiteLevels(count, entries, levels []byte) map[int]string {
	if len(count) < 1 || len(entries) < 1 || len(levels) < 1 {
		return nil
	}
	entries, levels = entries[1:], levels[1:] // each begins with a reserved byte
	out := make(map[int]string)
	for i := range min(int(count[0]&0x1f), len(entries), 2*len(levels)) {
		level := levels[i/2] >> (4 * (i % 2)) & 0x0f
		if level != 0 {
			out[int(entries[i])] = privilege(level)
		}
	}
	return out
}
