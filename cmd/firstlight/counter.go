package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// counter is a line on a terminal that counts the answers of many nodes while
// they come.
type counter struct {
	app *app
	on  bool
	all int

	mu     sync.Mutex
	done   int
	counts map[string]int
	last   time.Time
}

// newCounter counts to all. Where nobody watches it shows nothing.
func (a *app) newCounter(all int) *counter {
	return &counter{app: a, on: drawable(a.stderr) && !a.json, all: all, counts: make(map[string]int), last: time.Now()}
}

// answered counts one node, by what it answered. The line is written ten times a
// second at most.
func (c *counter) answered(kind string) {
	const every = 100 * time.Millisecond
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	c.counts[kind]++
	if !c.on || time.Since(c.last) < every {
		return
	}
	c.last = time.Now()
	text := c.text()
	if n := width(c.app.stderr) - 1; len(text) > n {
		text = text[:n]
	}
	fmt.Fprintf(c.app.stderr, "\r\x1b[K%s", text)
}

// text is as "3 no answer, 20 off, 412 on; 331 to go".
func (c *counter) text() string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(c.counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", c.counts[kind], kind))
	}
	return fmt.Sprintf("%s; %d to go", strings.Join(parts, ", "), c.all-c.done)
}

// say writes a line of its own, above the counts.
func (c *counter) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	fmt.Fprintln(c.app.stderr, text)
}

// clear takes the line off the terminal.
func (c *counter) clear() {
	if c.on {
		fmt.Fprint(c.app.stderr, "\r\x1b[K")
	}
}
