package main

import (
	"context"
	"errors"
	"testing"
)

// TestStartAllSaysWhy: a service that ends because another failed, or by
// Ctrl-C, ends without an error, and may be heard first.
func TestStartAllSaysWhy(t *testing.T) {
	inUse := errors.New("port 67 is in use")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(inUse)
	stop, err := startAll(ctx, cancel, []service{
		func(ctx context.Context, ready func()) error {
			<-ctx.Done()
			return nil
		},
	})
	if stop != nil || !errors.Is(err, inUse) {
		t.Fatalf("startAll = %v, %v; want %v", stop != nil, err, inUse)
	}
}
