package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// boards speaks to the declared BMCs, to each by the protocol declared for it. It
// is the engine's provision.Baseboard.
type boards struct {
	cluster  *inventory.Cluster
	ipmi     *bmc.Client
	redfish  *redfish.Client
	silences *silences
	swapped  bool // what is declared by two protocols is asked by the second first

	credentials *credentials
}

// pinsFile holds the certificates of the BMCs that speak Redfish, in the state
// directory.
const pinsFile = "bmc-certificates"

// newBoards makes the clients; Close ends their sessions. log may be nil.
func (s *site) newBoards(log *slog.Logger) (*boards, error) {
	pins := &redfish.PinFile{Path: s.path(pinsFile)}
	if slices.ContainsFunc(s.Cluster.Nodes, func(n *inventory.Node) bool { return n.BMC.By("redfish") != nil || len(n.Outlets) > 0 }) {
		if _, err := s.mkdir(); err != nil {
			return nil, err
		}
	}
	known, err := s.credentials()
	if err != nil {
		return nil, err
	}
	atOnce, restart := s.Cluster.Settings.BMCConcurrency, s.Cluster.Settings.BMCRestart
	return &boards{cluster: s.Cluster, credentials: known, silences: &silences{log: log},
		ipmi:    &bmc.Client{Log: log, Concurrency: atOnce, BMCQuiet: restart},
		redfish: &redfish.Client{Log: log, Concurrency: atOnce, BMCQuiet: restart, Pins: pins}}, nil
}

// Close deletes the sessions that are kept, also after Ctrl-C.
func (b *boards) Close() { b.redfish.Close() }

// leave ends the session with a node's BMC that will not be asked again: its
// table of sessions is small.
func (b *boards) leave(n *inventory.Node) {
	if r := n.BMC.By("redfish"); r != nil {
		b.redfish.Forget(redfish.Endpoint{Node: n.Name, Address: bmcAddress(r)})
	}
}

// board is one node's BMC.
type board interface {
	// Look reads identity and power, in one login.
	Look(ctx context.Context) (provision.BMCIdentity, string, error)
	Power(ctx context.Context) (string, error)
	SetPower(ctx context.Context, op string) error
	SetBootPXE(ctx context.Context, persistent bool) error
	ResetBMC(ctx context.Context) error
}

// of is a node's BMC with its credential.
func (b *boards) of(n *inventory.Node) (board, error) { return b.pairOf(n) }

// by is a node's BMC by one protocol.
func (b *boards) by(n *inventory.Node, declared *inventory.BMC) (board, error) {
	at := b.cluster.DeclaredAt(declared.Range)
	password, err := b.credentials.secret(n, declared)
	if err != nil {
		return nil, err
	}
	user := declared.Credential.Username
	if declared.Protocol == "redfish" {
		ep := redfish.Endpoint{Node: n.Name, Address: bmcAddress(declared), Username: user, Password: password, DeclaredAt: at}
		return boardOf[redfish.Endpoint, *redfish.Session]{b.redfish, ep, redfishIdentity}, nil
	}
	ep := bmc.Endpoint{Node: n.Name, Address: bmcAddress(declared), Username: user, Password: password, DeclaredAt: at,
		Network: networkOf(b.cluster, declared.Address)}
	return boardOf[bmc.Endpoint, *bmc.Session]{b.ipmi, ep, ipmiIdentity}, nil
}

func bmcAddress(b *inventory.BMC) netip.AddrPort {
	return netip.AddrPortFrom(b.Address, uint16(b.Port))
}

// networkOf names the narrowest declared network that an address is on; "": none.
func networkOf(c *inventory.Cluster, a netip.Addr) (name string) {
	bits := -1
	for _, n := range slices.Sorted(maps.Keys(c.Networks)) {
		if cidr := c.Networks[n].CIDR; cidr.Contains(a) && cidr.Bits() > bits {
			name, bits = n, cidr.Bits()
		}
	}
	return name
}

// refusedLogin says that a BMC does not take the credential.
func refusedLogin(err error) bool {
	var refused *bmc.AuthError
	return errors.As(err, &refused)
}

// otherCertificate says that a BMC is not the one known of its address.
func otherCertificate(err error) bool {
	var other *redfish.CertificateError
	return errors.As(err, &other)
}

// final turns what trying again cannot mend into the engine's terms: a refused
// login would lock the account. Another certificate locks nothing, so that the
// next apply may look again.
func final(err error) error {
	if refusedLogin(err) {
		return &provision.Refused{Reason: err.Error(), Person: true}
	}
	if otherCertificate(err) {
		return &provision.Refused{Reason: err.Error()}
	}
	return err
}

// Identity implements provision.Baseboard.
func (b *boards) Identity(ctx context.Context, n *inventory.Node) (provision.BMCIdentity, error) {
	d, err := b.of(n)
	if err != nil {
		return provision.BMCIdentity{}, err
	}
	id, _, err := d.Look(ctx)
	return id, final(err)
}

// Power implements provision.Baseboard.
func (b *boards) Power(ctx context.Context, n *inventory.Node) (string, error) {
	d, err := b.of(n)
	if err != nil {
		return "", err
	}
	power, err := d.Power(ctx)
	return power, final(err)
}

// SetPower implements provision.Baseboard.
func (b *boards) SetPower(ctx context.Context, n *inventory.Node, op string) error {
	d, err := b.of(n)
	if err != nil {
		return err
	}
	err = d.SetPower(ctx, op)
	if bmc.MayBeDone(err) {
		return &provision.Unconfirmed{Reason: err.Error()}
	}
	return final(err)
}

// SetBootPXE implements provision.Baseboard.
func (b *boards) SetBootPXE(ctx context.Context, n *inventory.Node, persistent bool) error {
	d, err := b.of(n)
	if err != nil {
		return err
	}
	return final(d.SetBootPXE(ctx, persistent))
}

// ResetBMC implements provision.Recovery.
func (b *boards) ResetBMC(ctx context.Context, n *inventory.Node) error {
	d, err := b.of(n)
	if err != nil {
		return err
	}
	return final(d.ResetBMC(ctx))
}

// dialogue is a conversation with a BMC, in either protocol.
type dialogue interface {
	Power(ctx context.Context) (bmc.PowerState, error)
}

// client is what both protocols' clients are, for an endpoint and a session of
// their own.
type client[E any, S dialogue] interface {
	With(ctx context.Context, ep E, f func(S) error) error
	Power(ctx context.Context, ep E) (bmc.PowerState, error)
	SetPower(ctx context.Context, ep E, action bmc.PowerAction) error
	SetBoot(ctx context.Context, ep E, o bmc.Override) error
	ResetBMC(ctx context.Context, ep E) error
}

// boardOf is a BMC by one of the protocols.
type boardOf[E any, S dialogue] struct {
	client   client[E, S]
	ep       E
	identity func(context.Context, S) (provision.BMCIdentity, error)
}

func (b boardOf[E, S]) Look(ctx context.Context) (id provision.BMCIdentity, power string, err error) {
	err = b.client.With(ctx, b.ep, func(s S) error {
		if id, err = b.identity(ctx, s); err != nil {
			return err
		}
		p, err := s.Power(ctx)
		power = string(p)
		return err
	})
	return id, power, err
}

func (b boardOf[E, S]) Power(ctx context.Context) (string, error) {
	p, err := b.client.Power(ctx, b.ep)
	return string(p), err
}

func (b boardOf[E, S]) SetPower(ctx context.Context, op string) error {
	return b.client.SetPower(ctx, b.ep, bmc.PowerAction(op))
}

func (b boardOf[E, S]) SetBootPXE(ctx context.Context, persistent bool) error {
	return b.client.SetBoot(ctx, b.ep, bmc.Override{Device: bmc.BootPXE, Persistent: persistent, EFI: true})
}

func (b boardOf[E, S]) ResetBMC(ctx context.Context) error { return b.client.ResetBMC(ctx, b.ep) }

func ipmiIdentity(ctx context.Context, s *bmc.Session) (provision.BMCIdentity, error) {
	id, err := s.Identity(ctx)
	return provision.BMCIdentity{Manufacturer: id.Manufacturer, Product: id.Product, Serial: id.Serial, Firmware: id.Firmware}, err
}

func redfishIdentity(ctx context.Context, s *redfish.Session) (provision.BMCIdentity, error) {
	id, err := s.Identity(ctx)
	return provision.BMCIdentity{Manufacturer: id.Manufacturer, Product: id.Model, Serial: id.Serial, Firmware: id.Firmware}, err
}
