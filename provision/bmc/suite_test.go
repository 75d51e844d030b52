package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"firstlight/internal/refbmc"
	"firstlight/provision/bmc/bmctest"
)

// TestSuite is the contract that both protocols are held to.
func TestSuite(t *testing.T) {
	for _, suites := range [][]int{{17}, {3}} {
		t.Run(fmt.Sprint("suite ", suites[0]), func(t *testing.T) {
			t.Parallel()
			bmctest.Run(t, func(t *testing.T, f bmctest.Fault) bmctest.Stand { return suiteStand(t, suites, f) })
		})
	}
}

// TestSuiteForeign holds the client to the same contract against a BMC that is not
// ours. What ipmi_sim cannot do on a good day is data, and so are the cases that
// this leaves out: all others run, with every fault.
func TestSuiteForeign(t *testing.T) {
	t.Parallel()
	lacks := []bmctest.Ability{bmctest.KeepsOverride, bmctest.Restarts}
	want := []string{"override", "override is used up", "restart of the BMC", "override after a restart"}
	left := bmctest.RunWithout(t, lacks, func(t *testing.T, f bmctest.Fault) bmctest.Stand { return simStand(t, f) })
	if !slices.Equal(left, want) {
		t.Errorf("not run: %q; want %q", left, want)
	}
}

// simStand gives ipmi_sim faults from outside: by its script, by the network, and by
// stopping it. It keeps no override ever, which is the fault Reverts.
func simStand(t *testing.T, f bmctest.Fault) bmctest.Stand {
	t.Helper()
	fru, err := types.PackFRU(types.FRUPackConfig{Product: &types.FRUPackProduct{Manufacturer: "Example Corp", Name: "EX-200", Serial: bmctest.Serial}})
	if err != nil {
		t.Fatal(err)
	}
	b := runSim(t, simConfig{password: bmctest.ShortPassword, commands: fmt.Sprintf("debug msg\nmc_add_fru_data 0x20 0 %d data % #x", len(fru), fru)})
	relay := &tap{}
	if f == bmctest.Freezes {
		relay.reply = silentAfterLogin()
	}
	startTap(t, b.addr, relay)
	ep := endpoint(relay.addr)
	ep.Password = bmctest.ShortPassword
	c := &Client{Timeout: 10 * time.Second, PowerWithin: 10 * time.Second, BMCQuiet: 300 * time.Millisecond, BMCWithin: 20 * time.Second}
	patience := 15 * time.Second
	switch f {
	case bmctest.WrongPassword:
		ep.Password = "another"
	case bmctest.Lies:
		c.PowerWithin = 300 * time.Millisecond
		b.stick(t)
	case bmctest.Frozen:
		b.freeze(t)
	case bmctest.Closed:
		ep.Address = closedPort(t)
	}
	switch f {
	case bmctest.Frozen, bmctest.Freezes, bmctest.Closed:
		c.Timeout, patience = 700*time.Millisecond, 2500*time.Millisecond
	}
	return bmctest.Stand{
		Client:     suiteClient{c, ep},
		Patience:   patience,
		Powered:    func() bool { return b.powered(t) },
		Events:     func() []string { return b.events(t) },
		Logins:     func() int { return relay.count(types.PayloadTypeRAKPMessage1) },
		IsAuth:     is[*AuthError],
		IsNoAnswer: is[*NoAnswerError],
		IsReadBack: is[*ReadBackError],
	}
}

func suiteStand(t *testing.T, suites []int, f bmctest.Fault) bmctest.Stand {
	t.Helper()
	b := &refbmc.BMC{Suites: suites, Password: bmctest.Password, Serial: bmctest.Serial}
	b.Faults = refbmc.Faults{Silent: f == bmctest.Frozen, RevertBootOverride: f == bmctest.Reverts}
	r := startRef(t, b)
	r.machine.force(false, f == bmctest.Lies)
	r.mu.Lock()
	r.frozen = f == bmctest.Freezes
	r.mu.Unlock()
	ep := endpoint(r.addr)
	ep.Password = bmctest.Password
	switch f {
	case bmctest.WrongPassword:
		ep.Password = "another"
	case bmctest.Closed:
		ep.Address = closedPort(t)
	}
	return bmctest.Stand{
		Client:   suiteClient{&Client{Timeout: 700 * time.Millisecond, PowerWithin: 300 * time.Millisecond, BMCQuiet: 300 * time.Millisecond, BMCWithin: 20 * time.Second}, ep},
		Patience: 2500 * time.Millisecond,
		Powered:  r.machine.Powered,
		Events: func() []string {
			r.mu.Lock()
			defer r.mu.Unlock()
			return append([]string(nil), r.order...)
		},
		Logins:     func() int { return r.count("login-attempt") },
		IsAuth:     func(err error) bool { var e *AuthError; return errors.As(err, &e) },
		IsNoAnswer: func(err error) bool { var e *NoAnswerError; return errors.As(err, &e) },
		IsReadBack: func(err error) bool { var e *ReadBackError; return errors.As(err, &e) },
	}
}

// silentAfterLogin relays what a BMC replies up to the end of a login.
func silentAfterLogin() func(int, []byte) [][]byte {
	silent := false
	return func(_ int, pkt []byte) [][]byte {
		if silent {
			return nil
		}
		kind, _, _, _, _, ok := parseHeader(pkt)
		silent = ok && kind == types.PayloadTypeRAKPMessage4
		return [][]byte{pkt}
	}
}

// closedPort is one that nothing listens on.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// suiteClient is a Client for one BMC.
type suiteClient struct {
	client *Client
	ep     Endpoint
}

func (c suiteClient) Serial(ctx context.Context) (string, error) {
	id, err := c.client.Identity(ctx, c.ep)
	return id.Serial, err
}

func (c suiteClient) Power(ctx context.Context) (string, error) {
	p, err := c.client.Power(ctx, c.ep)
	return string(p), err
}

func (c suiteClient) SetPower(ctx context.Context, action string) error {
	return c.client.SetPower(ctx, c.ep, PowerAction(action))
}

func (c suiteClient) SetBootPXE(ctx context.Context, persistent bool) error {
	return c.client.SetBoot(ctx, c.ep, Override{Device: BootPXE, EFI: true, Persistent: persistent})
}

func (c suiteClient) ClearBoot(ctx context.Context) error {
	return c.client.SetBoot(ctx, c.ep, Override{})
}

func (c suiteClient) Boot(ctx context.Context) (string, error) {
	o, err := c.client.Boot(ctx, c.ep)
	return o.String(), err
}

func (c suiteClient) ResetBMC(ctx context.Context) error { return c.client.ResetBMC(ctx, c.ep) }

func (suiteClient) Close() {}
