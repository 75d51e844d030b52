package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"firstlight/internal/refbmc"
)

// turnsSite is a rack of nodes w1, w2 and so on, of 10 kW each, with BMCs that speak
// IPMI.
type turnsSite struct {
	*redfishSite
	settle time.Duration

	mu    sync.Mutex
	names []string // in the order in which they were switched on
	times []time.Time
}

// meteredLamp is a machine whose rack keeps its own record.
type meteredLamp struct {
	site *turnsSite
	name string

	mu sync.Mutex
	on bool
}

func (m *meteredLamp) PowerOn(context.Context, refbmc.Boot) error {
	m.site.mu.Lock()
	m.site.names, m.site.times = append(m.site.names, m.name), append(m.site.times, time.Now())
	m.site.mu.Unlock()
	m.set(true)
	return nil
}

func (m *meteredLamp) PowerOff(context.Context) error { m.set(false); return nil }
func (m *meteredLamp) SoftOff(context.Context) error  { m.set(false); return nil }

func (m *meteredLamp) set(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = on
}

func (m *meteredLamp) Powered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}

// newTurnsSite has a machine for each of on, which says whether it is on; the
// budget is that of the rack, the settle time that of the controller.
func newTurnsSite(t *testing.T, budget string, settle time.Duration, on ...bool) *turnsSite {
	t.Helper()
	dir, err := os.MkdirTemp("", "turns-") // a short path: the journal's socket lies below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &turnsSite{redfishSite: &redfishSite{driftSite: &driftSite{t: t, dir: dir}}, settle: settle}
	text := strings.NewReplacer(`"secret"`, fmt.Sprintf("%q", redfishPassword),
		`memory { total = "2TiB" }`, `power = "10kW"`,
		`rack "a01" {}`, fmt.Sprintf("rack \"a01\" { power_on_budget = %q }", budget),
		"bmc_concurrency = 3", fmt.Sprintf("bmc_concurrency = 8\n  power_on_settle = %q", settle)).Replace(driftInventoryText)
	for i, on := range on {
		name := fmt.Sprintf("w%d", i+1)
		port := s.serve(i, &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Serial: "S-" + name,
			Machine: &meteredLamp{site: s, name: name, on: on}})
		node := redfishNode(name, "ipmi", port)
		own := strings.LastIndex(node, `"10.10.0.`) // which it shares with the next but one
		text += fmt.Sprintf("%s\"10.10.0.%d\"\n  }\n}\n", node[:own], 100+i)
	}
	s.write("site.hcl", text)
	if err := os.MkdirAll(filepath.Join(dir, "compute"), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPowerOnKeepsTheBudget: by the machines' own record, never more than the
// budget's three were switched on within the settle time of each other, and those
// named first went first. The bound holds on a slow machine too, which only makes
// the times longer.
func TestPowerOnKeepsTheBudget(t *testing.T) {
	s := newTurnsSite(t, "31kW", 700*time.Millisecond, make([]bool, 7)...)
	out, errs, code := inProcess(t, "power", "on", "-target", "w[1-7]", s.dir)
	if code != 0 || out != "on: w[1-7]\n" {
		t.Fatalf("power on exits %d:\n%s%s", code, out, errs)
	}
	if len(s.names) != 7 {
		t.Fatalf("switched on: %v; want each once", s.names)
	}
	for i := 3; i < len(s.times); i++ {
		if d := s.times[i].Sub(s.times[i-3]); d < s.settle {
			t.Errorf("%v were switched on within %s; the rack has room for three in %s", s.names[i-3:i+1], d, s.settle)
		}
	}
	if first := slices.Sorted(slices.Values(s.names[:3])); !slices.Equal(first, []string{"w1", "w2", "w3"}) {
		t.Errorf("%v were switched on first", first)
	}
	wantText(t, "stderr", errs, "counts for 700ms against power-on budgets", "w[4-7] wait: rack a01 30kW of 31kW starting")
}

// TestPowerOnTakesOnlyItsRoom: a node that is on, and one whose BMC is silent, take
// no room; what needs no turn has none. Any that waited would for an hour.
func TestPowerOnTakesOnlyItsRoom(t *testing.T) {
	s := newTurnsSite(t, "10kW", time.Hour, true, false, true)
	s.write("silent.hcl", redfishNode("a9", "ipmi", deafPort(t)))
	out, errs, code := inProcess(t, "power", "on", "-target", "a9,w[1-2]", s.dir)
	if code != 1 || out != "on: w[1-2]; no answer: a9 (port closed)\n" || fmt.Sprint(s.names) != "[w2]" {
		t.Errorf("power on exits %d, switched on %v:\n%s%s", code, s.names, out, errs)
	}
	if out, errs, code = inProcess(t, "power", "off", "-target", "w[1-3]", s.dir); code != 0 || out != "off: w[1-3]\n" || errs != "" {
		t.Errorf("power off exits %d:\n%s%s", code, out, errs)
	}
}

// TestPowerOnCountsTheOneBefore: what one command switched on is starting for the
// next, and for apply.
func TestPowerOnCountsTheOneBefore(t *testing.T) {
	s := newTurnsSite(t, "15kW", time.Hour, false, false)
	if out, errs, code := inProcess(t, "power", "on", "-target", "w1", s.dir); code != 0 {
		t.Fatalf("power on exits %d:\n%s%s", code, out, errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	errs := &ctrlC{text: "w2 waits: rack a01 10kW of 15kW starting", site: s, on: 1, cancel: cancel}
	code := run(ctx, []string{"power", "on", "-target", "w[1-2]", s.dir}, strings.NewReader(""), &out, errs)
	if want := "on: w1; not reached: w2 (interrupted)\n"; code != 130 || out.String() != want || fmt.Sprint(s.names) != "[w1]" {
		t.Errorf("the second power on exits %d, switched on %v:\n%s%s", code, s.names, out.String(), errs.String())
	}
	byHand, err := loadSite(t, s.dir).switchedOn()
	if at, ok := byHand["w1"]; err != nil || len(byHand) != 1 || !ok || at.After(time.Now().Add(time.Minute)) {
		t.Errorf("switched on by hand: %v, %v; want w1", byHand, err)
	}
}

// ctrlC is a standard error that presses Ctrl-C when a text was written and so many
// machines were switched on.
type ctrlC struct {
	text string
	site *turnsSite
	on   int

	cancel func()
	mu     sync.Mutex
	bytes.Buffer
}

func (c *ctrlC) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.Buffer.Write(p)
	for strings.Contains(c.Buffer.String(), c.text) && c.site.t.Context().Err() == nil {
		c.site.mu.Lock()
		on := len(c.site.names)
		c.site.mu.Unlock()
		if on >= c.on {
			c.cancel()
			break
		}
		time.Sleep(time.Millisecond)
	}
	return n, err
}

// TestPowerCycleInterrupted: Ctrl-C ends those that wait, which are named, and
// nothing was sent to them. One that was on counts too when it is cycled.
func TestPowerCycleInterrupted(t *testing.T) {
	s := newTurnsSite(t, "20kW", time.Hour, true, true, true, false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	errs := &ctrlC{text: "w[3-4] wait: rack a01 20kW of 20kW", site: s, on: 2, cancel: cancel}
	code := run(ctx, []string{"power", "cycle", "-target", "w[1-4]", s.dir}, strings.NewReader(""), &out, errs)
	if code != 130 || !strings.Contains(out.String(), "not reached: w[3-4] (interrupted)\n") {
		t.Errorf("power cycle exits %d:\n%s%s", code, out.String(), errs.String())
	}
	wantText(t, "stderr", errs.String(), "w3: interrupted before it was its turn: nothing was sent to it (and 1 more)")
	for _, name := range s.names {
		if name != "w1" && name != "w2" {
			t.Errorf("%s was switched on without room for it", name)
		}
	}
}
