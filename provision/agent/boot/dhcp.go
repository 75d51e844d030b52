package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// Lease is what a DHCPv4 server gave.
type Lease struct {
	Address netip.Prefix
	Gateway netip.Addr // invalid: none
	Server  netip.Addr
	DNS     []netip.Addr
	MTU     int // 0: not given
}

// retransmit are the waits for an answer (RFC 2131 §4.1 starts at 4 s and
// doubles; a first lost packet should not cost that, so it starts lower).
var retransmit = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

// Acquire does one DHCPv4 exchange (RFC 2131 §4.4.1) on the interface, with
// retransmissions. It asks for answers by broadcast, since the interface has
// no address yet. It configures nothing.
func Acquire(ctx context.Context, nic string, mac net.HardwareAddr, log *slog.Logger) (Lease, error) {
	conn, err := listen(ctx, nic)
	if err != nil {
		return Lease{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	x := exchange{conn: conn, mac: mac, log: log}
	started := time.Now()
	discover, err := dhcpv4.NewDiscovery(mac, x.common()...)
	if err != nil {
		return Lease{}, err
	}
	offer, err := x.ask(ctx, discover, started, dhcpv4.MessageTypeOffer)
	if err != nil {
		return Lease{}, fmt.Errorf("discover: %w", err)
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, x.common()...)
	if err != nil {
		return Lease{}, err
	}
	ack, err := x.ask(ctx, request, started, dhcpv4.MessageTypeAck)
	if err != nil {
		return Lease{}, fmt.Errorf("request of %s: %w", offer.YourIPAddr, err)
	}
	return leaseOf(ack)
}

// listen opens UDP port 68 on one interface.
func listen(ctx context.Context, nic string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.BindToDevice(int(fd), nic))
		})
		return errors.Join(err, failed)
	}}
	return lc.ListenPacket(ctx, "udp4", "0.0.0.0:68")
}

type exchange struct {
	conn net.PacketConn
	mac  net.HardwareAddr
	log  *slog.Logger
}

func (x exchange) common() []dhcpv4.Modifier {
	return []dhcpv4.Modifier{
		dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("firstlight-agent")),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU),
	}
}

// ask sends m until an answer of the wanted type comes. A NAK is an error:
// the exchange starts over.
func (x exchange) ask(ctx context.Context, m *dhcpv4.DHCPv4, started time.Time, want dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: 67}
	var sendErr error
	for _, wait := range retransmit {
		m.NumSeconds = uint16(time.Since(started) / time.Second)
		if _, sendErr = x.conn.WriteTo(m.ToBytes(), to); sendErr != nil && !errors.Is(sendErr, os.ErrDeadlineExceeded) {
			// ENETDOWN or ENOBUFS while the link comes up: as good as lost.
			x.log.Debug("cannot send DHCP", "err", sendErr)
		}
		answer, err := x.receive(m.TransactionID, time.Now().Add(wait), want)
		if err == nil || ctx.Err() != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return answer, errors.Join(err, ctx.Err())
		}
	}
	if sendErr != nil {
		return nil, fmt.Errorf("cannot send: %w", sendErr)
	}
	return nil, fmt.Errorf("no answer in %s", time.Since(started).Round(time.Second))
}

func (x exchange) receive(id dhcpv4.TransactionID, until time.Time, want dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	if err := x.conn.SetReadDeadline(until); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		n, from, err := x.conn.ReadFrom(buf)
		if err != nil {
			return nil, err
		}
		m, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || m.TransactionID != id || m.ClientHWAddr.String() != x.mac.String() {
			continue
		}
		switch m.MessageType() {
		case want:
			return m, nil
		case dhcpv4.MessageTypeNak:
			return nil, fmt.Errorf("server %s refuses: %s", from, m.Message())
		}
	}
}

// leaseOf reads an acknowledgement.
func leaseOf(ack *dhcpv4.DHCPv4) (Lease, error) {
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || addr.IsUnspecified() {
		return Lease{}, errors.New("DHCP acknowledgement without an address")
	}
	ones, bits := ack.SubnetMask().Size()
	if bits != 32 || ones == 0 {
		return Lease{}, fmt.Errorf("DHCP acknowledgement of %s has no usable subnet mask (option 1)", addr)
	}
	lease := Lease{Address: netip.PrefixFrom(addr, ones)}
	if routers := ack.Router(); len(routers) > 0 {
		lease.Gateway, _ = netip.AddrFromSlice(routers[0].To4())
	}
	lease.Server, _ = netip.AddrFromSlice(ack.ServerIdentifier().To4())
	for _, s := range ack.DNS() {
		if a, ok := netip.AddrFromSlice(s.To4()); ok {
			lease.DNS = append(lease.DNS, a)
		}
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= 576 {
		lease.MTU = int(mtu)
	}
	return lease, nil
}
