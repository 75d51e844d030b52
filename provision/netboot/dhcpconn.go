package netboot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// dhcpConn is the server port of one interface: a UDP socket bound to the
// device, which also keeps other servers off the port, and a packet socket to
// reach clients that do not answer ARP yet.
type dhcpConn struct {
	udp     *net.UDPConn
	packet  *socket.Conn // AF_PACKET, SOCK_DGRAM: the kernel writes the Ethernet header
	ifindex int
	source  netip.Addr
}

func listenDHCP(ctx context.Context, ifi *net.Interface, source netip.Addr) (*dhcpConn, error) {
	lc := net.ListenConfig{Control: bindToDevice(ifi.Name, true)}
	pc, err := lc.ListenPacket(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", dhcpv4.ServerPort))
	if err != nil {
		return nil, err
	}
	// Protocol 0: the socket only sends and receives nothing.
	raw, err := socket.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0, "netboot-dhcp", nil)
	if err != nil {
		pc.Close()
		return nil, fmt.Errorf("packet socket (needs CAP_NET_RAW): %w", err)
	}
	return &dhcpConn{udp: pc.(*net.UDPConn), packet: raw, ifindex: ifi.Index, source: source}, nil
}

// bindToDevice makes a socket receive and send on one interface only.
func bindToDevice(name string, broadcast bool) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			err = unix.BindToDevice(int(fd), name)
			if err == nil && broadcast {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
			}
		})
		return errors.Join(cerr, err)
	}
}

func (c *dhcpConn) close() error {
	return errors.Join(c.udp.Close(), c.packet.Close())
}

// send sends a reply where the answer says.
func (c *dhcpConn) send(ctx context.Context, a Answer) error {
	payload := a.Reply.ToBytes()
	if len(a.MAC) == 0 {
		_, err := c.udp.WriteToUDPAddrPort(payload, a.To)
		return err
	}
	to := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: c.ifindex, Halen: uint8(len(a.MAC))}
	copy(to.Addr[:], a.MAC)
	return c.packet.Sendto(ctx, appendUDP(nil, c.source, a.To, payload), 0, &to)
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// appendUDP appends an IPv4 header (RFC 791), a UDP header from the DHCP
// server port (RFC 768) and the payload.
func appendUDP(b []byte, from netip.Addr, to netip.AddrPort, payload []byte) []byte {
	const ipLen, udpLen = 20, 8
	src, dst := from.As4(), to.Addr().As4()
	start := len(b)
	b = append(b, 0x45, 0x10) // version 4, 5 words; low delay
	b = binary.BigEndian.AppendUint16(b, uint16(ipLen+udpLen+len(payload)))
	b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0) // no fragment, TTL 64
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	binary.BigEndian.PutUint16(b[start+10:], ^sum16(0, b[start:]))
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, dhcpv4.ServerPort)
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	b = append(b, 0, 0)
	b = append(b, payload...)
	pseudo := sum16(0, src[:])
	pseudo = sum16(uint32(pseudo), dst[:])
	pseudo = sum16(uint32(pseudo), []byte{0, unix.IPPROTO_UDP, byte((udpLen + len(payload)) >> 8), byte(udpLen + len(payload))})
	check := ^sum16(uint32(pseudo), b[udp:])
	if check == 0 {
		check = 0xffff // zero means "no checksum"
	}
	binary.BigEndian.PutUint16(b[udp+6:], check)
	return b
}

// sum16 is the ones' complement sum of RFC 1071.
func sum16(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// serveDHCP answers until the socket is closed.
func (s *Server) serveDHCP(ctx context.Context, c *dhcpConn, r *Responder) error {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// ENETDOWN and the like pass when the link comes back; the device
			// being gone does not.
			if _, gone := net.InterfaceByIndex(c.ifindex); gone != nil {
				return fmt.Errorf("DHCP on %s: interface is gone: %w", s.Interface, err)
			}
			s.log().Warn("netboot: DHCP receive", "interface", s.Interface, "err", err)
			continue
		}
		a := r.Handle(buf[:n])
		if len(a.Seen.MAC) == 0 {
			a.Seen.Detail += " (from " + from.String() + ")"
		}
		s.remember(a.Seen)
		s.observe(a.Seen)
		if a.Reply == nil {
			continue
		}
		if err := c.send(ctx, a); err != nil {
			s.log().Warn("netboot: DHCP reply not sent", "interface", s.Interface, "node", a.Seen.Node,
				"mac", a.Seen.MAC.String(), "to", a.To, "err", err)
			continue
		}
		s.observe(a.Sent)
	}
}
