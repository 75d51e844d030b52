package burnin

import (
	"cmp"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"firstlight/provision/acceptance"
)

// Also is a program of somebody else that is asked beside a burn-in's own
// stages. It can add a failure or a note; what firstlight did not see itself
// stays unseen.
type Also struct {
	Name    string        // as it is asked for: dcgmi:2
	Command []string      // the program and its arguments
	Limit   time.Duration // for all of it
	read    func(out []byte) (told, error)
}

// AlsoNames are those that can be asked for.
func AlsoNames() []string {
	return []string{"dcgmi", "dcgmi:1", "dcgmi:2", "dcgmi:3", "nvbandwidth", "nccl"}
}

// ParseAlso takes a list with commas: "dcgmi:2,nccl". gpus is how many the node
// has.
func ParseAlso(list string, gpus int) ([]Also, error) {
	var out []Also
	if list == "" {
		return nil, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(AlsoNames(), name) {
			return nil, fmt.Errorf("no program is called %q here: %s", name, strings.Join(AlsoNames(), ", "))
		}
		program, level, _ := strings.Cut(name, ":")
		a := Also{Name: name}
		switch program {
		case "dcgmi":
			level = cmp.Or(level, "2")
			a.Command, a.read = []string{"dcgmi", "diag", "-r", level, "-j"}, readDCGM
			a.Limit = map[string]time.Duration{"1": 5 * time.Minute, "2": 20 * time.Minute, "3": 90 * time.Minute}[level]
		case "nvbandwidth":
			a.Command, a.read = []string{"nvbandwidth", "-j", "-t", "host_to_device_memcpy_ce", "device_to_host_memcpy_ce", "device_to_device_memcpy_read_ce"}, readNVBandwidth
			a.Limit = 10 * time.Minute
		case "nccl":
			a.Command, a.read = []string{"all_reduce_perf", "-b", "16G", "-e", "16G", "-c", "1", "-g", fmt.Sprint(max(gpus, 1))}, readNCCL
			a.Limit = 10 * time.Minute
		}
		out = append(out, a)
	}
	return out, nil
}

// told is what a program told: by which version, of which GPUs.
type told struct {
	version string
	device  string // "" when it does not tell
	lines   []toldLine
}

// toldLine is one result of another program.
type toldLine struct {
	what    string
	part    string
	own     string // its own word: "Pass", "Skip"
	verdict acceptance.Verdict
	note    string
	path    string  // of a rate, for its floor; "" for other results
	rate    float64 // GB/s
}

// ncclFloor is that of an all-reduce of 16 GiB over the eight GPUs of a node.
func ncclFloor() floor {
	return floor{device: "H200", path: "all-reduce", least: 431, unit: "GB/s", source: "Azure nd96isr_h200_v5 node health checks"}
}

// toldFloor is the least rate of a path, where it is known. Boards without
// NVSwitch have other links.
func toldFloor(device, path string) (floor, bool) {
	for _, f := range append(floors(), ncclFloor()) {
		if f.path == path && strings.Contains(device, f.device) && !strings.Contains(device, "NVL") {
			return f, true
		}
	}
	return floor{}, false
}

// Judge makes checks of what a program printed, and of how it ended: nil for
// well. device is what the burn-in itself found; "" takes the program's word.
func (a Also) Judge(out []byte, ended error, device string) []acceptance.Check {
	program, _, _ := strings.Cut(a.Name, ":")
	whole := acceptance.Check{Name: "burn-in.also." + program, Verdict: acceptance.NotRun, Part: "GPUs", Threshold: "carried out to its end",
		Source: "another program, as it was asked for: " + strings.Join(a.Command, " ")}
	if errors.Is(ended, exec.ErrNotFound) {
		whole.Reading = a.Command[0] + " is not on this node"
		return []acceptance.Check{whole}
	}
	found, err := a.read(out)
	who := strings.TrimSpace(a.Command[0] + " " + found.version)
	var checks []acceptance.Check
	failed := false
	for _, l := range found.lines {
		c := l.check(program, who, cmp.Or(device, found.device))
		failed = failed || c.Verdict == acceptance.Fail
		checks = append(checks, c)
	}
	switch {
	case len(checks) == 0 && ended != nil:
		whole.Reading = ended.Error()
	case err != nil:
		whole.Reading = fmt.Sprintf("what it printed is no result: %v", err)
	case len(checks) == 0:
		whole.Reading = "no result is in what it printed"
	case ended != nil && !failed:
		whole.Reading = fmt.Sprintf("%v, though nothing that it tells has failed", ended)
	default:
		whole.Verdict, whole.Reading = acceptance.Pass, fmt.Sprintf("%s, %d results", who, len(checks))
	}
	return append([]acceptance.Check{whole}, checks...)
}

// check is the check of one result, with its provenance.
func (l toldLine) check(program, who, device string) acceptance.Check {
	c := acceptance.Check{Name: "burn-in.also." + program + "." + l.what, Verdict: l.verdict, Part: l.part, Threshold: "Pass, in its own words",
		Source: who + ", its own verdict", Reading: l.own}
	if l.path != "" {
		c.Reading, c.Threshold, c.Source = fmt.Sprintf("%.4g GB/s by %s", l.rate, who), "none known for "+orUnknown(device), who+", its own measurement"
		if f, known := toldFloor(device, l.path); known && l.verdict != acceptance.NotRun {
			c.Verdict, c.Threshold, c.Source = passIf(l.rate >= f.least), fmt.Sprintf("at least %g %s", f.least, f.unit), f.source+"; measured by "+who
		} else if l.verdict != acceptance.NotRun {
			c.Verdict = acceptance.NotApplicable
		}
	}
	if l.note != "" {
		c.Reading = strings.TrimPrefix(c.Reading+"; "+l.note, "; ")
	}
	return c
}

// ownVerdict is what a program's word is worth. One that is not known is no
// pass.
func ownVerdict(word string) acceptance.Verdict {
	switch strings.ToLower(word) {
	case "pass", "passed", "ok":
		return acceptance.Pass
	case "fail", "failed", "error":
		return acceptance.Fail
	}
	return acceptance.NotRun
}
