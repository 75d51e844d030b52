package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// client speaks JSON with the controller.
type client struct {
	base string
	http *http.Client

	mu      sync.Mutex
	session string
}

// maxReply bounds what is read from the controller, in bytes.
const maxReply = 1 << 20

func (c *client) setSession(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
}

// do sends body, which is JSON unless it is a []byte, and decodes a 200 reply
// into reply. It returns the status code, 0 when there was none; any code but
// 2xx is an error that carries the controller's first line.
func (c *client) do(ctx context.Context, limit time.Duration, method, path string, body, reply any) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	raw, ok := body.([]byte)
	kind := "text/plain; charset=utf-8"
	if !ok && body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return 0, err
		}
		kind = "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", kind)
	c.mu.Lock()
	if c.session != "" {
		req.Header.Set("Authorization", "Bearer "+c.session)
	}
	c.mu.Unlock()
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return resp.StatusCode, fmt.Errorf("%s %s: %w", method, req.URL, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		return resp.StatusCode, fmt.Errorf("%s %s: %s: %.200s", method, req.URL, resp.Status, line)
	}
	if reply != nil && resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, reply); err != nil {
			return resp.StatusCode, fmt.Errorf("%s %s: %w", method, req.URL, err)
		}
	}
	return resp.StatusCode, nil
}
