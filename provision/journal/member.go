package journal

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"google.golang.org/grpc"
)

const (
	quota       = 4 << 30  // bytes of etcd's database
	walSegment  = 16 << 20 // bytes etcd allocates ahead per log file; it keeps two
	closeWithin = 3 * time.Second
)

// setSegment lowers etcd's log segment from 64 MB, of which it always holds
// two allocated: a journal of a rack is a few megabytes.
var setSegment = sync.OnceFunc(func() { wal.SegmentSizeBytes = walSegment })

// member is an etcd server in this process.
type member struct {
	dir    *dirLock
	etcd   *embed.Etcd
	client *clientv3.Client
	log    *etcdLog
	stuck  bool // StartEtcd never returned

	mu    sync.Mutex
	grpcs []*grpc.Server // what serves the other processes
}

// startMember starts etcd in a directory whose lock file we hold; the lock is
// released again if it fails.
func startMember(ctx context.Context, dir *dirLock, opts Options) (*member, error) {
	m := &member{dir: dir, log: newEtcdLog(opts.Log)}
	if err := m.start(ctx, opts); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *member) start(ctx context.Context, opts Options) error {
	if err := m.clearHalfMade(opts); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(opts.Dir, "member")); err != nil && !opts.ReadOnly {
		// A new member; one that is there can at least be read on a full disk.
		if err := checkSpace(opts.Dir, opts.MinFree); err != nil {
			return err
		}
	}
	setSegment()
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	done := make(chan result, 1)
	// A goroutine of its own, because etcd reports an unreadable log by
	// ending the goroutine (see etcdLog) or by a panic. It ends with StartEtcd.
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("etcd: %v", p)
			}
			done <- r
		}()
		r.err = errors.New("etcd did not start")
		r.etcd, r.err = embed.StartEtcd(m.config(opts))
	}()
	late := time.NewTimer(openTimeout)
	defer late.Stop()
	var r result
	select {
	case r = <-done:
	case <-late.C:
		m.stuck = true
		return fmt.Errorf("etcd has not started within %v: is another etcd running on %s?", openTimeout, opts.Dir)
	}
	m.etcd = r.etcd
	if err := m.failure(); err != nil {
		r.err = err
	}
	if r.err != nil {
		return fmt.Errorf("etcd cannot start on %s and %s (restore the directory from a copy, or move it away to start anew): %w",
			filepath.Join(opts.Dir, "member/wal"), filepath.Join(opts.Dir, "member/snap"), r.err)
	}
	select {
	case <-m.etcd.Server.ReadyNotify():
	case <-m.log.failed:
		return m.failure()
	case <-m.etcd.Server.StopNotify():
		return errors.New("etcd stopped while it was starting")
	case <-late.C:
		return fmt.Errorf("etcd on %s is not ready within %v", opts.Dir, openTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
	m.client = v3client.New(m.etcd.Server)
	if err := markMade(opts.Dir); err != nil {
		return err
	}
	return m.dir.announce(true)
}

// madeMark lies in a member's directory once it has been ready. It travels
// with copies of that directory.
const madeMark = "member/made-by-firstlight"

// clearHalfMade moves away what a process left that was killed while it made
// the member. etcd cannot go on from there: it finds a log in which nobody,
// not even itself, is a member, and waits for ever. Nothing was recorded in
// it, since the member is neither used nor announced before it is marked.
func (m *member) clearHalfMade(opts Options) error {
	dir := filepath.Join(opts.Dir, "member")
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := os.Stat(filepath.Join(opts.Dir, madeMark))
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	aside := dir + ".half-made"
	opts.Log.Warn("a process was killed while it made the journal; starting it anew", "moved", dir, "to", aside)
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	return os.Rename(dir, aside)
}

// markMade writes the mark, to the disk, if it is not there.
func markMade(dir string) error {
	mark := filepath.Join(dir, madeMark)
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	return writeFile(mark, []byte("The etcd member in this directory has been ready.\n"))
}

// config describes a single member that opens no TCP port. Its peer address
// is only a name: nothing listens there and nothing connects to it.
func (m *member) config(opts Options) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "firstlight"
	cfg.Dir = opts.Dir
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	client := url.URL{Scheme: "unix", Path: m.dir.socket}
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{peer}
	cfg.ListenClientUrls = []url.URL{client}
	cfg.AdvertiseClientUrls = []url.URL{client}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	cfg.EnableGRPCGateway = false
	// There is nobody to wait for: a short election makes the start quick.
	cfg.TickMs, cfg.ElectionMs = 20, 100
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 2000, 500 // entries held in memory
	cfg.MaxSnapFiles, cfg.MaxWalFiles = 2, 2
	cfg.QuotaBackendBytes = quota
	cfg.MaxRequestBytes = maxGroup + 1<<20
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, "1000"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(m.log.logger())
	cfg.ServiceRegister = func(s *grpc.Server) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.grpcs = append(m.grpcs, s)
	}
	return cfg
}

// failure returns why etcd gave up in this process, or nil.
func (m *member) failure() error { return m.log.failure() }

// cancelOnFailure calls cancel if etcd gives up before ctx ends: a request
// that etcd left unanswered would wait for its own timeout.
func (m *member) cancelOnFailure(ctx context.Context, cancel context.CancelFunc) {
	select {
	case <-m.log.failed:
		cancel()
	case <-ctx.Done():
	}
}

// close stops the member and then gives the directory back, in that order, so
// that nobody starts a second one on the same files.
func (m *member) close() {
	if m.stuck {
		return // what it may be doing in the directory forbids giving it back
	}
	done := make(chan struct{})
	// Bounded, because a member that failed may hold its own locks for ever;
	// then this goroutine, and our claim on the directory, stay until the
	// process ends.
	go func() {
		defer close(done)
		m.mu.Lock()
		servers := m.grpcs
		m.mu.Unlock()
		for _, s := range servers {
			s.Stop() // at once: etcd would wait for the other processes' watches
		}
		if m.client != nil {
			_ = m.client.Close()
		}
		if m.etcd != nil {
			m.etcd.Close()
		}
	}()
	select {
	case <-done:
		m.dir.release()
	case <-time.After(closeWithin):
		m.log.out.Warn("etcd does not stop; the journal's directory is free when this process ends", "dir", filepath.Dir(m.dir.file.Name()))
	}
}
