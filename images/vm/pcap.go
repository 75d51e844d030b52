package vm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Snap lengths of a capture: whatever tells how a machine booted is in the first
// bytes of TCP and anywhere in the rest, and images need not be kept twice.
const (
	snapOther = 2048
	snapTCP   = 256
)

// capture writes a bridge's packets to a pcap file (IETF
// draft-ietf-opsawg-pcap: version 2.4, link type Ethernet).
type capture struct {
	fd   int
	file *os.File
	out  *bufio.Writer
	done chan error
}

// newCapture opens the file and the socket; it runs inside the namespace.
func newCapture(path, bridge string) (*capture, error) {
	iface, err := net.InterfaceByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("capture of %s: %w", bridge, err)
	}
	all := uint16(unix.ETH_P_ALL)>>8 | uint16(unix.ETH_P_ALL)<<8 // network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return nil, fmt.Errorf("capture of %s: %w", bridge, err)
	}
	// The time-out is how often the reader looks whether it is to end.
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: iface.Index}),
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(iface.Index), Type: unix.PACKET_MR_PROMISC}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	// More room for bursts where the kernel allows it.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("capture of %s: %w", bridge, err)
	}
	f, err := os.Create(path)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("capture: %w", err)
	}
	c := &capture{fd: fd, file: f, out: bufio.NewWriterSize(f, 64<<10), done: make(chan error, 1)}
	if _, err := f.Write(appendPcapHeader(nil)); err != nil {
		unix.Close(fd)
		return nil, errors.Join(fmt.Errorf("capture: %w", err), f.Close())
	}
	return c, nil
}

// run reads until ctx ends. The file is whole up to the last quiet moment at
// any time, so that a test can read it meanwhile.
func (c *capture) run(ctx context.Context) {
	defer close(c.done)
	defer unix.Close(c.fd)
	buf := make([]byte, 1<<17)
	record := make([]byte, 0, 16+snapOther)
	var err error
	for ctx.Err() == nil && err == nil {
		n, _, rerr := unix.Recvfrom(c.fd, buf, 0)
		switch {
		case errors.Is(rerr, unix.EAGAIN):
			err = c.out.Flush()
		case errors.Is(rerr, unix.EINTR):
		case rerr != nil:
			err = rerr
		default:
			record = appendPcapPacket(record[:0], time.Now(), buf[:n])
			_, err = c.out.Write(record)
		}
	}
	c.done <- errors.Join(err, c.out.Flush(), c.file.Close())
}

// appendPcapHeader appends the file header: magic for microseconds, version,
// two reserved words, snap length, link type.
func appendPcapHeader(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, 0xa1b2c3d4)
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, 4)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, snapOther)
	return le.AppendUint32(b, 1)
}

// appendPcapPacket appends one packet's record, cut at its snap length.
func appendPcapPacket(b []byte, at time.Time, packet []byte) []byte {
	snap := snapOther
	// Ethernet type IPv4 at 12, protocol 9 bytes into the IP header.
	if len(packet) > 23 && packet[12] == 0x08 && packet[13] == 0 && packet[23] == unix.IPPROTO_TCP {
		snap = snapTCP
	}
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(at.Unix()))
	b = le.AppendUint32(b, uint32(at.Nanosecond()/1000))
	b = le.AppendUint32(b, uint32(min(len(packet), snap)))
	b = le.AppendUint32(b, uint32(len(packet)))
	return append(b, packet[:min(len(packet), snap)]...)
}
