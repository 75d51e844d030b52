package burnin

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"firstlight/provision/acceptance"
)

// NodeBurn is one node's last burn-in: its parts, quick and soak.
type NodeBurn struct {
	Node  string
	Burns []*Burn
	Bad   bool // it did not pass
}

// fewestNodes is how many nodes a fleet must have before it is known what is
// usual in it.
const fewestNodes = 8

// faultEvery is the GPU-hours between two interruptions by hardware that a large
// fleet saw: Llama Team, The Llama 3 Herd of Models, 2024, section 3.3.4: 419
// unexpected ones in 54 days of 16,384 GPUs.
const faultEvery = 50_700

// confidence with which a healthy fleet stays within the bound on faults.
const confidence = 0.95

// outlying is how many robust standard deviations below its peers' median a GPU
// is a straggler, if it is so much slower besides that it matters.
const outlying = 6

// slowest is how much of its peers' median a GPU reaches at least: below it a
// training run waits for it.
func slowest(e acceptance.Engine) float64 {
	if e == acceptance.EngineReference {
		return 0.5
	}
	return 0.97
}

// gpuLoad is one GPU under one load.
type gpuLoad struct {
	node string
	gpu  GPU
	load *LoadRun
}

// loadKey is what loads must share to be compared: a slot has its own place in
// the air and on the board.
type loadKey struct {
	engine acceptance.Engine
	device string
	load   Load
	typ    Type
	kernel string
	slot   int
}

func (k loadKey) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%s %s", k.load, k.typ), " ") + fmt.Sprintf(" in slot %d", k.slot)
}

// Judge compares the nodes of a fleet: each GPU with those in the same slot of
// the other nodes, the golden results with each other, and the faults with the
// number that is to be expected. nil: no node was burned in.
func Judge(nodes []NodeBurn) *acceptance.FleetBurnIn {
	f := &acceptance.FleetBurnIn{}
	by := map[loadKey][]gpuLoad{}
	engines := map[acceptance.Engine]bool{}
	for _, n := range nodes {
		if len(n.Burns) == 0 {
			continue
		}
		f.Nodes++
		if n.Bad {
			f.Faults++
		}
		gpus := 0
		for _, b := range n.Burns {
			engines[b.Engine] = true
			gpus = max(gpus, len(b.GPUs))
			c, hours := b.Coverage()
			f.FLOPs, f.Bytes, f.Hours = f.FLOPs+c.FLOPs, f.Bytes+float64(c.Bytes), f.Hours+hours
			collect(by, n.Node, b)
		}
		f.GPUs += gpus
	}
	if f.Nodes == 0 {
		return nil
	}
	for e := range engines {
		f.Engines = append(f.Engines, e)
	}
	slices.Sort(f.Engines)
	f.Expected, f.Bound = f.Hours/faultEvery, poissonBound(f.Hours/faultEvery)
	f.Checks = append([]acceptance.Check{f.FaultCheck()}, stragglers(by)...)
	f.Checks = append(f.Checks, agreement(by)...)
	f.NotRun = notRun(nodes)
	return f
}

func collect(by map[loadKey][]gpuLoad, node string, b *Burn) {
	for _, s := range b.Stages {
		for _, g := range s.GPUs {
			for _, l := range g.Loads {
				k := loadKey{l.Engine, g.Device, l.Load, l.Type, l.Kernel, g.GPU.Index}
				// The quick stage and the soak are the same load.
				if i := slices.IndexFunc(by[k], func(o gpuLoad) bool { return o.node == node }); i >= 0 {
					merged := *by[k][i].load
					merged.Micros = nil
					merged.Micros.Merge(by[k][i].load.Micros)
					merged.Micros.Merge(l.Micros)
					merged.Cover.add(l.Cover)
					by[k][i].load = &merged
					continue
				}
				by[k] = append(by[k], gpuLoad{node, g.GPU, l})
			}
		}
	}
}

func sortedKeys(by map[loadKey][]gpuLoad) []loadKey {
	var keys []loadKey
	for k := range by {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b loadKey) int {
		return cmp.Or(cmp.Compare(a.engine, b.engine), cmp.Compare(a.device, b.device), cmp.Compare(a.load, b.load), cmp.Compare(a.typ, b.typ),
			cmp.Compare(a.kernel, b.kernel), cmp.Compare(a.slot, b.slot))
	})
	return keys
}

// stragglers holds each GPU's rate, and the times of its iterations, against its
// peers'. Only what fails is named; one line says what was compared.
func stragglers(by map[loadKey][]gpuLoad) []acceptance.Check {
	const source = "median and median absolute deviation of the GPUs in the same slot of the other nodes (Hampel 1974)"
	whole := acceptance.Check{Name: "burn-in.fleet.peers", Verdict: acceptance.NotRun, Part: "GPUs", Threshold: fmt.Sprintf("at least %d nodes of a kind", fewestNodes), Source: source}
	var bad []acceptance.Check
	compared, most := 0, 0
	for _, k := range sortedKeys(by) {
		peers := by[k]
		if k.load != LoadGEMM && k.load != LoadMemory {
			continue
		}
		most = max(most, len(peers))
		if len(peers) < fewestNodes {
			continue
		}
		compared += len(peers)
		for _, c := range [][]acceptance.Check{slowOnes(k, peers, source), oddOnes(k, peers)} {
			bad = append(bad, c...)
		}
	}
	whole.Reading = fmt.Sprintf("%d rates held against their peers'", compared)
	if compared > 0 {
		whole.Verdict = acceptance.Pass
	} else {
		whole.Reading = fmt.Sprintf("%d nodes of a kind: too few to know what is usual", most)
	}
	return append([]acceptance.Check{whole}, bad...)
}

// spread is the median of some values and their robust standard deviation, at
// least half a percent of the median: clocks are not finer.
func spread(values []float64) (median, sigma float64) {
	median = medianOf(values)
	off := make([]float64, len(values))
	for i, v := range values {
		off[i] = math.Abs(v - median)
	}
	return median, max(1.4826*medianOf(off), 0.005*median)
}

func slowOnes(k loadKey, peers []gpuLoad, source string) (out []acceptance.Check) {
	rates := make([]float64, len(peers))
	unit := ""
	for i, p := range peers {
		rates[i], unit = p.load.rate("")
	}
	median, sigma := spread(rates)
	least := min(median-outlying*sigma, slowest(k.engine)*median)
	for i, p := range peers {
		if rates[i] < least {
			out = append(out, acceptance.Check{Name: "burn-in.fleet.straggler", Verdict: acceptance.Fail, Part: p.node + " " + p.gpu.String(), Source: source,
				Reading:   fmt.Sprintf("%s: %.4g %s, %.0f %% of the median %.4g", k, rates[i], unit, 100*rates[i]/median, median),
				Threshold: fmt.Sprintf("at least %.4g %s", least, unit)})
		}
	}
	return out
}

// oddOnes finds GPUs whose iterations take other times than their peers' though
// their median is as it should be: one that stalls now and then holds up every
// step of a training run.
func oddOnes(k loadKey, peers []gpuLoad) (out []acceptance.Check) {
	if k.load != LoadGEMM || k.engine == acceptance.EngineReference {
		return nil // a CPU's iterations wait for whatever else runs
	}
	far := make([]float64, len(peers))
	var all Histogram
	for _, p := range peers {
		all.Merge(p.load.Micros)
	}
	for i, p := range peers {
		far[i] = Distance(p.load.Micros, all.less(p.load.Micros))
	}
	median, sigma := spread(far)
	most := max(median+outlying*sigma, 1-slowest(k.engine))
	for i, p := range peers {
		if far[i] > most {
			out = append(out, acceptance.Check{Name: "burn-in.fleet.iterations", Verdict: acceptance.Fail, Part: p.node + " " + p.gpu.String(),
				Reading:   fmt.Sprintf("%s: the times of its iterations are %.1f %% from its peers'; 99 %% take up to %.0f µs", k, 100*far[i], p.load.Micros.Quantile(0.99)),
				Threshold: fmt.Sprintf("at most %.1f %%", 100*most), Source: "first Wasserstein distance of the distributions, in parts of the median"})
		}
	}
	return out
}

// Distance is how far two distributions of times are apart: the mean difference
// of their quantiles (the first Wasserstein distance), in parts of the second's
// median.
func Distance(a, b Histogram) float64 {
	median := b.Quantile(0.5)
	if median == 0 || a.Count() == 0 {
		return 0
	}
	const steps = 200
	shares := make([]float64, steps)
	for i := range shares {
		shares[i] = (float64(i) + 0.5) / steps
	}
	sum, of := 0.0, b.Quantiles(shares)
	for i, v := range a.Quantiles(shares) {
		sum += math.Abs(v - of[i])
	}
	return sum / steps / median
}

// agreement holds the golden results of all nodes against each other.
func agreement(by map[loadKey][]gpuLoad) []acceptance.Check {
	type of struct {
		typ   Type
		shape Shape
	}
	golden := map[of]map[Hex][]string{}
	for _, k := range sortedKeys(by) {
		for _, p := range by[k] {
			if k.load != LoadGEMM || p.load.Golden == 0 {
				continue
			}
			o := of{k.typ, p.load.Shape}
			if golden[o] == nil {
				golden[o] = map[Hex][]string{}
			}
			golden[o][p.load.Golden] = append(golden[o][p.load.Golden], p.node+" "+p.gpu.String())
		}
	}
	var out []acceptance.Check
	for o, results := range golden {
		c := acceptance.Check{Name: "burn-in.fleet.golden", Verdict: acceptance.Pass, Part: "GPUs", Threshold: "the same on every GPU of every node", Source: exactSource}
		gpus, fewest := 0, []string(nil)
		for _, who := range results {
			gpus += len(who)
			if fewest == nil || len(who) < len(fewest) {
				fewest = who
			}
		}
		c.Reading = fmt.Sprintf("%s, %dx%dx%d: the same on %d GPUs", o.typ, o.shape.M, o.shape.N, o.shape.K, gpus)
		if len(results) > 1 {
			slices.Sort(fewest)
			c.Verdict, c.Part = acceptance.Fail, strings.Join(fewest[:min(len(fewest), 4)], ", ")
			c.Reading = fmt.Sprintf("%s, %dx%dx%d: %d different results on %d GPUs", o.typ, o.shape.M, o.shape.N, o.shape.K, len(results), gpus)
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b acceptance.Check) int { return cmp.Compare(a.Reading, b.Reading) })
	return out
}

// poissonBound is the most faults that a healthy fleet has with the confidence
// above, where so many are expected.
func poissonBound(expected float64) int {
	term := math.Exp(-expected)
	sum := term
	n := 0
	for sum < confidence && n < 1_000_000 {
		n++
		term *= expected / float64(n)
		sum += term
	}
	return n
}

// notRun lists what was declared or is usual and was not carried out.
func notRun(nodes []NodeBurn) []string {
	count := map[string]int{}
	for _, n := range nodes {
		said := map[string]bool{}
		for _, b := range n.Burns {
			for _, s := range b.Stages {
				if s.Done < s.Phases {
					said[s.Stage.Name+" to its end"] = true
				}
			}
			for _, l := range []Load{LoadHost, LoadPeer, LoadStream} {
				if !slices.Contains(Loads(b.Engine), l) {
					said[fmt.Sprintf("%s traffic (the %s engine has none)", l, b.Engine)] = true
				}
			}
		}
		if len(n.Burns) == 0 {
			said["anything"] = true
		}
		for what := range said {
			count[what]++
		}
	}
	var out []string
	for what, n := range count {
		out = append(out, fmt.Sprintf("%s: %d of %d nodes", what, n, len(nodes)))
	}
	slices.Sort(out)
	return out
}
