package cuda

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"firstlight/provision/burnin"
)

// The kernels, run on the host, against the arithmetic of package burnin: a
// golden event needs every element right by Freivalds' check and every tile's
// hash that of its elements.
func TestProducts(t *testing.T) {
	for _, k := range kernels() {
		for _, when := range []string{"LATE", "EARLY"} {
			if when == "EARLY" && k.typ != burnin.BF16 {
				continue // the number format changes nothing in when what happens
			}
			t.Run(k.entry+"/"+when, func(t *testing.T) {
				t.Parallel()
				testProduct(t, k, "LIBCUDA_"+when+"=1")
			})
		}
	}
}

// testProduct has the worker compute with a kernel.
func testProduct(t *testing.T, k kernel, when string) {
	cc := "LIBCUDA_CC=89"
	if k.name == "wgmma" {
		cc = "LIBCUDA_CC=90"
	}
	events, err := work(t, order(func(o *burnin.Order) { o.Type, o.Shape.N, o.Iterations = k.typ, 768, 1 }), cc, when)
	if err != nil {
		t.Fatal(err, events)
	}
	if r := pick(events, burnin.EventReady); len(r) != 1 || r[0].Ready.Kernel != k.name || r[0].Ready.Shape.TileN != k.tileN {
		t.Errorf("ready %+v", r)
	}
	if n := len(pick(events, burnin.EventGolden)); n != 1 {
		t.Errorf("%d golden results: %+v", n, events)
	}
	proof := pick(events, burnin.EventProof)
	if len(proof) != 1 || !proof[0].Proof.Caught {
		t.Errorf("proof %+v", proof)
	}
	cover := pick(events, burnin.EventCoverage)
	if len(cover) != 1 || cover[0].Coverage.Iterations != 1 || cover[0].Coverage.SMs != 4 {
		t.Errorf("coverage %+v", cover)
	}
	if last := events[len(events)-1]; last.Kind != burnin.EventDone {
		t.Errorf("ends with %s", last.Kind)
	}
}

// short is a product that takes little time on the host.
func short(o *burnin.Order) {
	o.Shape, o.Prove, o.Iterations = burnin.Shape{M: 256, N: 128, K: 64}, false, 4
}

// After as many iterations as there are SMs, each has computed each tile.
func TestRotation(t *testing.T) {
	events, err := work(t, order(short))
	if err != nil {
		t.Fatal(err, events)
	}
	if c := pick(events, burnin.EventCoverage); len(c) != 1 || c[0].Coverage.Pairs != 1 || c[0].Coverage.Iterations != 4 {
		t.Errorf("coverage %+v", c)
	}
}

// A fault on an SM is seen, and the SM named.
func TestPlanted(t *testing.T) {
	for _, kind := range []burnin.FaultKind{burnin.FaultBitFlip, burnin.FaultNaN, burnin.FaultStuck} {
		events, err := work(t, order(func(o *burnin.Order) {
			short(o)
			o.Fault = &burnin.Fault{Kind: kind, SM: 1, After: 1, Bit: 3}
		}))
		if err != nil {
			t.Fatal(kind, err, events)
		}
		wrong := pick(events, burnin.EventMismatch)
		if len(wrong) == 0 {
			t.Errorf("%s: not seen: %+v", kind, events)
			continue
		}
		m := wrong[0].Mismatch
		if m.SM != 1 || (kind == burnin.FaultBitFlip && (m.XOR != 8 || m.Elements != 1 || m.Again)) || (kind == burnin.FaultNaN && !m.NaN) {
			t.Errorf("%s: %+v", kind, m)
		}
		if kind == burnin.FaultStuck && !m.Again {
			t.Errorf("%s: an SM that stays so is not wrong again: %+v", kind, m)
		}
	}
}

func TestMemory(t *testing.T) {
	sweep := order(func(o *burnin.Order) { o.Load, o.Iterations = burnin.LoadMemory, 0 })
	events, err := work(t, sweep)
	if err != nil {
		t.Fatal(err, events)
	}
	sweeps := pick(events, burnin.EventSweep)
	if len(sweeps) != len(burnin.Patterns()) {
		t.Fatalf("%d patterns: %+v", len(sweeps), events)
	}
	for _, e := range sweeps {
		if e.Sweep.Errors != 0 || e.Sweep.Bytes != 1<<20 {
			t.Errorf("%+v", e.Sweep)
		}
	}
	sweep.Fault = &burnin.Fault{Kind: burnin.FaultMemory, Bit: 40}
	if events, err = work(t, sweep); err != nil {
		t.Fatal(err, events)
	}
	const index = 1 << 20 / 8 / 3
	for i, e := range pick(events, burnin.EventSweep) {
		want := burnin.Patterns()[i].Word(sweep.Seed, index)
		s := e.Sweep
		if stuck := want&(1<<40) == 0; stuck != (s.Errors == 1) {
			t.Errorf("%s: %+v", s.Pattern, s)
		} else if stuck && (s.Address != 8*index || uint64(s.Want) != want || uint64(s.Got) != want|1<<40) {
			t.Errorf("%s: %+v", s.Pattern, s)
		}
	}
}

func TestTransfers(t *testing.T) {
	for load, paths := range map[burnin.Load]string{burnin.LoadStream: "device device", burnin.LoadHost: "h2d d2h h2d d2h", burnin.LoadPeer: "p2p p2p"} {
		events, err := work(t, order(func(o *burnin.Order) { o.Load, o.Peer = load, 1 }), "LIBCUDA_DEVICES=2")
		if err != nil {
			t.Errorf("%s: %v %+v", load, err, events)
			continue
		}
		var got []string
		for _, e := range pick(events, burnin.EventTransfer) {
			got = append(got, e.Transfer.Path)
			if e.Transfer.Errors != 0 || e.Transfer.Bytes == 0 {
				t.Errorf("%s: %+v", load, e.Transfer)
			}
		}
		if strings.Join(got, " ") != paths {
			t.Errorf("%s: moved %v; want %s", load, got, paths)
		}
	}
}

// failures are ways in which a GPU cannot be worked with: each ends with an
// event that says so, names the call and CUDA's error, and is no good end.
func failures() map[string]struct{ fault, want string } {
	return map[string]struct{ fault, want string }{
		"no GPU":             {"", "cuInit: CUDA_ERROR_NO_DEVICE (100)"},
		"init":               {"cuInit:999", "cuInit: unknown CUDA error (999)"},
		"context":            {"cuDevicePrimaryCtxRetain:2", "cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY (2)"},
		"translation":        {"cuModuleLoadDataEx:1", "load portable: cuModuleLoadDataEx: CUDA_ERROR_INVALID_VALUE (1)"},
		"kernel missing":     {"cuModuleGetFunction:500", "cuModuleGetFunction: CUDA_ERROR_NOT_FOUND (500)"},
		"no memory":          {"cuMemAlloc_v2:2", "bytes of the GPU's memory: cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2)"},
		"launch":             {"cuLaunchKernel:719", "cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED (719)"},
		"launch later":       {"cuLaunchKernel:719:4", "iteration 1: cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED (719)"},
		"results":            {"cuMemcpyDtoH_v2:700:2", "iteration 1: cuMemcpyDtoH_v2: CUDA_ERROR_ILLEGAL_ADDRESS (700)"},
		"tile":               {"cuMemcpy2D_v2:700", "read tile 0: cuMemcpy2D_v2: CUDA_ERROR_ILLEGAL_ADDRESS (700)"},
		"hang at the start":  {"cuInit:hang", "cuInit has not returned for 10s: the GPU or its driver hangs"},
		"hang in a product":  {"cuMemcpyDtoH_v2:hang:1", "cuMemcpyDtoH_v2 has not returned for 10s: the GPU or its driver hangs"},
		"hang in the launch": {"cuLaunchKernel:hang:3", "cuLaunchKernel has not returned for 10s: the GPU or its driver hangs"},
	}
}

func TestFailures(t *testing.T) {
	for name, c := range failures() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := []string{"LIBCUDA_FAULT=" + c.fault}
			switch {
			case c.fault == "":
				env = append(env, "LIBCUDA_DEVICES=0")
			case strings.Contains(c.fault, ":hang"):
				env = append(env, patience+"=10s")
			}
			events, err := work(t, order(short), env...)
			noPass(t, events, err, c.want)
		})
	}
}

// noPass holds that a run ended with an error that says what is wanted.
func noPass(t *testing.T, events []burnin.Event, err error, want string) {
	t.Helper()
	if err == nil {
		t.Error("the worker exits with 0")
	}
	if len(events) == 0 {
		t.Fatal("no event")
	}
	last := events[len(events)-1]
	if last.Kind != burnin.EventError || !strings.Contains(last.Error, want) {
		t.Errorf("ends with %s %q; want an error with %q", last.Kind, last.Error, want)
	}
	if n := len(pick(events, burnin.EventDone)) + len(pick(events, burnin.EventCoverage)); n != 0 {
		t.Errorf("something was counted: %+v", events)
	}
}

// failingCalls are the calls of each load, with CUDA's error and how many calls
// succeed first.
func failingCalls() map[burnin.Load][]string {
	return map[burnin.Load][]string{
		burnin.LoadMemory: {"cuMemGetInfo_v2", "cuMemAlloc_v2:1:1", "cuLaunchKernel:719:3", "cuMemsetD8_v2", "cuMemcpyDtoH_v2", "cuCtxSynchronize"},
		burnin.LoadStream: {"cuMemGetInfo_v2", "cuMemAlloc_v2", "cuLaunchKernel", "cuCtxSynchronize", "cuMemcpyDtoH_v2"},
		burnin.LoadHost:   {"cuMemAllocHost_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuCtxSynchronize", "cuMemFreeHost"},
		burnin.LoadPeer:   {"cuDeviceCanAccessPeer", "cuCtxEnablePeerAccess", "cuMemcpyPeerAsync", "cuCtxSetCurrent:1:1"},
		burnin.LoadPulse:  {"cuLaunchKernel:719:4"},
		burnin.LoadGEMM: {"cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetPCIBusId", "cuDeviceGetUuid_v2",
			"cuDeviceTotalMem_v2", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuModuleLoadDataEx", "cuModuleGetFunction",
			"cuFuncSetAttribute", "cuTensorMapEncodeTiled", "cuMemcpyHtoD_v2", "cuMemcpy2D_v2", "cuMemsetD8_v2", "cuCtxSynchronize", "cuMemFree_v2"},
	}
}

// Every call of every load fails once: never does a run end well.
func TestEveryCallFails(t *testing.T) {
	for load, all := range failingCalls() {
		for _, call := range all {
			t.Run(fmt.Sprintf("%s/%s", load, call), func(t *testing.T) {
				fault := call
				if !strings.Contains(fault, ":") {
					fault += ":1"
				}
				name, _, _ := strings.Cut(call, ":")
				events, err := work(t, order(func(o *burnin.Order) {
					short(o)
					o.Load, o.Peer, o.Shape.N = load, 1, 256
				}), "LIBCUDA_FAULT="+fault, "LIBCUDA_DEVICES=2", "LIBCUDA_CC=90")
				if strings.HasPrefix(call, "cuMemFree") { // everything was computed and told before
					if err == nil {
						t.Error("the worker exits with 0")
					}
					return
				}
				noPass(t, events, err, name+": CUDA_ERROR_")
			})
		}
	}
}

// No call is left out of the test above.
func TestEveryCallIsTried(t *testing.T) {
	tried := map[string]bool{"cuGetErrorName": true} // asked when another has failed
	for _, all := range failingCalls() {
		for _, call := range all {
			name, _, _ := strings.Cut(call, ":")
			tried[name] = true
		}
	}
	sources, err := filepath.Glob("*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(cu[A-Z]\w+)"`).FindAllSubmatch(raw, -1) {
			if !tried[string(m[1])] {
				t.Errorf("%s calls %s, and no test has it fail", path, m[1])
			}
		}
	}
}

// Memory that the driver says is free and does not give is no memory swept.
func TestMemoryNotHad(t *testing.T) {
	sweep := order(func(o *burnin.Order) { o.Load, o.Iterations = burnin.LoadMemory, 0 })
	events, err := work(t, sweep, "LIBCUDA_FAULT=cuMemAlloc_v2:2:1")
	noPass(t, events, err, "not even nine tenths")
}

func TestOrders(t *testing.T) {
	for want, mod := range map[string]func(*burnin.Order){
		"no GPU 5: the driver has 1":           func(o *burnin.Order) { o.GPU = 5 },
		"no GPU GPU-1 among the 1":             func(o *burnin.Order) { o.UUID = "GPU-1" },
		"no load \"juggle\"":                   func(o *burnin.Order) { o.Load = "juggle" },
		"order for the reference engine":       func(o *burnin.Order) { o.Engine = "reference" },
		"no kernel wgmma for bf16":             func(o *burnin.Order) { o.Kernel = "wgmma" },
		"no kernel  for fp8":                   func(o *burnin.Order) { o.Type = burnin.FP8 },
		"needs a K that is a multiple of 64":   func(o *burnin.Order) { o.Shape.K = 72 },
		"not a whole number of tiles":          func(o *burnin.Order) { o.Shape.M = 100 },
		"computes tiles of 128 x 128":          func(o *burnin.Order) { o.Shape.TileM, o.Shape.TileN = 64, 64 },
		"the peer of an order is the GPU":      func(o *burnin.Order) { o.Load = burnin.LoadPeer },
		"protocol version 9; this worker spea": func(o *burnin.Order) { o.Version = 9 },
	} {
		events, err := work(t, order(mod))
		noPass(t, events, err, want)
	}
}

func TestSensors(t *testing.T) {
	_, nvml := libraries(t)
	events, err := work(t, order(short), withNVML+"="+nvml)
	if err != nil {
		t.Fatal(err, events)
	}
	if r := pick(events, burnin.EventReady)[0].Ready; r.Driver != "570.124.06, CUDA 12.8" {
		t.Errorf("driver %q", r.Driver)
	}
	for _, e := range pick(events, burnin.EventSample) {
		s := *e.Sample
		s.TFLOPs = 0
		if want := (burnin.Sample{Power: 690.5, Temp: 61, Memory: 74, Clock: 1755, Throttle: 4}); s != want {
			t.Errorf("sample %+v; want %+v", s, want)
		}
	}
	// One that hangs takes nothing with it.
	if events, err = work(t, order(short), withNVML+"="+nvml, "LIBNVML_FAULT=hang", patience+"=12s"); err != nil {
		t.Fatal(err, events)
	}
	if s := pick(events, burnin.EventSample); len(s) == 0 || s[0].Sample.Power != 0 || len(pick(events, burnin.EventCoverage)) != 1 {
		t.Errorf("with an NVML that hangs: %+v", events)
	}
}

func TestNoDriver(t *testing.T) {
	if err := (Worker{Library: "libcuda-that-is-not-there.so"}).Serve(t.Context(), strings.NewReader(`{"version":1,"engine":"cuda"}`), t.Output()); err == nil ||
		!strings.Contains(err.Error(), "is NVIDIA's driver installed") {
		t.Errorf("%v", err)
	}
}
