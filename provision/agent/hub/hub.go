// Package hub is the controller's end of the agent protocol: it admits boots
// by one-time token, hands jobs to the agents that poll for them, and takes
// their results, reports and logs. It keeps nothing that a restart would lose
// but jobs in hand, which its caller asks for again.
package hub

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"firstlight/provision/agent/api"
)

// Hub is an http.Handler for the paths of package api. Key and Admit are
// needed; the zero value of everything else is useful. It does not log what
// nodes send, beyond names that it has authenticated.
type Hub struct {
	// Key makes and proves tokens and sessions. It must stay the same over
	// restarts and known to the controller only; 32 random bytes.
	Key []byte
	// Admit decides over a Hello whose token is genuine, and journals it. It
	// is called again for a Hello that the agent repeats (same nonce) and
	// must accept that; any error refuses the boot with 403, but one that
	// wraps ErrUnavailable or comes of the context makes the agent try again.
	Admit func(ctx context.Context, hello api.Hello, remote netip.Addr) error
	// Observe is told what happens, from many goroutines, and must not
	// block. nil observes nothing.
	Observe func(Event)
	LogDir  string           // node logs go to LogDir/<node>/<boot>.log; "" drops them
	LogCap  int64            // most bytes of one log file; 0 means 16 MiB
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil means time.Now

	mu     sync.Mutex
	boots  map[identity]*boot
	seen   map[string]time.Time // node -> last authenticated request
	logsMu sync.Mutex           // held while a log file is written
}

// ErrUnavailable in the error of Admit says that the controller cannot decide
// now, as when its journal does not answer.
var ErrUnavailable = errors.New("controller cannot decide now")

// Kinds of Event.
const (
	EventHello   = "hello"   // admitted
	EventRefused = "refused" // a Hello or a session was not accepted; Reason says why
	EventSeen    = "seen"    // the agent asked for a job; at most one each 5 s and boot
	EventResult  = "result"
	EventReport  = "report"
)

// Event is something that an agent did. Node and BootID are proven except in
// a refused Event, where they are what the request claimed.
type Event struct {
	Time   time.Time
	Node   string
	BootID string
	Kind   string
	Remote netip.Addr
	Hello  *api.Hello // of hello and refused; its Token is blanked
	Result *api.Result
	Report *api.Report
	Reason string
}

// identity is one boot of one node.
type identity struct{ node, boot, kind string }

// boot is what the hub holds of an identity: jobs that are waited for.
type boot struct {
	jobs     []*pending
	wake     chan struct{} // closed and replaced when jobs change
	observed time.Time     // when the last EventSeen was sent
}

// pending is a job that at least one Do waits for.
type pending struct {
	job     api.Job
	waiters int
	done    chan struct{} // closed when result is set
	result  api.Result
}

// Token is the one-time token for a boot, to be put in its token initrd. It
// is the same for the same arguments; whether it was used is Admit's to know.
func (h *Hub) Token(node, bootID, kind string) string {
	return base64.RawURLEncoding.EncodeToString(h.mac("token", node, bootID, kind))
}

// mac is HMAC-SHA256 over the parts, each with its length before it.
func (h *Hub) mac(parts ...string) []byte {
	m := hmac.New(sha256.New, h.Key)
	for _, p := range parts {
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		m.Write([]byte(p))
	}
	return m.Sum(nil)
}

// session names the boot that it is for, so that a restarted controller knows
// whose it is without a table.
func (h *Hub) session(id identity) string {
	enc := base64.RawURLEncoding
	name := enc.EncodeToString([]byte(id.node + "\x00" + id.boot + "\x00" + id.kind))
	return name + "." + enc.EncodeToString(h.mac("session", id.node, id.boot, id.kind))
}

// open proves a session and says whose it is.
func (h *Hub) open(session string) (identity, bool) {
	enc := base64.RawURLEncoding
	name, sum, _ := strings.Cut(session, ".")
	rawName, err1 := enc.DecodeString(name)
	rawSum, err2 := enc.DecodeString(sum)
	parts := strings.Split(string(rawName), "\x00")
	if err1 != nil || err2 != nil || len(parts) != 3 {
		return identity{}, false
	}
	id := identity{parts[0], parts[1], parts[2]}
	return id, hmac.Equal(rawSum, h.mac("session", id.node, id.boot, id.kind))
}

// safeName is what may be a node name or boot identity: it becomes a file name.
var safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Do hands job to the agent of one boot and waits for its result or for ctx.
// The agent need not have called yet. A second Do with the same job ID waits
// for the same result. A result whose Error is set is no error of Do.
func (h *Hub) Do(ctx context.Context, node, bootID string, job api.Job) (api.Result, error) {
	b, p := h.add(node, bootID, job)
	defer h.leave(b, p)
	select {
	case <-p.done:
		return p.result, nil
	case <-ctx.Done():
		return api.Result{}, ctx.Err()
	}
}

// Seen is when a node's agent last made a request that it proved to be its
// own, since this controller started.
func (h *Hub) Seen(node string) (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, ok := h.seen[node]
	return t, ok
}

func (h *Hub) now() time.Time {
	if h.Now != nil {
		return h.Now()
	}
	return time.Now()
}

func (h *Hub) log() *slog.Logger {
	if h.Log != nil {
		return h.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (h *Hub) observe(e Event) {
	if h.Observe == nil {
		return
	}
	e.Time = h.now()
	if e.Hello != nil {
		hello := *e.Hello
		hello.Token = ""
		e.Hello = &hello
	}
	h.Observe(e)
}
