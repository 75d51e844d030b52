package burnin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"firstlight/provision/acceptance"
)

// JudgeHealth judges the GPUs of a node. It is pure. GPUs that pass a check
// share one line of it; each that fails has its own, with its name. onBus
// are the addresses of the GPUs on the PCI bus, nil when they are not known.
func JudgeHealth(h Health, c Class, onBus []string) []acceptance.Check {
	out := append([]acceptance.Check{libraryCheck(h)}, stuckChecks(h)...)
	if h.Library != "" {
		return out
	}
	out = append(out, countCheck(h, c), respondCheck(h, onBus))
	if len(h.GPUs) == 0 {
		return out // countCheck fails
	}
	left := gone{}
	for _, k := range HealthChecks() {
		out = append(out, k.judge(h, c, left)...)
	}
	return append(append(out, left.checks(h)...), confinedCheck(h))
}

// gone counts, by index, the checks that could not be run of GPUs that are lost
// or hang: told once for each GPU, they do not bury what is told of the others.
type gone map[int][]judged

func (g gone) checks(h Health) []acceptance.Check {
	var out []acceptance.Check
	for _, gpu := range h.GPUs {
		if list := g[gpu.Index]; len(list) > 0 {
			out = append(out, acceptance.Check{Name: "gpu.unread", Verdict: acceptance.NotRun, Reading: fmt.Sprintf("%d of its checks not run: %s", len(list), list[0].reading),
				Threshold: "every check of every GPU", Source: "firstlight: what could not be read is not thereby in order", Part: gpu.part()})
		}
	}
	return out
}

func libraryCheck(h Health) acceptance.Check {
	k := acceptance.Check{Name: "gpu.driver", Verdict: acceptance.Pass, Reading: h.Driver.Text, Threshold: "the driver's library answers",
		Source: "NVML API reference, nvmlInit", Part: "NVIDIA driver"}
	switch {
	case h.Library != "":
		k.Verdict, k.Reading = acceptance.NotRun, h.Library
	case !h.Driver.read():
		k.Verdict, k.Reading = acceptance.NotRun, h.Driver.Err
	}
	return k
}

// countCheck holds the number of GPUs against what is declared, or else
// against what a baseboard of the class carries.
func countCheck(h Health, c Class) acceptance.Check {
	k := acceptance.Check{Name: "gpu.count", Verdict: acceptance.Pass, Reading: fmt.Sprint(len(h.GPUs)), Threshold: fmt.Sprint(c.Declared.Count),
		Source: c.Declared.Source, Part: "GPUs"}
	switch {
	case c.Declared.Count > 0 && len(h.GPUs) != c.Declared.Count:
		k.Verdict = acceptance.Fail
	case c.Declared.Count > 0:
	case len(c.Boards) > 0:
		k.Threshold, k.Source = strings.Trim(strings.ReplaceAll(fmt.Sprint(c.Boards), " ", " or "), "[]"), c.Source+": what a baseboard of "+c.Name+" carries"
		if !slices.Contains(c.Boards, len(h.GPUs)) {
			k.Verdict = acceptance.Fail
		}
	case len(h.GPUs) == 0:
		k.Verdict, k.Threshold, k.Source = acceptance.Fail, "at least 1", "firstlight: GPUs are to be checked"
	default:
		k.Verdict, k.Threshold, k.Source = acceptance.NotRun, "the declared number", "firstlight: neither the number nor the kind is declared"
	}
	if k.Verdict == acceptance.Fail {
		k.Part = "GPUs: one is not seen by the driver; look for its Xid, reseat, then replace"
	}
	return k
}

// respondCheck finds GPUs that are lost to the driver, though they may still be
// on the bus.
func respondCheck(h Health, onBus []string) acceptance.Check {
	k := acceptance.Check{Name: "gpu.responds", Verdict: acceptance.Pass, Threshold: "every GPU on the bus answers the driver",
		Source: "NVIDIA Xid Errors: 79, GPU has fallen off the bus", Part: "GPUs", Reading: fmt.Sprintf("%d answer", len(h.GPUs))}
	var lost, nameless, unclaimed []string
	for _, g := range h.GPUs {
		switch {
		case !g.lost():
		case g.PCI == "":
			nameless = append(nameless, g.part())
		default:
			lost = append(lost, g.part())
		}
	}
	for _, pci := range onBus {
		if !slices.ContainsFunc(h.GPUs, func(g HealthGPU) bool { return strings.EqualFold(g.PCI, pci) }) {
			unclaimed = append(unclaimed, "GPU "+pci)
		}
	}
	// A GPU that does not tell its address is one of those on the bus that the
	// driver does not know: the address is the better name.
	if len(unclaimed) < len(nameless) {
		unclaimed = nameless
	}
	lost = append(lost, unclaimed...)
	if len(lost) > 0 {
		k.Verdict, k.Part, k.Reading = acceptance.Fail, strings.Join(lost, ", "), fmt.Sprintf("%d of %d do not answer", len(lost), max(len(h.GPUs), len(onBus)))
	} else if len(h.GPUs) == 0 {
		k.Verdict, k.Reading = acceptance.NotRun, "the driver has no GPU"
	}
	return k
}

// lost says whether the driver has given the GPU up.
func (g HealthGPU) lost() bool {
	for _, values := range [2]map[Quantity]Value{g.First, g.Later} {
		for _, v := range values {
			if v.Lost {
				return true
			}
		}
	}
	return false
}

// stuckChecks: a call that does not return is a fault of what it asked.
func stuckChecks(h Health) []acceptance.Check {
	var out []acceptance.Check
	for _, s := range h.Stuck {
		part := "NVIDIA driver"
		if s.PCI != "" {
			part = "GPU " + s.PCI
		}
		for _, g := range h.GPUs {
			if g.PCI == s.PCI && s.PCI != "" {
				part = g.part()
			}
		}
		out = append(out, acceptance.Check{Name: "gpu.hang", Verdict: acceptance.Fail, Reading: s.String(), Threshold: "every call returns",
			Source: "firstlight: a driver that does not answer stops jobs as well", Part: part})
	}
	return out
}

func confinedCheck(h Health) acceptance.Check {
	k := acceptance.Check{Name: "gpu.confidential", Verdict: acceptance.Pass, Reading: "off", Threshold: "off", Part: "GPUs",
		Source: "firstlight: encrypted transfers halve what a training node carries"}
	switch v := h.Confined; {
	case v.Absent:
		k.Verdict, k.Reading = acceptance.NotApplicable, v.Err
	case !v.read():
		k.Verdict, k.Reading = acceptance.NotRun, v.Err
	case v.Number != 0:
		k.Verdict, k.Reading = acceptance.Fail, "on"
	}
	return k
}

// judged is one GPU's outcome of a check.
type judged struct {
	gpu       HealthGPU
	verdict   acceptance.Verdict
	reading   string
	threshold string
	open      bool // nothing is known to hold the reading against
}

// judge judges all GPUs by one check.
func (k HealthCheck) judge(h Health, c Class, left gone) []acceptance.Check {
	var all []judged
	for _, g := range h.GPUs {
		stuck := h.stuckOn(g.PCI)
		j := k.judgeGPU(g, c, stuck)
		if j.verdict == acceptance.NotRun && (stuck != "" || g.lost()) {
			left[g.Index] = append(left[g.Index], j)
			continue
		}
		all = append(all, j)
	}
	if k.Uniform {
		k.compare(all)
	}
	source := cmp.Or(k.Source, c.source(k.Reads), "firstlight: of GPUs that it knows, by PCI id")
	line := func(some []judged) acceptance.Check {
		return acceptance.Check{Name: k.Name, Verdict: some[0].verdict, Reading: together(some), Threshold: some[0].threshold, Source: source, Part: parts(some, len(h.GPUs))}
	}
	var out []acceptance.Check
	for _, verdict := range []acceptance.Verdict{acceptance.Pass, acceptance.NotApplicable} {
		if same := slices.DeleteFunc(slices.Clone(all), func(j judged) bool { return j.verdict != verdict }); len(same) > 0 {
			out = append(out, line(same))
		}
	}
	told := map[string]bool{}
	for _, j := range all {
		switch {
		case j.verdict == acceptance.Fail:
			out = append(out, line([]judged{j}))
		case j.verdict == acceptance.NotRun && !told[j.reading]:
			// What no GPU tells, as of a driver that is too old, is told once.
			told[j.reading] = true
			out = append(out, line(slices.DeleteFunc(slices.Clone(all), func(o judged) bool { return o.verdict != j.verdict || o.reading != j.reading })))
		}
	}
	return out
}

// unread is the reading that a check lacks, or the zero Value.
func (k HealthCheck) unread(g HealthGPU) Value {
	if v := g.first(k.Reads); !v.read() {
		return v
	}
	if v := g.later(k.Reads); k.Rule == unchanged && !v.read() {
		return v
	}
	if v, ok := g.Later[k.Reads]; ok && !v.read() {
		return v
	}
	return Value{}
}

// judgeGPU judges one GPU, on which a call may be stuck. What was not read is
// never a pass.
func (k HealthCheck) judgeGPU(g HealthGPU, c Class, stuck string) judged {
	want, hasLimit := int64(0), true
	if k.Limit != nil {
		want, hasLimit = k.Limit(c, g)
	}
	j := judged{gpu: g, verdict: acceptance.Pass, threshold: k.threshold(want, hasLimit)}
	if v := k.unread(g); !v.read() {
		j.verdict, j.reading = acceptance.NotRun, v.Err
		switch {
		case v.Absent && (k.Lacking == mayLack || k.Lacking == lackNVLink && c.NVLinks == 0):
			j.verdict = acceptance.NotApplicable
		case stuck != "":
			j.reading = "not reached: " + stuck
		case k.Needs != "":
			j.reading += "; needs " + k.Needs
		}
		return j
	}
	first, now := g.first(k.Reads), g.newest(k.Reads)
	j.reading = k.say(first, now)
	if !hasLimit {
		j.verdict, j.open = acceptance.NotApplicable, true
		return j
	}
	if model := c.model(); k.Reads == GPUName && model != "" {
		if j.threshold = model; !strings.EqualFold(now.Text, model) {
			j.verdict = acceptance.Fail
		}
		return j
	}
	if k.holds(first, now, want) {
		return j
	}
	j.verdict = acceptance.Fail
	if p := g.first(PState); k.UnderUse && (!p.read() || p.Number > 0) {
		j.verdict, j.reading = acceptance.NotRun, j.reading+", idle: an idle link may run slower; the burn-in reads it under load"
	}
	return j
}

// threshold is what is wanted, in words.
func (k HealthCheck) threshold(want int64, hasLimit bool) string {
	switch {
	case !hasLimit:
		return "nothing is declared, or known of this kind of GPU"
	case strings.Contains(k.Want, "%s"):
		return fmt.Sprintf(k.Want, inUnit(want, k.Unit))
	case strings.Contains(k.Want, "%x"):
		return fmt.Sprintf(k.Want, want)
	}
	return k.Want
}

func (k HealthCheck) holds(first, now Value, want int64) bool {
	switch k.Rule {
	case is:
		return now.Number == want
	case atLeast:
		return now.Number >= want
	case unchanged:
		return now.Number == first.Number
	case noneOf:
		return (first.Number|now.Number)&want == 0
	case known:
		return now.Text != ""
	}
	return false
}

// say is the reading in words.
func (k HealthCheck) say(first, now Value) string {
	switch {
	case k.Rule == unchanged && first.Number == now.Number:
		return "0 more (" + inUnit(now.Number, k.Unit) + " in all)"
	case k.Rule == unchanged:
		return fmt.Sprintf("%s more (%s in all)", inUnit(now.Number-first.Number, k.Unit), inUnit(now.Number, k.Unit))
	case k.Rule == noneOf:
		return fmt.Sprintf("0x%x", first.Number|now.Number)
	case k.Rule == known:
		return cmp.Or(now.Text, "empty")
	case now.Text != "":
		return fmt.Sprintf("%s (%s)", inUnit(now.Number, k.Unit), now.Text)
	}
	return inUnit(now.Number, k.Unit)
}

// compare fails the GPUs that differ from most of the others; where no reading
// has a majority, all of them.
func (k HealthCheck) compare(all []judged) {
	count := map[string]int{}
	read := func(j judged) bool { return j.verdict == acceptance.Pass || j.open }
	for _, j := range all {
		if read(j) {
			count[j.reading]++
		}
	}
	if len(count) < 2 {
		return
	}
	n := 0
	for _, c := range count {
		n += c
	}
	for i, j := range all {
		if read(j) && 2*count[j.reading] <= n {
			all[i].verdict, all[i].threshold = acceptance.Fail, "the same on all GPUs"
		}
	}
}

// together is one reading for all, or a list of them.
func together(all []judged) string {
	var list []string
	for _, j := range all {
		list = append(list, j.reading)
	}
	if len(slices.Compact(slices.Clone(list))) == 1 {
		return list[0]
	}
	return strings.Join(list, ", ")
}

// parts names GPUs: one in full, for it is what somebody looks for.
func parts(some []judged, of int) string {
	if len(some) == 1 {
		return some[0].gpu.part()
	}
	if len(some) == of {
		return fmt.Sprintf("GPUs, %d", of)
	}
	var list []string
	for _, j := range some {
		list = append(list, fmt.Sprint(j.gpu.Index))
	}
	return "GPUs " + strings.Join(list, ", ")
}

// inUnit is a number with its unit, for people.
func inUnit(n int64, unit string) string {
	switch unit {
	case "bytes":
		return fmt.Sprintf("%d MiB", n>>20)
	case "mW":
		return fmt.Sprintf("%g W", float64(n)/1000)
	case "":
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d %s", n, unit)
}
