package journal

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"firstlight/provision"
)

const (
	defaultMinFree = 64 << 20         // bytes kept free so that etcd never meets a full disk
	maxGroup       = 8 << 20          // bytes of JSON in one Append
	openTimeout    = 15 * time.Second // to reach or start a member
	tryTimeout     = 20 * time.Second // for one request to a member
	appendTimeout  = 10 * time.Second // for one Append with its retries
	doTimeout      = 30 * time.Second // for anything with its retries
	retryPause     = 20 * time.Millisecond
)

// ErrReadOnly says that a journal opened to read was asked to write.
var ErrReadOnly = errors.New("journal is open for reading only")

var errClosed = errors.New("journal is closed")

// Options say where a journal is kept.
type Options struct {
	Dir       string      // state directory of the embedded member; created with mode 0700
	Endpoints []string    // an external etcd cluster instead of Dir: "https://10.0.0.1:2379"
	TLS       *tls.Config // for Endpoints; nil: none
	Cluster   string      // the inventory's cluster name; separates journals in one etcd
	ReadOnly  bool        // creates nothing: a missing Dir reads as an empty journal
	MinFree   uint64      // bytes of disk that Append leaves free under Dir; 0: 64 MiB
	Log       *slog.Logger
}

// Journal is an append-only record in etcd. Its methods may be called from
// several goroutines.
type Journal struct {
	opts   Options
	prefix string
	log    *slog.Logger

	closing   chan struct{} // closed by Close: stops a connection attempt
	closeOnce sync.Once

	mu     sync.Mutex // guards back, closed; held while connecting
	back   *backend
	closed bool

	lockMu sync.Mutex
	lock   *heldLock // nil: this process never asked for the writer's lock
}

var _ provision.Journal = (*Journal)(nil)

// backend is one way to reach etcd: our own member, another process's member
// by its socket, or an external cluster.
type backend struct {
	client *clientv3.Client
	member *member // not nil: the member runs in this process
	socket string  // not empty: another process serves
}

// server says who did not answer.
func (b *backend) server() string {
	if b.socket != "" {
		return " from the process that serves " + b.socket
	}
	return ""
}

func (b *backend) close() {
	if b.member != nil {
		b.member.close()
		return
	}
	_ = b.client.Close()
}

// Open connects to the process that serves the state directory, or starts the
// embedded member in this process. It gives up when ctx ends, or after 15 s
// of another process holding the directory without answering.
func Open(ctx context.Context, opts Options) (*Journal, error) {
	if opts.Cluster == "" || strings.ContainsAny(opts.Cluster, "/\x00") {
		return nil, fmt.Errorf("open journal: cluster name %q cannot be part of a key", opts.Cluster)
	}
	if opts.MinFree == 0 {
		opts.MinFree = defaultMinFree
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if len(opts.Endpoints) == 0 {
		if opts.Dir == "" {
			return nil, errors.New("open journal: neither a state directory nor endpoints given")
		}
		dir, err := filepath.Abs(opts.Dir)
		if err != nil {
			return nil, fmt.Errorf("open journal: %w", err)
		}
		opts.Dir = dir
		if !opts.ReadOnly {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return nil, fmt.Errorf("open journal: %w", err)
			}
		}
	}
	j := &Journal{opts: opts, closing: make(chan struct{}), prefix: "firstlight/" + opts.Cluster + "/", log: opts.Log}
	if _, err := j.backend(ctx); err != nil && !errors.Is(err, errEmpty) {
		return nil, fmt.Errorf("open journal %s: %w", j.where(), err)
	}
	return j, nil
}

// Close gives the writer's lock back if it is held and stops the embedded
// member if it runs here. Other processes' reads go on: one of them takes over.
func (j *Journal) Close() error {
	j.unlock()
	j.closeOnce.Do(func() { close(j.closing) })
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.back != nil {
		j.back.close()
		j.back = nil
	}
	return nil
}

// where names the journal in errors.
func (j *Journal) where() string {
	if len(j.opts.Endpoints) > 0 {
		return strings.Join(j.opts.Endpoints, ",")
	}
	return j.opts.Dir
}

// errEmpty says that a journal opened for reading does not exist yet.
var errEmpty = errors.New("no journal yet")

// backend returns the present connection, and makes one when there is none.
func (j *Journal) backend(ctx context.Context) (*backend, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, errClosed
	}
	if j.back != nil {
		return j.back, nil
	}
	var b *backend
	var err error
	if len(j.opts.Endpoints) > 0 {
		b, err = j.dialCluster(ctx)
	} else {
		b, err = j.joinDir(ctx)
	}
	if err != nil {
		return nil, err
	}
	j.back = b
	return b, nil
}

// drop forgets a connection that no longer works.
func (j *Journal) drop(b *backend) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.back == b {
		j.back = nil
		b.close()
	}
}

func (j *Journal) dialCluster(ctx context.Context) (*backend, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: j.opts.Endpoints, TLS: j.opts.TLS, DialTimeout: tryTimeout,
		DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		MaxCallSendMsgSize: maxGroup + 1<<20, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, err
	}
	tctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if _, err := c.Get(tctx, j.prefix+"head"); err != nil {
		_ = c.Close()
		return nil, err
	}
	return &backend{client: c}, nil
}

// joinDir reaches the member of the state directory: the file lock decides
// who serves, and whoever does not get it keeps trying both ways, since the
// holder may be starting up or going away at this moment.
func (j *Journal) joinDir(ctx context.Context) (*backend, error) {
	deadline := time.Now().Add(openTimeout)
	for patience := 50 * time.Millisecond; ; patience = min(2*patience, 2*time.Second) {
		if j.opts.ReadOnly && !initialised(j.opts.Dir) {
			return nil, errEmpty
		}
		lf, owner, err := takeDir(j.opts.Dir)
		if err != nil {
			return nil, err
		}
		if lf != nil {
			m, err := startMember(ctx, lf, j.opts)
			if err != nil {
				return nil, err
			}
			return &backend{client: m.client, member: m}, nil
		}
		b, err := j.dialSocket(ctx, owner, patience)
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return nil, fmt.Errorf("process %d holds the state directory and does not answer on its socket %q (stopped or hung? look at it with ps -p %d): %w",
				owner.PID, owner.Socket, owner.PID, errors.Join(ctx.Err(), err))
		}
		select {
		case <-j.closing:
			return nil, errClosed
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
}

// dialSocket connects to another process's member. It gives up after patience,
// short at first, because a member that is going away accepts and then says
// nothing, and then its place is free.
func (j *Journal) dialSocket(ctx context.Context, o dirOwner, patience time.Duration) (*backend, error) {
	if !o.Ready {
		return nil, errors.New("it is still starting")
	}
	// A connection tried by hand fails at once where gRPC would try again.
	probe, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "unix", o.Socket)
	if err != nil {
		return nil, err
	}
	_ = probe.Close()
	quick := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: retryPause, Multiplier: 1, MaxDelay: retryPause}, MinConnectTimeout: time.Second}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"unix://" + o.Socket}, DialTimeout: time.Second, DialOptions: []grpc.DialOption{grpc.WithConnectParams(quick)},
		MaxCallSendMsgSize: maxGroup + 1<<20, MaxUnaryRetries: 1, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, err
	}
	tctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := c.Get(tctx, j.prefix+"head"); err != nil {
		_ = c.Close()
		return nil, err
	}
	return &backend{client: c, socket: o.Socket}, nil
}

// do runs f against a connection and runs it again on a new one when the
// process that served the old one has gone away. f must be safe to repeat.
func (j *Journal) do(ctx context.Context, f func(context.Context, *clientv3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, doTimeout)
	defer cancel()
	for {
		b, err := j.backend(ctx)
		if err != nil {
			return j.wrap(err)
		}
		tctx, cancel := context.WithTimeout(ctx, tryTimeout)
		if b.member != nil {
			go b.member.cancelOnFailure(tctx, cancel) // ends with tctx
		}
		if b.socket != "" {
			go endWithConnection(tctx, cancel, b.client) // ends with tctx
		}
		err = f(tctx, b.client)
		cancel()
		if err == nil {
			return nil
		}
		if b.member != nil {
			if ferr := b.member.failure(); ferr != nil {
				return j.wrap(ferr)
			}
		}
		again := errors.Is(err, rpctypes.ErrTimeout) || errors.Is(err, rpctypes.ErrNoLeader)
		if b.socket != "" && (gone(err) || b.client.ActiveConnection().GetState() != connectivity.Ready) {
			j.drop(b)
			again = true
		}
		if ctx.Err() != nil {
			return j.wrap(ctx.Err())
		}
		if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
			return j.wrap(fmt.Errorf("no answer within %v%s: %w", tryTimeout, b.server(), err))
		}
		if !again {
			return j.wrap(err)
		}
		pause(ctx, retryPause)
	}
}

// gone says whether an error means that the serving process went away.
func gone(err error) bool {
	if errors.Is(err, rpctypes.ErrStopped) || errors.Is(err, clientv3.ErrNoAvailableEndpoints) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled:
		return true
	}
	return errors.Is(err, context.Canceled)
}

func (j *Journal) wrap(err error) error {
	var locked *provision.LockedError
	if errors.As(err, &locked) || errors.Is(err, errEmpty) {
		return err
	}
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return fmt.Errorf("journal %s: etcd's storage quota of %d GiB is used up; move the directory away to start a new journal: %w", j.where(), quota>>30, err)
	}
	return fmt.Errorf("journal %s: %w", j.where(), err)
}

// pause sleeps, or returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
