//go:build gpu

package cuda

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// figure prints one, and fails the run when it is short of its goal.
func figure(t *testing.T, name string, value float64, unit, relation string, goal float64) {
	t.Helper()
	switch {
	case relation == "":
		fmt.Printf("figure %s %.4g %s\n", name, value, unit)
		return
	case (relation == ">=" && value >= goal) || (relation == "<=" && value <= goal):
		fmt.Printf("figure %s %.4g %s goal%s%g ok\n", name, value, unit, relation, goal)
		return
	}
	fmt.Printf("figure %s %.4g %s goal%s%g short\n", name, value, unit, relation, goal)
	t.Errorf("%s is %.4g %s; the goal is %s %g", name, value, unit, relation, goal)
}

// setting is a number from the environment, to try these tests on less.
func setting(name string, otherwise int) int {
	if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return v
	}
	return otherwise
}

func size() int { return setting("FIRSTLIGHT_GPU_SIZE", 8192) }

// TestGPU is what `make gpu` does with the first GPU of this machine.
func TestGPU(t *testing.T) {
	runtime.LockOSThread()
	d, err := openDriver("", make(chan *driver, 1))
	if err != nil {
		t.Fatal("there is no GPU to measure: ", err)
	}
	all, err := d.devices()
	if err != nil {
		t.Fatal("there is no GPU to measure: ", err)
	}
	g, err := find(all, "", setting("FIRSTLIGHT_GPU", 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.open(); err != nil {
		t.Fatal(err)
	}
	s := openSensors(t.Context(), "", g.pci, 10*time.Second)
	version := g.version
	if v := s.driver.Load(); v != nil {
		version = *v + ", " + version
	}
	fmt.Printf("GPU %s %s, %d SMs, %.1f GB, driver %s, %+v\n", g.name, g.pci, g.sms, float64(g.memory)/1e9, version, s.read())
	t.Run("correct", func(t *testing.T) { correct(t, g) })
	t.Run("speed", func(t *testing.T) { speed(t, g) })
	t.Run("memory", func(t *testing.T) { bandwidth(t, g) })
	t.Run("burn", func(t *testing.T) { burnIn(t, len(all)) })
}

// serve has a worker in this process carry out an order.
func serve(t *testing.T, o burnin.Order) []burnin.Event {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	in, feed := io.Pipe()
	defer feed.Close()
	go feed.Write(raw) // ends when the worker has read it
	var out bytes.Buffer
	if err := (Worker{}).Serve(context.Background(), in, &out); err != nil {
		t.Fatalf("%s %s: %v", o.Load, o.Kernel, err)
	}
	var events []burnin.Event
	for dec := json.NewDecoder(&out); dec.More(); {
		var e burnin.Event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// correct: each kernel against the CPU, bit for bit; a golden result, stable
// over many iterations; what is planted is caught.
func correct(t *testing.T, g *device) {
	for _, k := range kernels() {
		if !k.fits(g.cc) || k.shared > g.shared {
			fmt.Printf("%s does not run on this GPU\n", k.entry)
			continue
		}
		began := time.Now()
		if _, err := g.function(k.module, k.entry); err != nil {
			t.Fatal(err)
		}
		figure(t, k.entry+"_load", time.Since(began).Seconds(), "s", "", 0)
		againstCPU(t, g, k)
		iterations := setting("FIRSTLIGHT_GPU_ITERATIONS", 1000)
		n := size()
		events := serve(t, order(func(o *burnin.Order) {
			o.Type, o.Kernel, o.Iterations, o.Shape = k.typ, k.name, iterations, burnin.Shape{M: n, N: n, K: n}
		}))
		golden, proof, cover := pick(events, burnin.EventGolden), pick(events, burnin.EventProof), pick(events, burnin.EventCoverage)
		if len(golden) != 1 || len(proof) != 1 || !proof[0].Proof.Caught || len(cover) != 1 || len(pick(events, burnin.EventMismatch)) != 0 {
			t.Errorf("%s: %d golden results, proof %+v, mismatches %+v", k.entry, len(golden), proof, pick(events, burnin.EventMismatch))
			continue
		}
		figure(t, k.entry+"_golden", golden[0].Golden.Seconds, "s", "", 0)
		figure(t, k.entry+"_iterations_verified", float64(cover[0].Coverage.Iterations), "", ">=", float64(iterations))
		figure(t, k.entry+"_pairs", cover[0].Coverage.Pairs, "", "", 0)
		for _, kind := range []burnin.FaultKind{burnin.FaultBitFlip, burnin.FaultNaN, burnin.FaultStuck} {
			caught(t, g, k, kind)
		}
	}
}

func againstCPU(t *testing.T, g *device, k kernel) {
	s, err := k.shape(burnin.Shape{M: 512, N: 512, K: 512}, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newProduct(g, order(nil), k, s)
	if err != nil {
		t.Fatal(err)
	}
	out := &burnin.Product{Hashes: make([]uint64, s.Tiles()), SMs: make([]int32, s.Tiles()), Done: make([]bool, s.Tiles())}
	if err := p.Multiply(t.Context(), 0, burnin.Plant{}, out); err != nil {
		t.Fatal(err)
	}
	got, want := make([]uint32, s.TileM*s.TileN), make([]uint32, s.TileM*s.TileN)
	differ := 0
	for tile := range s.Tiles() {
		if err := p.Tile(tile, got); err != nil {
			t.Fatal(err)
		}
		burnin.Truth(s, k.typ, p.order.Seed, tile, want)
		for i := range got {
			if got[i] != want[i] {
				differ++
			}
		}
		if !out.Done[tile] || out.Hashes[tile] != burnin.HashTile(s, tile, got) {
			t.Errorf("%s: the hash of tile %d is not that of its elements", k.entry, tile)
		}
	}
	figure(t, k.entry+"_elements_differ_from_cpu", float64(differ), "", "<=", 0)
	if err := free(g, p.buffers); err != nil {
		t.Fatal(err)
	}
}

func caught(t *testing.T, g *device, k kernel, kind burnin.FaultKind) {
	if kind == burnin.FaultNaN && k.typ == burnin.INT8 {
		return
	}
	sm := g.sms / 2
	events := serve(t, order(func(o *burnin.Order) {
		o.Type, o.Kernel, o.Iterations, o.Shape = k.typ, k.name, 8, burnin.Shape{M: 4096, N: 4096, K: 1024}
		if size() < 4096 {
			o.Shape = burnin.Shape{M: 512, N: 512, K: 128}
		}
		o.Fault = &burnin.Fault{Kind: kind, SM: sm, After: 3, Bit: 11}
	}))
	wrong := pick(events, burnin.EventMismatch)
	if len(wrong) == 0 || wrong[0].Mismatch.SM != sm {
		t.Errorf("%s: %s on SM %d gives %+v", k.entry, kind, sm, wrong)
	}
}

// contender is one way to multiply, measured in turn with the others.
type contender struct {
	name                  string
	run                   func() error
	tflops, clocks, watts []float64
}

// speed: cuBLAS on random data, then on our integers, then our kernels, medians
// of batches in turn.
func speed(t *testing.T, g *device) {
	n := size()
	sensor := func() burnin.Sample { return burnin.Sample{} }
	if m, err := openManagement("", g.pci); err == nil {
		sensor = m.sample
	}
	var all []*contender
	var ours []*product
	yardstick, err := findCublas()
	if err != nil {
		fmt.Println("no yardstick:", err)
	}
	for _, k := range kernels() {
		if !k.fits(g.cc) || k.shared > g.shared {
			continue
		}
		shape, err := k.shape(burnin.Shape{M: n, N: n, K: n}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range []string{"random", "integers"} {
			if data == "random" && k.typ != burnin.BF16 {
				continue
			}
			p, err := newProduct(g, order(nil), k, shape)
			if err != nil {
				t.Fatal(err)
			}
			if data == "random" {
				randomize(t, p)
			} else {
				ours = append(ours, p)
			}
			all = append(all, &contender{name: k.entry + "_" + data, run: func() error { return p.start(p.job) }})
			if data == "integers" {
				bare := p.job
				bare.bare = 1
				all = append(all, &contender{name: k.entry + "_unhashed", run: func() error { return p.start(bare) }})
			}
			if yardstick != 0 && k.typ == burnin.BF16 && !slices.ContainsFunc(all, func(c *contender) bool { return c.name == "cublas_fp32_"+data }) {
				for name, bytes := range map[string]int{"cublas_fp32_" + data: 4, "cublas_bf16_" + data: 2} {
					c, err := newCublas(g, yardstick, p, bytes)
					if err != nil {
						t.Error(err)
						continue
					}
					all = append(all, &contender{name: name, run: c.multiply})
				}
			}
		}
	}
	measure(t, g, sensor, all, 2*float64(n)*float64(n)*float64(n))
	compare(t, all)
	overhead(t, ours, all)
}

func free(g *device, all []buffer) error {
	for _, b := range all {
		if err := g.free(b); err != nil {
			return err
		}
	}
	return nil
}

// start launches a product and does not wait for it.
func (p *product) start(j job) error {
	return p.launch(p.function, p.sms, p.kernel.threads, p.sharedBytes(), unsafe.Pointer(&j))
}

// randomize has normal random numbers for factors, as a model's would be.
func randomize(t *testing.T, p *product) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, b := range p.buffers[:2] {
		raw := make([]uint16, b.size/2)
		for i := range raw {
			raw[i] = uint16(math.Float32bits(float32(r.NormFloat64())) >> 16)
		}
		if err := upload(p.device, b.at, raw); err != nil {
			t.Fatal(err)
		}
	}
}

// measure reads the clock and the watts while a batch is still at work.
func measure(t *testing.T, g *device, s func() burnin.Sample, all []*contender, flops float64) {
	rounds, batch := setting("FIRSTLIGHT_GPU_ROUNDS", 9), setting("FIRSTLIGHT_GPU_BATCH", 500)
	for round := range rounds + 1 {
		for _, c := range all {
			began := time.Now()
			for range batch {
				if err := c.run(); err != nil {
					t.Fatal(c.name, err)
				}
			}
			now := s()
			if err := g.sync(); err != nil {
				t.Fatal(c.name, err)
			}
			if round == 0 {
				continue // to warm up
			}
			c.tflops = append(c.tflops, flops*float64(batch)/time.Since(began).Seconds()/1e12)
			c.clocks, c.watts = append(c.clocks, now.Clock), append(c.watts, now.Power)
		}
	}
	for _, c := range all {
		fmt.Printf("figure %s %.1f TFLOP/s (%.1f-%.1f) at %.0f MHz, %.0f W\n", c.name, median(c.tflops), slices.Min(c.tflops), slices.Max(c.tflops), median(c.clocks), median(c.watts))
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func named(all []*contender, name string) float64 {
	for _, c := range all {
		if c.name == name {
			return median(c.tflops)
		}
	}
	return 0
}

func compare(t *testing.T, all []*contender) {
	for _, data := range []string{"random", "integers"} {
		peer := max(named(all, "cublas_fp32_"+data), named(all, "cublas_bf16_"+data))
		if ours := named(all, "wgmma_bf16_"+data); ours > 0 && peer > 0 {
			figure(t, "wgmma_bf16_vs_cublas_"+data, ours/peer, "", ">=", 0.8)
		}
	}
}

// overhead: what the hash costs, and what the check of each iteration costs.
func overhead(t *testing.T, ours []*product, all []*contender) {
	for _, p := range ours {
		with, without := named(all, p.kernel.entry+"_integers"), named(all, p.kernel.entry+"_unhashed")
		var took []float64
		out := &burnin.Product{Hashes: make([]uint64, p.shape.Tiles()), SMs: make([]int32, p.shape.Tiles()), Done: make([]bool, p.shape.Tiles())}
		for i := range 50 {
			began := time.Now()
			if err := p.Multiply(t.Context(), i, burnin.Plant{}, out); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began).Seconds())
		}
		figure(t, p.kernel.entry+"_hash_overhead", 100*(without/with-1), "%", "<=", 3)
		figure(t, p.kernel.entry+"_check_overhead", 100*(median(took)*without*1e12/p.shape.FLOPs()-1), "%", "", 0)
		if err := free(p.device, p.buffers); err != nil {
			t.Fatal(err)
		}
	}
}

// bandwidth: the driver's own device copy, ours, the sweep; the host's.
func bandwidth(t *testing.T, g *device) {
	m, err := newMemory(g)
	if err != nil {
		t.Fatal(err)
	}
	tr := &transfer{memory: m, emit: func(burnin.Event) {}, sensors: func() burnin.Sample { return burnin.Sample{} }}
	n, err := tr.block()
	if err != nil {
		t.Fatal(err)
	}
	a, errA := g.alloc(n)
	b, errB := g.alloc(n)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	const times = 64
	rates := map[string][]float64{}
	for range 9 {
		for name, run := range map[string]func() error{
			"device_copy_driver": func() error { return tr.repeat(times, "cuMemcpyDtoDAsync_v2", b.at, a.at, uintptr(n), 0) },
			"device_copy":        func() error { return m.copy(b, a, times) },
			"sweep_random":       func() error { return sweepTimes(m, a, burnin.PatternRandom, times) },
			"sweep_zeros":        func() error { return sweepTimes(m, a, burnin.PatternZeros, times) },
		} {
			began := time.Now()
			if err := run(); err != nil {
				t.Fatal(name, err)
			}
			rates[name] = append(rates[name], 2*times*float64(n)/time.Since(began).Seconds()/1e9)
		}
	}
	for name, v := range rates {
		figure(t, name, median(v), "GB/s", "", 0)
	}
	figure(t, "sweep_vs_device_copy", median(rates["sweep_random"])/median(rates["device_copy_driver"]), "", ">=", 0.9)
	if err := g.free(a); err != nil {
		t.Fatal(err)
	}
	if err := g.free(b); err != nil {
		t.Fatal(err)
	}
	for _, load := range []burnin.Load{burnin.LoadHost, burnin.LoadMemory} {
		events := serve(t, order(func(o *burnin.Order) { o.Load, o.Iterations = load, 0 }))
		for _, e := range append(pick(events, burnin.EventTransfer), pick(events, burnin.EventSweep)...) {
			if x := e.Transfer; x != nil {
				figure(t, x.Path, float64(x.Bytes)/x.Seconds/1e9, "GB/s", "", 0)
				figure(t, x.Path+"_errors", float64(x.Errors), "", "<=", 0)
			}
			if x := e.Sweep; x != nil {
				figure(t, "whole_memory_"+x.Pattern, 2*float64(x.Bytes)/x.Seconds/1e9, "GB/s", "", 0)
				figure(t, "whole_memory_"+x.Pattern+"_errors", float64(x.Errors), "", "<=", 0)
			}
		}
	}
}

// sweepTimes writes and reads a memory, so many times in all as copies do.
func sweepTimes(m *memory, b buffer, p burnin.Pattern, times int) error {
	for range times {
		if err := m.fill(b, p, 1); err != nil {
			return err
		}
		wrong, err := m.check(b, p, 1)
		if err != nil {
			return err
		}
		if wrong.words != 0 {
			return fmt.Errorf("%d words are wrong", wrong.words)
		}
	}
	return nil
}

// burnedIn is what `firstlight-agent burnin -json` prints, as far as it is read here.
type burnedIn struct {
	Engine   string             `json:"engine"`
	Checks   []acceptance.Check `json:"checks"`
	Coverage burnin.Coverage    `json:"coverage"`
	Hours    float64            `json:"gpu_hours"`
}

// burnIn: minutes of the agent's own burn-in of all GPUs, which writes its
// evidence beside the programs.
func burnIn(t *testing.T, gpus int) {
	const evidence = "../../../bin/gpu-burnin.json"
	seconds := setting("FIRSTLIGHT_GPU_SECONDS", 480)
	out, err := os.Create(evidence)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(t.Context(), "../../../bin/firstlight-agent", "burnin", "-json", "-quiet", "-gpus", strconv.Itoa(gpus),
		"-gemm", fmt.Sprintf("%ds", seconds*3/8), "-soak", fmt.Sprintf("%ds", seconds*5/8))
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	ended := cmd.Run()
	raw, err := os.ReadFile(evidence)
	if err != nil {
		t.Fatal(err)
	}
	var b burnedIn
	if err := json.Unmarshal(raw, &b); err != nil || len(b.Checks) == 0 {
		t.Fatalf("firstlight-agent burnin: %v, %v; evidence %s", ended, err, raw)
	}
	for _, c := range b.Checks {
		fmt.Printf("%s %s: %s\n", c.Verdict, c.Name, c.Reading)
	}
	fmt.Println("evidence in bin/gpu-burnin.json, engine", b.Engine)
	figure(t, "burn_flops_verified", b.Coverage.FLOPs, "", "", 0)
	figure(t, "burn_bytes_swept", float64(b.Coverage.Bytes), "", "", 0)
	figure(t, "burn_gpu_hours", b.Hours, "h", "", 0)
	figure(t, "burn_pairs", b.Coverage.Pairs, "", "", 0)
	if ended != nil {
		t.Errorf("firstlight-agent burnin: %v", ended)
	}
}
