package netboot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Responder decides what is answered to a DHCPv4 packet. It holds no state and
// does no I/O: the same packet gets the same answer.
type Responder struct {
	Address      netip.Addr   // the server's; server identifier and next server
	Prefix       netip.Prefix // of the directly attached network
	Gateway      netip.Addr   // zero: none
	DNS          []netip.Addr
	Lease        time.Duration
	HTTP         string // base URL of the boot service, no trailing slash
	Loaders      map[Arch]Loader
	Reservations func(mac net.HardwareAddr) (Reservation, bool)
}

// Answer is what to do about a packet.
type Answer struct {
	Seen  Event            // what came; Kind is never empty
	Sent  Event            // what Reply is; Kind is empty when there is no reply
	Reply *dhcpv4.DHCPv4   // nil: answer nothing
	To    netip.AddrPort   // where Reply goes
	MAC   net.HardwareAddr // set: send the frame to this MAC, since nobody answers ARP for To yet
}

// userClassIPXE is what iPXE says of itself in option 77.
const userClassIPXE = "iPXE"

// iPXE's encapsulated options (RFC 3942 site-local option 175), from
// https://ipxe.org/howto/dhcpd.
const (
	optionIPXE    = dhcpv4.GenericOptionCode(175)
	ipxePriority  = 1
	ipxeNoPXEDHCP = 176 // do not wait for a ProxyDHCP offer: saves 2 s a boot
)

// Handle decides what to answer to one UDP payload received on the server
// port of the interface.
func (r *Responder) Handle(packet []byte) Answer {
	req, err := dhcpv4.FromBytes(packet)
	if err != nil {
		return invalid(Event{}, fmt.Sprintf("%d bytes that are not DHCP: %v", len(packet), err))
	}
	seen := describe(req)
	if req.OpCode != dhcpv4.OpcodeBootRequest {
		return invalid(seen, "a reply came to the server port: another DHCP server is on this network")
	}
	if req.HWType != 1 || len(req.ClientHWAddr) != 6 {
		return invalid(seen, fmt.Sprintf("hardware type %d with an address of %d bytes is not Ethernet", req.HWType, len(req.ClientHWAddr)))
	}
	res, ok := r.Reservations(req.ClientHWAddr)
	if !ok {
		seen.Kind = KindForeignMAC
		seen.Detail = "no reservation; " + strings.ToLower(req.MessageType().String())
		return Answer{Seen: seen}
	}
	seen.Node, seen.Address = res.Node, res.Address
	prefix, ok := r.prefixFor(req, res)
	if !ok {
		return invalid(seen, fmt.Sprintf("reserved address %s is not in %s, the network it asks from", res.Address, prefix))
	}
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		seen.Kind = KindDHCPDiscover
		return r.answer(req, res, prefix, seen, dhcpv4.MessageTypeOffer)
	case dhcpv4.MessageTypeRequest:
		return r.request(req, res, prefix, seen)
	case dhcpv4.MessageTypeInform:
		seen.Kind = KindDHCPInform
		if has := addr4(req.ClientIPAddr); has != res.Address {
			return invalid(seen, fmt.Sprintf("informs that it uses %s, reserved is %s", has, res.Address))
		}
		return r.answer(req, res, prefix, seen, dhcpv4.MessageTypeAck)
	case dhcpv4.MessageTypeDecline:
		seen.Kind = KindDHCPDecline
		seen.Detail = fmt.Sprintf("the node found another machine using %s: find it by ARP and take the address from it", res.Address)
	case dhcpv4.MessageTypeRelease:
		seen.Kind = KindDHCPRelease
	default:
		return invalid(seen, fmt.Sprintf("message type %s is not for a server", req.MessageType()))
	}
	return Answer{Seen: seen}
}

func invalid(seen Event, why string) Answer {
	seen.Kind, seen.Detail = KindDHCPInvalid, why
	return Answer{Seen: seen}
}

// describe fills an event with what the client says of itself.
func describe(req *dhcpv4.DHCPv4) Event {
	fw, _ := firmwareIn(req)
	return Event{
		MAC:         bytes.Clone(req.ClientHWAddr),
		Arch:        fw.arch,
		UserClass:   printable(userClass(req)),
		VendorClass: printable(req.ClassIdentifier()),
	}
}

// printable keeps what a stranger sends from reaching a terminal as it is.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, s)
}

// userClass reads option 77 both as RFC 3004 has it, with a length before each
// item, and as iPXE and others send it, plain.
func userClass(req *dhcpv4.DHCPv4) string {
	b := req.GetOneOption(dhcpv4.OptionUserClassInformation)
	if len(b) > 1 && int(b[0]) == len(b)-1 {
		b = b[1:]
	}
	return string(b)
}

// firmwareIn finds the first architecture of option 93, a list, that is known.
func firmwareIn(req *dhcpv4.DHCPv4) (firmware, bool) {
	b := req.GetOneOption(dhcpv4.OptionClientSystemArchitectureType)
	for ; len(b) >= 2; b = b[2:] {
		if fw, ok := firmwareOf(iana.Arch(binary.BigEndian.Uint16(b))); ok {
			return fw, true
		}
	}
	return firmware{}, false
}

// prefixFor returns the network of the client, and whether its reserved
// address lies in it.
func (r *Responder) prefixFor(req *dhcpv4.DHCPv4, res Reservation) (netip.Prefix, bool) {
	prefix := r.Prefix
	if res.Prefix.IsValid() {
		prefix = res.Prefix
	}
	if !res.Address.Is4() || !prefix.Contains(res.Address) {
		return prefix, false
	}
	relay := addr4(req.GatewayIPAddr)
	if !isSet(relay) && !r.Prefix.Contains(res.Address) {
		return r.Prefix, false
	}
	return prefix, true
}

// request answers DHCPREQUEST (RFC 2131 §4.3.2).
func (r *Responder) request(req *dhcpv4.DHCPv4, res Reservation, prefix netip.Prefix, seen Event) Answer {
	seen.Kind = KindDHCPRequest
	server := addr4(req.GetOneOption(dhcpv4.OptionServerIdentifier))
	if isSet(server) && server != r.Address {
		seen.Detail = fmt.Sprintf("takes the offer of another DHCP server, %s: turn that off on this network", server)
		return Answer{Seen: seen}
	}
	wants := addr4(req.GetOneOption(dhcpv4.OptionRequestedIPAddress))
	if !isSet(wants) {
		wants = addr4(req.ClientIPAddr)
	}
	if wants != res.Address {
		return r.nak(req, seen, fmt.Sprintf("asked for %s, reserved is %s", wants, res.Address))
	}
	return r.answer(req, res, prefix, seen, dhcpv4.MessageTypeAck)
}

func (r *Responder) nak(req *dhcpv4.DHCPv4, seen Event, why string) Answer {
	reply := r.reply(req, dhcpv4.MessageTypeNak)
	reply.UpdateOption(dhcpv4.OptMessage(why))
	sent := seen
	sent.Kind, sent.Detail = KindDHCPNak, why
	a := Answer{Seen: seen, Sent: sent, Reply: reply, To: netip.AddrPortFrom(broadcast, dhcpv4.ClientPort)}
	if relay := addr4(req.GatewayIPAddr); isSet(relay) {
		// The relay must broadcast it: the client's address is not valid (§4.3.2).
		reply.SetBroadcast()
		a.To = netip.AddrPortFrom(relay, dhcpv4.ServerPort)
	}
	return a
}

// reply starts a reply: the fields of RFC 2131 table 3 that come from the request.
func (r *Responder) reply(req *dhcpv4.DHCPv4, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	reply := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        req.HWType,
		TransactionID: req.TransactionID,
		Flags:         req.Flags,
		ClientIPAddr:  net.IPv4zero,
		YourIPAddr:    net.IPv4zero,
		ServerIPAddr:  net.IPv4zero,
		GatewayIPAddr: req.GatewayIPAddr,
		ClientHWAddr:  req.ClientHWAddr,
		Options:       make(dhcpv4.Options, 16),
	}
	reply.UpdateOption(dhcpv4.OptMessageType(t))
	reply.UpdateOption(dhcpv4.OptServerIdentifier(r.Address.AsSlice()))
	// Echoed where present: RFC 6842 (61), RFC 3046 §2.2 (82), PXE 2.1 (97).
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionClientIdentifier, dhcpv4.OptionRelayAgentInformation, dhcpv4.OptionClientMachineIdentifier} {
		if v := req.GetOneOption(code); len(v) > 0 {
			reply.UpdateOption(dhcpv4.OptGeneric(code, v))
		}
	}
	return reply
}

// answer builds an OFFER or ACK with the reserved address and the boot file.
func (r *Responder) answer(req *dhcpv4.DHCPv4, res Reservation, prefix netip.Prefix, seen Event, t dhcpv4.MessageType) Answer {
	reply := r.reply(req, t)
	gateway := r.Gateway
	if res.Prefix.IsValid() {
		gateway = res.Gateway
	}
	reply.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(prefix.Bits(), 32)))
	if gateway.IsValid() {
		reply.UpdateOption(dhcpv4.OptRouter(gateway.AsSlice()))
	}
	if len(r.DNS) > 0 {
		ips := make([]net.IP, len(r.DNS))
		for i, a := range r.DNS {
			ips[i] = a.AsSlice()
		}
		reply.UpdateOption(dhcpv4.OptDNS(ips...))
	}
	if res.Hostname != "" {
		reply.UpdateOption(dhcpv4.OptHostName(res.Hostname))
	}
	if seen.Kind == KindDHCPInform {
		// No address and no lease: the client has one (RFC 2131 §4.3.5).
		reply.ClientIPAddr = req.ClientIPAddr
	} else {
		reply.YourIPAddr = res.Address.AsSlice()
		reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(r.Lease))
		if t == dhcpv4.MessageTypeAck {
			reply.ClientIPAddr = req.ClientIPAddr
		}
	}
	detail := r.bootFile(req, reply)
	sent := seen
	sent.Kind, sent.Detail = KindDHCPAck, detail
	if t == dhcpv4.MessageTypeOffer {
		sent.Kind = KindDHCPOffer
	}
	a := Answer{Seen: seen, Sent: sent, Reply: reply}
	a.To, a.MAC = destination(req, res.Address)
	return a
}

// bootFile adds what the client's firmware or iPXE needs to go on, and says
// what it added.
func (r *Responder) bootFile(req, reply *dhcpv4.DHCPv4) string {
	vendor := req.ClassIdentifier()
	fw, known := firmwareIn(req)
	switch {
	case userClass(req) == userClassIPXE:
		reply.UpdateOption(dhcpv4.OptGeneric(optionIPXE, []byte{ipxeNoPXEDHCP, 1, 1, ipxePriority, 1, 1}))
		return r.setFile(reply, r.HTTP+PathScript+"?mac="+req.ClientHWAddr.String())
	case strings.HasPrefix(vendor, "HTTPClient"):
		l, ok := r.Loaders[fw.arch]
		if !known || !ok {
			return noLoader(req)
		}
		// UEFI 2.10 §24.7.3.1: without this echo the offer is ignored.
		reply.UpdateOption(dhcpv4.OptClassIdentifier("HTTPClient"))
		return r.setFile(reply, r.HTTP+pathLoader+l.Name)
	case strings.HasPrefix(vendor, "PXEClient"):
		if !known && !req.Options.Has(dhcpv4.OptionClientSystemArchitectureType) {
			fw.arch = ArchBIOS // PXE before RFC 4578 had no option 93
		}
		l, ok := r.Loaders[fw.arch]
		if !ok {
			return noLoader(req)
		}
		// PXE 2.1 §2.2.3: this server is both DHCP and boot server. Sub-option
		// 6 with bit 3: use the boot file of this very offer, ask nobody else.
		reply.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient"))
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
		reply.UpdateOption(dhcpv4.OptTFTPServerName(r.Address.String()))
		return r.setFile(reply, l.Name)
	}
	return ""
}

func noLoader(req *dhcpv4.DHCPv4) string {
	return fmt.Sprintf("no boot loader for architecture %x (option 93): the node cannot boot from here", req.GetOneOption(dhcpv4.OptionClientSystemArchitectureType))
}

// setFile sets the boot file in the header, where old firmware looks, and as
// option 67, where UEFI HTTP boot looks.
func (r *Responder) setFile(reply *dhcpv4.DHCPv4, name string) string {
	reply.ServerIPAddr = r.Address.AsSlice()
	if len(name) < 128 {
		reply.BootFileName = name
	}
	reply.UpdateOption(dhcpv4.OptBootFileName(name))
	return name
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// destination is RFC 2131 §4.1: to the relay's server port, else to the
// address the client already has, else broadcast where it asks for that, else
// to the new address in a frame to its MAC.
func destination(req *dhcpv4.DHCPv4, yours netip.Addr) (netip.AddrPort, net.HardwareAddr) {
	if relay := addr4(req.GatewayIPAddr); isSet(relay) {
		return netip.AddrPortFrom(relay, dhcpv4.ServerPort), nil
	}
	if addr4(req.ClientIPAddr) == yours {
		return netip.AddrPortFrom(yours, dhcpv4.ClientPort), nil
	}
	if req.IsBroadcast() {
		return netip.AddrPortFrom(broadcast, dhcpv4.ClientPort), nil
	}
	return netip.AddrPortFrom(yours, dhcpv4.ClientPort), req.ClientHWAddr
}

func addr4(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}

func isSet(a netip.Addr) bool { return a.Is4() && !a.IsUnspecified() }
