package simrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	etherLen = 14
	ipLen    = 20
	udpLen   = 8
)

// segment is one Ethernet on which simulated NICs speak DHCP before they have
// an address: frames from and to their own MACs, through one packet socket.
type segment struct {
	conn    *socket.Conn
	ifindex int

	mu   sync.Mutex
	nics map[string]chan *dhcpv4.DHCPv4 // by MAC
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func openSegment(ifindex int) (*segment, error) {
	// Protocol 0 receives nothing until Bind, when the filter is in place.
	c, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "simrack", nil)
	if err != nil {
		return nil, fmt.Errorf("packet socket (needs CAP_NET_RAW): %w", err)
	}
	// UDP to the client port, in an IPv4 header without options.
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: etherLen + 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: etherLen + ipLen + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: dhcpv4.ClientPort, SkipTrue: 1},
		bpf.RetConstant{Val: 2048},
		bpf.RetConstant{Val: 0},
	})
	if err == nil {
		err = c.SetBPF(filter)
	}
	if err == nil {
		err = c.Bind(&unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: ifindex})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("packet socket: %w", err), c.Close())
	}
	return &segment{conn: c, ifindex: ifindex, nics: map[string]chan *dhcpv4.DHCPv4{}}, nil
}

// listen gives a NIC its packets until unlisten is called.
func (s *segment) listen(mac net.HardwareAddr) (packets <-chan *dhcpv4.DHCPv4, unlisten func()) {
	c := make(chan *dhcpv4.DHCPv4, 8)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nics[mac.String()] = c
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.nics, mac.String())
	}
}

// receive hands out replies by the MAC that they are for, until the socket is
// closed or ctx ends.
func (s *segment) receive(ctx context.Context) {
	buf := make([]byte, 2048)
	for {
		n, _, err := s.conn.Recvfrom(ctx, buf, 0)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) {
				return
			}
			continue // ENETDOWN, when a test takes the wire down
		}
		if n < etherLen+ipLen+udpLen {
			continue
		}
		p, err := dhcpv4.FromBytes(buf[etherLen+ipLen+udpLen : n])
		if err != nil || p.OpCode != dhcpv4.OpcodeBootReply {
			continue
		}
		s.mu.Lock()
		c := s.nics[p.ClientHWAddr.String()]
		s.mu.Unlock()
		select {
		case c <- p:
		default: // nobody listens, or its buffer is full: lost, as on a NIC
		}
	}
}

// broadcast sends a DHCP packet as firmware does: from 0.0.0.0, to everyone,
// from the NIC's own MAC.
func (s *segment) broadcast(ctx context.Context, mac net.HardwareAddr, p *dhcpv4.DHCPv4) error {
	to := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: s.ifindex, Halen: 6}
	for i := range 6 {
		to.Addr[i] = 0xff
	}
	return s.conn.Sendto(ctx, frame(mac, p.ToBytes()), 0, &to)
}

// frame is Ethernet (RFC 894), IPv4 (RFC 791) and UDP (RFC 768) around a DHCP
// payload from the client port. A UDP checksum of zero means that there is none.
func frame(mac net.HardwareAddr, payload []byte) []byte {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b = append(b, mac...)
	b = append(b, 0x08, 0x00)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipLen+udpLen+len(payload)))
	b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	b = append(b, 0, 0, 0, 0, 255, 255, 255, 255)
	binary.BigEndian.PutUint16(b[etherLen+10:], checksum(b[etherLen:]))
	b = binary.BigEndian.AppendUint16(b, dhcpv4.ClientPort)
	b = binary.BigEndian.AppendUint16(b, dhcpv4.ServerPort)
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	b = append(b, 0, 0)
	return append(b, payload...)
}

// checksum is RFC 1071's over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
