package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"firstlight/provision"
	"firstlight/provision/journal"
	"firstlight/provision/journal/journaltest"
)

// TestReadOnlyCreatesNothing: plan and status on a directory that was never
// applied leave it as it was.
func TestReadOnlyCreatesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), ".firstlight", "etcd")
	j, err := journal.Open(t.Context(), journal.Options{Dir: dir, Cluster: "lab", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	events, last, err := j.Read(t.Context(), 0)
	if len(events) != 0 || last != 0 || err != nil {
		t.Errorf("Read = %v, %d, %v; want an empty journal", events, last, err)
	}
	if _, err := j.Append(t.Context(), 0, journaltest.Events(1)...); !errors.Is(err, journal.ErrReadOnly) {
		t.Errorf("Append = %v; want ErrReadOnly", err)
	}
	if _, err := j.Lock(t.Context(), "x"); !errors.Is(err, journal.ErrReadOnly) {
		t.Errorf("Lock = %v; want ErrReadOnly", err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading created %s", filepath.Dir(dir))
	}
	w := openDir(t, dir) // now somebody applies
	if _, err := w.Append(t.Context(), 0, journaltest.Events(1)...); err != nil {
		t.Fatal(err)
	}
	if _, last, err := j.Read(t.Context(), 0); last != 1 || err != nil {
		t.Errorf("Read after the first Append = %d, %v; want 1", last, err)
	}
}

// TestManyOpeners races openers for the directory of a journal that exists
// and of one that does not.
func TestManyOpeners(t *testing.T) {
	dir := t.TempDir()
	for range 4 {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				j, err := journal.Open(t.Context(), journal.Options{Dir: dir, Cluster: "lab"})
				if err != nil {
					t.Error(err)
					return
				}
				if _, _, err := j.Read(t.Context(), 0); err != nil {
					t.Error(err)
				}
				_ = j.Close()
			})
		}
		wg.Wait()
	}
}

// TestLongDirectory: a unix socket's path holds 107 bytes, a directory's more.
func TestLongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("a-long-name-of-a-site/", 8))
	a := openDir(t, dir)
	if _, err := a.Append(t.Context(), 0, journaltest.Events(1)...); err != nil {
		t.Fatal(err)
	}
	b := openDir(t, dir)
	if _, last, err := b.Read(t.Context(), 0); last != 1 || err != nil {
		t.Errorf("Read by the second opener = %d, %v; want 1", last, err)
	}
	_ = a.Close()
	if _, last, err := b.Read(t.Context(), 0); last != 1 || err != nil {
		t.Errorf("Read after the first has closed = %d, %v; want 1", last, err)
	}
}

// TestLockLost takes the lease away under the holder, as a long pause does.
func TestLockLost(t *testing.T) {
	dir := t.TempDir()
	j := openDir(t, dir)
	unlock, err := j.Lock(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(dir, "client.sock")}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	leases, err := c.Leases(t.Context())
	if err != nil || len(leases.Leases) != 1 {
		t.Fatalf("leases: %v, %v; want one", leases, err)
	}
	if _, err := c.Revoke(t.Context(), leases.Leases[0].ID); err != nil {
		t.Fatal(err)
	}
	if last, err := j.Append(t.Context(), 0, journaltest.Events(1)...); last != 1 || err != nil {
		t.Errorf("Append without the lease while nobody else asks = %d, %v; want the lock taken anew and 1", last, err)
	}
	if leases, err = c.Leases(t.Context()); err != nil || len(leases.Leases) != 1 {
		t.Fatalf("leases: %v, %v; want one", leases, err)
	}
	if _, err := c.Revoke(t.Context(), leases.Leases[0].ID); err != nil {
		t.Fatal(err)
	}
	other := openDir(t, dir)
	unlockOther, err := other.Lock(t.Context(), "second apply")
	if err != nil {
		t.Fatal(err)
	}
	defer unlockOther()
	if _, err := j.Append(t.Context(), 1, journaltest.Events(1)...); !errors.Is(err, provision.ErrConflict) || !strings.Contains(err.Error(), "second apply has the writer's lock") {
		t.Errorf("Append beside the new holder = %v; want ErrConflict naming it", err)
	}
	if _, last, _ := j.Read(t.Context(), 0); last != 1 {
		t.Errorf("last serial %d; want nothing written beside the new holder", last)
	}
}

// TestForeignLock meets locks that other machines, other boots and dead
// processes left.
func TestForeignLock(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	boot := strings.TrimSpace(string(raw))
	cases := []struct {
		name, host, boot, ns string
		pid                  int
		refused              bool
		atLeast, atMost      time.Duration
	}{
		{"another machine", "elsewhere", "b", "n", 1, true, 0, time.Second},
		{"another container of this machine", "elsewhere", boot, "pid:[1]", 1 << 21, true, 0, time.Second},
		{"before the last boot", host, "b", ns, 1, false, time.Second, 6 * time.Second},
		{"a dead process", host, boot, ns, 1 << 30, false, 0, time.Second},
		{"a process id used again", host, boot, ns, os.Getpid(), false, 0, time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			j := openDir(t, dir)
			cl, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(dir, "client.sock")}, Logger: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			lease, err := cl.Grant(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			value := fmt.Sprintf(`{"holder":"apply of old","since":"2026-11-22T23:00:00Z","pid":%d,"start":"1","boot":%q,"pidns":%q,"host":%q}`, c.pid, c.boot, c.ns, c.host)
			if _, err := cl.Put(t.Context(), "firstlight/lab/lock", value, clientv3.WithLease(lease.ID)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			unlock, err := j.Lock(t.Context(), "apply")
			took := time.Since(began)
			var locked *provision.LockedError
			if errors.As(err, &locked) != c.refused || !c.refused && err != nil || took < c.atLeast || took > c.atMost {
				t.Errorf("Lock = %v after %v; want refused %v, after %v to %v", err, took, c.refused, c.atLeast, c.atMost)
			}
			if c.refused && locked.Holder != "apply of old" {
				t.Errorf("refused by %q", locked.Holder)
			}
			if unlock == nil {
				return
			}
			defer unlock()
			if _, err := j.Append(t.Context(), 0, journaltest.Events(1)...); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDamage removes an event behind the journal's back.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	j := openDir(t, dir)
	for after := range int64(3) {
		if _, err := j.Append(t.Context(), after, journaltest.Events(1)...); err != nil {
			t.Fatal(err)
		}
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(dir, "client.sock")}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Delete(t.Context(), fmt.Sprintf("firstlight/lab/events/%016x", 2)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := j.Read(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "event 2 is missing") {
		t.Errorf("Read = %v; want event 2 missed", err)
	}
}

// TestNoTCP: the embedded member must not be reachable over a network.
func TestNoTCP(t *testing.T) {
	_ = openDir(t, t.TempDir())
	inodes := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:[") {
			inodes[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	if len(inodes) == 0 {
		t.Error("found no socket at all, not even the unix one: the test sees nothing")
	}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		raw, err := os.ReadFile("/proc/self/net/" + table)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(raw), "\n")[1:] {
			if f := strings.Fields(line); len(f) > 9 && inodes[f[9]] {
				t.Errorf("%s socket of ours: local %s remote %s state %s", table, f[1], f[2], f[3])
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		opts journal.Options
		want string
	}{
		{"no place", journal.Options{Cluster: "lab"}, "neither a state directory nor endpoints"},
		{"no cluster", journal.Options{Dir: t.TempDir()}, `cluster name ""`},
		{"slash", journal.Options{Dir: t.TempDir(), Cluster: "a/b"}, `cluster name "a/b"`},
		{"below a file", journal.Options{Dir: filepath.Join(file, "x"), Cluster: "lab"}, file},
	}
	for _, c := range cases {
		if _, err := journal.Open(t.Context(), c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Open = %v; want %q", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := journal.Open(ctx, journal.Options{Endpoints: []string{"http://127.0.0.1:9"}, Cluster: "lab"}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:9") {
		t.Errorf("Open of a dead endpoint = %v; want it named", err)
	}
}

func TestEvidence(t *testing.T) {
	e := journal.Evidence{Dir: filepath.Join(t.TempDir(), "evidence")}
	data := []byte("serial console of hnode001\n")
	const want = "sha256:"
	digest, err := e.Put(data)
	if err != nil || !strings.HasPrefix(digest, want) {
		t.Fatalf("Put = %q, %v", digest, err)
	}
	again, err := e.Put(data)
	if again != digest || err != nil {
		t.Errorf("second Put = %q, %v; want %q", again, err, digest)
	}
	if got, err := e.Get(digest); string(got) != string(data) || err != nil {
		t.Errorf("Get = %q, %v", got, err)
	}
	missing := want + strings.Repeat("0", 64)
	if _, err := e.Get(missing); !errors.Is(err, journal.ErrNoEvidence) {
		t.Errorf("Get of nothing = %v; want ErrNoEvidence", err)
	}
	for _, bad := range []string{"", "sha256:", "md5:00", want + "../../etc/passwd", want + strings.Repeat("A", 64), digest + "0"} {
		if _, err := e.Get(bad); err == nil || !strings.Contains(err.Error(), "not of the form") {
			t.Errorf("Get(%q) = %v; want it refused", bad, err)
		}
	}
	hex := strings.TrimPrefix(digest, want)
	file := filepath.Join(e.Dir, hex[:2], hex)
	if err := os.WriteFile(file, []byte("altered"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Get(digest); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Get of an altered file = %v; want the file named", err)
	}
	if _, err := e.Put(data); err != nil { // heals it
		t.Error(err)
	}
	if got, err := e.Get(digest); string(got) != string(data) || err != nil {
		t.Errorf("Get after healing = %q, %v", got, err)
	}
	left, _ := filepath.Glob(filepath.Join(e.Dir, "*", ".new-*"))
	if len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		j, err := journal.Open(b.Context(), journal.Options{Dir: dir, Cluster: "lab"})
		if err != nil {
			b.Fatal(err)
		}
		_ = j.Close()
	}
}

func BenchmarkAppend(b *testing.B) {
	j, err := journal.Open(b.Context(), journal.Options{Dir: b.TempDir(), Cluster: "lab"})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	last := int64(0)
	for b.Loop() {
		if last, err = j.Append(b.Context(), last, journaltest.Events(1)...); err != nil {
			b.Fatal(err)
		}
	}
	raw, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(raw), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			var kb float64
			_, _ = fmt.Sscan(f[1], &kb)
			b.ReportMetric(kb/1024, "MB-RSS")
		}
	}
}

// BenchmarkAppend100Nodes is 100 nodes reporting at once, their appends
// serialised as the engine does it; one operation is all hundred.
func BenchmarkAppend100Nodes(b *testing.B) {
	j, err := journal.Open(b.Context(), journal.Options{Dir: b.TempDir(), Cluster: "lab"})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	var mu sync.Mutex
	last := int64(0)
	for b.Loop() {
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				mu.Lock()
				defer mu.Unlock()
				next, err := j.Append(b.Context(), last, journaltest.Events(1)...)
				if err != nil {
					b.Error(err)
					return
				}
				last = next
			})
		}
		wg.Wait()
	}
}
