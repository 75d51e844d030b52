package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	defaultHTTPPort = 8080
	defaultTFTPPort = 69
	defaultLease    = time.Hour
)

// bound is everything that Serve opened.
type bound struct {
	ifi     *net.Interface
	address netip.Addr
	prefix  netip.Prefix
	loaders map[string][]byte
	dhcp    *dhcpConn
	router  *routerConn
	tftp    *net.UDPConn
	http    net.Listener
}

func (b *bound) close() {
	if b.dhcp != nil {
		b.dhcp.close()
	}
	if b.router != nil {
		b.router.conn.Close()
	}
	if b.tftp != nil {
		b.tftp.Close()
	}
	if b.http != nil {
		b.http.Close()
	}
}

// Serve opens the DHCP, TFTP and HTTP sockets and serves until ctx is
// cancelled, which is no error, or until one of them fails. On return every
// socket is closed. A port in use is an error that names the port, the
// interface and, where /proc tells, the process that holds it.
func (s *Server) Serve(ctx context.Context) error {
	b, err := s.bind(ctx)
	if err != nil {
		return fmt.Errorf("boot services: %w", err)
	}
	defer b.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	base := baseURL(b.address, b.http.Addr().(*net.TCPAddr).Port)
	responder := s.responder(b, base)
	tftpServer := s.newTFTP(ctx, b.loaders)
	httpServer := &http.Server{
		Handler:           s.handler(base, b.loaders),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log().Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	var wg sync.WaitGroup // each ends when its socket is closed below
	errs := make(chan error, 4)
	wg.Go(func() { errs <- s.serveDHCP(ctx, b.dhcp, responder) })
	wg.Go(func() { errs <- s.serveRouter(ctx, b.router) })
	wg.Go(func() { errs <- tftpServer.Serve(b.tftp) })
	wg.Go(func() {
		if err := httpServer.Serve(b.http); !errors.Is(err, http.ErrServerClosed) {
			errs <- fmt.Errorf("HTTP on %s: %w", b.http.Addr(), err)
			return
		}
		errs <- nil
	})
	s.log().Info("netboot: serving", "interface", b.ifi.Name, "address", b.address, "prefix", b.prefix, "http", base)
	if s.Ready != nil {
		s.Ready()
	}
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	cancel()
	b.dhcp.udp.Close()
	b.router.conn.Close()
	b.tftp.Close()
	tftpServer.Shutdown()
	stop, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	if httpServer.Shutdown(stop) != nil {
		httpServer.Close() // a long poll or a large blob is cut off; both resume
	}
	wg.Wait()
	return err
}

// bind finds the interface and opens all sockets, or none.
func (s *Server) bind(ctx context.Context) (*bound, error) {
	if s.Reservations == nil || s.Booter == nil || s.Blobs == nil {
		return nil, errors.New("fields Reservations, Booter and Blobs must be set")
	}
	b := &bound{}
	err := func() (err error) {
		if b.ifi, b.address, b.prefix, err = findInterface(s.Interface, s.Address, s.Prefix); err != nil {
			return err
		}
		if b.loaders, err = readLoaders(s.loaders()); err != nil {
			return err
		}
		if b.dhcp, err = listenDHCP(ctx, b.ifi, b.address); err != nil {
			return portError("DHCP", "udp", netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpv4.ServerPort), b.ifi.Name, err)
		}
		if b.router, err = listenRouter(b.ifi); err != nil {
			return fmt.Errorf("interface %s: %w", b.ifi.Name, err)
		}
		at := netip.AddrPortFrom(b.address, or(s.TFTPPort, defaultTFTPPort))
		if b.tftp, err = listenTFTP(ctx, b.ifi, at); err != nil {
			return portError("TFTP", "udp", at, b.ifi.Name, err)
		}
		at = netip.AddrPortFrom(b.address, or(s.HTTPPort, defaultHTTPPort))
		if b.http, err = (&net.ListenConfig{}).Listen(ctx, "tcp4", at.String()); err != nil {
			return portError("HTTP", "tcp", at, b.ifi.Name, err)
		}
		return nil
	}()
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func or(port, standard int) uint16 {
	if port == 0 {
		return uint16(standard)
	}
	return uint16(port)
}

func (s *Server) loaders() map[Arch]Loader {
	if s.Loaders == nil {
		return DefaultLoaders()
	}
	return s.Loaders
}

func (s *Server) responder(b *bound, base string) *Responder {
	lease := s.Lease
	if lease == 0 {
		lease = defaultLease
	}
	return &Responder{Address: b.address, Prefix: b.prefix, Gateway: s.Gateway, DNS: s.DNS, Lease: lease,
		HTTP: base, Loaders: s.loaders(), Reservations: s.Reservations}
}

// findInterface finds the interface and the controller's address on it.
func findInterface(name string, want netip.Addr, within netip.Prefix) (*net.Interface, netip.Addr, netip.Prefix, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, want, within, fmt.Errorf("interface %q: %w; this machine has %s", name, errors.Unwrap(err), interfaceNames())
	}
	if ifi.Flags&net.FlagUp == 0 {
		return nil, want, within, fmt.Errorf("interface %s is down: ip link set %s up", name, name)
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil, want, within, fmt.Errorf("interface %s: %w", name, err)
	}
	var have []string
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() {
			continue
		}
		have = append(have, p.String())
		if want.IsValid() && p.Addr() != want {
			continue
		}
		if !want.IsValid() && within.IsValid() && !within.Contains(p.Addr()) {
			continue
		}
		if !within.IsValid() {
			within = p.Masked()
		}
		return ifi, p.Addr(), within, nil
	}
	if len(have) == 0 {
		have = []string{"no IPv4 address"}
	}
	switch {
	case want.IsValid():
		err = fmt.Errorf("interface %s does not have address %s (it has %s): ip address add it or correct the network block", name, want, strings.Join(have, ", "))
	case within.IsValid():
		err = fmt.Errorf("interface %s has no address in %s (it has %s): ip address add one or correct the network block", name, within, strings.Join(have, ", "))
	default:
		err = fmt.Errorf("interface %s has no IPv4 address: ip address add one", name)
	}
	return nil, want, within, err
}

func interfaceNames() string {
	ifis, err := net.Interfaces()
	if err != nil {
		return "unknown interfaces"
	}
	var names []string
	for _, i := range ifis {
		names = append(names, i.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
