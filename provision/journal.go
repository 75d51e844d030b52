package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Event is one fact: something that was decided, tried or seen. Events are
// only appended. State is what folding them gives.
type Event struct {
	Serial int64           `json:"serial"` // position in the journal, from 1, without gaps
	Time   time.Time       `json:"time"`
	Node   string          `json:"node,omitempty"` // empty: about the cluster
	Kind   string          `json:"kind"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// Journal is the durable, append-only record that the engine stands on.
type Journal interface {
	// Append writes events after serial `after` in one durable step and
	// returns the serial of the last one. It fails with ErrConflict when the
	// journal's last serial is not `after`, or when this process no longer
	// holds the writer's lock; nothing is then written.
	Append(ctx context.Context, after int64, events ...Event) (int64, error)
	// Read returns all events after a serial, in order, and the last serial.
	Read(ctx context.Context, after int64) ([]Event, int64, error)
}

// ErrConflict says that another writer was there first.
var ErrConflict = errors.New("journal changed since it was read")

// LockedError says who writes to the journal at present.
type LockedError struct {
	Holder string    // "apply, process 4711 on controller-1"
	Since  time.Time // when it took the lock
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("journal is locked by %s since %s", e.Holder, e.Since.Format(time.RFC3339))
}
