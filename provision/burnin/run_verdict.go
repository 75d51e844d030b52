package burnin

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"firstlight/provision/acceptance"
)

// exactSource is why any difference is a fault.
const exactSource = "sums of integers that the number format holds exactly: one right answer, verified by Freivalds' check"

// floor is the least rate of a healthy device.
type floor struct {
	device string // part of its name
	load   Load
	typ    Type   // of products; "" for any
	kernel string // "" for any
	path   string // of transfers
	least  float64
	unit   string
	source string
}

// floors are those known. A device that is not in it is judged by its peers
// only, and the evidence says so.
func floors() []floor {
	return []floor{
		{device: "H200", load: LoadGEMM, typ: BF16, kernel: "wgmma", least: 500, unit: "TFLOP/s", source: "65 % of the 769 TFLOP/s that cuBLAS reaches on random data on a healthy H200 SXM"},
		{device: "H200", load: LoadMemory, least: 3000, unit: "GB/s", source: "70 % of the 4.3 TB/s of a device copy on a healthy H200 SXM"},
		{device: "H200", load: LoadHost, path: "h2d", least: 48, unit: "GB/s", source: "Azure nd96isr_h200_v5 node health checks"},
		{device: "H200", load: LoadHost, path: "d2h", least: 48, unit: "GB/s", source: "Azure nd96isr_h200_v5 node health checks"},
		{device: "H200", load: LoadPeer, path: "p2p", least: 335, unit: "GB/s", source: "Azure nd96isr_h200_v5 node health checks"},
	}
}

// peerShare is how much of the median of its node's GPUs a healthy GPU reaches
// at least. A CPU's cores are shared with whatever else runs.
func peerShare(e acceptance.Engine) float64 {
	if e == acceptance.EngineReference {
		return 0.5
	}
	return 0.85
}

// fewestPeers is how many GPUs of a node must have a rate before one of them is
// held against the others.
const fewestPeers = 3

// Checks judges a burn-in of the stages declared. What was not run is said, and
// is no pass.
func Checks(stages []Stage, b *Burn) []acceptance.Check {
	var out []acceptance.Check
	for i, s := range stages {
		if b == nil || i >= len(b.Stages) {
			out = append(out, acceptance.Check{Name: "burn-in." + s.Name, Verdict: acceptance.NotRun, Part: "GPUs",
				Reading: "not begun", Threshold: s.want(), Source: s.Source})
			continue
		}
		out = append(out, b.Stages[i].checks(b)...)
	}
	if b != nil {
		out = append(out, b.healthChecks()...)
	}
	if b != nil && b.Planted {
		out = append(out, acceptance.Check{Name: "burn-in.planted", Verdict: acceptance.NotRun, Part: "GPUs",
			Reading: "a fault was planted", Threshold: "no fault planted", Source: "evidence of a fault made on purpose proves no health"})
	}
	return out
}

func (s Stage) want() string {
	if s.Name == StageSweep {
		return "the whole memory once, every pattern"
	}
	return fmt.Sprintf("%.0f s under load", s.Seconds)
}

// checks judges one stage, the stage itself first.
func (s *StageBurn) checks(b *Burn) []acceptance.Check {
	whole := acceptance.Check{Name: "burn-in." + s.Stage.Name, Verdict: acceptance.Pass, Part: "GPUs", Threshold: s.Stage.want(), Source: s.Stage.Source,
		Reading: fmt.Sprintf("%d of %d phases on %d GPUs by the %s engine, %.0f s; %s", s.Done, s.Phases, len(s.GPUs), b.Engine, s.Seconds, s.cover())}
	switch {
	case len(s.GPUs) == 0:
		whole.Verdict, whole.Reading = acceptance.NotRun, "no GPU was found"
	case s.Stopped != "":
		whole.Verdict = acceptance.Fail
		whole.Reading += "; ended early: " + s.Stopped
	case s.Done < s.Phases:
		whole.Verdict = acceptance.NotRun
		whole.Reading += "; stopped before its end"
	}
	out := []acceptance.Check{whole, s.log(b.Engine)}
	for _, g := range s.GPUs {
		for _, l := range g.Loads {
			out = append(out, s.judge(g, l)...)
		}
		out = append(out, s.heat(g))
	}
	return append(out, s.agree()...)
}

// name is that of a check of one load.
func (s *StageBurn) name(l *LoadRun, what string) string {
	n := "burn-in." + s.Stage.Name
	if s.Stage.Name == StageSoak {
		n += "." + string(l.Load)
		if l.Load == LoadGEMM && l.Type != BF16 {
			n += "-" + string(l.Type)
		}
	}
	return n + "." + what
}

func (s *StageBurn) judge(g *GPURun, l *LoadRun) []acceptance.Check {
	part := g.GPU.String()
	ran := acceptance.Check{Name: s.name(l, "worker"), Verdict: acceptance.Pass, Part: part, Threshold: "carried out to its end",
		Reading: fmt.Sprintf("%d of %d phases", l.Done, l.Begun), Source: "a burn-in that did not run proves nothing"}
	switch {
	case l.Trouble != "" && l.Ready:
		ran.Verdict, ran.Reading = acceptance.Fail, l.Trouble
	case l.Trouble != "":
		ran.Verdict, ran.Reading = acceptance.NotRun, l.Trouble
	case l.Done < l.Begun || l.Done == 0:
		ran.Verdict = acceptance.NotRun
	}
	out := []acceptance.Check{ran}
	if l.Asked {
		out = append(out, s.proof(part, l))
	}
	return append(append(out, s.exact(part, l)), s.rates(g, l)...)
}

// proof says whether the check itself was seen to work on this GPU.
func (s *StageBurn) proof(part string, l *LoadRun) acceptance.Check {
	c := acceptance.Check{Name: s.name(l, "proof"), Verdict: acceptance.NotRun, Part: part, Reading: "no corruption was planted",
		Threshold: "one planted bit found, and nothing else", Source: "a check that was never seen to fail proves nothing"}
	if p := l.Proof; p != nil {
		c.Reading = fmt.Sprintf("bits %08x of element %d flipped on purpose; found: tile %d, bits %08x", uint32(p.XOR), p.Index, p.Tile, uint32(p.Found))
		c.Verdict = acceptance.Pass
		if !p.Caught {
			c.Verdict = acceptance.Fail
			c.Reading += fmt.Sprintf(", %d other tiles: the check is blind", p.Other)
		}
	}
	return c
}

// exact judges the results of a load.
func (s *StageBurn) exact(part string, l *LoadRun) acceptance.Check {
	c := acceptance.Check{Name: s.name(l, "exact"), Verdict: acceptance.Pass, Part: part, Threshold: "0 wrong", Source: exactSource}
	switch l.Load {
	case LoadGEMM, LoadPulse:
		c.Reading = fmt.Sprintf("0 wrong in %d products of %dx%dx%d, %s; %d SMs, %.0f %% of the (SM, tile) pairs",
			l.Cover.Iterations, l.Shape.M, l.Shape.N, l.Shape.K, quantity(l.Cover.FLOPs, "FLOP"), l.Cover.SMs, 100*l.Cover.Pairs)
		if l.Cover.Iterations == 0 {
			c.Verdict, c.Reading = acceptance.NotRun, "no product was verified"
			if l.Done > 0 {
				c.Verdict = acceptance.Fail
			}
		}
	case LoadMemory:
		c.Source = "a memory cell holds what was written to it"
		c.Reading = fmt.Sprintf("0 wrong in %s, %d patterns", quantity(float64(l.Cover.Bytes), "B"), l.Sweeps)
		if l.Cover.Bytes == 0 {
			c.Verdict, c.Reading = acceptance.NotRun, "no memory was verified"
			if l.Done > 0 {
				c.Verdict = acceptance.Fail
			}
		}
	default:
		c.Source = "what arrives is what was sent"
		var bytes uint64
		for _, m := range l.Moved {
			bytes += m.Bytes
		}
		c.Reading = fmt.Sprintf("0 wrong in %s", quantity(float64(bytes), "B"))
		if bytes == 0 {
			c.Verdict, c.Reading = acceptance.NotRun, "nothing was moved"
			if l.Done > 0 {
				c.Verdict = acceptance.Fail
			}
		}
	}
	if l.Wrong > 0 {
		c.Verdict = acceptance.Fail
		c.Reading, c.Part = l.wrong(part)
	}
	return c
}

// wrong tells of the first wrong result, and names the part.
func (l *LoadRun) wrong(part string) (reading, at string) {
	switch {
	case len(l.Bad) > 0:
		m := l.Bad[0]
		if m.SM >= 0 {
			part += fmt.Sprintf(", SM %d", m.SM)
		}
		what := fmt.Sprintf("%08x in place of %08x (XOR %08x)", uint32(m.Got), uint32(m.Want), uint32(m.XOR))
		if m.NaN {
			what += ", no integer"
		}
		again := "right when recomputed"
		if m.Again {
			again = "wrong again when recomputed"
		}
		if m.Elements == 0 {
			what = fmt.Sprintf("hash %016x in place of %016x, its bits right when read", uint64(m.Hash), uint64(m.Reference))
		}
		return fmt.Sprintf("%d wrong; the first in iteration %d, tile %d, element %d: %s; %s%s", l.Wrong, m.Iteration, m.Tile, m.Index, what, again, m.sensors()) + l.others(), part
	case l.BadWord != nil:
		w := l.BadWord
		return fmt.Sprintf("%d words wrong; the first with pattern %s at offset %#x: %016x in place of %016x (XOR %016x)",
			l.Wrong, w.Pattern, w.Address, uint64(w.Got), uint64(w.Want), uint64(w.Got^w.Want)), part + ", memory"
	}
	return fmt.Sprintf("%d bytes arrived wrong", l.Wrong), part
}

// others names the SMs of the other wrong results.
func (l *LoadRun) others() string {
	var sms []int
	for _, m := range l.Bad {
		if m.SM >= 0 && !slices.Contains(sms, m.SM) {
			sms = append(sms, m.SM)
		}
	}
	if len(sms) < 2 {
		return ""
	}
	slices.Sort(sms)
	return fmt.Sprintf("; SMs %s", strings.Trim(fmt.Sprint(sms), "[]"))
}

func (m Mismatch) sensors() string {
	s := ""
	for _, v := range []struct {
		value float64
		unit  string
	}{{m.Temp, "°C"}, {m.Clock, "MHz"}, {m.PowerW, "W"}} {
		if v.value > 0 {
			s += fmt.Sprintf(", %.0f %s", v.value, v.unit)
		}
	}
	return s
}

// rate is how fast a load ran on a GPU, in the unit of its floor: the median of
// its iterations, or the mean of its transfers. 0: not known.
func (l *LoadRun) rate(path string) (float64, string) {
	switch l.Load {
	case LoadGEMM:
		share := 0.5
		if l.Engine == acceptance.EngineReference {
			share = 0.1 // those that had their core to themselves
		}
		if us := l.Micros.Quantile(share); us > 0 {
			return l.Shape.FLOPs() / us / 1e6, "TFLOP/s"
		}
		return 0, "TFLOP/s"
	case LoadMemory:
		if l.Cover.Seconds > 0 {
			return 2 * float64(l.Cover.Bytes) / l.Cover.Seconds / 1e9, "GB/s" // written, then read
		}
		return 0, "GB/s"
	}
	for _, m := range l.Moved {
		if m.Path == path && m.Seconds > 0 {
			return float64(m.Bytes) / m.Seconds / 1e9, "GB/s"
		}
	}
	return 0, "GB/s"
}

// rates judges a load's rates: by the floor of its device, and by the other GPUs
// of the node under the same load.
func (s *StageBurn) rates(g *GPURun, l *LoadRun) []acceptance.Check {
	paths := []string{""}
	if l.Load == LoadPulse {
		return nil // on and off: its rate says nothing
	}
	if l.Load != LoadGEMM && l.Load != LoadMemory {
		paths = nil
		for _, m := range l.Moved {
			paths = append(paths, m.Path)
		}
	}
	var out []acceptance.Check
	for _, path := range paths {
		out = append(out, s.rateOf(g, l, path))
	}
	return out
}

func (s *StageBurn) rateOf(g *GPURun, l *LoadRun, path string) acceptance.Check {
	rate, unit := l.rate(path)
	c := acceptance.Check{Name: s.name(l, strings.TrimSuffix("rate."+path, ".")), Verdict: acceptance.NotApplicable, Part: g.GPU.String(),
		Reading: fmt.Sprintf("%.4g %s", rate, unit), Threshold: "none known for " + orUnknown(g.Device), Source: "not in the table of floors"}
	if rate == 0 {
		c.Verdict, c.Reading = acceptance.NotRun, "no rate was measured"
		if l.Done > 0 {
			c.Verdict = acceptance.Fail // 0 is no healthy rate
		}
	}
	for _, f := range floors() {
		if !strings.Contains(g.Device, f.device) || f.load != l.Load || f.path != path || (f.typ != "" && f.typ != l.Type) || (f.kernel != "" && f.kernel != l.Kernel) {
			continue
		}
		c.Threshold, c.Source = fmt.Sprintf("at least %g %s", f.least, f.unit), f.source
		if rate > 0 {
			c.Verdict = passIf(rate >= f.least)
		}
	}
	median, peers := s.median(l, path)
	if rate > 0 && peers >= fewestPeers && c.Verdict != acceptance.Fail {
		least := peerShare(l.Engine) * median
		if rate < least {
			c.Verdict, c.Source = acceptance.Fail, fmt.Sprintf("the median of the node's %d GPUs, %.4g %s", peers, median, unit)
			c.Threshold = fmt.Sprintf("at least %.4g %s", least, unit)
		} else if c.Verdict == acceptance.NotApplicable {
			c.Verdict, c.Source = acceptance.Pass, fmt.Sprintf("the median of the node's %d GPUs, %.4g %s", peers, median, unit)
			c.Threshold = fmt.Sprintf("at least %.4g %s", least, unit)
		}
	}
	return c
}

// median is that of the node's GPUs under a load.
func (s *StageBurn) median(of *LoadRun, path string) (rate float64, gpus int) {
	var all []float64
	for _, g := range s.GPUs {
		for _, l := range g.Loads {
			if l.Load == of.Load && l.Type == of.Type && l.Engine == of.Engine {
				if r, _ := l.rate(path); r > 0 {
					all = append(all, r)
				}
			}
		}
	}
	return medianOf(all), len(all)
}

// medianOf is the middle of some values; 0 of none.
func medianOf(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// heat judges a GPU's temperature.
func (s *StageBurn) heat(g *GPURun) acceptance.Check {
	c := acceptance.Check{Name: "burn-in." + s.Stage.Name + ".temperature", Verdict: acceptance.NotApplicable, Part: g.GPU.String(),
		Reading: "the engine has no sensors", Threshold: "below the limit of the burn-in", Source: "firstlight: what is hotter is not cooled"}
	if g.MaxTemp > 0 {
		c.Verdict, c.Reading = acceptance.Pass, fmt.Sprintf("%.0f °C and %.0f W at most", g.MaxTemp, g.MaxPower)
	}
	if g.Hot != "" {
		c.Verdict, c.Reading = acceptance.Fail, g.Hot
	}
	return c
}

// log judges what the driver said meanwhile.
func (s *StageBurn) log(e acceptance.Engine) acceptance.Check {
	c := acceptance.Check{Name: "burn-in." + s.Stage.Name + ".xid", Verdict: acceptance.Pass, Part: "GPUs", Reading: "no Xid line",
		Threshold: "no Xid line in the kernel's log", Source: "NVIDIA Xid Errors"}
	if !s.Watched {
		c.Verdict, c.Reading = acceptance.NotApplicable, "the engine has no driver to watch"
		if e == acceptance.EngineCUDA {
			c.Verdict, c.Reading = acceptance.NotRun, "the kernel's log could not be watched"
		}
	}
	if len(s.Trouble) > 0 {
		t := s.Trouble[0]
		c.Verdict, c.Reading = acceptance.Fail, t.Line
		if len(s.Trouble) > 1 {
			c.Reading += fmt.Sprintf(" (and %d more)", len(s.Trouble)-1)
		}
		for _, g := range s.GPUs {
			if t.PCI != "" && strings.Contains(g.GPU.PCI, t.PCI) {
				c.Part = g.GPU.String()
			}
		}
	}
	return c
}

// agree holds the golden results of the GPUs against each other: each was
// verified by itself, and all are of the same factors.
func (s *StageBurn) agree() []acceptance.Check {
	var out []acceptance.Check
	for _, typ := range []Type{BF16, FP8, INT8} {
		by := map[Hex][]string{}
		for _, g := range s.GPUs {
			for _, l := range g.Loads {
				if l.Load == LoadGEMM && l.Type == typ && l.Golden != 0 {
					by[l.Golden] = append(by[l.Golden], fmt.Sprint(g.GPU.Index))
				}
			}
		}
		if len(by) == 0 {
			continue
		}
		c := acceptance.Check{Name: s.name(&LoadRun{Load: LoadGEMM, Type: typ}, "golden"), Verdict: passIf(len(by) == 1), Part: "GPUs",
			Threshold: "the same on every GPU", Source: exactSource}
		var said []string
		for hash, gpus := range by {
			said = append(said, fmt.Sprintf("%016x on GPU %s", uint64(hash), strings.Join(gpus, ", ")))
		}
		slices.Sort(said)
		c.Reading = strings.Join(said, "; ")
		out = append(out, c)
	}
	return out
}

// cover says what was really done.
func (s *StageBurn) cover() string {
	var c Coverage
	hours := 0.0
	for _, g := range s.GPUs {
		for _, l := range g.Loads {
			c.FLOPs += l.Cover.FLOPs
			c.Bytes += l.Cover.Bytes
			hours += l.Cover.Seconds / 3600
		}
	}
	return fmt.Sprintf("%s verified bit for bit, %s of memory swept, %.3g GPU-hours", quantity(c.FLOPs, "FLOP"), quantity(float64(c.Bytes), "B"), hours)
}

func passIf(ok bool) acceptance.Verdict {
	if ok {
		return acceptance.Pass
	}
	return acceptance.Fail
}

func orUnknown(s string) string {
	if s == "" {
		return "an unknown device"
	}
	return s
}

// quantity writes a number with a decimal prefix: "4.2 TB".
func quantity(v float64, unit string) string {
	prefixes := []string{"", "k", "M", "G", "T", "P", "E", "Z", "Y"}
	i := 0
	if v >= 1000 {
		i = min(int(math.Log10(v)/3), len(prefixes)-1)
	}
	return fmt.Sprintf("%.4g %s%s", v/math.Pow(1000, float64(i)), prefixes[i], unit)
}
