package burnin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/provision/acceptance"
)

// workerEnv has this test binary be a worker of the reference engine.
const workerEnv = "FIRSTLIGHT_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		if ServeReference(context.Background(), os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// children starts real child processes.
func children(t *testing.T) Starter {
	t.Helper()
	t.Setenv(workerEnv, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Process(self)
}

func runner(start Starter, gpus int) *Runner {
	r := &Runner{Engine: acceptance.EngineReference, Start: start, Seed: 7}
	for i := range gpus {
		r.GPUs = append(r.GPUs, GPU{Index: i})
	}
	return r
}

var quickStages = []Stage{{Name: StageGEMM, Seconds: 0.3, Source: "main.hcl:9"}, {Name: StageSweep, Source: "main.hcl:9"}}

// verdict is that of all checks together.
func verdict(checks []acceptance.Check) acceptance.Verdict {
	return acceptance.Evidence{Checks: checks}.Verdict()
}

// one is the check of that name for that part.
func one(t *testing.T, checks []acceptance.Check, name, part string) acceptance.Check {
	t.Helper()
	for _, c := range checks {
		if c.Name == name && strings.HasPrefix(c.Part, part) {
			return c
		}
	}
	t.Fatalf("no check %s of %s in %+v", name, part, checks)
	return acceptance.Check{}
}

func TestRunHealthy(t *testing.T) {
	for name, start := range map[string]Starter{"children": children(t), "in process": InProcess} {
		b := runner(start, 2).Run(t.Context(), quickStages, nil)
		checks := Checks(quickStages, b)
		if v := verdict(checks); v != acceptance.Pass {
			t.Errorf("%s: %s: %+v", name, v, checks)
		}
		if c := one(t, checks, "burn-in.gemm.exact", "GPU 1"); !strings.Contains(c.Reading, "0 wrong in ") || !strings.Contains(c.Reading, "8 SMs") {
			t.Errorf("%s: %+v", name, c)
		}
		if c := one(t, checks, "burn-in.gemm.golden", "GPUs"); !strings.HasSuffix(c.Reading, "on GPU 0, 1") {
			t.Errorf("%s: golden results: %+v", name, c)
		}
	}
}

// A fault on one GPU fails the node, names the GPU, and leaves the other's own
// lines alone. Hangs and crashes are those of real child processes.
func TestRunFaults(t *testing.T) {
	tests := []struct {
		fault       Fault
		check, part string
		reading     string
	}{
		{fault: Fault{Kind: FaultBitFlip, SM: 3, Bit: 4, After: 2}, check: "burn-in.gemm.exact", part: "GPU 1, SM 3", reading: "(XOR 00000010), no integer; right when recomputed"},
		{fault: Fault{Kind: FaultNaN, SM: 5, After: 1}, check: "burn-in.gemm.exact", part: "GPU 1, SM 5", reading: "no integer"},
		{fault: Fault{Kind: FaultStuck, SM: 2, After: 1}, check: "burn-in.gemm.exact", part: "GPU 1, SM 2", reading: "wrong again when recomputed"},
		{fault: Fault{Kind: FaultHang, After: 1}, check: "burn-in.gemm.worker", part: "GPU 1", reading: "no word for 2s: it hangs"},
		{fault: Fault{Kind: FaultCrash, After: 1}, check: "burn-in.gemm.worker", part: "GPU 1", reading: "it ended without a word: worker: exit status 1"},
		{fault: Fault{Kind: FaultHot}, check: "burn-in.gemm.temperature", part: "GPU 1", reading: "105 °C"},
		{fault: Fault{Kind: FaultMemory, Bit: 40}, check: "burn-in.hbm_sweep.exact", part: "GPU 1, memory", reading: "(XOR 0000010000000000)"},
	}
	start := children(t)
	for _, tt := range tests {
		tt.fault.GPU = 1
		r := runner(start, 2)
		r.Fault, r.Limits.Silence = &tt.fault, 2*time.Second
		stages := quickStages
		if tt.fault.Kind == FaultHot {
			stages = []Stage{{Name: StageGEMM, Seconds: 3600}}
		}
		checks := Checks(stages, r.Run(t.Context(), stages, nil))
		c := one(t, checks, tt.check, "GPU 1")
		if verdict(checks) != acceptance.Fail || c.Verdict != acceptance.Fail || c.Part != tt.part || !strings.Contains(c.Reading, tt.reading) {
			t.Errorf("%s: %+v", tt.fault.Kind, c)
		}
		if c := one(t, checks, tt.check, "GPU 0"); c.Verdict == acceptance.Fail {
			t.Errorf("%s: the other GPU: %+v", tt.fault.Kind, c)
		}
		if c := one(t, checks, "burn-in.planted", "GPUs"); c.Verdict != acceptance.NotRun {
			t.Errorf("%s: %+v", tt.fault.Kind, c)
		}
	}
}

// scripted is a worker that says what it is told to say.
func scripted(say func(o Order) []Event) Starter {
	return func(o Order) (*Worker, error) {
		events, out := io.Pipe()
		stop := make(chan struct{})
		go func() { // ends when all is said, or nobody listens
			defer out.Close()
			enc := json.NewEncoder(out)
			for _, e := range say(o) {
				if e.Kind == "wait" {
					<-stop
					continue
				}
				if enc.Encode(e) != nil {
					return
				}
			}
		}()
		stopped := false
		return &Worker{Events: events, Kill: func() { events.Close() }, Wait: func() error { return nil }, Stop: func() {
			if !stopped {
				stopped = true
				close(stop)
			}
		}}, nil
	}
}

// h200 is what a GPU says whose every product took that long.
func h200(o Order, micros uint32) []Event {
	ready := Ready{Engine: o.Engine, Device: "NVIDIA H200", SMs: 132, Kernel: "wgmma", Type: o.Type, Shape: Shape{M: 8192, N: 8192, K: 8192, TileM: 128, TileN: 256}}
	out := []Event{{Kind: EventReady, Ready: &ready}, {Kind: EventGolden, Golden: &Golden{Hash: 99}},
		{Kind: EventProof, Proof: &Proof{Caught: true, XOR: 8, Found: 8}}, {Kind: EventSample, Sample: &Sample{TFLOPs: 700, Temp: 60, Power: 690}}}
	if micros > 0 {
		out = append(out, Event{Kind: EventIterations, Iterations: &Iterations{Count: 4, Micros: []uint32{micros, micros, micros, micros}}})
	}
	return append(out, Event{Kind: EventCoverage, Coverage: &Coverage{Iterations: 4, FLOPs: 4 * ready.Shape.FLOPs(), SMs: 132, Pairs: 1}}, Event{Kind: EventDone})
}

// What peers' burn-ins let pass.
func TestPeersBugs(t *testing.T) {
	const fine = 1500 // µs: 733 TFLOP/s
	stages := []Stage{{Name: StageGEMM, Seconds: 60}}
	run := func(engine acceptance.Engine, say func(o Order) []Event) []acceptance.Check {
		r := runner(scripted(say), 8)
		r.Engine = engine
		r.Watch = func(ctx context.Context, _ func(Trouble)) { <-ctx.Done() }
		// What the driver tells is TestHealthOverBurnIn's.
		return slices.DeleteFunc(Checks(stages, r.Run(t.Context(), stages, nil)), func(c acceptance.Check) bool { return c.Name == "burn-in.health" })
	}
	third := func(f func(o Order) []Event) func(o Order) []Event {
		return func(o Order) []Event {
			if o.GPU == 3 {
				return f(o)
			}
			return h200(o, fine)
		}
	}
	with := func(e Event) func(o Order) []Event {
		return func(o Order) []Event { all := h200(o, fine); return append(all[:1:1], e) }
	}
	tests := []struct {
		name    string
		engine  acceptance.Engine
		say     func(o Order) []Event
		check   string
		verdict acceptance.Verdict
		reading string
	}{
		{"a GPU three times too slow", acceptance.EngineCUDA, third(func(o Order) []Event { return h200(o, 3*fine) }), "burn-in.gemm.rate", acceptance.Fail, "243.8"},
		{"the same where no floor is known", acceptance.EngineReference, third(func(o Order) []Event {
			all := h200(o, 3*fine)
			all[0].Ready.Device = "another"
			return all
		}), "burn-in.gemm.rate", acceptance.Fail, "243.8"},
		{"memory that cannot be allocated", acceptance.EngineCUDA, third(with(Event{Kind: EventError, Error: "cuMemAlloc: out of memory"})), "burn-in.gemm.worker", acceptance.Fail, "out of memory"},
		{"no driver", acceptance.EngineCUDA, third(func(Order) []Event { return []Event{{Kind: EventError, Error: "libcuda.so.1: no such file"}} }), "burn-in.gemm.worker", acceptance.NotRun, "libcuda"},
		{"0 TFLOP/s", acceptance.EngineCUDA, third(func(o Order) []Event { return h200(o, 0) }), "burn-in.gemm.rate", acceptance.Fail, "no rate"},
		{"nothing computed", acceptance.EngineCUDA, third(func(o Order) []Event {
			all := h200(o, fine)
			all[len(all)-2].Coverage = &Coverage{}
			return all
		}), "burn-in.gemm.exact", acceptance.Fail, "no product was verified"},
		{"a blind check", acceptance.EngineCUDA, third(func(o Order) []Event {
			return append(h200(o, fine)[:2], Event{Kind: EventProof, Proof: &Proof{XOR: 8}}, Event{Kind: EventDone})
		}), "burn-in.gemm.proof", acceptance.Fail, "the check is blind"},
		{"no proof", acceptance.EngineCUDA, third(func(o Order) []Event { all := h200(o, fine); return append(all[:2:2], all[3:]...) }), "burn-in.gemm.proof", acceptance.NotRun, "no corruption was planted"},
		{"another engine", acceptance.EngineCUDA, third(func(o Order) []Event {
			all := h200(o, fine)
			all[0].Ready.Engine = acceptance.EngineReference
			return all
		}), "burn-in.gemm.worker", acceptance.Fail, "the reference engine answered"},
		{"a hot GPU", acceptance.EngineCUDA, third(func(o Order) []Event {
			return append(h200(o, fine)[:3], Event{Kind: EventSample, Sample: &Sample{Temp: 97}}, Event{Kind: "wait"}, Event{Kind: EventDone})
		}), "burn-in.gemm.temperature", acceptance.Fail, "97 °C"},
	}
	if v := verdict(run(acceptance.EngineCUDA, func(o Order) []Event { return h200(o, fine) })); v != acceptance.Pass {
		t.Errorf("eight good GPUs: %s", v)
	}
	for _, tt := range tests {
		checks := run(tt.engine, tt.say)
		c := one(t, checks, tt.check, "GPU 3")
		if c.Verdict != tt.verdict || !strings.Contains(c.Reading, tt.reading) {
			t.Errorf("%s: %+v", tt.name, c)
		}
		if v := verdict(checks); v != tt.verdict {
			t.Errorf("%s: the node: %s; want %s", tt.name, v, tt.verdict)
		}
	}
}

// A GPU whose golden result differs from the others' is found though it is
// steady in its error.
func TestGoldenResultsAgree(t *testing.T) {
	r := runner(scripted(func(o Order) []Event {
		all := h200(o, 1500)
		all[1].Golden.Hash = Hex(9 + o.GPU/2)
		return all
	}), 3)
	stages := quickStages[:1]
	c := one(t, Checks(stages, r.Run(t.Context(), stages, nil)), "burn-in.gemm.golden", "GPUs")
	if want := "0000000000000009 on GPU 0, 1; 000000000000000a on GPU 2"; c.Verdict != acceptance.Fail || c.Reading != want {
		t.Errorf("%+v; want %s", c, want)
	}
}

func TestXidEndsTheStage(t *testing.T) {
	r := runner(InProcess, 2)
	r.GPUs[1].PCI = "0000:4f:00.0"
	r.Watch = func(ctx context.Context, report func(Trouble)) {
		report(Trouble{PCI: "0000:4f:00", Code: 79, Line: "NVRM: Xid (PCI:0000:4f:00): 79, GPU has fallen off the bus."})
		<-ctx.Done()
	}
	stages := []Stage{{Name: StageGEMM, Seconds: 3600}, {Name: StageSweep}}
	checks := Checks(stages, r.Run(t.Context(), stages, nil))
	if c := one(t, checks, "burn-in.gemm.xid", "GPU 1 (0000:4f:00.0)"); c.Verdict != acceptance.Fail || !strings.Contains(c.Reading, "79") {
		t.Errorf("%+v", c)
	}
	if c := one(t, checks, "burn-in.hbm_sweep", "GPUs"); c.Verdict != acceptance.NotRun {
		t.Errorf("the stage after it: %+v", c)
	}
}

// Stopped by its context, a burn-in keeps what it did and is no pass; resumed,
// it does what is left.
func TestStopAndResume(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := runner(InProcess, 1)
	saved := 0
	var kept []byte
	r.Saved = func(b *Burn) {
		saved++
		if b.Stages[0].Done == 2 {
			var err error
			if kept, err = json.Marshal(b); err != nil {
				t.Error(err)
			}
			cancel()
		}
	}
	soak := []Stage{{Name: StageSoak, Seconds: 1}}
	b := r.Run(ctx, soak, nil)
	if v := verdict(Checks(soak, b)); v != acceptance.NotRun || b.Stages[0].Done != 2 {
		t.Fatalf("stopped: %s after %d phases", v, b.Stages[0].Done)
	}
	var again Burn
	if err := json.Unmarshal(kept, &again); err != nil {
		t.Fatal(err)
	}
	r.Saved = nil
	b = r.Run(t.Context(), soak, &again)
	if v := verdict(Checks(soak, b)); v != acceptance.Pass || b.Stages[0].Done != b.Stages[0].Phases {
		t.Errorf("resumed: %s: %+v", v, Checks(soak, b))
	}
}

func TestNoWorkerIsNoPass(t *testing.T) {
	for name, start := range map[string]Starter{"no program": Process("/nonexistent/worker"), "no worker": func(Order) (*Worker, error) { return nil, errors.New("none") },
		"silent": Process("/bin/true"), "babbling": Process("/bin/echo", "PASS")} {
		checks := Checks(quickStages, runner(start, 1).Run(t.Context(), quickStages, nil))
		if v := verdict(checks); v != acceptance.NotRun {
			t.Errorf("%s: %s: %+v", name, v, checks)
		}
	}
	if v := verdict(Checks(quickStages, runner(InProcess, 0).Run(t.Context(), quickStages, nil))); v != acceptance.NotRun {
		t.Errorf("no GPU: %s", v)
	}
}
