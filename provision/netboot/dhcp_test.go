package netboot

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

func testResponder() *Responder {
	return &Responder{Address: serverAddr, Prefix: network, Gateway: netip.MustParseAddr("10.99.0.254"),
		DNS: []netip.Addr{netip.MustParseAddr("10.99.0.53")}, Lease: time.Hour, HTTP: "http://10.99.0.1:8080",
		Loaders: DefaultLoaders(), Reservations: reserveNode}
}

// client builds what a client sends; the option lists are those of real ones.
func client(t testing.TB, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(nodeMAC), dhcpv4.WithMessageType(kind),
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4})}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func opt(code int, v ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), v)
}

func optText(code int, s string) dhcpv4.Modifier { return opt(code, []byte(s)...) }

var uuid = append([]byte{0}, bytes.Repeat([]byte{0xab}, 16)...)

// edk2 is OVMF's PXE client: broadcast flag, options 57, 93, 94, 97, 60.
func edk2(d *dhcpv4.DHCPv4) {
	d.SetBroadcast()
	for _, m := range []dhcpv4.Modifier{opt(57, 0x05, 0xc0), opt(93, 0, 7), opt(94, 1, 3, 0), opt(97, uuid...),
		optText(60, "PXEClient:Arch:00007:UNDI:003000"), opt(55, 1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97, 128, 129, 130, 131, 132, 133, 134, 135)} {
		m(d)
	}
}

// ipxe is iPXE's client: user class without RFC 3004 lengths, option 175.
func ipxe(d *dhcpv4.DHCPv4) {
	for _, m := range []dhcpv4.Modifier{opt(57, 0x05, 0xc0), opt(93, 0, 7), opt(94, 1, 3, 10), opt(97, uuid...),
		optText(60, "PXEClient:Arch:00007:UNDI:003010"), optText(77, "iPXE"), opt(61, append([]byte{1}, nodeMAC...)...),
		opt(175, 177, 5, 1, 0x1a, 0xf4, 0x10, 0, 19, 1, 1)} {
		m(d)
	}
}

func requestOf(addr netip.Addr) dhcpv4.Modifier { return opt(50, addr.AsSlice()...) }
func serverIs(addr netip.Addr) dhcpv4.Modifier  { return opt(54, addr.AsSlice()...) }

// told is what a reply says, for comparing.
type told struct {
	Kind    string
	Yours   string
	To      string
	Framed  bool // sent to the MAC
	File    string
	Options map[uint8]string
}

func tell(a Answer) told {
	if a.Reply == nil {
		return told{Kind: "none"}
	}
	w := told{Kind: a.Reply.MessageType().String(), To: a.To.String(), Framed: a.MAC != nil, File: a.Reply.BootFileName, Options: map[uint8]string{}}
	if y := addr4(a.Reply.YourIPAddr); isSet(y) {
		w.Yours = y.String()
	}
	for code, v := range a.Reply.Options {
		switch code {
		case 53: // Kind
		case 12, 56, 60, 66, 67:
			w.Options[code] = string(v)
		default:
			w.Options[code] = fmt.Sprintf("%x", v)
		}
	}
	return w
}

func with(base map[uint8]string, more ...any) map[uint8]string {
	out := map[uint8]string{}
	for k, v := range base {
		out[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		out[uint8(more[i].(int))] = more[i+1].(string)
	}
	return out
}

func TestHandle(t *testing.T) {
	lease := map[uint8]string{1: "ffffff00", 3: "0a6300fe", 6: "0a630035", 12: "n1", 51: "00000e10", 54: "0a630001"}
	const script = "http://10.99.0.1:8080/boot/script?mac=52:54:00:0a:00:11"
	echo97 := fmt.Sprintf("%x", uuid)
	pxe := with(lease, 60, "PXEClient", 43, "060108ff", 66, "10.99.0.1", 67, "snponly.efi", 97, echo97)
	bcast, direct := "255.255.255.255:68", "10.99.0.11:68"
	relayed := func(d *dhcpv4.DHCPv4) {
		d.GatewayIPAddr = net.IP{10, 99, 0, 2}
		opt(82, 1, 4, 'e', 't', 'h', '7', 2, 1, 'x')(d)
	}
	discover, request := dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest
	other := netip.MustParseAddr("10.99.0.200")
	for _, c := range []struct {
		name string
		req  *dhcpv4.DHCPv4
		want told
		seen Kind
		why  string // within Seen.Detail or Sent.Detail
	}{
		{"OVMF", client(t, discover, edk2), told{"OFFER", "10.99.0.11", bcast, false, "snponly.efi", pxe}, KindDHCPDiscover, ""},
		{"OVMF takes it", client(t, request, edk2, requestOf(nodeAddr), serverIs(serverAddr)), told{"ACK", "10.99.0.11", bcast, false, "snponly.efi", pxe}, KindDHCPRequest, ""},
		{"no option 97", client(t, discover, edk2, dhcpv4.WithoutOption(dhcpv4.GenericOptionCode(97))),
			told{"OFFER", "10.99.0.11", bcast, false, "snponly.efi", with(lease, 60, "PXEClient", 43, "060108ff", 66, "10.99.0.1", 67, "snponly.efi")}, KindDHCPDiscover, ""},
		{"arch list, known second", client(t, discover, edk2, opt(93, 0xff, 0, 0, 9)), told{"OFFER", "10.99.0.11", bcast, false, "snponly.efi", pxe}, KindDHCPDiscover, ""},
		{"BIOS", client(t, discover, edk2, opt(93, 0, 0)), told{"OFFER", "10.99.0.11", bcast, false, "undionly.kpxe", with(pxe, 67, "undionly.kpxe")}, KindDHCPDiscover, ""},
		{"BIOS before RFC 4578", client(t, discover, optText(60, "PXEClient")),
			told{"OFFER", "10.99.0.11", direct, true, "undionly.kpxe", with(lease, 60, "PXEClient", 43, "060108ff", 66, "10.99.0.1", 67, "undionly.kpxe")}, KindDHCPDiscover, ""},
		{"arm64 has no loader here", client(t, discover, edk2, opt(93, 0, 11)), told{"OFFER", "10.99.0.11", bcast, false, "", with(lease, 97, echo97)}, KindDHCPDiscover, "no boot loader for architecture 000b"},
		{"iPXE", client(t, discover, ipxe), told{"OFFER", "10.99.0.11", direct, true, script, with(lease, 61, "01"+strings.ReplaceAll(nodeMAC.String(), ":", ""), 67, script, 97, echo97, 175, "b00101010101")}, KindDHCPDiscover, ""},
		{"iPXE, user class of RFC 3004", client(t, discover, ipxe, opt(77, 4, 'i', 'P', 'X', 'E')), told{"OFFER", "10.99.0.11", direct, true, script, with(lease, 61, "01"+strings.ReplaceAll(nodeMAC.String(), ":", ""), 67, script, 97, echo97, 175, "b00101010101")}, KindDHCPDiscover, ""},
		{"UEFI HTTP boot", client(t, discover, opt(93, 0, 16), optText(60, "HTTPClient:Arch:00016:UNDI:003001")),
			told{"OFFER", "10.99.0.11", direct, true, "http://10.99.0.1:8080/loader/snponly.efi", with(lease, 60, "HTTPClient", 67, "http://10.99.0.1:8080/loader/snponly.efi")}, KindDHCPDiscover, ""},
		{"Linux", client(t, discover, optText(60, "udhcp 1.35.0")), told{"OFFER", "10.99.0.11", direct, true, "", lease}, KindDHCPDiscover, ""},
		{"relayed", client(t, discover, relayed), told{"OFFER", "10.99.0.11", "10.99.0.2:67", false, "", with(lease, 82, "0104657468370201"+"78")}, KindDHCPDiscover, ""},
		{"renews", client(t, request, dhcpv4.WithClientIP(nodeAddr.AsSlice())), told{"ACK", "10.99.0.11", direct, false, "", lease}, KindDHCPRequest, ""},
		{"reboots with its address", client(t, request, requestOf(nodeAddr)), told{"ACK", "10.99.0.11", direct, true, "", lease}, KindDHCPRequest, ""},
		{"reboots with an old address", client(t, request, requestOf(other)),
			told{"NAK", "", bcast, false, "", map[uint8]string{54: "0a630001", 56: "asked for 10.99.0.200, reserved is 10.99.0.11"}}, KindDHCPRequest, "asked for 10.99.0.200"},
		{"old address through a relay", client(t, request, requestOf(other), relayed),
			told{"NAK", "", "10.99.0.2:67", false, "", map[uint8]string{54: "0a630001", 56: "asked for 10.99.0.200, reserved is 10.99.0.11", 82: "010465746837020178"}}, KindDHCPRequest, ""},
		{"takes another server's offer", client(t, request, requestOf(other), serverIs(other)), told{Kind: "none"}, KindDHCPRequest, "another DHCP server, 10.99.0.200"},
		{"informs", client(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(nodeAddr.AsSlice())),
			told{"ACK", "", direct, false, "", func() map[uint8]string { m := with(lease); delete(m, 51); return m }()}, KindDHCPInform, ""},
		{"informs of another address", client(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(other.AsSlice())), told{Kind: "none"}, KindDHCPInvalid, "reserved is 10.99.0.11"},
		{"declines", client(t, dhcpv4.MessageTypeDecline, requestOf(nodeAddr)), told{Kind: "none"}, KindDHCPDecline, "another machine using 10.99.0.11"},
		{"releases", client(t, dhcpv4.MessageTypeRelease), told{Kind: "none"}, KindDHCPRelease, ""},
		{"foreign MAC", client(t, discover, edk2, dhcpv4.WithHwAddr(foreignMAC)), told{Kind: "none"}, KindForeignMAC, "no reservation; discover"},
		{"offer of another server", client(t, dhcpv4.MessageTypeOffer, func(d *dhcpv4.DHCPv4) { d.OpCode = dhcpv4.OpcodeBootReply }), told{Kind: "none"}, KindDHCPInvalid, "another DHCP server"},
		{"not Ethernet", client(t, discover, func(d *dhcpv4.DHCPv4) { d.HWType = 32 }), told{Kind: "none"}, KindDHCPInvalid, "hardware type 32"},
		{"BOOTP", client(t, discover, dhcpv4.WithoutOption(dhcpv4.OptionDHCPMessageType)), told{Kind: "none"}, KindDHCPInvalid, "not for a server"},
	} {
		a := testResponder().Handle(c.req.ToBytes())
		if got := tell(a); !cmp.Equal(got, c.want) {
			t.Errorf("%s: reply differs (-want +got):\n%s", c.name, cmp.Diff(c.want, got))
		}
		if a.Seen.Kind != c.seen {
			t.Errorf("%s: seen = %s; want %s", c.name, a.Seen.Kind, c.seen)
		}
		if !strings.Contains(a.Seen.Detail+a.Sent.Detail, c.why) {
			t.Errorf("%s: detail = %q, %q; want %q in it", c.name, a.Seen.Detail, a.Sent.Detail, c.why)
		}
		if a.Reply != nil && (a.Reply.TransactionID != c.req.TransactionID || a.Sent.Kind == "" || a.Sent.Node != "n1") {
			t.Errorf("%s: sent = %+v with transaction %s; want node n1, transaction %s", c.name, a.Sent, a.Reply.TransactionID, c.req.TransactionID)
		}
	}
}

// A reserved address outside the network that the client is on must not be
// handed out: it would cut the node off.
func TestHandleReservationOfAnotherNetwork(t *testing.T) {
	r := testResponder()
	r.Reservations = func(net.HardwareAddr) (Reservation, bool) {
		return Reservation{Node: "n1", Address: netip.MustParseAddr("10.5.0.11"), Prefix: netip.MustParsePrefix("10.5.0.0/16"), Gateway: netip.MustParseAddr("10.5.0.1")}, true
	}
	a := r.Handle(client(t, dhcpv4.MessageTypeDiscover).ToBytes())
	if a.Reply != nil || !strings.Contains(a.Seen.Detail, "10.5.0.11 is not in 10.99.0.0/24") {
		t.Errorf("directly attached: reply %v, detail %q; want none and the reason", a.Reply, a.Seen.Detail)
	}
	a = r.Handle(client(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithRelay(net.IP{10, 5, 0, 1})).ToBytes())
	want := map[uint8]string{1: "ffff0000", 3: "0a050001", 6: "0a630035", 51: "00000e10", 54: "0a630001"}
	if got := tell(a); got.Yours != "10.5.0.11" || got.To != "10.5.0.1:67" || !cmp.Equal(got.Options, want) {
		t.Errorf("relayed = %+v; want 10.5.0.11 by 10.5.0.1:67 with %v", got, want)
	}
}

func FuzzHandle(f *testing.F) {
	for _, p := range []*dhcpv4.DHCPv4{
		client(f, dhcpv4.MessageTypeDiscover, edk2),
		client(f, dhcpv4.MessageTypeRequest, ipxe, requestOf(nodeAddr), serverIs(serverAddr)),
		client(f, dhcpv4.MessageTypeRequest, requestOf(foreignAddr)),
		client(f, dhcpv4.MessageTypeDiscover, opt(93, 0), opt(77), opt(97), opt(82), opt(61)),
		client(f, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(nodeAddr.AsSlice()), dhcpv4.WithRelay(net.IP{1, 2, 3, 4})),
	} {
		f.Add(p.ToBytes())
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, 240))
	r := testResponder()
	f.Fuzz(func(t *testing.T, packet []byte) {
		a := r.Handle(packet)
		if a.Seen.Kind == "" {
			t.Fatal("nothing seen")
		}
		if a.Reply == nil {
			return
		}
		if a.Seen.MAC.String() != nodeMAC.String() {
			t.Fatalf("a reply to %s, which has no reservation", a.Seen.MAC)
		}
		b := a.Reply.ToBytes()
		back, err := dhcpv4.FromBytes(b)
		if err != nil {
			t.Fatalf("our own reply does not parse: %v", err)
		}
		if y := addr4(back.YourIPAddr); isSet(y) && y != nodeAddr {
			t.Fatalf("address %s given; reserved is %s", y, nodeAddr)
		}
		appendUDP(nil, serverAddr, a.To, b)
	})
}

var foreignAddr = netip.MustParseAddr("10.99.0.99")
