package agent

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"firstlight/provision/agent/api"
)

// LogBuffer holds the tail of a log in memory, with the offset of each byte
// since the start of the boot, until it is streamed. It is an io.Writer for
// many goroutines. The zero value is ready.
type LogBuffer struct {
	mu    sync.Mutex
	start int64 // offset of data[0]
	data  []byte
}

const (
	logKept  = 1 << 20  // bytes kept in memory
	logChunk = 64 << 10 // bytes a request
)

// Write appends p and drops the oldest bytes past 1 MiB. It never fails.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	if over := len(b.data) - logKept; over > 0 {
		b.data = append(b.data[:0], b.data[over:]...)
		b.start += int64(over)
	}
	return len(p), nil
}

// Bytes returns all that is kept and the offset of its first byte.
func (b *LogBuffer) Bytes() ([]byte, int64) { return b.from(0, logKept) }

// from returns at most n bytes from offset on, or from the oldest kept, and
// the offset of the first byte returned.
func (b *LogBuffer) from(offset int64, n int) ([]byte, int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	offset = min(max(offset, b.start), b.start+int64(len(b.data)))
	rest := b.data[offset-b.start:]
	return append([]byte(nil), rest[:min(n, len(rest))]...), offset
}

// stream posts the log as it grows until ctx ends. It does not log its own
// failures: that would feed on itself.
func (a *Agent) stream(ctx context.Context) {
	wait := backoff{longest: a.Backoff}
	for {
		pause := time.Second
		if sent, err := a.push(ctx); err != nil {
			pause = wait.next()
		} else {
			wait = backoff{longest: a.Backoff}
			if sent == logChunk {
				pause = 0
			}
		}
		if sleep(ctx, pause) != nil {
			return
		}
	}
}

// push posts the next chunk and returns its length.
func (a *Agent) push(ctx context.Context) (int, error) {
	a.run.streaming.Lock()
	defer a.run.streaming.Unlock()
	text, at := a.Stream.from(a.run.streamed, logChunk)
	if len(text) == 0 {
		return 0, nil
	}
	if _, err := a.run.do(ctx, postTimeout, http.MethodPost, fmt.Sprintf("%s?offset=%d", api.PathLog, at), text, nil); err != nil {
		return 0, err
	}
	a.run.streamed = at + int64(len(text))
	return len(text), nil
}

// flush makes one attempt to send what is left, before a reboot.
func (a *Agent) flush(ctx context.Context) {
	if a.Stream == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		if n, err := a.push(ctx); err != nil || n == 0 {
			return
		}
	}
}
