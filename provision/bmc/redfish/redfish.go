// Package redfish speaks to one node's baseboard controller over Redfish (DMTF
// DSP0266): power, boot override, identity, restart of the BMC, and the rich
// data that IPMI does not have. Every write is read back, a BMC is known by its
// certificate, one session per BMC is kept and always deleted, and a password
// that was refused is not sent again.
//
// HTTP and sessions are those of github.com/stmcginnis/gofish. Of the
// resources only the properties that are needed are decoded, so that a BMC that
// mistypes another one can still be powered. Nothing here depends on a resource
// whose name begins with HGX_: while the node is off they answer 503.
package redfish

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"firstlight/inventory"
)

// Defaults of Client. A busy BMC takes seconds for one resource.
const (
	DefaultTimeout      = 30 * time.Second
	DefaultPowerWithin  = 60 * time.Second
	DefaultSettleWithin = 3 * time.Second
	DefaultKeep         = time.Minute
	DefaultConcurrency  = 128
	DefaultBMCQuiet     = 45 * time.Second
	DefaultBMCWithin    = 5 * time.Minute
)

// closeWithin bounds the farewell to a BMC: a frozen one must not hold up the
// end of the program.
const closeWithin = 5 * time.Second

// Endpoint is one BMC and the credential for it.
type Endpoint struct {
	Node       string // the node's name
	PDU        string // it is no BMC but the PDU of that name, which the node has its power from
	Address    netip.AddrPort
	Username   string
	Password   inventory.Secret
	DeclaredAt string // where the inventory declares it, as "nodes.hcl:12"
	PlainHTTP  bool   // no TLS: the password crosses the wire in the clear; for tests and labs
}

// String names the BMC as error messages do, without the credential.
func (ep Endpoint) String() string {
	return describe(ep).String()
}

func (ep Endpoint) url() string {
	if ep.PlainHTTP {
		return "http://" + ep.Address.String()
	}
	return "https://" + ep.Address.String()
}

func (ep Endpoint) credential() credential {
	return credential{ep.Username, ep.Password.Reveal()}
}

type credential struct{ username, password string }

// Client talks to any number of BMCs. The zero value is ready; Close it, or
// sessions stay behind. Its methods may be called from many goroutines:
// conversations with one BMC come one after the other.
//
// Errors that a caller may branch on are *bmc.AuthError, *CertificateError,
// *bmc.NoAnswerError, *StatusError and *bmc.ReadBackError.
type Client struct {
	Pins         *PinFile      // certificates known so far; nil: known for the life of the Client only
	Timeout      time.Duration // how long one answer may take; 0: DefaultTimeout
	PowerWithin  time.Duration // how long a power state may take to be reached; 0: DefaultPowerWithin
	SettleWithin time.Duration // how long any other write may take to read back; 0: DefaultSettleWithin
	Keep         time.Duration // how long a session is kept after its last use; 0: DefaultKeep
	Concurrency  int           // conversations at once over all BMCs; 0: DefaultConcurrency
	BMCQuiet     time.Duration // how long a BMC that restarts is left alone; 0: DefaultBMCQuiet
	BMCWithin    time.Duration // how long a BMC may take to come back; 0: DefaultBMCWithin
	Log          *slog.Logger  // nil: silent

	once  sync.Once
	slots chan struct{} // one token per conversation
	pins  *PinFile

	mu     sync.Mutex
	conns  map[netip.AddrPort]*conn
	closed bool
}

func (c *Client) start() {
	c.once.Do(func() {
		n := c.Concurrency
		if n <= 0 {
			n = DefaultConcurrency
		}
		c.slots = make(chan struct{}, n)
		c.conns = make(map[netip.AddrPort]*conn)
		if c.pins = c.Pins; c.pins == nil {
			c.pins = &PinFile{}
		}
	})
}

func orDefault(d, standard time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return standard
}

func (c *Client) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.New(slog.DiscardHandler)
}

// acquire waits for the BMC's turn and then for a slot of the fleet, in this
// order, so that those who wait for a hung BMC hold no slot.
func (c *Client) acquire(ctx context.Context, addr netip.AddrPort) (*conn, error) {
	c.start()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("redfish client is closed")
	}
	cn := c.conns[addr]
	if cn == nil {
		cn = &conn{turn: make(chan struct{}, 1)}
		cn.turn <- struct{}{}
		c.conns[addr] = cn
	}
	c.mu.Unlock()
	select {
	case <-cn.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case c.slots <- struct{}{}:
		return cn, nil
	case <-ctx.Done():
		cn.turn <- struct{}{}
		return nil, ctx.Err()
	}
}

// release gives the turn back and has the session deleted if nobody needs it.
func (c *Client) release(ep Endpoint, cn *conn) {
	<-c.slots
	if cn.idle != nil {
		cn.idle.Stop()
	}
	if cn.loggedIn() {
		cn.idle = time.AfterFunc(orDefault(c.Keep, DefaultKeep), func() { // ends within closeWithin
			select {
			case <-cn.turn:
				c.logout(ep, cn)
				cn.turn <- struct{}{}
			default: // in use: its user sets the clock anew
			}
		})
	}
	cn.turn <- struct{}{}
}

// With runs f in the BMC's session, which is opened when there is none, and is
// kept for the next conversation.
func (c *Client) With(ctx context.Context, ep Endpoint, f func(*Session) error) error {
	if !ep.Address.IsValid() || ep.Address.Port() == 0 {
		return fmt.Errorf("%s: no valid address and TCP port are declared", ep)
	}
	cn, err := c.acquire(ctx, ep.Address)
	if err != nil {
		return fmt.Errorf("%s: waiting for a turn: %w", ep, err)
	}
	defer c.release(ep, cn)
	began := time.Now()
	s := &Session{ep: ep, client: c, conn: cn}
	if err = s.open(ctx); err == nil {
		err = f(s)
	}
	err = s.name(err)
	c.log().Debug("redfish conversation", "node", ep.Node, "bmc", ep.Address, "elapsed", time.Since(began), "error", err)
	return err
}

// Forget ends the session with a BMC now, for a caller that will not be back.
// What was learned of a refused credential stays.
func (c *Client) Forget(ep Endpoint) {
	c.start()
	c.mu.Lock()
	cn := c.conns[ep.Address]
	c.mu.Unlock()
	if cn == nil {
		return
	}
	select {
	case <-cn.turn:
		c.logout(ep, cn)
		cn.turn <- struct{}{}
	case <-time.After(closeWithin):
	}
}

// Close deletes every session. Conversations under way are waited for, for some
// seconds: cancel their contexts first.
func (c *Client) Close() {
	c.start()
	c.mu.Lock()
	c.closed = true
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	var all sync.WaitGroup
	slots := make(chan struct{}, cap(c.slots))
	for addr, cn := range conns {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			select {
			case <-cn.turn: // and never given back: whoever waits gives up with its context
				c.logout(Endpoint{Address: addr}, cn)
			case <-ctx.Done():
			}
		})
	}
	all.Wait()
}
