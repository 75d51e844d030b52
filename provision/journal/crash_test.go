package journal_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firstlight/provision"
	"firstlight/provision/journal"
	"firstlight/provision/journal/journaltest"
)

// childVar makes this test binary play another process: "append DIR" writes
// until it is killed, "grow DIR" until a write fails, "hold DIR" takes the lock
// and waits, "follow DIR" says what it sees.
const childVar = "FIRSTLIGHT_JOURNAL_CHILD"

func TestMain(m *testing.M) {
	if job := os.Getenv(childVar); job != "" {
		if err := child(strings.Fields(job)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(args []string) error {
	ctx := context.Background()
	minFree := uint64(0)
	if len(args) > 2 {
		minFree, _ = strconv.ParseUint(args[2], 10, 64)
	}
	j, err := journal.Open(ctx, journal.Options{Dir: args[1], Cluster: "lab", MinFree: minFree, ReadOnly: args[0] == "follow"})
	if err != nil {
		return err
	}
	if args[0] == "follow" {
		for e, err := range j.Watch(ctx, 0) {
			if err != nil {
				return err
			}
			fmt.Println("saw", e.Serial)
		}
	}
	if _, err = j.Lock(ctx, fmt.Sprintf("child %d", os.Getpid())); err != nil {
		return err
	}
	last, err := j.Last(ctx)
	if err != nil {
		return err
	}
	fmt.Println("last", last)
	if args[0] == "hold" {
		select {}
	}
	grow := args[0] == "grow"
	if grow {
		signal.Ignore(syscall.SIGXFSZ)
		const limit = 18 << 20 // above etcd's log segment, below what its database grows to
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	for n := 1; ; n = n%4 + 1 {
		events := journaltest.Events(n)
		if grow {
			events[0].Data = json.RawMessage(`"` + strings.Repeat("x", 200<<10) + `"`)
		}
		if last, err = j.Append(ctx, last, events...); err != nil {
			return err
		}
		fmt.Println("acked", last)
	}
}

// process is a child with what it has said so far.
type process struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func start(t *testing.T, job ...any) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^$")}
	p.cmd.Env = append(os.Environ(), childVar+"="+strings.TrimSuffix(fmt.Sprintln(job...), "\n"))
	var stderr bytes.Buffer
	p.cmd.Stderr = &stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if stderr.Len() > 0 {
			t.Errorf("etcd in a child wrote on the terminal:\n%s", stderr.String())
		}
	})
	return p
}

// drain reads what the child said until it ended and returns the highest
// acknowledged serial and its error line.
func (p *process) drain() (acked int64, failure string) {
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			return acked, failure // also drops a half written line, which acknowledged nothing
		}
		if s, ok := strings.CutPrefix(line, "acked "); ok {
			acked, _ = strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		} else if strings.HasPrefix(line, "error:") {
			failure = line
		}
	}
}

func openDir(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Options{Dir: dir, Cluster: "lab"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// checkWhole reads a journal, which checks that it has no gaps, and wants
// every acknowledged event.
func checkWhole(t *testing.T, j *journal.Journal, acked int64) int64 {
	t.Helper()
	events, last, err := j.Read(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if last < acked {
		t.Fatalf("last serial %d; want at least the acknowledged %d", last, acked)
	}
	for i, e := range events {
		if e.Serial != int64(i)+1 {
			t.Fatalf("event %d has serial %d", i, e.Serial)
		}
	}
	return last
}

// TestKill9 kills a writer at random points, its start included. The lock it
// leaves is taken over by the next one at once.
func TestKill9(t *testing.T) {
	dir := t.TempDir()
	highest := int64(0)
	for round := range 25 {
		p := start(t, "append", dir)
		time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond)
		_ = p.cmd.Process.Kill()
		acked, failure := p.drain()
		_ = p.cmd.Wait()
		if failure != "" {
			t.Fatalf("round %d: writer said %s", round, failure)
		}
		highest = max(highest, acked)
		if round%5 == 4 {
			j := openDir(t, dir)
			highest = checkWhole(t, j, highest)
			began := time.Now()
			unlock, err := j.Lock(t.Context(), "parent")
			if err != nil || time.Since(began) > 3*time.Second {
				t.Errorf("Lock after kill -9 = %v after %v; want it at once", err, time.Since(began))
			}
			if err == nil {
				unlock()
			}
			_ = j.Close()
		}
	}
	if highest < 100 {
		t.Errorf("only %d events were written in all: the test killed too early to show anything", highest)
	}
}

// TestKilledWhileMade kills a writer while it makes the journal: etcd itself
// cannot go on from some of what that leaves.
func TestKilledWhileMade(t *testing.T) {
	for round := range 25 {
		dir := t.TempDir()
		p := start(t, "append", dir)
		waitForLog(t, dir)
		time.Sleep(time.Duration(round) * 300 * time.Microsecond)
		_ = p.cmd.Process.Kill()
		acked, failure := p.drain()
		_ = p.cmd.Wait()
		if failure != "" {
			t.Errorf("writer said %s", failure)
		}
		j := openDir(t, dir)
		last := checkWhole(t, j, acked)
		if _, err := j.Lock(t.Context(), "after"); err != nil {
			t.Error(err)
		}
		if _, err := j.Append(t.Context(), last, journaltest.Events(1)...); err != nil {
			t.Error(err)
		}
		_ = j.Close()
	}
}

// waitForLog returns when etcd has made its log but not yet written into it.
func waitForLog(t *testing.T, dir string) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(20 * time.Microsecond) {
		if _, err := os.Stat(filepath.Join(dir, "member/wal/0000000000000000-0000000000000000.wal")); err == nil {
			return
		}
	}
	t.Fatal("the writer made no log within 10 s")
}

// TestHalfMade: a member that never was ready is moved aside, not deleted.
func TestHalfMade(t *testing.T) {
	dir := t.TempDir()
	j := openDir(t, dir)
	_ = j.Close()
	if err := os.Remove(filepath.Join(dir, "member", "made-by-firstlight")); err != nil {
		t.Fatal(err)
	}
	j = openDir(t, dir)
	if _, err := j.Append(t.Context(), 0, journaltest.Events(1)...); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "member.half-made", "wal")); err != nil {
		t.Error(err)
	}
}

// walTail returns the newest log file and the offset of its last byte that is
// not zero: etcd allocates ahead with zeros.
func walTail(t *testing.T, dir string) (string, int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "member/wal/*.wal"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no log files: %v", err)
	}
	name := names[len(names)-1]
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return name, int64(len(bytes.TrimRight(raw, "\x00")))
}

// TestTornWrite cuts, zeroes or flips the last written bytes of the log of a
// killed writer, as a power cut in the middle of a write does. The journal
// opens with everything before the torn record, or says which file is damaged.
func TestTornWrite(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "append", dir)
	time.Sleep(400 * time.Millisecond)
	_ = p.cmd.Process.Kill()
	acked, failure := p.drain()
	_ = p.cmd.Wait()
	if acked < 5 {
		t.Fatalf("writer acknowledged %d events: %s", acked, failure)
	}
	const torn = 4 // one group at most was in the torn record
	cases := []struct {
		name   string
		damage func(f *os.File, end int64) error
	}{
		{"1 byte cut", func(f *os.File, end int64) error { return f.Truncate(end - 1) }},
		{"9 bytes cut", func(f *os.File, end int64) error { return f.Truncate(end - 9) }},
		{"100 bytes cut", func(f *os.File, end int64) error { return f.Truncate(end - 100) }},
		{"5 bytes zeroed", func(f *os.File, end int64) error { _, err := f.WriteAt(make([]byte, 5), end-5); return err }},
		{"last sector never written", func(f *os.File, end int64) error {
			from := (end - 1) / 512 * 512
			_, err := f.WriteAt(make([]byte, end-from), from)
			return err
		}},
		{"bits flipped", func(f *os.File, end int64) error { _, err := f.WriteAt([]byte{0xff, 0x5a, 0xa5}, end-20); return err }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "etcd")
			if err := os.CopyFS(copied, os.DirFS(filepath.Join(dir))); err != nil {
				// The socket of the killed writer cannot be copied and is not needed.
				if _, serr := os.Stat(filepath.Join(copied, "member/wal")); serr != nil {
					_ = os.RemoveAll(copied)
					if out, err := exec.Command("cp", "-r", dir, copied).CombinedOutput(); err != nil {
						t.Fatalf("%v: %s", err, out)
					}
				}
			}
			name, end := walTail(t, copied)
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.damage(f, end); err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
			j, err := journal.Open(t.Context(), journal.Options{Dir: copied, Cluster: "lab"})
			if err != nil {
				t.Logf("refused: %v", err)
				if !strings.Contains(err.Error(), filepath.Join(copied, "member/wal")) {
					t.Errorf("Open = %v; want an error that names the log", err)
				}
				return
			}
			defer j.Close()
			last := checkWhole(t, j, acked-torn)
			t.Logf("opened: %d of %d acknowledged", last, acked)
			if _, err := j.Lock(t.Context(), "after the tear"); err != nil {
				t.Fatal(err)
			}
			if _, err := j.Append(t.Context(), last, journaltest.Events(1)...); err != nil {
				t.Errorf("Append after the tear = %v", err)
			}
		})
	}
}

// TestServingProcessKilled: status reads through apply's member; apply is
// killed; status goes on by itself, and the next apply gets the lock at once.
func TestServingProcessKilled(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "hold", dir)
	if line, err := p.out.ReadString('\n'); err != nil || line != "last 0\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	r, err := journal.Open(t.Context(), journal.Options{Dir: dir, Cluster: "lab", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w := openDir(t, dir)
	var locked *provision.LockedError
	if _, err := w.Lock(t.Context(), "second"); !errors.As(err, &locked) || locked.Holder != fmt.Sprintf("child %d", p.cmd.Process.Pid) {
		t.Errorf("Lock beside the child = %v; want *LockedError naming it", err)
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	began := time.Now()
	if _, _, err := r.Read(t.Context(), 0); err != nil {
		t.Errorf("Read after the serving process was killed = %v", err)
	}
	unlock, err := w.Lock(t.Context(), "second")
	if err != nil {
		t.Fatalf("Lock after the holder was killed = %v", err)
	}
	defer unlock()
	if _, err := w.Append(t.Context(), 0, journaltest.Events(1)...); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("going on took %v", d)
	}
}

// TestFollowerOutlivesWriters: a status that follows goes on while one apply
// after the other is killed, misses nothing and writes nothing on the terminal.
func TestFollowerOutlivesWriters(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	follower := start(t, "follow", dir)
	last := int64(0)
	for range 3 {
		p := start(t, "append", dir)
		time.Sleep(300 * time.Millisecond)
		_ = p.cmd.Process.Kill()
		acked, failure := p.drain()
		_ = p.cmd.Wait()
		if acked <= last {
			t.Fatalf("a writer beside the follower acknowledged up to %d, before it there were %d: %s", acked, last, failure)
		}
		last = acked
	}
	late := time.AfterFunc(20*time.Second, func() { _ = follower.cmd.Process.Kill() })
	defer late.Stop()
	for want := int64(1); want <= last; want++ {
		line, err := follower.out.ReadString('\n')
		if err != nil || line != fmt.Sprintln("saw", want) {
			t.Fatalf("follower said %q, %v; want serial %d of %d", line, err, want, last)
		}
	}
}

// TestServingProcessStopped: a process that holds the directory and is
// stopped (Ctrl-Z) is named, and is not worked around.
func TestServingProcessStopped(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "hold", dir)
	if _, err := p.out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := journal.Open(ctx, journal.Options{Dir: dir, Cluster: "lab", ReadOnly: true})
	want := fmt.Sprintf("process %d holds the state directory and does not answer", p.cmd.Process.Pid)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Open = %v; want %q and the directory", err, want)
	}
}

// smallDisk mounts a file system of its own, so that it can be filled.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("needs the right to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func fill(t *testing.T, name string, leave uint64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(name), &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, make([]byte, st.Bavail*uint64(st.Bsize)-leave), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk: Append refuses while there is still room for etcd itself, and
// works again once there is space.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "160m")
	dir := filepath.Join(disk, "state")
	j := openDir(t, dir)
	if _, err := j.Append(t.Context(), 0, journaltest.Events(2)...); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(disk, "filler"), 20<<20)
	for _, what := range []struct {
		name string
		call func() error
	}{
		{"Append", func() error { _, err := j.Append(t.Context(), 2, journaltest.Events(1)...); return err }},
		{"Lock", func() error { _, err := j.Lock(t.Context(), "x"); return err }},
	} {
		err := what.call()
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("%s on a full disk = %v; want the directory and no space left", what.name, err)
		}
	}
	r, err := journal.Open(t.Context(), journal.Options{Dir: dir, Cluster: "lab", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), 2, journaltest.Events(1)...); err != nil {
		t.Errorf("Append after space was freed = %v", err)
	}
	checkWhole(t, j, 3)
}

// TestDiskFillsUnderEtcd takes the reserve away and limits the size of files,
// so that etcd itself meets a write that fails. etcd would end the process; the
// writer ends with an error instead, and nothing that it acknowledged is lost.
func TestDiskFillsUnderEtcd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	p := start(t, "grow", dir, 1)
	late := time.AfterFunc(60*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	acked, failure := p.drain()
	_ = p.cmd.Wait()
	t.Logf("%d acknowledged, then %s", acked, failure)
	if acked < 10 || !strings.Contains(failure, dir) || !strings.Contains(failure, "file too large") {
		t.Errorf("writer acknowledged %d and said %q; want the directory and the cause", acked, failure)
	}
	checkWhole(t, openDir(t, dir), acked)
}
