package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/bmc"
)

const (
	consoleLogMost  = 4 << 20 // bytes of a console's log before it is rotated
	consoleLogKept  = 3       // logs of before
	consoleLineMost = 500     // characters of one line
	consoleQuoted   = 3       // lines that a failure quotes
	// consoleAgain is the first pause before a console that was lost, or that
	// somebody else has, is asked for again; it doubles up to consoleMost.
	consoleAgain = 2 * time.Second
	consoleMost  = 30 * time.Second
)

// consoleLogs keep what nodes that are brought up write to their serial consoles,
// in logs/NODE/console.log.
type consoleLogs struct {
	site   *site
	boards *boards
	nodes  map[string]*inventory.Node
	log    *slog.Logger

	mu       sync.Mutex
	follows  map[string]*followed
	closed   bool
	followed sync.WaitGroup
}

// followed is one node's console.
type followed struct {
	lines  *consoleLines
	cancel context.CancelFunc
}

func newConsoleLogs(s *site, b *boards, log *slog.Logger) *consoleLogs {
	c := &consoleLogs{site: s, boards: b, log: log, nodes: map[string]*inventory.Node{}, follows: map[string]*followed{}}
	for _, n := range s.Cluster.Nodes {
		c.nodes[n.Name] = n
	}
	return c
}

// update follows the console of a node that is about to boot, until it rests. It
// does not block.
func (c *consoleLogs) update(u provision.Update) {
	switch n := c.nodes[u.Event.Node]; {
	case n == nil:
	case u.Event.Kind == provision.EventAttempt && u.Node.Boot != nil:
		c.follow(n)
	case u.Node.State == provision.Ready || u.Node.State == provision.Quarantined:
		c.leave(n.Name)
	}
}

func (c *consoleLogs) follow(n *inventory.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.follows[n.Name] != nil {
		return
	}
	ep, err := c.boards.serial(n)
	if err != nil {
		c.follows[n.Name] = &followed{lines: &consoleLines{}, cancel: func() {}}
		c.log.Info("console not logged", "node", n.Name, "error", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background()) // ended by leave and Close
	f := &followed{cancel: cancel, lines: &consoleLines{now: time.Now, path: c.site.path("logs", n.Name, "console.log")}}
	c.follows[n.Name] = f
	c.followed.Go(func() { c.keep(ctx, ep, f.lines) })
}

// keep has the console open until ctx ends. A BMC that has none, or that does not
// let us have it, is asked once.
func (c *consoleLogs) keep(ctx context.Context, ep bmc.Endpoint, lines *consoleLines) {
	defer lines.close()
	for pause := consoleAgain; ; pause = min(2*pause, consoleMost) {
		began := time.Now()
		x, err := c.boards.ipmi.OpenConsole(ctx, ep, false, lines.add)
		if err == nil {
			select {
			case <-ctx.Done():
			case <-x.Done():
			}
			err = x.Err()
			x.Close()
			if time.Since(began) > consoleMost {
				pause = consoleAgain
			}
		}
		if ctx.Err() != nil {
			return
		}
		var silent *bmc.NoAnswerError
		var busy *bmc.ConsoleBusyError
		if !errors.As(err, &silent) && !errors.As(err, &busy) && !errors.Is(err, bmc.ErrConsoleTaken) {
			c.log.Info("console not logged", "node", ep.Node, "error", err)
			return
		}
		lines.remark(err.Error())
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func (c *consoleLogs) leave(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.follows[node]; f != nil {
		f.cancel()
		delete(c.follows, node)
	}
}

// last is the last lines that a node's console showed; nil: none.
func (c *consoleLogs) last(node string) []string {
	c.mu.Lock()
	f := c.follows[node]
	c.mu.Unlock()
	if f == nil {
		return nil
	}
	return f.lines.last()
}

// Close gives all consoles back.
func (c *consoleLogs) Close() {
	c.mu.Lock()
	c.closed = true
	for _, f := range c.follows {
		f.cancel()
	}
	c.mu.Unlock()
	c.followed.Wait()
}

// consoleLines makes lines of what a console shows, and writes them to a file with
// the time of each. What drives terminals is left out: firmware paints screens, and
// whoever looks at the file has a terminal too.
type consoleLines struct {
	path string
	now  func() time.Time

	mu     sync.Mutex
	line   []byte
	began  time.Time // of line
	escape escapeState
	recent []string
	file   *os.File
	size   int64
	broken bool // it could not be written, which must not end a bring-up
}

// escapeState is where in an escape sequence (ECMA-48, §5.4) the text stands.
type escapeState string

const (
	noEscape   escapeState = ""
	escaped    escapeState = "escape"  // after ESC
	inControl  escapeState = "control" // after ESC [
	inString   escapeState = "string"  // after ESC ] and the like, up to BEL or ESC \
	stringsEnd escapeState = "end"     // after ESC in a string
)

// add takes what the console shows. It is called by the event loop of all BMCs:
// writing to a file is the most that it does.
func (c *consoleLines) add(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range b {
		c.char(ch)
	}
}

func (c *consoleLines) char(ch byte) {
	switch c.escape {
	case escaped:
		switch ch {
		case '[':
			c.escape = inControl
		case ']', 'P', 'X', '^', '_':
			c.escape = inString
		default:
			c.escape = noEscape
		}
		return
	case inControl:
		if ch < 0x40 || ch > 0x7e {
			return // a parameter
		}
		c.escape = noEscape
		if bytes.IndexByte([]byte("HfJABEFd"), ch) >= 0 {
			c.end() // the cursor goes elsewhere
		}
		return
	case inString, stringsEnd:
		switch {
		case ch == 0x07 || c.escape == stringsEnd:
			c.escape = noEscape
		case ch == 0x1b:
			c.escape = stringsEnd
		}
		return
	}
	switch {
	case ch == 0x1b:
		c.escape = escaped
	case ch == '\r' || ch == '\n':
		c.end()
	case ch == '\t':
		c.put(' ')
	case ch == '\b':
		c.line = c.line[:max(len(c.line)-1, 0)]
	case ch >= 0x20 && ch != 0x7f:
		c.put(ch)
	}
}

func (c *consoleLines) put(ch byte) {
	if len(c.line) == 0 {
		c.began = c.now()
	}
	if len(c.line) >= consoleLineMost {
		c.end()
		c.began = c.now()
	}
	c.line = append(c.line, ch)
}

// end ends the line, if there is one.
func (c *consoleLines) end() {
	text := printable(c.line)
	c.line = c.line[:0]
	if text == "" {
		return
	}
	c.recent = append(c.recent, text)
	if len(c.recent) > consoleQuoted {
		c.recent = c.recent[1:]
	}
	c.write(c.began, text)
}

// printable is a line without what is no text.
func printable(line []byte) string {
	return strings.TrimRight(strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, string(bytes.ToValidUTF8(line, []byte("?")))), " ")
}

// remark writes a line of ours.
func (c *consoleLines) remark(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	c.write(c.now(), "-- "+text)
}

func (c *consoleLines) write(at time.Time, text string) {
	if c.broken {
		return
	}
	if err := c.writeLine(fmt.Sprintf("%s %s\n", at.UTC().Format("2006-01-02T15:04:05.000Z"), text)); err != nil {
		c.broken = true
	}
}

func (c *consoleLines) writeLine(line string) error {
	if c.file != nil && c.size+int64(len(line)) > consoleLogMost {
		c.file.Close()
		c.file = nil
		for i := consoleLogKept; i > 0; i-- {
			from := c.path
			if i > 1 {
				from = fmt.Sprintf("%s.%d", c.path, i-1)
			}
			_ = os.Rename(from, fmt.Sprintf("%s.%d", c.path, i)) // not all of them are there
		}
	}
	if c.file == nil {
		if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(c.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return err
		}
		c.file, c.size = f, info.Size()
	}
	n, err := c.file.WriteString(line)
	c.size += int64(n)
	return err
}

// last is the last lines, with one that has not ended.
func (c *consoleLines) last() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := append([]string(nil), c.recent...)
	if text := printable(c.line); text != "" {
		out = append(out, text)
	}
	return out[max(len(out)-consoleQuoted, 0):]
}

func (c *consoleLines) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}
