package bmc

import (
	"context"
	"time"
)

// remote lets one goroutine wait for what the engine does for it.
type remote struct {
	engine *engine
	v      *conversation
}

// openRemote waits for the BMC's turn and logs in.
func openRemote(ctx context.Context, e *engine, ep Endpoint, limit time.Duration) (*remote, error) {
	r := &remote{engine: e}
	err := r.wait(ctx, func(done chan<- error) {
		r.v = e.newConversation(ep, limit, func(_ *conversation, err error) { done <- err })
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// wait has the engine start something that ends with one value on done. It
// cancels it when ctx is over.
func (r *remote) wait(ctx context.Context, start func(done chan<- error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1) // the engine never waits
	r.engine.post(func() { start(done) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	r.engine.post(func() { r.v.cancel(ctx.Err()) })
	return <-done
}

func (r *remote) call(ctx context.Context, req request) ([]byte, error) {
	var data []byte
	err := r.wait(ctx, func(done chan<- error) {
		r.v.call(req, func(d []byte, err error) {
			data = d
			done <- err
		})
	})
	return data, err
}

// sleep gives the slot to others meanwhile.
func (r *remote) sleep(ctx context.Context, d time.Duration) error {
	r.engine.post(func() { r.engine.park(r.v) })
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close waits for the end of the session, whatever the caller's context says: a
// BMC has few slots, and keeps an open one for a minute. It takes a second at
// most.
func (r *remote) close() {
	done := make(chan struct{})
	r.engine.post(func() { r.v.close(func() { close(done) }) })
	<-done
}
