// Package netboot boots nodes over one Ethernet interface: a DHCPv4 server
// (RFC 2131, RFC 4578) that knows only reserved MACs, a TFTP server (RFC 1350)
// for the first-stage loader, and an HTTP service for iPXE scripts, one-time
// tokens and content named by digest.
//
// A node goes: firmware DHCP, TFTP loader, iPXE DHCP, HTTP script, kernel,
// initrds, token. Each step that is seen on the wire is told to
// [Server.Observe]; that is how the controller knows that a node really came
// up by network and not from its disk.
//
// A MAC without a reservation is told to Observe and gets no answer.
package netboot

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Server serves one interface. Interface, Reservations, Booter and Blobs must
// be set; the rest has defaults.
type Server struct {
	Interface string        // the only interface it answers on
	Address   netip.Addr    // the controller's address on it; zero: the interface's first IPv4 address, within Prefix if that is set
	Prefix    netip.Prefix  // of the provisioning network; zero: from the interface
	Gateway   netip.Addr    // told to clients; zero: none
	DNS       []netip.Addr  // told to clients; none by default
	HTTPPort  int           // TCP port on Address; zero: 8080
	TFTPPort  int           // UDP port on Address; zero: 69. Firmware only knows 69.
	Lease     time.Duration // zero: one hour

	// Loaders are the first-stage boot loaders. nil: DefaultLoaders.
	Loaders map[Arch]Loader

	// Reservations finds what a MAC may have. It is called for each DHCP
	// packet and HTTP request, from several goroutines, and must be fast.
	Reservations func(mac net.HardwareAddr) (Reservation, bool)

	Booter Booter
	Blobs  Blobs
	Agent  http.Handler // mounted under /agent/; nil: 404

	// Observe is called for each step seen, from several goroutines; it must
	// not block. nil: nobody looks.
	Observe func(Event)

	// Ready is called once, when every socket is open. nil: nobody waits.
	Ready func()

	Log *slog.Logger // nil: silent

	mu    sync.Mutex
	boots map[macKey]issued       // the script last given to each MAC
	peers map[netip.Addr]identity // who fetches from an address
}

// Loader is a first-stage boot loader: the name that firmware asks for, and
// the file that holds it. The file is read once, when Serve starts.
type Loader struct {
	Name string
	Path string
}

// Reservation is what a known MAC gets.
type Reservation struct {
	Node     string
	Address  netip.Addr
	Hostname string // option 12; "" for none

	// Prefix and Gateway are those of the node's network when it is behind a
	// DHCP relay. Zero: the server's own.
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// BootRequest says who asks for a boot script.
type BootRequest struct {
	MAC     net.HardwareAddr
	Node    string
	Arch    Arch // "" when not known
	Address netip.Addr
}

// Boot is what a node shall boot now.
type Boot struct {
	Node    string
	BootID  string // fresh for each power-on or reboot; letters, digits and "-_."
	Kernel  Blob
	Initrds []Blob
	Token   string   // one-time; delivered as an initrd of its own, never on the command line
	Args    []string // kernel command line; controller, node, boot id and MAC are added where absent
}

// Blob names content by digest.
type Blob struct {
	Digest string // "sha256:<hex>"
	Name   string // for people, and iPXE's name of it; letters, digits and "-_."
	Size   int64  // bytes; 0 when not known
}

// Booter decides what a node boots. It is called, from several goroutines, when
// a node's iPXE asks for its script, and again when the token of an unknown
// boot is fetched after a restart, so the same boot must be returned until the
// node has called home. A nil Boot sends the node on to its next boot device.
// An error is shown on the node's console and the node asks again.
type Booter interface {
	Boot(ctx context.Context, r BootRequest) (*Boot, error)
}

// Blobs opens content by its digest, "sha256:<hex>". An error that is
// fs.ErrNotExist becomes 404. A file once opened must not change.
type Blobs interface {
	Open(digest string) (*os.File, error)
}

// Kind is a step of a boot as seen on the wire.
type Kind string

// The kinds of Event, in the order of a boot.
const (
	KindDHCPDiscover Kind = "dhcp-discover"
	KindDHCPOffer    Kind = "dhcp-offer" // sent
	KindDHCPRequest  Kind = "dhcp-request"
	KindDHCPAck      Kind = "dhcp-ack" // sent
	KindDHCPNak      Kind = "dhcp-nak" // sent; Detail says why
	KindDHCPInform   Kind = "dhcp-inform"
	KindDHCPDecline  Kind = "dhcp-decline" // another machine uses Address
	KindDHCPRelease  Kind = "dhcp-release"
	KindDHCPInvalid  Kind = "dhcp-invalid" // not understood or not answerable; Detail says why
	KindForeignMAC   Kind = "foreign-mac"  // a MAC without a reservation; nothing was sent
	KindTFTPRead     Kind = "tftp-read"    // a loader was sent
	KindTFTPRefused  Kind = "tftp-refused"
	KindTFTPFailed   Kind = "tftp-failed"   // a transfer broke off
	KindRouterAdvert Kind = "router-advert" // sent to iPXE: there is no IPv6 router
	KindLoader       Kind = "loader"        // UEFI HTTP boot fetched a loader
	KindScript       Kind = "script"
	KindKernel       Kind = "kernel"
	KindInitrd       Kind = "initrd"
	KindToken        Kind = "token"
	KindTokenRefused Kind = "token-refused"
	KindBlob         Kind = "blob"
	KindFetchFailed  Kind = "fetch-failed" // an HTTP transfer broke off
	KindBootLocal    Kind = "boot-local"   // sent on to its next boot device
	KindBootFailed   Kind = "boot-failed"
)

// Event is one step seen. Fields that do not apply are zero.
type Event struct {
	Kind        Kind
	Time        time.Time // when the step ended
	MAC         net.HardwareAddr
	Node        string
	Address     netip.Addr
	Arch        Arch
	UserClass   string // option 77
	VendorClass string // option 60
	Bytes       int64
	Duration    time.Duration
	Digest      string // "sha256:<hex>"
	BootID      string
	Detail      string
}

type macKey [6]byte

// issued is the boot that a script was made from.
type issued struct {
	boot  *Boot
	arch  Arch
	roles map[string]Kind // digest -> KindKernel or KindInitrd
}

// identity is who holds a reserved address.
type identity struct {
	mac  net.HardwareAddr
	node string
	arch Arch
	ipxe time.Time // when its iPXE last spoke DHCP
}

func (s *Server) observe(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if s.Observe != nil {
		s.Observe(e)
	}
	level := slog.LevelDebug
	switch e.Kind {
	case KindBootFailed, KindFetchFailed, KindTFTPFailed, KindDHCPNak, KindDHCPDecline, KindTokenRefused:
		level = slog.LevelWarn
	}
	s.log().Log(context.Background(), level, "netboot: "+string(e.Kind), "node", e.Node, "mac", e.MAC.String(),
		"address", e.Address, "detail", e.Detail)
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// remember records who holds an address, so that HTTP and TFTP requests, which
// carry no MAC, can be told by node.
func (s *Server) remember(e Event) {
	if !e.Address.IsValid() || e.Node == "" || len(e.MAC) != 6 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers == nil {
		s.peers = make(map[netip.Addr]identity)
	}
	id := identity{mac: e.MAC, node: e.Node, arch: e.Arch}
	if old, ok := s.peers[e.Address]; ok && old.node == id.node {
		id.ipxe = old.ipxe
		if id.arch == "" {
			id.arch = old.arch // iPXE and Linux may leave out option 93; keep what firmware said
		}
	}
	if e.UserClass == userClassIPXE {
		id.ipxe = time.Now()
	}
	s.peers[e.Address] = id
}

// who returns the holder of an address, and its current boot if there is one.
func (s *Server) who(addr netip.Addr) (identity, issued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.peers[addr]
	if len(id.mac) != 6 {
		return id, issued{}
	}
	return id, s.boots[macKey(id.mac)]
}
