package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"firstlight/images"
	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/agent/api"
	"firstlight/provision/agent/hub"
	"firstlight/provision/netboot"
)

// booter tells the boot services what the engine has ordered.
type booter struct {
	engine *provision.Engine
	store  images.Store
	hub    *hub.Hub
}

// Boot implements netboot.Booter.
func (b booter) Boot(ctx context.Context, r netboot.BootRequest) (*netboot.Boot, error) {
	n, id, err := b.engine.BootOf(ctx, r.MAC)
	if errors.Is(err, provision.ErrNothingToBoot) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := b.store.ByDigest(id.Image)
	if err != nil {
		return nil, err
	}
	args := append([]string{}, m.Args...)
	args = append(args, api.ArgKind+"="+id.Kind, api.ArgImage+"="+id.Image)
	if m.Root != nil {
		args = append(args, api.ArgRoot+"="+m.Root.Digest)
	}
	return &netboot.Boot{Node: n.Name, BootID: id.ID, Token: b.hub.Token(n.Name, id.ID, id.Kind), Args: args,
		Kernel:  netboot.Blob{Digest: m.Kernel.Digest, Size: m.Kernel.Size, Name: "kernel"},
		Initrds: []netboot.Blob{{Digest: m.Initramfs.Digest, Size: m.Initramfs.Size, Name: "initramfs"}}}, nil
}

// reportWithin bounds the wait for the journal to take a node's report.
const reportWithin = 10 * time.Second

// newHub makes the agents' end, admitting through the engine.
func newHub(s *site, e *provision.Engine, log *slog.Logger) (*hub.Hub, error) {
	key, err := s.key("agent")
	if err != nil {
		return nil, err
	}
	logs, err := s.mkdir("logs")
	if err != nil {
		return nil, err
	}
	h := &hub.Hub{Key: key, LogDir: logs, Log: log}
	h.Admit = func(ctx context.Context, hello api.Hello, remote netip.Addr) error {
		err := e.Admit(ctx, hello, remote)
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("%w: %w", hub.ErrUnavailable, err)
		}
		return err
	}
	h.Observe = func(ev hub.Event) {
		if ev.Kind != hub.EventReport || ev.Report == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), reportWithin)
		defer cancel()
		if err := e.Report(ctx, ev.Node, ev.BootID, *ev.Report); err != nil {
			log.Warn("report not recorded", "node", ev.Node, "error", err)
		}
	}
	return h, nil
}

// bootServers makes one server per provisioning network that serves the nodes.
func bootServers(s *site, e *provision.Engine, h *hub.Hub, log *slog.Logger) ([]*netboot.Server, error) {
	reserved := map[string]netboot.Reservation{}
	used := map[string]*inventory.Network{}
	for _, n := range s.Cluster.Nodes {
		for _, nic := range n.NICs {
			if nic.Network == nil || nic.Network.DHCP == "" {
				continue
			}
			used[nic.Network.Name] = nic.Network
			reserved[nic.MAC.String()] = netboot.Reservation{Node: n.Name, Address: nic.Address, Hostname: n.Name,
				Prefix: nic.Network.CIDR, Gateway: nic.Network.Gateway}
		}
	}
	var servers []*netboot.Server
	for _, net := range used {
		if net.Interface == "" {
			return nil, fmt.Errorf("network %q (%s) serves DHCP and names no interface of this controller: set interface", net.Name, s.Cluster.DeclaredAt(net.Range))
		}
		servers = append(servers, bootServer(net, reserved, booter{e, s.store(), h}, s.Cluster.Settings.HTTPPort, log))
	}
	if servers == nil {
		return nil, errors.New("no node has a nic on a network with dhcp = \"full\": nothing can be booted")
	}
	return servers, nil
}

func bootServer(n *inventory.Network, reserved map[string]netboot.Reservation, b booter, port int, log *slog.Logger) *netboot.Server {
	return &netboot.Server{Interface: n.Interface, Address: n.Address, Prefix: n.CIDR, Gateway: n.Gateway, HTTPPort: port,
		Booter: b, Blobs: b.store, Agent: b.hub, Log: log,
		Reservations: func(mac net.HardwareAddr) (netboot.Reservation, bool) {
			r, ok := reserved[mac.String()]
			return r, ok
		},
		Observe: func(ev netboot.Event) { b.engine.Observe(sightOf(ev)) }}
}

// quiet kinds say nothing about a boot's progress: the answers' own steps do.
var quietKinds = map[netboot.Kind]bool{
	netboot.KindDHCPOffer: true, netboot.KindDHCPRequest: true, netboot.KindDHCPInform: true,
	netboot.KindDHCPInvalid: true, netboot.KindRouterAdvert: true,
	netboot.KindScript: true, // the engine records it itself, before it is answered
}

// sightOf is the boot services' event in the engine's terms.
func sightOf(ev netboot.Event) provision.Sight {
	if quietKinds[ev.Kind] {
		return provision.Sight{}
	}
	var detail []string
	for _, d := range []string{string(ev.Arch), ev.VendorClass, ev.UserClass, ev.Detail} {
		if d != "" {
			detail = append(detail, d)
		}
	}
	s := provision.Sight{Time: ev.Time, MAC: ev.MAC, What: string(ev.Kind), BootID: ev.BootID, Detail: strings.Join(detail, " ")}
	if ev.Kind == netboot.KindBootFailed {
		s.What = api.ReportBootFailed
	}
	return s
}

// logFile opens the controller's log in the state directory.
func (s *site) logFile() (*slog.Logger, func(), error) {
	dir, err := s.mkdir("logs")
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(dir+"/controller.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelInfo})), func() { f.Close() }, nil
}
