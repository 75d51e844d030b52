package simrack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/pin/tftp/v3"
)

// loaded is what iPXE has fetched and would start.
type loaded struct {
	kernel  []byte
	args    string
	token   string
	address netip.Addr
}

// lease is what a DHCP exchange gave.
type lease struct {
	address  netip.Addr
	server   netip.Addr // of the boot file
	bootFile string
}

// firmware boots over the network as UEFI does: DHCP, the loader by TFTP, and
// what the loader does. It tries for as long as firmware does, and returns nil
// when the next boot device is due or ctx ends.
func (m *machine) firmware(ctx context.Context) *loaded {
	if m.mac == nil || m.node.BootNIC().Network == nil {
		return nil
	}
	boots := m.rack.count(m.node.Name, func(c *Counters) { c.NetworkBoots++ }).NetworkBoots
	m.tty.print(fmt.Sprintf(">>Start PXE over IPv4 on MAC %s", m.mac))
	ctx, cancel := context.WithTimeout(ctx, m.rack.patient())
	defer cancel()
	for ctx.Err() == nil {
		l, err := m.dhcp(ctx, false)
		if err == nil {
			err = m.readLoader(ctx, l)
		}
		if err != nil {
			m.log.Info("firmware: no loader", "err", err)
			m.tty.print("PXE-E16: " + err.Error())
			sleep(ctx, m.rack.retry())
			continue
		}
		if f, ok := m.rack.fault(m.node.Name, HangAfterLoader); ok && boots > f.After {
			m.log.Info("loader hangs")
			m.tty.print("iPXE initialising devices...")
			<-ctx.Done()
			return nil
		}
		switch image, err := m.ipxe(ctx); {
		case err == nil:
			return image
		case errors.Is(err, errNextDevice):
			m.log.Info("iPXE: next boot device", "err", err)
			m.tty.print("iPXE: " + err.Error())
			return nil
		default:
			m.log.Info("iPXE failed; firmware tries again", "err", err)
			m.tty.print("iPXE: " + err.Error())
			sleep(ctx, m.rack.retry())
		}
	}
	return nil
}

// dhcp is one DORA exchange by the firmware or by iPXE, repeated until there
// is an answer. The address is then the machine's.
func (m *machine) dhcp(ctx context.Context, ipxe bool) (lease, error) {
	seg := m.wires.segments[m.node.BootNIC().Network.Name]
	if seg == nil {
		return lease{}, fmt.Errorf("nothing serves DHCP on network %s", m.node.BootNIC().Network.Name)
	}
	packets, unlisten := seg.listen(m.mac)
	defer unlisten()
	pause := m.rack.retry()
	for {
		discover := m.packet(ipxe, dhcpv4.MessageTypeDiscover)
		offer, err := m.exchange(ctx, seg, packets, discover, pause, dhcpv4.MessageTypeOffer)
		if err == nil {
			request := m.packet(ipxe, dhcpv4.MessageTypeRequest)
			request.TransactionID = discover.TransactionID
			request.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
			request.UpdateOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
			var ack *dhcpv4.DHCPv4
			if ack, err = m.exchange(ctx, seg, packets, request, pause, dhcpv4.MessageTypeAck); err == nil {
				return m.bind(ack)
			}
		}
		if ctx.Err() != nil {
			return lease{}, fmt.Errorf("DHCP: %w", err)
		}
		pause = min(2*pause, 4*m.rack.retry())
	}
}

var errSilence = errors.New("no answer")

// exchange sends a packet and waits for its answer of a type.
func (m *machine) exchange(ctx context.Context, seg *segment, packets <-chan *dhcpv4.DHCPv4, p *dhcpv4.DHCPv4, wait time.Duration, want dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	if !m.lost() {
		if err := seg.broadcast(ctx, m.mac, p); err != nil {
			return nil, err
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case a := <-packets:
			if a.TransactionID != p.TransactionID || m.lost() {
				continue
			}
			if a.MessageType() == want {
				return a, nil
			}
			if a.MessageType() == dhcpv4.MessageTypeNak {
				return nil, fmt.Errorf("refused: %s", a.Message())
			}
		case <-timer.C:
			return nil, errSilence
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (m *machine) lost() bool {
	f, ok := m.rack.fault(m.node.Name, LostPackets)
	return ok && m.rng.Float64() < f.Share
}

// packet is what EDK2 sends as an x64 UEFI machine (PXE 2.1 §2.2.3, RFC 4578),
// or what iPXE sends on top.
func (m *machine) packet(ipxe bool, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	guid := sha256.Sum256([]byte(m.node.Name))
	p := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, ClientHWAddr: m.mac,
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
		Options: dhcpv4.Options{}}
	for i := range p.TransactionID {
		p.TransactionID[i] = byte(m.rng.Uint32())
	}
	p.UpdateOption(dhcpv4.OptMessageType(t))
	p.UpdateOption(dhcpv4.OptMaxMessageSize(1472))
	p.UpdateOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName))
	p.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016"))
	p.UpdateOption(dhcpv4.OptClientArch(iana.EFI_BC))
	p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16}))
	p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, append([]byte{0}, guid[:16]...)))
	if ipxe {
		p.UpdateOption(dhcpv4.OptUserClass("iPXE"))
		// 19: HTTP, 0x24: EFI, 0x15: bzImage are there (RFC 3942 site-local option 175).
		p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(175), []byte{19, 1, 1, 0x24, 1, 1, 0x15, 1, 1}))
	}
	return p
}

// bind takes the address.
func (m *machine) bind(ack *dhcpv4.DHCPv4) (lease, error) {
	var l lease
	l.address, _ = netip.AddrFromSlice(ack.YourIPAddr.To4())
	l.server, _ = netip.AddrFromSlice(ack.ServerIPAddr.To4())
	l.bootFile = ack.BootFileName
	if f := ack.GetOneOption(dhcpv4.OptionBootfileName); len(f) > 0 {
		l.bootFile = string(f)
	}
	if !l.address.IsValid() {
		return l, errors.New("DHCP: an answer without an address")
	}
	if err := m.wires.addAddress(l.address); err != nil {
		return l, err
	}
	m.has = l.address
	m.rack.count(m.node.Name, func(c *Counters) { c.Leases++ })
	m.log.Info("lease", "address", l.address, "file", l.bootFile)
	return l, nil
}

// readLoader reads the boot file by TFTP and throws it away.
func (m *machine) readLoader(ctx context.Context, l lease) error {
	if !l.server.IsValid() || l.bootFile == "" {
		return errors.New("DHCP: no boot file")
	}
	c, err := tftp.NewClient(netip.AddrPortFrom(l.server, 69).String())
	if err == nil {
		err = c.SetLocalAddr(l.address.String())
	}
	if err != nil {
		return err
	}
	c.SetTimeout(500 * time.Millisecond)
	c.SetRetries(6)
	c.SetBackoff(func(int) time.Duration { return 0 })
	c.SetBlockSize(1468)
	file, err := c.Receive(l.bootFile, "octet")
	if err != nil {
		return fmt.Errorf("TFTP %s: %w", l.bootFile, err)
	}
	if n, err := file.WriteTo(untilDone{ctx}); err != nil || n == 0 {
		return fmt.Errorf("TFTP %s: broke off after %d bytes: %w", l.bootFile, n, err)
	}
	return nil
}

// untilDone takes everything until its machine loses its power.
type untilDone struct{ ctx context.Context }

func (u untilDone) Write(b []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, u.ctx.Err()
	}
	return len(b), nil
}

var _ io.Writer = untilDone{}
