//go:build bench

package bmc

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func benchRounds(t *testing.T) int {
	t.Helper()
	s := os.Getenv("FIRSTLIGHT_BENCH_ROUNDS")
	if s == "" {
		return 7
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("FIRSTLIGHT_BENCH_ROUNDS = %q; want a number of rounds", s)
	}
	return n
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// bound prints a figure and fails the run when it is short of its goal. The
// value's relation to the goal is "<=" or ">=".
func bound(t *testing.T, name string, value float64, unit, relation string, goal float64) {
	t.Helper()
	verdict := "ok"
	if relation == "<=" && value > goal || relation == ">=" && value < goal {
		verdict = "short"
		t.Errorf("%s is %.3f %s; want %s %g", name, value, unit, relation, goal)
	}
	fmt.Printf("figure %s %.3f %s goal%s%g %s\n", name, value, unit, relation, goal, verdict)
}

func hostLoad() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(raw), " ")
	return one
}

// race reads 1,000 BMCs with ours and with ipmipower in turn, whole processes
// both, and returns the median times in ms.
func race(t *testing.T, name, first string, suite int, pinned bool) (ours, peer float64) {
	t.Helper()
	if _, err := exec.LookPath("ipmipower"); err != nil {
		t.Skip("needs ipmipower (Debian package freeipmi-tools)")
	}
	job := benchJob{First: first, Count: 1000}
	if pinned {
		job.Suite = suite
	}
	var a, b []float64
	for i := range benchRounds(t) {
		r, wall, _ := readInChild(t, job)
		if r.On+r.Off != job.Count {
			t.Fatalf("%s: %+v", name, r)
		}
		theirs := ipmipower(t, first, job.Count, suite)
		a, b = append(a, float64(wall.Microseconds())/1e3), append(b, float64(theirs.Microseconds())/1e3)
		fmt.Printf("%s round %d: firstlight %.0f ms, ipmipower %.0f ms, load %s\n", name, i+1, a[i], b[i], hostLoad())
	}
	return median(a), median(b)
}

// TestBenchSim is 1,000 cold power states on 10 × 100 BMCs of ipmi_sim.
func TestBenchSim(t *testing.T) {
	startSims(t, 10)
	ours, peer := race(t, "ipmi_sim, suite 3", "127.0.10.1", 3, true)
	fmt.Printf("also bmc_sim_1000 %.0f ms\npeer bmc_sim_1000_ipmipower %.0f ms\n", ours, peer)
	bound(t, "bmc_sim_vs_ipmipower", ours/peer, "ratio", "<=", 0.4)
	// The same without being told the suite: 17 is asked for first.
	ours, peer = race(t, "ipmi_sim, suite found out", "127.0.10.1", 3, false)
	fmt.Printf("also bmc_sim_unpinned_vs_ipmipower %.3f ratio\n", ours/peer)
}

// TestBenchReference is the same on go-ipmi's reference BMC with suite 17.
func TestBenchReference(t *testing.T) {
	startBMCs(t, benchJob{First: "127.0.60.1", Count: 1000, Suites: []int{17}})
	ours, peer := race(t, "reference BMC, suite 17", "127.0.60.1", 17, false)
	fmt.Printf("also bmc_ref_1000 %.0f ms\npeer bmc_ref_1000_ipmipower %.0f ms\n", ours, peer)
	bound(t, "bmc_ref_vs_ipmipower", ours/peer, "ratio", "<=", 0.45)
}

// TestBenchTenThousand is 10,000 power states in one process.
func TestBenchTenThousand(t *testing.T) {
	job := benchJob{First: "127.0.60.1", Count: 10000}
	startBMCs(t, job)
	var walls, sizes []float64
	goroutines := 0
	for range max(benchRounds(t), 5) {
		r, wall, mb := readInChild(t, job)
		if r.On+r.Off != job.Count {
			t.Fatalf("10,000: %+v", r)
		}
		walls, sizes = append(walls, wall.Seconds()), append(sizes, mb)
		goroutines = max(goroutines, r.Goroutines)
	}
	bound(t, "bmc_10000", median(walls), "s", "<=", 3.5)
	bound(t, "bmc_10000_memory", slices.Max(sizes), "MB", "<=", 100)
	bound(t, "bmc_10000_goroutines", float64(goroutines), "goroutines", "<=", 50)
}

// TestBenchWeather is about loss, slowness, frozen BMCs and wrong passwords. The
// faults are injected between the engine and its sockets; the client's settings
// are its defaults in all of them.
func TestBenchWeather(t *testing.T) {
	all := benchJob{First: "127.0.60.1", Count: 1000}
	startBMCs(t, all)
	rounds := max(benchRounds(t), 5)
	// each returns the results of all rounds of one kind.
	each := func(w weather, job benchJob, check func(benchResult) bool) (elapsed, slowest []float64, last benchResult) {
		for range rounds {
			last = benchRead(&Client{open: w.open}, job)
			if !check(last) {
				t.Errorf("%+v in %+v: %+v", job, w, last)
			}
			elapsed, slowest = append(elapsed, last.ElapsedMS/1e3), append(slowest, last.Slowest/1e3)
		}
		return elapsed, slowest, last
	}
	read := func(n int) func(benchResult) bool { return func(r benchResult) bool { return r.On+r.Off == n } }

	elapsed, _, _ := each(weather{loss: 0.05}, all, read(1000))
	bound(t, "bmc_loss5_all", median(elapsed), "s", "<=", 1.5)
	fmt.Printf("also bmc_loss5_all_worst %.2f s\n", slices.Max(elapsed))
	elapsed, _, _ = each(weather{loss: 0.1}, all, read(1000))
	bound(t, "bmc_loss10_all_median", median(elapsed), "s", "<=", 3)
	bound(t, "bmc_loss10_all", slices.Max(elapsed), "s", "<=", 5)
	within := all
	within.WithinMS = 3000
	atLeast := 1000
	each(weather{loss: 0.1}, within, func(r benchResult) bool {
		atLeast = min(atLeast, r.On+r.Off)
		return true
	})
	bound(t, "bmc_loss10_in_3s", float64(atLeast), "of 1000", ">=", 999)

	for _, ms := range []int{1200, 2500} {
		w := weather{delay: time.Duration(ms) * time.Millisecond}
		r := benchRead(&Client{open: w.open}, all)
		bound(t, fmt.Sprintf("bmc_rtt_%dms", ms), float64(r.On+r.Off), "of 1000", ">=", 1000)
		fmt.Printf("also bmc_rtt_%dms_slowest %.2f s, %d packets sent, %d of them again\n", ms, r.Slowest/1e3, r.Stats.Sent, r.Stats.Repeated)
	}

	// 50 of 1,000 frozen, against the other 950 alone.
	frozen := func(a netip.AddrPort) bool { return a.Addr().As4()[3] <= 5 }
	healthy := all
	healthy.First, healthy.SkipFrozen = all.First, true
	within.WithinMS = 1000
	var alone, beside, total []float64
	for range 2*rounds + 1 { // the difference is small beside the host's own
		a := benchRead(&Client{open: (&weather{}).open}, healthy)
		b := benchRead(&Client{open: (&weather{frozen: frozen}).open}, within)
		if a.On+a.Off != 950 || b.On+b.Off != 950 || b.NoAnswer != 50 {
			t.Errorf("frozen: alone %+v, beside %+v", a, b)
		}
		alone, beside, total = append(alone, a.Slowest), append(beside, b.Slowest), append(total, b.ElapsedMS/1e3)
	}
	bound(t, "bmc_frozen_delay", max(100*(median(beside)/median(alone)-1), 0), "%", "<=", 5)
	bound(t, "bmc_frozen_beyond_deadline", slices.Max(total)-1, "s", "<=", 0.1)

	wrong := all
	wrong.Wrong = true
	elapsed, _, last := each(weather{}, wrong, func(r benchResult) bool { return r.Refused == 1000 && r.Stats.Logins == 1000 })
	bound(t, "bmc_wrong_password_logins", float64(last.Stats.Logins)/1000, "per BMC", "<=", 1)
	bound(t, "bmc_wrong_password", median(elapsed), "s", "<=", 0.25)
}
