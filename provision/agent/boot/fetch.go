package boot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"
)

// fetcher copies one blob from the controller into a file while hashing it.
type fetcher struct {
	http  *http.Client
	log   *slog.Logger
	pause time.Duration // between attempts; grows up to tenfold
}

// stalled is how long a download may bring nothing before it is resumed on a
// new connection.
const stalled = 30 * time.Second

// fetch writes url's content to path and returns its SHA-256 in hex. A broken
// connection is resumed by range, for as long as it takes: the controller may
// be restarting.
func (f fetcher) fetch(ctx context.Context, url, path string) (string, error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer out.Close()
	d := download{fetcher: f, url: url, out: out, sum: sha256.New(), total: -1, started: time.Now()}
	pause := f.pause
	for attempt := 1; ; attempt++ {
		before := d.have
		done, err := d.attempt(ctx)
		if done && err == nil {
			f.log.Info("fetched", "url", url, "bytes", d.have, "took", time.Since(d.started).Round(time.Millisecond).String(), "attempts", attempt)
			return hex.EncodeToString(d.sum.Sum(nil)), out.Close()
		}
		if done || ctx.Err() != nil {
			return "", err
		}
		if d.have > before {
			pause = f.pause
		}
		f.log.Warn("download broke; resuming", "url", url, "have", d.have, "of", d.total, "err", err)
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 10*f.pause)
	}
}

// download is the state that survives a broken connection.
type download struct {
	fetcher
	url     string
	out     *os.File
	sum     hash.Hash
	have    int64 // bytes written and hashed
	total   int64 // -1: not known yet
	started time.Time
}

// attempt reads on from d.have. done means that another attempt is of no use:
// the content is complete, or err is about this machine (no memory left).
func (d *download) attempt(ctx context.Context) (done bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(stalled, cancel)
	defer idle.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return true, err
	}
	if d.have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.have))
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusOK && d.have > 0: // no ranges here: from the start
		if _, err := d.out.Seek(0, io.SeekStart); err != nil {
			return true, err
		}
		d.sum.Reset()
		d.have = 0
	case resp.StatusCode == http.StatusPartialContent && d.have > 0:
		if want := fmt.Sprintf("bytes %d-", d.have); !strings.HasPrefix(resp.Header.Get("Content-Range"), want) {
			return false, fmt.Errorf("asked for %q, got Content-Range %q", want, resp.Header.Get("Content-Range"))
		}
	case resp.StatusCode != http.StatusOK:
		return false, fmt.Errorf("%s", resp.Status)
	}
	if resp.ContentLength >= 0 {
		d.total = d.have + resp.ContentLength
	}
	return d.copy(resp.Body, idle)
}

func (d *download) copy(body io.Reader, idle *time.Timer) (done bool, err error) {
	buf := make([]byte, 256<<10)
	report := time.Now().Add(5 * time.Second)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			idle.Reset(stalled)
			if _, err := d.out.Write(buf[:n]); err != nil {
				return true, fmt.Errorf("after %d bytes: %w: the node has too little memory for this image", d.have, err)
			}
			d.sum.Write(buf[:n])
			d.have += int64(n)
		}
		if err == io.EOF && (d.total < 0 || d.have == d.total) {
			return true, nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return false, err
		}
		if now := time.Now(); now.After(report) {
			report = now.Add(5 * time.Second)
			d.log.Info("fetching", "have", d.have, "of", d.total, "bytes_per_second", int64(float64(d.have)/time.Since(d.started).Seconds()))
		}
	}
}
