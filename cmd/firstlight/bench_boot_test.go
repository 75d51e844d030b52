//go:build bench

// The measurements take minutes and judge this host, not the code alone: they
// are built for `make bench-boot` and `make bench-plan` only.

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"firstlight/provision"
	"firstlight/provision/agent/api"
)

// Marks of a boot, in its order. The first is the BMC's confirmation of
// power-on, the last the agent's first message.
const (
	markPower     = "power-on"
	markFirmware  = "firmware's DISCOVER"
	markAck       = "firmware's ACK"
	markLoader    = "loader sent"
	markIPXE      = "iPXE's DISCOVER"
	markScript    = "script"
	markKernel    = "kernel"
	markInitramfs = "initramfs"
	markAgent     = "agent's DISCOVER"
	markHello     = "hello"
)

var markOrder = []string{markPower, markFirmware, markAck, markLoader, markIPXE, markScript, markKernel, markInitramfs, markAgent, markHello}

// bootTimes is when each mark of one boot was first seen.
type bootTimes map[string]time.Time

// see keeps the first time of a mark.
func (b bootTimes) see(mark string, at time.Time) {
	if b[mark].IsZero() {
		b[mark] = at
	}
}

// total is power-on to hello in seconds.
func (b bootTimes) total() float64 { return b.phase(markPower, markHello) }

func (b bootTimes) phase(from, to string) float64 { return b[to].Sub(b[from]).Seconds() }

// TestBenchBoot measures a node's boot from power-on to the agent's first
// message, and that of the same machine with the same kernel and initramfs
// from dnsmasq and a plain HTTP server, one after the other. It prints the
// figures and fails when one is short.
func TestBenchBoot(t *testing.T) {
	needLab(t)
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		t.Skip("needs dnsmasq")
	}
	rounds := 5
	if s := os.Getenv("FIRSTLIGHT_BENCH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("FIRSTLIGHT_BENCH_ROUNDS = %q; want a number of rounds", s)
		}
		rounds = n
	}
	var ours, peer []bootTimes
	t.Run("boot", func(t *testing.T) {
		l := newVMLab(t)
		for i := range rounds {
			if i > 0 {
				l.renew()
			}
			a := l.bootOurs()
			l.renew()
			b := l.bootPeer()
			ours, peer = append(ours, a), append(peer, b)
			fmt.Printf("round %d: firstlight %.2f s, dnsmasq + HTTP %.2f s, load %s\n", i+1, a.total(), b.total(), load())
		}
	})
	if len(peer) < rounds {
		return // the subtest failed and said why
	}
	printPhases(ours, peer)
	p50, peer50 := median(ours, bootTimes.total), median(peer, bootTimes.total)
	atMost(t, "boot_power_on_to_hello_p50", p50, "s", 30)
	fmt.Printf("peer boot_peer_power_on_to_hello_p50 %.2f s\n", peer50)
	atMost(t, "boot_vs_dnsmasq", p50/peer50, "ratio", 1.0)
}

// renew gives the lab's machines empty firmware variables and disks again.
func (l *vmLab) renew() {
	l.t.Helper()
	l.cli(0, "lab", "down", l.dir)
	l.cli(0, "lab", "up", l.dir)
}

// bootOurs runs apply for node-1 until its agent called home from bring-up, and
// takes the times from the journal's events.
func (l *vmLab) bootOurs() bootTimes {
	l.t.Helper()
	cmd := exec.Command(l.program, "apply", "-json", "-auto-approve", "-target", "node-1", l.dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	stuck := time.AfterFunc(5*time.Minute, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	times := bootTimes{}
	for lines := bufio.NewScanner(out); times[markHello].IsZero() && lines.Scan(); {
		var line struct {
			Data struct{ Event provision.Event }
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			l.t.Errorf("apply -json: %v: %s", err, lines.Text())
		}
		if err := times.event(line.Data.Event); err != nil {
			l.t.Error(err)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait() // interrupted on purpose
	if times[markHello].IsZero() {
		l.t.Fatalf("apply ended before the agent called home; seen: %v; it said:\n%s", times, &said)
	}
	return times
}

// event takes one event of the journal.
func (b bootTimes) event(ev provision.Event) error {
	var d struct{ Op, Power, What, Detail, Kind string }
	if len(ev.Data) > 0 {
		if err := json.Unmarshal(ev.Data, &d); err != nil {
			return fmt.Errorf("event %d: %w", ev.Serial, err)
		}
	}
	switch ev.Kind {
	case provision.EventPowered:
		if d.Op == "on" {
			b.see(markPower, ev.Time)
		}
	case provision.EventHello:
		if d.Kind == api.BootBringUp {
			b.see(markHello, ev.Time)
		}
	case provision.EventSeen:
		ipxe := strings.Contains(d.Detail, "iPXE")
		agent := strings.Contains(d.Detail, "firstlight-agent")
		switch {
		case d.What == "dhcp-discover" && agent:
			b.see(markAgent, ev.Time)
		case d.What == "dhcp-discover" && ipxe:
			b.see(markIPXE, ev.Time)
		case d.What == "dhcp-discover":
			b.see(markFirmware, ev.Time)
		case d.What == "dhcp-ack" && !ipxe && !agent:
			b.see(markAck, ev.Time)
		case d.What == "tftp-read":
			b.see(markLoader, ev.Time)
		case d.What == "script":
			b.see(markScript, ev.Time)
		case d.What == "kernel":
			b.see(markKernel, ev.Time)
		case d.What == "initrd":
			b.see(markInitramfs, ev.Time)
		}
	}
	return nil
}

// printPhases prints where the time of the median boot goes.
func printPhases(ours, peer []bootTimes) {
	fmt.Printf("%-42s %10s %10s\n", "phase, median", "firstlight", "peer")
	for i, to := range markOrder[1:] {
		from := markOrder[i]
		of := func(b bootTimes) float64 { return b.phase(from, to) }
		fmt.Printf("%-42s %8.2f s %8.2f s\n", from+" -> "+to, median(ours, of), median(peer, of))
	}
}

func median(boots []bootTimes, of func(bootTimes) float64) float64 {
	var v []float64
	for _, b := range boots {
		v = append(v, of(b))
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// atMost prints a figure and fails the run when it is short of its goal.
func atMost(t *testing.T, name string, value float64, unit string, bound float64) {
	t.Helper()
	verdict := "ok"
	if value > bound {
		verdict = "short"
		t.Errorf("%s is %.2f %s; want at most %g", name, value, unit, bound)
	}
	fmt.Printf("figure %s %.2f %s goal<=%g %s\n", name, value, unit, bound, verdict)
}

// load is the host's load average over the last minute.
func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(raw), " ")
	return one
}
