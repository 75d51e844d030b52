package burnin

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"firstlight/provision/acceptance"
)

// held is a worker of an H200 that works until its GPU was read.
func held(read <-chan struct{}) Starter {
	return func(o Order) (*Worker, error) {
		events, out := io.Pipe()
		stop := make(chan struct{})
		go func() { // ends when all is said, or nobody listens
			defer out.Close()
			enc, all := json.NewEncoder(out), h200(o, 1500)
			for i, e := range all {
				if i == len(all)-2 {
					select {
					case <-read:
					case <-stop:
					}
				}
				if enc.Encode(e) != nil {
					return
				}
			}
		}()
		return &Worker{Events: events, Kill: func() { events.Close() }, Wait: func() error { return nil }, Stop: func() {
			select {
			case <-stop:
			default:
				close(stop)
			}
		}}, nil
	}
}

// readings is a driver that tells one thing before, another under load and a
// third after. The second reading under load begins when the first is taken in:
// then the load may end.
func readings(change func(when string, h *Health)) (read func(context.Context) Health, seen <-chan struct{}) {
	n, done, ended := 0, make(chan struct{}), false
	return func(ctx context.Context) Health {
		n++
		when := "before"
		switch {
		case n == 2:
			when = "under"
		case n > 2 && !ended:
			ended = true
			close(done)
			<-ctx.Done()
			return Health{Library: "NVML hangs"} // as one that is ended
		case n > 2:
			when = "after"
		}
		h := healthy()
		change(when, &h)
		return h
	}, done
}

// burnHealth burns in eight H200 whose driver tells that, and gives the checks of
// it that do not pass.
func burnHealth(t *testing.T, change func(when string, h *Health)) []acceptance.Check {
	t.Helper()
	read, seen := readings(change)
	r := runner(held(seen), 8)
	r.Engine, r.Health, r.HealthEvery = acceptance.EngineCUDA, read, time.Nanosecond
	stages := quickStages[:1]
	var out []acceptance.Check
	b := r.Run(t.Context(), stages, nil)
	if len(b.Health) != 1 || b.Health[0].Readings != 1 {
		t.Fatalf("%d runs read; want one, once under load", len(b.Health))
	}
	for _, c := range Checks(stages, b) {
		if strings.HasPrefix(c.Name, "burn-in.health") && c.Verdict != acceptance.Pass {
			out = append(out, c)
		}
	}
	return out
}

func TestHealthOverBurnIn(t *testing.T) {
	if got := burnHealth(t, func(when string, h *Health) {
		if when == "under" { // as a burn-in should: at full clocks, at the power cap
			h.GPUs[3].First[ClockReasons], h.GPUs[3].Later[ClockReasons] = Value{Number: 4}, Value{Number: 4}
			h.GPUs[3].First[Processes] = Value{Number: 1}
		}
		h.GPUs[3].First[SlowPowerCap] = Value{Number: int64(len(when))}
	}); len(got) != 0 {
		t.Errorf("of healthy GPUs: %+v", got)
	}
	set := func(at string, q Quantity, n int64) func(string, *Health) {
		return func(when string, h *Health) {
			if when == at {
				h.GPUs[3].First[q] = Value{Number: n}
				if q.Counting() {
					h.GPUs[3].Later[q] = Value{Number: n}
				}
			}
		}
	}
	tests := []struct {
		name    string
		change  func(when string, h *Health)
		reading string
	}{
		{"ecc.uncorrected", set("after", ECCUncorrected, 2), "2 more (2 in all)"},
		{"sram.uncorrected", set("after", SRAMUncorrect, 1), "1 more (1 in all)"},
		{"sram.threshold", set("after", SRAMOver, 1), "1"},
		{"remap.pending", set("after", RemapPending, 1), "1"},
		{"remap.failed", set("after", RemapFailed, 1), "1"},
		{"remap.rows", set("after", RemapUncorrected, 1), "1 more (1 in all)"},
		{"recovery", set("after", RecoveryAction, 1), "1"},
		{"nvlink.count", set("after", NVLinks, 17), "17"},
		{"pcie.replays", set("after", PCIeReplays, 9), "6 more (9 in all)"},
		{"nvlink.errors", set("after", NVLinkErrors, 5), "1 more (5 in all)"},
		{"nvlink.recoveries", set("after", NVLinkRecovers, 3), "2 more (3 in all)"},
		{"slowed.hw-thermal", set("after", SlowHWThermal, 9e9+3), "3 ns more (9000000003 ns in all)"},
		{"slowed.sw-thermal", set("after", SlowSWThermal, 8), "8 ns more (8 ns in all)"},
		{"slowed.power-brake", set("after", SlowBrake, 4), "4 ns more (4 ns in all)"},
		{"pcie.generation", set("under", PCIeGen, 4), "4"},
		{"pcie.width", set("under", PCIeWidth, 8), "8"},
		{"temperature.margin", set("under", TempMargin, 3), "3 °C"},
		{"clocks.reasons", set("under", ClockReasons, 0x45), "0x45"},
		{"xid.events", set("under", XidEvents, 1), "1"},
	}
	over, under := BurnHealthChecks()
	if len(tests) != len(over)+len(under) {
		t.Errorf("%d checks have a test; there are %d", len(tests), len(over)+len(under))
	}
	for _, tt := range tests {
		got := burnHealth(t, tt.change)
		if len(got) != 1 || got[0].Name != "burn-in.health."+tt.name || got[0].Verdict != acceptance.Fail || got[0].Reading != tt.reading ||
			got[0].Part != "GPU 3 0000:48:00.0 serial 1653" || got[0].Source == "" || got[0].Threshold == "" {
			t.Errorf("%s: %+v; want it alone to fail for GPU 3 with %q", tt.name, got, tt.reading)
		}
	}
}

// What was not read is no pass, and says why.
func TestHealthOverBurnInUnread(t *testing.T) {
	tests := []struct {
		name    string
		change  func(when string, h *Health)
		check   string
		verdict acceptance.Verdict
		reading string
	}{
		{"no library before", func(when string, h *Health) {
			if when == "before" {
				*h = Health{Library: "no libnvidia-ml.so.1"}
			}
		}, "burn-in.health", acceptance.NotRun, "no libnvidia-ml.so.1"},
		{"the driver dies under load", func(when string, h *Health) {
			if when == "under" {
				*h = Health{Library: "NVML hangs", Stuck: []Stuck{{Call: "nvmlDeviceGetName", PCI: "0000:48:00.0", How: "did not return"}}}
			}
		}, "burn-in.health.hang", acceptance.Fail, "nvmlDeviceGetName"},
		{"a GPU is gone after", func(when string, h *Health) {
			if when == "after" {
				h.GPUs = append(h.GPUs[:3:3], h.GPUs[4:]...)
			}
		}, "burn-in.health.responds", acceptance.Fail, "1 of 8 do not answer"},
		{"what that leaves open", func(when string, h *Health) {
			if when == "after" {
				h.GPUs = append(h.GPUs[:3:3], h.GPUs[4:]...)
			}
		}, "burn-in.health.unread", acceptance.NotRun, "14 of its checks not run: the driver does not know this GPU any more"},
		{"a count begins anew", func(when string, h *Health) {
			if when == "after" {
				h.GPUs[3].First[PCIeReplays], h.GPUs[3].Later[PCIeReplays] = Value{}, Value{}
			}
		}, "burn-in.health.pcie.replays", acceptance.NotRun, "counts anew (3, then 0)"},
		{"idle when it was read", func(when string, h *Health) {
			if when == "under" {
				h.GPUs[3].First[PState], h.GPUs[3].First[PCIeGen] = Value{Number: 8}, Value{Number: 1}
			}
		}, "burn-in.health.pcie.generation", acceptance.NotRun, "P8, where the link may run slower"},
	}
	for _, tt := range tests {
		c := one(t, burnHealth(t, tt.change), tt.check, "GPU")
		if c.Verdict != tt.verdict || !strings.Contains(c.Reading, tt.reading) {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}

	r := runner(scripted(func(o Order) []Event { return h200(o, 1500)[:3] }), 2) // never loaded
	r.Engine, r.Health = acceptance.EngineCUDA, func(context.Context) Health { return healthy() }
	stages := quickStages[:1]
	if c := one(t, Checks(stages, r.Run(t.Context(), stages, nil)), "burn-in.health", "GPUs"); c.Verdict != acceptance.NotRun || !strings.Contains(c.Reading, "not read under load") {
		t.Errorf("never under load: %+v", c)
	}
	r.Health = nil
	if c := one(t, Checks(stages, r.Run(t.Context(), stages, nil)), "burn-in.health", "GPUs"); c.Verdict != acceptance.NotRun || c.Reading != "the GPUs were not read" {
		t.Errorf("nobody reads: %+v", c)
	}
	if c := one(t, Checks(quickStages, runner(InProcess, 1).Run(t.Context(), quickStages, nil)), "burn-in.health", "GPUs"); c.Verdict != acceptance.NotApplicable || !strings.Contains(c.Reading, "reference engine") {
		t.Errorf("the reference engine: %+v", c)
	}
}

// A burn-in that was stopped, kept and gone on with is judged run by run: between
// them counts may begin anew.
func TestHealthOverResume(t *testing.T) {
	counts := int64(7)
	read, seen := readings(func(string, *Health) {})
	r := runner(held(seen), 2)
	r.Engine, r.HealthEvery = acceptance.EngineCUDA, time.Nanosecond
	r.Health = func(ctx context.Context) Health {
		h := read(ctx)
		for _, g := range h.GPUs {
			g.First[PCIeReplays], g.Later[PCIeReplays] = Value{Number: counts}, Value{Number: counts}
		}
		return h
	}
	var kept []byte
	r.Saved = func(b *Burn) {
		var err error
		if kept, err = json.Marshal(b); err != nil {
			t.Error(err)
		}
	}
	both := []Stage{quickStages[0], {Name: StageGEMM, Seconds: 0.4}}
	r.Run(t.Context(), both[:1], nil)
	var again Burn
	if err := json.Unmarshal(kept, &again); err != nil {
		t.Fatal(err)
	}
	counts = 0
	read, seen = readings(func(string, *Health) {})
	r.Start = held(seen)
	b := r.Run(t.Context(), both, &again)
	c := one(t, Checks(both, b), "burn-in.health.pcie.replays", "GPUs")
	if len(b.Health) != 2 || c.Verdict != acceptance.Pass || c.Reading != "run 1 of 2: 0 more (7 in all)" {
		t.Errorf("%d runs, %+v", len(b.Health), c)
	}
	if b = r.Run(t.Context(), both, b); len(b.Health) != 2 {
		t.Errorf("with nothing left to do it was read again: %d runs", len(b.Health))
	}
}
