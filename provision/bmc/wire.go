package bmc

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	packetSize = 1024 // a longer datagram is cut, and then no packet of ours
	batchSize  = 64   // packets per system call
	// socketBuffer holds the replies of a fleet while the loop is busy; the kernel
	// may grant less.
	socketBuffer = 4 << 20
)

// datagram is one packet and the BMC that it comes from or goes to.
type datagram struct {
	peer netip.AddrPort
	data []byte
	// err says that the packet to peer did not arrive, or could not be sent.
	err error
}

// packetConn is what the engine needs of one UDP socket. Tests put a bad network
// between it and the real one.
type packetConn interface {
	// receive waits for packets. It uses the room of into's data, and the result
	// is valid until into is used again.
	receive(into []datagram) ([]datagram, error)
	// send returns those that could not be sent, with the reason.
	send(out []datagram) (failed []datagram)
	Close() error
}

// socket is a UDP socket that speaks to all BMCs of one address family.
type socket struct {
	*net.UDPConn
	raw   syscall.RawConn
	batch *ipv4.PacketConn                // its batch calls serve IPv6 sockets as well
	reads []ipv4.Message                  // of receive
	sends []ipv4.Message                  // of send
	peers map[netip.AddrPort]*net.UDPAddr // of send
}

// openSocket opens a socket on a port that the kernel chooses.
func openSocket(v6 bool) (packetConn, error) {
	network, level, option := "udp4", unix.SOL_IP, unix.IP_RECVERR
	if v6 {
		network, level, option = "udp6", unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	conn, err := net.ListenUDP(network, nil)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	// Without it, a socket that serves many peers is not told which of them does
	// not listen.
	var optErr error
	err = raw.Control(func(fd uintptr) { optErr = unix.SetsockoptInt(int(fd), level, option, 1) })
	if err = errors.Join(err, optErr); err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetReadBuffer(socketBuffer) // a smaller one only loses packets
	return &socket{UDPConn: conn, raw: raw, batch: ipv4.NewPacketConn(conn), peers: make(map[netip.AddrPort]*net.UDPAddr)}, nil
}

func (s *socket) receive(into []datagram) ([]datagram, error) {
	for len(s.reads) < len(into) {
		s.reads = append(s.reads, ipv4.Message{Buffers: make([][]byte, 1)})
	}
	for i := range into {
		s.reads[i].Buffers[0] = into[i].data[:cap(into[i].data)]
	}
	n, err := s.batch.ReadBatch(s.reads[:len(into)], 0)
	if err != nil {
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		return s.unreached(into), nil
	}
	for i := range n {
		from, ok := s.reads[i].Addr.(*net.UDPAddr)
		if !ok {
			into[i] = datagram{data: into[i].data[:0]}
			continue
		}
		into[i] = datagram{peer: plain(from.AddrPort()), data: into[i].data[:s.reads[i].N]}
	}
	return into[:n], nil
}

// plain is the one form of an address that the engine compares.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// unreached reads what the network or the kernel reported about packets that
// were sent before.
func (s *socket) unreached(into []datagram) []datagram {
	n := 0
	_ = s.raw.Control(func(fd uintptr) {
		var data [packetSize]byte
		var control [512]byte
		for n < len(into) {
			_, size, _, to, err := unix.Recvmsg(int(fd), data[:], control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			if peer, ok := peerOf(to); ok {
				into[n] = datagram{peer: peer, data: into[n].data[:0], err: reportedError(control[:size])}
				n++
			}
		}
	})
	return into[:n]
}

func peerOf(to unix.Sockaddr) (netip.AddrPort, bool) {
	switch a := to.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 {
			if nic, err := net.InterfaceByIndex(int(a.ZoneId)); err == nil {
				addr = addr.WithZone(nic.Name)
			}
		}
		return plain(netip.AddrPortFrom(addr, uint16(a.Port))), true
	}
	return netip.AddrPort{}, false
}

// reportedError decodes struct sock_extended_err (linux/errqueue.h), whose first
// word is the error number.
func reportedError(control []byte) error {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return err
	}
	for _, m := range messages {
		isError := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR ||
			m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if isError && len(m.Data) >= 4 {
			return syscall.Errno(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return syscall.EHOSTUNREACH
}

func (s *socket) send(out []datagram) (failed []datagram) {
	for len(s.sends) < len(out) {
		s.sends = append(s.sends, ipv4.Message{Buffers: make([][]byte, 1)})
	}
	for i, d := range out {
		s.sends[i].Buffers[0], s.sends[i].Addr = d.data, s.udpAddr(d.peer)
	}
	retried := false
	for at := 0; at < len(out); {
		n, err := s.batch.WriteBatch(s.sends[at:len(out)], 0)
		at += max(n, 0)
		if err == nil {
			retried = false
			continue
		}
		// The first error may be about an earlier packet: reading it cleared it.
		if !retried {
			retried = true
			continue
		}
		out[at].err = err
		failed = append(failed, out[at])
		at, retried = at+1, false
	}
	return failed
}

// udpAddr keeps the addresses in the form that the socket wants.
func (s *socket) udpAddr(peer netip.AddrPort) *net.UDPAddr {
	a := s.peers[peer]
	if a == nil {
		a = net.UDPAddrFromAddrPort(peer)
		s.peers[peer] = a
	}
	return a
}
