package netboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/pin/tftp/v3"
	"golang.org/x/sys/unix"
)

// Lock-step TFTP stands still for a whole time-out per lost packet, so the
// time-out is short and there are many tries: 5 s in all for one packet, which
// a link that firmware resets may need.
const (
	tftpTimeout   = 100 * time.Millisecond
	tftpRetries   = 50
	tftpBlockSize = 1468 // one Ethernet frame of 1500 with IPv4 and UDP headers
)

// newTFTP serves the loaders from memory; nothing else can be read, nothing
// can be written.
func (s *Server) newTFTP(ctx context.Context, loaders map[string][]byte) *tftp.Server {
	t := tftp.NewServer(func(name string, w io.ReaderFrom) error {
		return s.serveTFTP(ctx, name, w, loaders)
	}, nil)
	t.SetTimeout(tftpTimeout)
	t.SetRetries(tftpRetries)
	t.SetBackoff(func(int) time.Duration { return 0 })
	t.SetBlockSize(tftpBlockSize)
	return t
}

func (s *Server) serveTFTP(ctx context.Context, name string, w io.ReaderFrom, loaders map[string][]byte) error {
	start := time.Now()
	ev := Event{Kind: KindTFTPRead, Detail: cut(printable(name), 200)}
	if t, ok := w.(tftp.OutgoingTransfer); ok {
		peer := t.RemoteAddr()
		ev.Address = addr4(peer.IP)
		id, _ := s.who(ev.Address)
		ev.MAC, ev.Node, ev.Arch = id.mac, id.node, id.arch
	}
	// Some firmware asks for "/name", some for "./name".
	data, ok := loaders[strings.TrimPrefix(strings.TrimPrefix(name, "."), "/")]
	if !ok {
		ev.Kind = KindTFTPRefused
		s.observe(ev)
		return fmt.Errorf("no such boot loader: %s", ev.Detail)
	}
	n, err := w.ReadFrom(&loaderReader{Reader: bytes.NewReader(data), ctx: ctx})
	ev.Bytes, ev.Duration = n, time.Since(start)
	if err != nil {
		// EDK2 first asks for the size alone, and aborts when it has it.
		if n == 0 && strings.Contains(err.Error(), "code=") {
			return nil
		}
		ev.Kind, ev.Detail = KindTFTPFailed, fmt.Sprintf("%s: broke off after %d of %d bytes: %v", ev.Detail, n, len(data), err)
	}
	s.observe(ev)
	return nil
}

// loaderReader ends the transfer when the server ends. It can seek, so that
// option tsize is answered.
type loaderReader struct {
	*bytes.Reader
	ctx context.Context
}

func (r *loaderReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, errors.New("boot server is shutting down")
	}
	return r.Reader.Read(b)
}

func listenTFTP(ctx context.Context, ifi *net.Interface, at netip.AddrPort) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		return errors.Join(packetInfo(network, address, c), bindToDevice(ifi.Name, false)(network, address, c))
	}}
	pc, err := lc.ListenPacket(ctx, "udp4", at.String())
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}

// packetInfo asks for the interface of each packet, by which the library finds
// the MTU. It asks so itself, but too late for a packet that comes before: that
// transfer would get blocks of 512 bytes.
func packetInfo(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1) })
	return errors.Join(cerr, err)
}
