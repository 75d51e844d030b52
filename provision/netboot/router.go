package netboot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// iPXE configures IPv4 and IPv6 at the same time and goes on only when both
// have ended. Where no router answers, its five router solicitations take
// 15.75 s (0.25 + 0.5 + 1 + 2 + 4 + 8), which was half of the boot of a
// machine. So the boot server answers them itself, saying that there is no
// router and nothing to configure: lifetime 0, no prefix, no flags (RFC 4861
// §4.2). Only a node whose iPXE has just spoken DHCP gets this answer.

// ipxeWindow is how long after a node's iPXE DHCP its solicitations are answered.
const ipxeWindow = time.Minute

const (
	icmpRouterSolicitation  = 133
	icmpRouterAdvertisement = 134

	ipv6HeaderLen = 40
)

var allRouters = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 2} // of ff02::2, RFC 2464 §7

// routerConn receives router solicitations on one interface. It is a packet
// socket, so that it works where the kernel's IPv6 is turned off.
type routerConn struct {
	conn *socket.Conn
	ifi  *net.Interface
}

func listenRouter(ifi *net.Interface) (*routerConn, error) {
	// Protocol 0 receives nothing until Bind, when the filter is in place.
	c, err := socket.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0, "netboot-router", nil)
	if err != nil {
		return nil, fmt.Errorf("packet socket (needs CAP_NET_RAW): %w", err)
	}
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 1}, // next header
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ipv6HeaderLen, Size: 1}, // ICMPv6 type
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpRouterSolicitation, SkipTrue: 1},
		bpf.RetConstant{Val: 2048},
		bpf.RetConstant{Val: 0},
	})
	if err == nil {
		err = c.SetBPF(filter)
	}
	if err == nil {
		mreq := unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
		copy(mreq.Address[:], allRouters)
		err = c.SetsockoptPacketMreq(unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq)
	}
	if err == nil {
		err = c.Bind(&unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IPV6), Ifindex: ifi.Index})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("packet socket for router solicitations: %w", err), c.Close())
	}
	return &routerConn{conn: c, ifi: ifi}, nil
}

// serveRouter answers until the socket is closed.
func (s *Server) serveRouter(ctx context.Context, c *routerConn) error {
	from := advertiser(c.ifi.HardwareAddr)
	buf := make([]byte, 2048)
	for {
		n, sa, err := c.conn.Recvfrom(ctx, buf, 0)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
				return nil
			}
			if _, gone := net.InterfaceByIndex(c.ifi.Index); gone != nil {
				return fmt.Errorf("router solicitations on %s: interface is gone: %w", s.Interface, err)
			}
			s.log().Warn("netboot: router solicitation receive", "interface", s.Interface, "err", err)
			continue
		}
		ll, ok := sa.(*unix.SockaddrLinklayer)
		if !ok || ll.Halen != 6 {
			continue
		}
		mac := net.HardwareAddr(ll.Addr[:6])
		res, ok := s.runsIPXE(mac, time.Now())
		if !ok {
			continue
		}
		reply, ok := advertise(buf[:n], from)
		if !ok {
			continue
		}
		to := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IPV6), Ifindex: c.ifi.Index, Halen: 6, Addr: ll.Addr}
		if err := c.conn.Sendto(ctx, reply, 0, &to); err != nil {
			s.log().Warn("netboot: router advertisement not sent", "node", res.Node, "mac", mac.String(), "err", err)
			continue
		}
		s.observe(Event{Kind: KindRouterAdvert, MAC: mac, Node: res.Node, Address: res.Address})
	}
}

// runsIPXE says whether a MAC is a node whose iPXE spoke DHCP just now.
func (s *Server) runsIPXE(mac net.HardwareAddr, now time.Time) (Reservation, bool) {
	res, ok := s.Reservations(mac)
	if !ok {
		return res, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.peers[res.Address].ipxe
	return res, !at.IsZero() && now.Sub(at) < ipxeWindow
}

// advertiser is the link-local address that advertisements come from. It is
// made from the MAC, yet not the one that the kernel makes of it: where this
// machine is also a real router, nodes must not take its lifetime for ended.
func advertiser(mac net.HardwareAddr) netip.Addr {
	a := [16]byte{0xfe, 0x80, 8: 0xf1, 9: 0x25}
	copy(a[10:], mac)
	return netip.AddrFrom16(a)
}

// advertise returns the IPv6 packet that answers a router solicitation; false
// when the packet is not a valid one (RFC 4861 §6.1.1).
func advertise(packet []byte, from netip.Addr) ([]byte, bool) {
	const icmpLen, hopLimit = 16, 255
	if len(packet) < ipv6HeaderLen+8 || packet[0]>>4 != 6 || packet[6] != unix.IPPROTO_ICMPV6 || packet[7] != hopLimit ||
		packet[ipv6HeaderLen] != icmpRouterSolicitation || packet[ipv6HeaderLen+1] != 0 {
		return nil, false
	}
	to := netip.AddrFrom16([16]byte(packet[8:24]))
	if to.IsUnspecified() {
		to = netip.IPv6LinkLocalAllNodes() // the frame still goes to one MAC
	} else if !to.IsLinkLocalUnicast() {
		return nil, false
	}
	src, dst := from.As16(), to.As16()
	b := make([]byte, 0, ipv6HeaderLen+icmpLen)
	b = append(b, 0x60, 0, 0, 0, 0, icmpLen, unix.IPPROTO_ICMPV6, hopLimit)
	b = append(append(b, src[:]...), dst[:]...)
	// Hop limit, reachable and retransmission times 0: unspecified.
	b = append(b, icmpRouterAdvertisement, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	sum := sum16(icmpLen+unix.IPPROTO_ICMPV6, b[8:]) // pseudo-header: addresses, length, next header
	binary.BigEndian.PutUint16(b[ipv6HeaderLen+2:], ^sum)
	return b, true
}
