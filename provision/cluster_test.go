package provision

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFoldInPieces: however a journal's events are cut, the same is known; and
// what was given out on the way stays as it was.
func TestFoldInPieces(t *testing.T) {
	r := newRig(3)
	if _, _, err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	events := r.log.(*memory).events
	whole := NewKnown()
	if _, err := whole.Fold(events); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 2, 7, 50} {
		known := NewKnown()
		for i := 0; i < len(events); i += size {
			before := known.Node("n1")
			text, _ := json.Marshal(before)
			if _, err := known.Fold(events[i:min(i+size, len(events))]); err != nil {
				t.Fatal(err)
			}
			if again, _ := json.Marshal(before); string(text) != string(again) {
				t.Fatalf("the node given out before event %d was changed:\n%s\n%s", i+1, text, again)
			}
		}
		if diff := cmp.Diff(whole, known); diff != "" {
			t.Errorf("in pieces of %d (-whole +pieces):\n%s", size, diff)
		}
	}
}
