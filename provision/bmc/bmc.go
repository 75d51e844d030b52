// Package bmc speaks to one node's baseboard controller over IPMI 2.0 on LAN
// (RMCP+): power, boot override and identity. Every write is read back, every
// reply is authenticated, and a password is tried once.
//
// The session is ours; the codecs of its messages and the key derivation are
// those of github.com/bougou/go-ipmi. Section numbers refer to the IPMI
// specification, second generation, v2.0 revision 1.1.
package bmc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"firstlight/inventory"
)

// Defaults of Client.
const (
	DefaultTimeout     = 10 * time.Second
	DefaultPowerWithin = 60 * time.Second
	DefaultConcurrency = 128
	DefaultBMCQuiet    = 45 * time.Second
	DefaultBMCWithin   = 5 * time.Minute
)

// IPMI 2.0 stores no longer names and passwords (§22.28, §22.30).
const (
	maxUsername = 16
	maxPassword = 20
)

// Endpoint is one BMC and the credential for it.
type Endpoint struct {
	Node       string // the node's name
	Address    netip.AddrPort
	Username   string           // at most 16 bytes
	Password   inventory.Secret // at most 20 bytes
	KG         inventory.Secret // the BMC's own key K_g, at most 20 bytes; "": it has none
	Suite      int              // the cipher suite that it must agree to, 17 or 3; 0: 17, or else 3
	Network    string           // the out-of-band network that it is on: how many are spoken to at once adapts to each
	DeclaredAt string           // where the inventory declares it, as "nodes.hcl:12"

	privilege types.PrivilegeLevel // that the session is opened for; 0: operator, the least that powers a node
}

// check refuses what can never succeed, before anything is sent.
func (ep Endpoint) check() error {
	switch {
	case !ep.Address.IsValid() || ep.Address.Port() == 0:
		return fmt.Errorf("%s: no valid address and UDP port are declared", ep)
	case len(ep.Username) > maxUsername:
		return fmt.Errorf("%s: the user name is %d bytes long and IPMI allows %d: create a shorter one on the bmc and declare that",
			ep, len(ep.Username), maxUsername)
	case len(ep.Password) > maxPassword:
		return fmt.Errorf("%s: the password is %d bytes long and IPMI allows %d: set a shorter one on the bmc and declare that",
			ep, len(ep.Password), maxPassword)
	case ep.Suite != 0 && ep.Suite != 3 && ep.Suite != 17:
		return fmt.Errorf("%s: cipher suite %d is declared, and only 17 and 3 are used: all others lack encryption, integrity or a sound hash", ep, ep.Suite)
	case len(ep.KG) > maxPassword:
		return fmt.Errorf("%s: the key K_g is %d bytes long and IPMI allows %d", ep, len(ep.KG), maxPassword)
	}
	return nil
}

// String names the BMC as error messages do, without the credential.
func (ep Endpoint) String() string { return describe(ep).String() }

// Client talks to any number of BMCs over at most two sockets. The zero value is
// ready. Its methods may be called from many goroutines: conversations with one
// BMC come one after the other, because a BMC has room for about four sessions.
// A credential that a BMC has refused is not tried on it again: the calls return
// the first refusal's *AuthError.
//
// Errors that a caller may branch on are *AuthError, *NoAnswerError and
// *ReadBackError; a cancelled context is the context's error.
type Client struct {
	Timeout     time.Duration // how long a BMC may be silent; 0: DefaultTimeout
	BMCQuiet    time.Duration // how long a BMC that restarts is left alone; 0: DefaultBMCQuiet
	BMCWithin   time.Duration // how long a BMC may take to come back; 0: DefaultBMCWithin
	PowerWithin time.Duration // how long a power state may take to be reached; 0: DefaultPowerWithin
	Concurrency int           // conversations at once over all BMCs, at most, silent ones not counted; 0: DefaultConcurrency
	Log         *slog.Logger  // nil: silent

	once   sync.Once
	engine *engine
	open   func(v6 bool) (packetConn, error) // nil: openSocket; tests set it
}

func (c *Client) start() *engine {
	c.once.Do(func() {
		n, open := c.Concurrency, c.open
		if n <= 0 {
			n = DefaultConcurrency
		}
		if open == nil {
			open = openSocket
		}
		c.engine = newEngine(n, open)
	})
	return c.engine
}

// Stats returns the packet counters of this client.
func (c *Client) Stats() Stats { return c.start().count.stats() }

func (c *Client) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return DefaultTimeout
}

func (c *Client) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.New(slog.DiscardHandler)
}

// Session is an open conversation with one BMC; it serves one goroutine.
type Session struct {
	ep     Endpoint
	client *Client
	wire   transport
}

// transport is what a session needs of the wire: remote is the real one.
type transport interface {
	// call returns the data of the reply, without its completion code.
	call(ctx context.Context, req request) ([]byte, error)
	// sleep waits while the BMC is not needed.
	sleep(ctx context.Context, d time.Duration) error
}

// With logs in to ep once, runs f, and closes the session whatever f returns.
// Use it for several operations on one BMC: the login costs three round trips.
func (c *Client) With(ctx context.Context, ep Endpoint, f func(*Session) error) error {
	if err := ep.check(); err != nil {
		return err
	}
	began := time.Now()
	wire, err := openRemote(ctx, c.start(), ep, c.timeout())
	if err != nil {
		c.log().Debug("bmc login failed", "node", ep.Node, "bmc", ep.Address, "elapsed", time.Since(began), "error", err)
		return explain(ep, err)
	}
	defer wire.close()
	err = f(&Session{ep: ep, client: c, wire: wire})
	c.log().Debug("bmc session", "node", ep.Node, "bmc", ep.Address, "suite", wire.v.suite.id, "elapsed", time.Since(began), "error", err)
	return explain(ep, err)
}

// explain names the BMC in errors that do not do it themselves.
func explain(ep Endpoint, err error) error {
	var silent *silence
	var refused *refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &silent):
		return &NoAnswerError{Named: describe(ep), After: silent.after, PortClosed: silent.portClosed, Doing: silent.doing, MayBeDone: silent.mayBeDone}
	case errors.As(err, &refused):
		return &AuthError{Named: describe(ep), Username: ep.Username, Reason: refused.reason, Tries: 1}
	}
	if NamesBMC(err) {
		return err
	}
	return fmt.Errorf("%s: %w", ep, err)
}
