package provision

import (
	"context"
	"fmt"
)

// maxBatch bounds the events of one durable write.
const maxBatch = 256

func (e *Engine) recordOne(ctx context.Context, node, kind string, data any) error {
	ev, err := newEvent(e.Now(), node, kind, data)
	if err != nil {
		return err
	}
	return e.record(ctx, ev)
}

// record appends events and folds them in. It returns once they are durable:
// nothing is done on the strength of an event before that.
func (e *Engine) record(ctx context.Context, events ...Event) error {
	req := writeRequest{events: events, done: make(chan error, 1)}
	select {
	case e.writes <- req:
	case <-ctx.Done():
		return ctx.Err()
	}
	// Once handed over it will be written or refused; waiting for that is
	// short, and leaving early would hide the outcome.
	return <-req.done
}

// write is the journal's one writer: it gathers what is waiting into one
// append, so that a thousand nodes share a disk flush. It ends with ctx.
func (e *Engine) write(ctx context.Context) {
	for {
		var batch []writeRequest
		select {
		case r := <-e.writes:
			batch = append(batch, r)
		case <-ctx.Done():
			return
		}
		size := len(batch[0].events)
	gather:
		for size < maxBatch {
			select {
			case r := <-e.writes:
				batch = append(batch, r)
				size += len(r.events)
			default:
				break gather
			}
		}
		err := e.commit(ctx, batch)
		for _, r := range batch {
			r.done <- err
		}
		if err != nil {
			// Without a journal nothing may be done.
			e.failed(err)
		}
	}
}

func (e *Engine) commit(ctx context.Context, batch []writeRequest) error {
	var events []Event
	for _, r := range batch {
		events = append(events, r.events...)
	}
	e.mu.Lock()
	after := e.known.Serial
	e.mu.Unlock()
	last, err := e.Journal.Append(ctx, after, events...)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if last != after+int64(len(events)) {
		return fmt.Errorf("journal: appended %d events after serial %d and got serial %d", len(events), after, last)
	}
	for i := range events {
		events[i].Serial = after + int64(i) + 1
	}
	return e.fold(events)
}

// fold takes durable events in and tells whoever waits or watches.
func (e *Engine) fold(events []Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range events {
		acts, err := e.known.Fold([]Event{ev})
		if err != nil {
			return err
		}
		if ev.Kind == EventHello {
			e.turns.settled(ev.Node)
		}
		for node, a := range acts {
			delete(e.acts, node)
			if len(a) > 0 {
				e.acts[node] = a[0]
			}
		}
		if e.Watch != nil {
			u := Update{Event: ev}
			if ev.Node != "" {
				u.Node = e.known.Node(ev.Node)
			}
			e.Watch(u)
		}
	}
	e.wake()
	return nil
}
