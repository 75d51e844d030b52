package secrets

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/internal/simrack"
	"firstlight/inventory"
	"firstlight/provision/bmc"
)

// board is a BMC with one account and a way to misbehave.
type board struct {
	password inventory.Secret
	logins   int
	failed   int   // logins in a row
	most     int   // failed ever was
	silent   bool  // answers nothing
	refuses  error // the answer to a new password
	loses    bool  // the reply to it gets lost, after it was set
	dies     bool  // falls silent instead of taking it
	lies     bool  // accepts it and keeps the old one
	then     func()
}

func (b *board) Login(_ context.Context, password inventory.Secret) error {
	if b.silent {
		return &bmc.NoAnswerError{Doing: "Open Session"}
	}
	b.logins++
	if password != b.password {
		b.failed++
		b.most = max(b.most, b.failed)
		return &bmc.AuthError{Reason: "wrong user name or password"}
	}
	b.failed = 0
	return nil
}

func (b *board) SetPassword(ctx context.Context, old, next inventory.Secret, ready func() error) error {
	if err := b.Login(ctx, old); err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	if b.then != nil {
		b.then()
	}
	switch {
	case b.refuses != nil:
		return b.refuses
	case b.dies:
		b.silent = true
		return &bmc.NoAnswerError{Doing: "Set User Password"}
	case b.lies:
		return nil
	}
	b.password = next
	if b.loses {
		return &bmc.NoAnswerError{Doing: "Set User Password"}
	}
	return nil
}

// bench is some boards and the file about them.
type bench struct {
	*testing.T
	path   string
	boards []*board
	next   inventory.Secret
}

func newBench(t *testing.T, boards ...*board) *bench {
	for _, b := range boards {
		if b.password == "" {
			b.password = declared
		}
	}
	return &bench{t, filepath.Join(t.TempDir(), "passwords"), boards, "Next-password-1"}
}

func (r *bench) account(i int) Account {
	return Account{string(rune('a' + i)), netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 0, "admin"}
}

func (r *bench) open() *Store {
	r.Helper()
	s, err := Open(r.path)
	if err != nil {
		r.Fatal(err)
	}
	return s
}

// rotate runs once over the boards with these numbers, or all, and returns the
// outcomes.
func (r *bench) rotate(ctx context.Context, which ...int) ([]string, []Result) {
	r.Helper()
	if which == nil {
		for i := range r.boards {
			which = append(which, i)
		}
	}
	var all []Job
	for _, i := range which {
		all = append(all, Job{Account: r.account(i), BMC: r.boards[i],
			Declared: func() (inventory.Secret, error) { return declared, nil },
			Next:     func() (inventory.Secret, bool, error) { return r.next, r.next == declared, nil }})
	}
	s := r.open()
	results, err := (&Rotation{Store: s, Concurrency: 1}).Run(ctx, all)
	if err := errors.Join(err, s.Close()); err != nil {
		r.Fatal(err)
	}
	var outcomes []string
	for _, x := range results {
		outcomes = append(outcomes, x.Outcome)
	}
	return outcomes, results
}

func (r *bench) entry(i int) Entry {
	r.Helper()
	book, err := Read(r.path)
	if err != nil {
		r.Fatal(err)
	}
	e, _ := book.Find(r.account(i))
	return e
}

func (r *bench) want(got []string, want ...string) {
	r.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		r.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func TestRotate(t *testing.T) {
	r := newBench(t, &board{}, &board{})
	got, _ := r.rotate(t.Context())
	r.want(got, Changed, Changed)
	if e := r.entry(0); e.Password != "Next-password-1" || e.Next != "" || r.boards[0].logins != 2 {
		t.Errorf("entry %+v, %d logins", e, r.boards[0].logins)
	}
	// Again, from the recorded one; and then back to the declared one, after which
	// there is nothing to keep.
	r.next = "Next-password-2"
	got, _ = r.rotate(t.Context(), 0)
	r.want(got, Changed)
	r.next = declared
	got, _ = r.rotate(t.Context())
	r.want(got, Changed, Changed)
	if _, err := os.Stat(r.path); !errors.Is(err, os.ErrNotExist) || r.boards[0].password != declared {
		t.Errorf("the file is still there (%v), or the board has another password", err)
	}
}

// TestRotateTrouble: whatever goes wrong, the file says what a board can have, and
// no board sees two failed logins in a row.
func TestRotateTrouble(t *testing.T) {
	policy := errors.New("too simple")
	kept := &bmc.ReadBackError{What: "password"}
	for _, c := range []struct {
		name    string
		board   board
		outcome string
		logins  int
		said    string
		again   string // the outcome of the next run, with the trouble gone
	}{
		{"silent", board{silent: true}, Unchanged, 0, "did not answer", Changed},
		{"reply lost", board{loses: true}, Changed, 2, "", Changed},
		{"dies of it", board{dies: true}, Unknown, 1, "did not answer", Changed},
		{"refuses it", board{refuses: policy}, Unchanged, 2, "too simple", Changed},
		{"lies", board{lies: true}, Unknown, 3, "still wants the old password", Changed},
		{"reads back another", board{refuses: kept}, Unknown, 2, "still wants the old password", Changed},
		{"another password", board{password: "unheard-of"}, Refusal, 1, "wrong user name or password", Refusal},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.board
			r := newBench(t, &b)
			got, results := r.rotate(t.Context())
			r.want(got, c.outcome)
			if err := results[0].Err; (err == nil) != (c.said == "") || err != nil && !strings.Contains(err.Error(), c.said) {
				t.Errorf("error %v; want %q in it", err, c.said)
			}
			if b.logins != c.logins || b.most > 1 {
				t.Errorf("%d logins, %d failed in a row; want %d, and 1 at most", b.logins, b.most, c.logins)
			}
			_, err := r.entry(0).Current()
			if blocked := c.outcome == Unknown || c.outcome == Refusal; (err != nil) != blocked {
				t.Errorf("Current: %v; want an error: %v", err, blocked)
			}
			b.silent, b.refuses, b.loses, b.dies, b.lies = false, nil, false, false, false
			before := b.logins
			got, _ = r.rotate(t.Context())
			r.want(got, c.again)
			if c.again == Refusal && b.logins != before {
				t.Error("a refused password was tried again")
			}
			if e := r.entry(0); c.again == Changed && (e.Password != b.password || e.Next != "") {
				t.Errorf("the board does not have what is recorded: %+v", e)
			}
		})
	}
}

// TestRetryAndForget: what was refused is tried again when a person says so, and
// forgotten likewise.
func TestRetryAndForget(t *testing.T) {
	r := newBench(t, &board{password: "unheard-of"}, &board{})
	got, _ := r.rotate(t.Context())
	r.want(got, Refusal, Changed)
	r.boards[0].password = declared // corrected on the board
	s := r.open()
	if err := errors.Join(s.Retry([]Account{r.account(0)}), s.Close()); err != nil {
		t.Fatal(err)
	}
	r.next = "Next-password-2"
	got, _ = r.rotate(t.Context(), 0)
	r.want(got, Changed)

	r.boards[1].password = declared // another board in its place
	s = r.open()
	if err := errors.Join(s.Forget([]Account{r.account(1)}), s.Close()); err != nil {
		t.Fatal(err)
	}
	if e := r.entry(1); !e.gone() {
		t.Errorf("after forget: %+v", e)
	}
	got, _ = r.rotate(t.Context(), 1)
	r.want(got, Changed)
}

// TestInterrupted: Ctrl-C lets a board that is under way come to its end and
// begins no other; the next run finishes those and begins nothing else.
func TestInterrupted(t *testing.T) {
	r := newBench(t, &board{}, &board{}, &board{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, b := range r.boards {
		b.then = cancel
	}
	got, results := r.rotate(ctx)
	changed := 0
	for i, outcome := range got {
		if outcome == Changed {
			changed++
		} else if outcome != Left || !errors.Is(results[i].Err, context.Canceled) || r.boards[i].logins != 0 {
			t.Errorf("%d: %s, %v, %d logins", i, outcome, results[i].Err, r.boards[i].logins)
		}
	}
	if changed != 1 {
		t.Fatalf("outcomes %v; want one changed", got)
	}
	r.next = "Next-password-2"
	got, results = r.rotate(t.Context())
	for i, outcome := range got {
		want := map[bool]string{true: Changed, false: Left}[results[i].Resumed]
		if outcome != want || r.boards[i].password != "Next-password-1" {
			t.Errorf("%d: %s (resumed: %v); want the first change finished and nothing more", i, outcome, results[i].Resumed)
		}
	}
	got, _ = r.rotate(t.Context())
	r.want(got, Changed, Changed, Changed)
	if r.boards[0].password != "Next-password-2" {
		t.Error("the second change was not made")
	}
}

// TestMoved: a BMC with another address is known by its node, and a node with
// another name by its BMC.
func TestMoved(t *testing.T) {
	r := newBench(t, &board{})
	r.rotate(t.Context())
	book, err := Read(r.path)
	if err != nil {
		t.Fatal(err)
	}
	was := r.account(0)
	moved, renamed, user := was, was, was
	moved.Address, renamed.Node, user.Username = netip.MustParseAddr("10.0.9.9"), "z", "root"
	for _, a := range []Account{moved, renamed} {
		if e, ok := book.Find(a); !ok || e.Password != "Next-password-1" {
			t.Errorf("Find(%v) = %+v, %v", a, e, ok)
		}
	}
	if _, ok := book.Find(user); ok {
		t.Error("another user has the same password")
	}
	s := r.open()
	all := []Job{{Account: moved, BMC: r.boards[0], Next: func() (inventory.Secret, bool, error) { return "Next-password-2", false, nil }}}
	if _, err := (&Rotation{Store: s}).Run(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if book, err = Read(r.path); len(book) != 1 || book[moved.key()].Password != "Next-password-2" {
		t.Errorf("%d entries, %v; want the moved one only", len(book), err)
	}
}

// TestRotateEmulators: what emulators of real BMCs do to a new password.
func TestRotateEmulators(t *testing.T) {
	f := newFleet(t, 0, 2)
	f.peers[0].(*simrack.Redfish).SetFaults(simrack.RedfishFaults{LockAfter: 3, LosePasswords: true})
	f.peers[1].(*simrack.Redfish).SetFaults(simrack.RedfishFaults{LockAfter: 3, RefusePasswords: true})
	path := filepath.Join(t.TempDir(), "passwords")
	results := f.rotate(path)
	if results[0].Outcome != Unknown || results[1].Outcome != Unchanged {
		t.Errorf("outcomes %s, %s; want unknown and unchanged", results[0].Outcome, results[1].Outcome)
	}
	for _, p := range f.peers {
		p.(*simrack.Redfish).SetFaults(simrack.RedfishFaults{LockAfter: 3})
	}
	for range 2 { // the first finishes the one, the second begins anew
		for _, x := range f.rotate(path) {
			if x.Err != nil {
				t.Error(x.Err)
			}
		}
	}
	f.check(path, 1)
}

func TestGenerate(t *testing.T) {
	seen := map[inventory.Secret]bool{}
	for range 1000 {
		p := Generate()
		text := p.Reveal()
		if len(text) != 16 || seen[p] || !strings.ContainsAny(text[:1], upper+lower) ||
			!strings.ContainsAny(text, upper) || !strings.ContainsAny(text, lower) || !strings.ContainsAny(text, digits) || !strings.ContainsAny(text, special) {
			t.Fatalf("Generate = %q (seen before: %v)", text, seen[p])
		}
		seen[p] = true
	}
}

// TestAfterATry: a login whose end was not recorded may have failed, so the other
// password comes first: no second login fails in a row. What was refused is not
// tried again.
func TestAfterATry(t *testing.T) {
	const next inventory.Secret = "Next-password-1"
	for _, c := range []struct {
		name   string
		has    inventory.Secret
		was    Entry
		failed int // at most, in a row
		logins int // up to the first that works, and those of the change if it is made again
	}{
		{"sent, not tried, arrived", next, Entry{}, 0, 1},
		{"sent, not tried, lost", declared, Entry{}, 1, 4},
		{"new tried, arrived", next, Entry{Tried: New}, 1, 2},
		{"new tried, lost", declared, Entry{Tried: New}, 0, 3},
		{"old tried, arrived", next, Entry{Tried: Old}, 0, 1},
		{"new refused, lost", declared, Entry{Tried: New, NotNew: true}, 0, 3},
		{"old refused, arrived", next, Entry{Tried: Old, NotOld: true}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &board{password: c.has}
			r := newBench(t, b)
			e := c.was
			e.Account, e.Next, e.Sent = r.account(0), next, true
			s := r.open()
			if err := errors.Join(s.Put(e), s.Close()); err != nil {
				t.Fatal(err)
			}
			got, _ := r.rotate(t.Context())
			r.want(got, Changed)
			if b.most > c.failed || b.logins != c.logins || b.password != next || r.entry(0).Password != next {
				t.Errorf("%d failed in a row, %d logins, entry %+v; want %d at most, %d, and the new password", b.most, b.logins, r.entry(0), c.failed, c.logins)
			}
		})
	}
}
