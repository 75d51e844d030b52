package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

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
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ep.Address = conn.LocalAddr().(*net.UDPAddr).AddrPort()
		conn.Close()
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
