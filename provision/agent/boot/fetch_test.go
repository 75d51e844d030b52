package boot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// short breaks the connection after n bytes of body.
type short struct {
	http.ResponseWriter
	left int
}

func (s *short) Write(p []byte) (int, error) {
	if len(p) > s.left {
		_, _ = s.ResponseWriter.Write(p[:s.left])
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	s.left -= len(p)
	return s.ResponseWriter.Write(p)
}

func TestFetch(t *testing.T) {
	blob := make([]byte, 3<<20)
	r := rand.NewChaCha8([32]byte{1})
	if _, err := r.Read(blob); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(blob)
	want := hex.EncodeToString(sum[:])
	tests := []struct {
		name   string
		breaks int  // how often the connection breaks, each after 700 KiB
		ranges bool // whether the server knows them
		down   int  // how many requests get 503 first
	}{
		{name: "at once"},
		{name: "resumed", breaks: 4, ranges: true, down: 2},
		{name: "started over without ranges", breaks: 2},
	}
	for _, tt := range tests {
		var ranges []string
		requests := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			if requests <= tt.down {
				http.Error(w, "starting", http.StatusServiceUnavailable)
				return
			}
			ranges = append(ranges, r.Header.Get("Range"))
			if !tt.ranges {
				r.Header.Del("Range")
			}
			if requests <= tt.down+tt.breaks {
				w = &short{w, 700 << 10}
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
		}))
		path := filepath.Join(t.TempDir(), "blob")
		f := fetcher{http: server.Client(), log: slog.New(slog.DiscardHandler), pause: time.Millisecond}
		got, err := f.fetch(context.Background(), server.URL, path)
		server.Close()
		if got != want || err != nil {
			t.Errorf("%s: fetch = %s, %v; want %s", tt.name, got, err, want)
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, blob) {
			t.Errorf("%s: the file has %d bytes, %v; want the blob's %d", tt.name, len(b), err, len(blob))
		}
		if tt.breaks > 0 && !strings.HasPrefix(ranges[1], "bytes=") {
			t.Errorf("%s: ranges %q; want the second request to resume", tt.name, ranges)
		}
	}
}

func TestFetchEndsWithContext(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	f := fetcher{http: server.Client(), log: slog.New(slog.DiscardHandler), pause: time.Millisecond}
	if _, err := f.fetch(ctx, server.URL, filepath.Join(t.TempDir(), "b")); err == nil {
		t.Error("fetch of what is not there ended without an error")
	}
}
