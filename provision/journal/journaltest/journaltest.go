// Package journaltest holds an implementation of provision.Journal to its
// contract. Every implementation runs it from a test of its own.
package journaltest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/provision"
)

// Journal is what Run exercises: the engine's interface, the writer's lock,
// and the watch that status stands on.
type Journal interface {
	provision.Journal
	Lock(ctx context.Context, holder string) (unlock func(), err error)
	Watch(ctx context.Context, after int64) iter.Seq2[provision.Event, error]
	Close() error
}

// Store is one place where journals are kept. Each Open gives another handle
// on the same record, as another process would have.
type Store interface {
	Open(t *testing.T) Journal
}

// Run runs the suite; newStore gives an empty store for each case.
func Run(t *testing.T, newStore func(t *testing.T) Store) {
	cases := []struct {
		name string
		run  func(*testing.T, Store)
	}{
		{"empty", testEmpty},
		{"append and read", testAppendRead},
		{"read from inside a group", testReadInside},
		{"stale serial", testStale},
		{"what was given comes back", testRoundTrip},
		{"many groups", testMany},
		{"one of many writers wins", testRace},
		{"serialised writers in parallel", testParallel},
		{"reopen", testReopen},
		{"lock", testLock},
		{"lock excludes other writers", testLockExcludes},
		{"watch", testWatch},
		{"reader outlives the first handle", testOutlive},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, newStore(t)) })
	}
}

// Events makes n events that differ from each other.
func Events(n int) []provision.Event {
	events := make([]provision.Event, n)
	for i := range events {
		events[i] = provision.Event{
			Time: time.Date(2026, 11, 23, 12, 0, i, 0, time.UTC),
			Node: fmt.Sprintf("hnode%03d", i+1), Kind: "entered",
			Data: json.RawMessage(fmt.Sprintf(`{"state":"reachable","try":%d}`, i)),
		}
	}
	return events
}

func serials(events []provision.Event) []int64 {
	var out []int64
	for _, e := range events {
		out = append(out, e.Serial)
	}
	return out
}

func upTo(from, to int64) []int64 {
	var out []int64
	for s := from; s <= to; s++ {
		out = append(out, s)
	}
	return out
}

func open(t *testing.T, s Store) Journal {
	t.Helper()
	j := s.Open(t)
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func mustAppend(t *testing.T, j Journal, after int64, events ...provision.Event) int64 {
	t.Helper()
	last, err := j.Append(t.Context(), after, events...)
	if err != nil {
		t.Fatalf("Append(after %d, %d events) = %v", after, len(events), err)
	}
	return last
}

func wantSerials(t *testing.T, j Journal, after, last int64) {
	t.Helper()
	events, got, err := j.Read(t.Context(), after)
	if err != nil {
		t.Fatalf("Read(%d) = %v", after, err)
	}
	if diff := cmp.Diff(upTo(after+1, last), serials(events)); diff != "" || got != last {
		t.Errorf("Read(%d) = last %d, want %d; serials (-want +got):\n%s", after, got, last, diff)
	}
}

func testEmpty(t *testing.T, s Store) {
	wantSerials(t, open(t, s), 0, 0)
}

func testAppendRead(t *testing.T, s Store) {
	j := open(t, s)
	if got := mustAppend(t, j, 0, Events(1)...); got != 1 {
		t.Errorf("Append(0, 1 event) = %d; want 1", got)
	}
	if got := mustAppend(t, j, 1, Events(3)...); got != 4 {
		t.Errorf("Append(1, 3 events) = %d; want 4", got)
	}
	for after := int64(0); after <= 4; after++ {
		wantSerials(t, j, after, 4)
	}
	if _, err := j.Append(t.Context(), 4); err == nil {
		t.Error("Append of no events succeeded")
	}
}

func testReadInside(t *testing.T, s Store) {
	j := open(t, s)
	mustAppend(t, j, 0, Events(20)...)
	mustAppend(t, j, 20, Events(20)...)
	for _, after := range []int64{0, 1, 7, 15, 16, 17, 19, 20, 21, 31, 39, 40} {
		wantSerials(t, j, after, 40)
	}
}

func testStale(t *testing.T, s Store) {
	j := open(t, s)
	mustAppend(t, j, 0, Events(2)...)
	for _, after := range []int64{0, 1, 3, 99} {
		if _, err := j.Append(t.Context(), after, Events(1)...); !errors.Is(err, provision.ErrConflict) {
			t.Errorf("Append(after %d) at serial 2 = %v; want ErrConflict", after, err)
		}
	}
	wantSerials(t, j, 0, 2)
}

func testRoundTrip(t *testing.T, s Store) {
	j := open(t, s)
	want := Events(3)
	want[1].Node, want[1].Data = "", nil
	want[2].Data = json.RawMessage(`{"text":"<é & \"quoted\">","n":1.50}`)
	given := append([]provision.Event(nil), want...)
	mustAppend(t, j, 0, given...)
	if given[0].Serial != 0 {
		t.Error("Append wrote into the caller's events")
	}
	for i := range want {
		want[i].Serial = int64(i) + 1
	}
	got, _, err := j.Read(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
}

func testMany(t *testing.T, s Store) {
	j := open(t, s)
	last := int64(0)
	for i := range 600 {
		last = mustAppend(t, j, last, Events(1+i%3)...)
	}
	wantSerials(t, j, 0, last)
	wantSerials(t, j, last/2, last)
	last = mustAppend(t, j, last, Events(2000)...)
	wantSerials(t, j, 0, last)
}

// testRace lets many goroutines append after the same serial: exactly one may.
func testRace(t *testing.T, s Store) {
	j := open(t, s)
	for round := range int64(5) {
		won := make(chan error, 8)
		for range cap(won) {
			go func() { _, err := j.Append(t.Context(), round, Events(1)...); won <- err }()
		}
		wins := 0
		for range cap(won) {
			if err := <-won; err == nil {
				wins++
			} else if !errors.Is(err, provision.ErrConflict) {
				t.Errorf("Append = %v; want ErrConflict", err)
			}
		}
		if wins != 1 {
			t.Errorf("round %d: %d appends after the same serial succeeded; want 1", round, wins)
		}
	}
	wantSerials(t, j, 0, 5)
}

// testParallel is how the engine calls: many goroutines, one at a time.
func testParallel(t *testing.T, s Store) {
	j := open(t, s)
	var mu sync.Mutex
	var wg sync.WaitGroup
	last := int64(0)
	for range 20 {
		wg.Go(func() {
			for range 5 {
				mu.Lock()
				next, err := j.Append(t.Context(), last, Events(1)...)
				if err != nil {
					t.Error(err)
				} else {
					last = next
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	wantSerials(t, j, 0, 100)
}

func testReopen(t *testing.T, s Store) {
	last := int64(0)
	for range 3 {
		j := s.Open(t)
		wantSerials(t, j, 0, last)
		last = mustAppend(t, j, last, Events(2)...)
		if err := j.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		if _, err := j.Append(t.Context(), last, Events(1)...); err == nil {
			t.Error("Append after Close succeeded")
		}
	}
}

func testLock(t *testing.T, s Store) {
	a, b := open(t, s), open(t, s)
	began := time.Now().Add(-time.Second)
	unlock, err := a.Lock(t.Context(), "apply, process 1 on here")
	if err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	_, err = b.Lock(t.Context(), "apply, process 2 on here")
	var locked *provision.LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("second Lock = %v; want *LockedError", err)
	}
	if locked.Holder != "apply, process 1 on here" || locked.Since.Before(began) || locked.Since.After(time.Now()) {
		t.Errorf("LockedError = %+v; want the first holder and the time it took the lock", locked)
	}
	if !strings.Contains(err.Error(), "locked by apply, process 1 on here since ") {
		t.Errorf("error %q does not say who has the lock", err)
	}
	if d := time.Since(asked); d > 2*time.Second {
		t.Errorf("second Lock took %v; want an answer at once", d)
	}
	unlock()
	unlock() // a second time is harmless
	unlock, err = b.Lock(t.Context(), "apply, process 2 on here")
	if err != nil {
		t.Fatalf("Lock after unlock = %v", err)
	}
	unlock()
}

func testLockExcludes(t *testing.T, s Store) {
	a, b := open(t, s), open(t, s)
	unlock, err := a.Lock(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	last := mustAppend(t, a, 0, Events(1)...)
	if _, err := b.Append(t.Context(), last, Events(1)...); !errors.Is(err, provision.ErrConflict) {
		t.Errorf("Append beside the lock's holder = %v; want ErrConflict", err)
	}
	wantSerials(t, b, 0, 1)
	unlock()
	mustAppend(t, b, last, Events(1)...)
}

func testWatch(t *testing.T, s Store) {
	w, r := open(t, s), open(t, s)
	last := mustAppend(t, w, 0, Events(3)...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := make(chan []int64, 1)
	go func() {
		var seen []int64
		for e, err := range r.Watch(ctx, 1) {
			if err != nil {
				t.Error(err)
				break
			}
			if seen = append(seen, e.Serial); e.Serial == 13 {
				break
			}
		}
		got <- seen
	}()
	for range 5 {
		time.Sleep(20 * time.Millisecond)
		last = mustAppend(t, w, last, Events(2)...)
	}
	if diff := cmp.Diff(upTo(2, 13), <-got); diff != "" {
		t.Errorf("Watch(1) (-want +got):\n%s", diff)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	for e, err := range r.Watch(ctx, 13) {
		t.Errorf("Watch(13) yielded %v, %v; want nothing until its context ends", e, err)
	}
}

// testOutlive closes the handle that opened the store first, while another
// reads, watches and writes.
func testOutlive(t *testing.T, s Store) {
	first := s.Open(t)
	second := open(t, s)
	last := mustAppend(t, first, 0, Events(1)...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := make(chan []int64, 1)
	go func() {
		var seen []int64
		for e, err := range second.Watch(ctx, 0) {
			if err != nil {
				t.Error(err)
				break
			}
			if seen = append(seen, e.Serial); e.Serial == 3 {
				break
			}
		}
		got <- seen
	}()
	last = mustAppend(t, first, last, Events(1)...)
	began := time.Now()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("Close took %v; want it prompt", d)
	}
	wantSerials(t, second, 0, 2)
	mustAppend(t, second, last, Events(1)...)
	if diff := cmp.Diff(upTo(1, 3), <-got); diff != "" {
		t.Errorf("Watch across the first handle's end (-want +got):\n%s", diff)
	}
}
