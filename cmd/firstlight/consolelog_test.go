package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/provision"
)

// fixedClock is a time that stands still.
func fixedClock() time.Time { return time.Date(2026, 2, 3, 4, 5, 6, 789e6, time.UTC) }

// TestConsoleLines: what a terminal would be driven by is not in the log.
func TestConsoleLines(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"lines", "one\r\ntwo\n\n\nthree", "one|two|three"},
		{"colours", "\x1b[1;31mred\x1b[0m text\n", "red text"},
		{"a painted screen", "\x1b[2J\x1b[01;01HBoot Manager\x1b[03;05HSetup\x1b[04;05HExit", "Boot Manager|Setup|Exit"},
		{"titles and device strings", "\x1b]0;evil\x07a\x1bP1$r\x1b\\b\n", "ab"},
		{"cut sequence", "\x1b[", ""},
		{"control characters", "a\x00b\x07c\x7fd\te\n", "abcd e"},
		{"backspace", "roob\bt\b\b\b\b\b\bx\n", "x"},
		{"not UTF-8", "caf\xe9 ok\n", "caf? ok"},
		{"UTF-8", "Übung ✓\n", "Übung ✓"},
		{"control characters in UTF-8", "a\u009b31mb\u202ec\n", "a31mbc"},
		{"a long line", strings.Repeat("x", consoleLineMost+3) + "\n", strings.Repeat("x", consoleLineMost) + "|xxx"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "n1", "console.log")
			c := &consoleLines{path: path, now: fixedClock}
			for _, b := range []byte(tt.in) {
				c.add([]byte{b})
			}
			c.close()
			raw, err := os.ReadFile(path)
			if err != nil && tt.want != "" {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(string(raw)) {
				text, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "2026-02-03T04:05:06.789Z ")
				if !ok {
					t.Errorf("line %q has no time", line)
				}
				got = append(got, text)
			}
			if s := strings.Join(got, "|"); s != tt.want {
				t.Errorf("logged %q; want %q", s, tt.want)
			}
		})
	}
}

// FuzzConsoleLines: nothing that a node writes gets a control character into the
// log.
func FuzzConsoleLines(f *testing.F) {
	f.Add([]byte("\x1b[2J\x1b]0;x\x07\x1b[31mred\r\n\x9b31m"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &consoleLines{broken: true, now: fixedClock}
		c.add(b)
		for _, line := range c.last() {
			if strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }) {
				t.Errorf("%q became %q", b, line)
			}
		}
	})
}

// TestConsoleRotation: a log does not grow without bound.
func TestConsoleRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	c := &consoleLines{path: path, now: fixedClock}
	line := []byte(strings.Repeat("x", 400) + "\n")
	for range 6 * consoleLogMost / 425 {
		c.add(line)
	}
	c.close()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != consoleLogKept+1 {
		t.Fatalf("files %v, %v; want the log and %d of before", files, err, consoleLogKept)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() > consoleLogMost || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, %v, %v; want at most %d for its owner", file, info.Size(), info.Mode(), err, consoleLogMost)
		}
	}
}

// TestConsoleLogs follows a console from a boot on until the node is ready, and
// comes back after somebody else has had it.
func TestConsoleLogs(t *testing.T) {
	r, _ := newConsoleSite(t)
	a := &app{stderr: io.Discard}
	s, err := a.load(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.newBoards(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := newConsoleLogs(s, b, slog.New(slog.DiscardHandler))
	defer c.Close()
	update := func(kind string, state provision.State) {
		n := provision.NewNode("i1")
		n.State, n.Boot = state, &provision.BootRecord{}
		c.update(provision.Update{Event: provision.Event{Node: "i1", Kind: kind}, Node: n})
	}
	if got := c.last("i1"); got != nil {
		t.Errorf("last lines %q before anything was followed", got)
	}
	update(provision.EventAttempt, provision.Reachable)
	shows := func() bool { return slices.Equal(c.last("i1"), []string{"i1 login:"}) }
	for began := time.Now(); !shows(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("last lines %q after 20 s", c.last("i1"))
		}
	}
	// Power goes through the console's session: no second one is opened.
	if p, err := b.Power(t.Context(), s.Cluster.Nodes[0]); err != nil || p != "on" {
		t.Errorf("Power = %q, %v", p, err)
	}
	update(provision.EventPassed, provision.Ready)
	c.Close()
	raw, err := os.ReadFile(filepath.Join(r.dir, ".firstlight", "logs", "i1", "console.log"))
	if err != nil || !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z i1 login:\n$`).Match(raw) {
		t.Errorf("the log is %q, %v", raw, err)
	}
	r.noSecret()
}

// silentLine is a serial line that shows nothing.
func silentLine(context.Context) (io.ReadWriteCloser, error) {
	ours, theirs := net.Pipe()
	go io.Copy(io.Discard, ours) // ends when the BMC closes its end
	return theirs, nil
}

// TestIdleConsolesAreQuiet: a node whose console shows nothing costs no packets to
// speak of.
func TestIdleConsolesAreQuiet(t *testing.T) {
	r := newRedfishSite(t)
	text := strings.Replace(driftInventoryText, `"secret"`, fmt.Sprintf("%q", redfishPassword), 1)
	r.write("site.hcl", text+redfishNode("i1", "ipmi", r.serve(2, &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword,
		Machine: lamp{t, true}, Console: silentLine})))
	a := &app{stderr: io.Discard}
	s, err := a.load(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.newBoards(nil)
	if err != nil {
		t.Fatal(err)
	}
	ep, err := b.serial(s.Cluster.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	x, err := b.ipmi.OpenConsole(t.Context(), ep, false, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	before := b.ipmi.Stats()
	time.Sleep(3 * time.Second)
	after := b.ipmi.Stats()
	if sent, got := after.Sent-before.Sent, after.Received-before.Received; sent+got > 3 {
		t.Errorf("%d packets sent and %d received in 3 s of idleness; want one a second at most", sent, got)
	}
}
