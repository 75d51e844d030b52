package journal_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/provision"
	"firstlight/provision/journal/journaltest"
)

// TestEach: what comes in pieces is what Read gives at once, and an error of
// the consumer ends it.
func TestEach(t *testing.T) {
	j := openDir(t, t.TempDir())
	if last, err := j.Each(t.Context(), 0, func([]provision.Event) error { return errors.New("called") }); last != 0 || err != nil {
		t.Errorf("Each of an empty journal = %d, %v; want nothing", last, err)
	}
	last := int64(0)
	for i := range 600 { // more groups than one request reads
		var err error
		if last, err = j.Append(t.Context(), last, journaltest.Events(i%3+1)...); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []int64{0, 1, 700, last - 1, last} {
		var got []provision.Event
		calls := 0
		end, err := j.Each(t.Context(), after, func(events []provision.Event) error {
			calls++
			got = append(got, events...)
			return nil
		})
		want, wantEnd, _ := j.Read(t.Context(), after)
		if err != nil || end != wantEnd || int64(len(got)) != last-after {
			t.Errorf("Each after %d = %d events to %d, %v; want %d to %d", after, len(got), end, err, last-after, last)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Each after %d (-Read +Each):\n%s", after, diff)
		}
		if after == 0 && calls < 2 {
			t.Errorf("%d events came in %d piece; want several", len(got), calls)
		}
	}
	enough := errors.New("enough")
	calls := 0
	_, err := j.Each(t.Context(), 0, func([]provision.Event) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("Each = %v after %d calls; want the consumer's error after one", err, calls)
	}
}
