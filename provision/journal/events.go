package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	fastjson "github.com/segmentio/encoding/json"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"firstlight/provision"
)

const pageGroups = 256 // groups read in one request

// group is what one Append wrote. One key holds it, so that a group of any
// length is there as a whole or not at all, whatever the server's limit on
// operations in a transaction.
type group struct {
	ID     string            `json:"id"` // of the Append: tells our own write from another's after a lost reply
	Events []provision.Event `json:"events"`
}

func (j *Journal) eventKey(serial int64) string {
	return fmt.Sprintf("%sevents/%016x", j.prefix, serial)
}

func headValue(serial int64) string { return fmt.Sprintf("%016x", serial) }

// Append writes events after serial `after` in one durable step and returns
// the serial of the last one; the Serial fields given are ignored. It fails
// with ErrConflict, and writes nothing, when the journal's last serial is not
// `after`, when this process lost the writer's lock, or when it never took it
// and another process has it. Once begun it is not interrupted by ctx, since
// the outcome would then be unknown; it takes 10 s at most.
func (j *Journal) Append(ctx context.Context, after int64, events ...provision.Event) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if j.opts.ReadOnly {
		return 0, j.wrap(ErrReadOnly)
	}
	if len(events) == 0 || after < 0 {
		return 0, j.wrap(fmt.Errorf("append of %d events after serial %d", len(events), after))
	}
	if len(j.opts.Endpoints) == 0 {
		if err := checkSpace(j.opts.Dir, j.opts.MinFree); err != nil {
			return 0, j.wrap(err)
		}
	}
	g := group{ID: rand.Text(), Events: make([]provision.Event, len(events))}
	for i, e := range events {
		e.Serial = after + int64(i) + 1
		g.Events[i] = e
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(g); err != nil {
		return 0, j.wrap(fmt.Errorf("event of kind %q: %w", events[0].Kind, err))
	}
	if buf.Len() > maxGroup {
		return 0, j.wrap(fmt.Errorf("%d events of %d bytes in one append, more than %d MiB: keep bulk data in evidence files", len(events), buf.Len(), maxGroup>>20))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	err := j.do(ctx, func(ctx context.Context, c *clientv3.Client) error {
		return j.put(ctx, c, after, g, buf.String())
	})
	if err != nil {
		return 0, err
	}
	return after + int64(len(events)), nil
}

// put is the one transaction of an Append. It may be repeated.
func (j *Journal) put(ctx context.Context, c *clientv3.Client, after int64, g group, value string) error {
	head, lock, first := j.prefix+"head", j.prefix+"lock", j.eventKey(after+1)
	cmp := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(first), "=", 0)}
	if after == 0 {
		cmp = append(cmp, clientv3.Compare(clientv3.CreateRevision(head), "=", 0))
	} else {
		cmp = append(cmp, clientv3.Compare(clientv3.Value(head), "=", headValue(after)))
	}
	rev, lost := j.lockRevision()
	if lost {
		return fmt.Errorf("%w: this process lost the writer's lock", provision.ErrConflict)
	}
	cmp = append(cmp, clientv3.Compare(clientv3.CreateRevision(lock), "=", rev)) // 0: nobody has it
	resp, err := c.Txn(ctx).If(cmp...).Then(
		clientv3.OpPut(first, value),
		clientv3.OpPut(head, headValue(after+int64(len(g.Events)))),
	).Else(clientv3.OpGet(head), clientv3.OpGet(lock), clientv3.OpGet(first)).Commit()
	if err != nil || resp.Succeeded {
		return err
	}
	if kvs := resp.Responses[2].GetResponseRange().Kvs; len(kvs) == 1 {
		var there group
		if json.Unmarshal(kvs[0].Value, &there) == nil && there.ID == g.ID {
			return nil // an earlier try was carried out and its reply was lost
		}
	}
	if kvs := resp.Responses[1].GetResponseRange().Kvs; len(kvs) == 1 && kvs[0].CreateRevision != rev {
		var r lockRecord
		_ = json.Unmarshal(kvs[0].Value, &r)
		return fmt.Errorf("%w: %s has the writer's lock", provision.ErrConflict, r.Holder)
	} else if len(kvs) == 0 && rev != 0 {
		return j.putAnew(ctx, c, after, g, value, rev)
	}
	last := int64(0)
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) == 1 {
		last, _ = strconv.ParseInt(string(kvs[0].Value), 16, 64)
	}
	return fmt.Errorf("%w: its last serial is %d, expected %d", provision.ErrConflict, last, after)
}

// putAnew repeats put once the lock, which had run out, is taken anew.
func (j *Journal) putAnew(ctx context.Context, c *clientv3.Client, after int64, g group, value string, rev int64) error {
	j.lockMu.Lock()
	h := j.lock
	j.lockMu.Unlock()
	if h == nil {
		return fmt.Errorf("%w: this process gave the writer's lock back", provision.ErrConflict)
	}
	if err := j.relock(ctx, h, rev); err != nil {
		return err
	}
	return j.put(ctx, c, after, g, value)
}

// Read returns all events after a serial, in order, and the last serial.
func (j *Journal) Read(ctx context.Context, after int64) ([]provision.Event, int64, error) {
	var events []provision.Event
	last, err := j.Each(ctx, after, func(some []provision.Event) error {
		events = append(events, some...)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return events, last, nil
}

// Each is Read for a journal that should not be held in memory as a whole: it
// calls do with all events after a serial, in order, some at a time, while it
// reads the next ones, and returns the last serial. An error of do ends it.
func (j *Journal) Each(ctx context.Context, after int64, do func([]provision.Event) error) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		last int64
		err  error
	}
	pages, done := make(chan []provision.Event, 2), make(chan result, 1)
	go func() { // ends with the journal or ctx
		defer close(pages)
		last, _, err := j.read(ctx, after, func(page []provision.Event) error {
			select {
			case pages <- page:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		done <- result{last, err}
	}()
	for page := range pages {
		if err := do(page); err != nil {
			return 0, err
		}
	}
	r := <-done
	if errors.Is(r.err, errEmpty) {
		return 0, nil
	}
	return r.last, r.err
}

// Last returns the last serial, 0 for an empty journal.
func (j *Journal) Last(ctx context.Context) (int64, error) {
	var last int64
	err := j.do(ctx, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, j.prefix+"head")
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		last, err = strconv.ParseInt(string(resp.Kvs[0].Value), 16, 64)
		return err
	})
	if errors.Is(err, errEmpty) {
		return 0, nil
	}
	return last, err
}

// read calls do with the events after a serial, a page at a time. It returns
// the last serial, and the etcd revision at which it was the last.
func (j *Journal) read(ctx context.Context, after int64, do func([]provision.Event) error) (last, rev int64, err error) {
	start := ""
	err = j.do(ctx, func(ctx context.Context, c *clientv3.Client) error {
		// The group that holds after+1 may begin before it.
		resp, err := c.Txn(ctx).Then(
			clientv3.OpGet(j.prefix+"head"),
			clientv3.OpGet(j.eventKey(0), clientv3.WithRange(j.eventKey(after+1)+"\x00"),
				clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(1), clientv3.WithKeysOnly()),
		).Commit()
		if err != nil {
			return err
		}
		start, last, rev = j.eventKey(0), 0, resp.Header.Revision
		if kvs := resp.Responses[1].GetResponseRange().Kvs; len(kvs) == 1 {
			start = string(kvs[0].Key)
		}
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) == 1 {
			last, err = strconv.ParseInt(string(kvs[0].Value), 16, 64)
		}
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	next := after
	for next < last {
		page, from, err := j.page(ctx, start)
		if err != nil {
			return 0, 0, err
		}
		start = from
		var events []provision.Event
		for _, g := range page {
			for _, e := range g.Events {
				if e.Serial <= next || e.Serial > last {
					continue
				}
				if e.Serial != next+1 {
					return 0, 0, j.wrap(fmt.Errorf("event %d is missing (%d follows %d): the journal is damaged", next+1, e.Serial, next))
				}
				events, next = append(events, e), e.Serial
			}
		}
		if len(page) == 0 && next < last {
			return 0, 0, j.wrap(fmt.Errorf("events %d to %d are missing: the journal is damaged", next+1, last))
		}
		if err := do(events); err != nil {
			return 0, 0, err
		}
	}
	return last, rev, nil
}

// page reads groups from a key on, and returns the key to go on from.
func (j *Journal) page(ctx context.Context, start string) (page []group, from string, err error) {
	err = j.do(ctx, func(ctx context.Context, c *clientv3.Client) error {
		page = nil
		resp, err := c.Get(ctx, start, clientv3.WithRange(clientv3.GetPrefixRangeEnd(j.prefix+"events/")), clientv3.WithLimit(pageGroups))
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			var g group
			// Five times as fast as encoding/json: what plan waits for at a large site.
			if err := fastjson.Unmarshal(kv.Value, &g); err != nil {
				return fmt.Errorf("read key %s: %w", kv.Key, err)
			}
			page, from = append(page, g), string(kv.Key)+"\x00"
		}
		return nil
	})
	return page, from, err
}

// errEnough ends a reading whose consumer wants no more.
var errEnough = errors.New("the consumer has enough")

// Watch yields the events after a serial, those already there and then new
// ones as they are written, until ctx ends. It survives the end of the process
// that serves the journal. An error is yielded once, and ends it.
func (j *Journal) Watch(ctx context.Context, after int64) iter.Seq2[provision.Event, error] {
	return func(yield func(provision.Event, error) bool) {
		for ctx.Err() == nil {
			enough := false
			_, rev, err := j.read(ctx, after, func(events []provision.Event) error {
				for _, e := range events {
					if enough = !yield(e, nil); enough {
						return errEnough
					}
					after = e.Serial
				}
				return nil
			})
			switch {
			case enough:
				return
			case ctx.Err() != nil:
				return
			case errors.Is(err, errEmpty): // nobody has written yet
				pause(ctx, 500*time.Millisecond)
				continue
			case err != nil:
				yield(provision.Event{}, err)
				return
			}
			if !j.follow(ctx, &after, rev+1, yield) {
				return
			}
			pause(ctx, retryPause)
		}
	}
}

// follow yields new events until the connection breaks (true: read again) or
// the consumer has enough (false).
func (j *Journal) follow(ctx context.Context, after *int64, rev int64, yield func(provision.Event, error) bool) bool {
	b, err := j.backend(ctx)
	if err != nil {
		return !errors.Is(err, errClosed)
	}
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if b.socket != "" {
		go endWithConnection(wctx, cancel, b.client) // ends with wctx
	}
	if b.member != nil {
		go b.member.cancelOnFailure(wctx, cancel) // ends with wctx
	}
	for resp := range b.client.Watch(wctx, j.prefix+"events/", clientv3.WithPrefix(), clientv3.WithRev(rev)) {
		if resp.Err() != nil {
			return true
		}
		for _, ev := range resp.Events {
			var g group
			if err := json.Unmarshal(ev.Kv.Value, &g); err != nil {
				yield(provision.Event{}, j.wrap(fmt.Errorf("read key %s: %w", ev.Kv.Key, err)))
				return false
			}
			for _, e := range g.Events {
				if e.Serial <= *after {
					continue
				}
				if !yield(e, nil) {
					return false
				}
				*after = e.Serial
			}
		}
	}
	return true
}

// endWithConnection calls cancel when the connection to another process's
// member breaks: etcd's client would wait for that process for ever.
func endWithConnection(ctx context.Context, cancel context.CancelFunc, c *clientv3.Client) {
	defer cancel()
	conn := c.ActiveConnection()
	for {
		s := conn.GetState()
		if s != connectivity.Ready || !conn.WaitForStateChange(ctx, s) {
			return
		}
	}
}
