package agent

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
)

// symptom is one kind of line that a healthy machine's kernel does not log.
type symptom struct {
	name   string
	what   string
	source string
	match  *regexp.Regexp
	except *regexp.Regexp // of the lines that match, those that are no fault; nil for none
	part   *regexp.Regexp // its first group names the part
	other  string         // the part when the line does not name it
}

var pciInLine = regexp.MustCompile(`([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-7])?)`)

var symptoms = []symptom{
	{
		name: "kernel.machine-check", what: "machine-check lines", source: "Intel SDM vol. 3B ch. 16: a logged machine check is a hardware error",
		match: regexp.MustCompile(`(?i)\[hardware error\]|machine check events logged`),
		part:  regexp.MustCompile(`(?i)\b(cpu ?\d+)`), other: "CPU or memory",
	},
	{
		name: "kernel.edac", what: "EDAC error lines", source: "Linux Documentation/driver-api/edac.rst: CE and UE lines are memory errors",
		match: regexp.MustCompile(`EDAC .*\b(CE|UE)\b`),
		part:  regexp.MustCompile(`(?:on|label:?) ?"?([A-Za-z0-9_#]*(?:DIMM|csrow|CPU)[A-Za-z0-9_#]*)`), other: "memory",
	},
	{
		name: "kernel.aer", what: "uncorrected PCIe error lines", source: "PCI Express Base 6.2.2: uncorrectable errors lose transactions",
		match: regexp.MustCompile(`(?i)(AER|PCIe Bus Error).*(uncorrect|fatal)|severity=Uncorrect`),
		part:  pciInLine, other: "PCIe device",
	},
	{
		name: "kernel.io-error", what: "I/O error lines", source: "Linux block layer: a request failed after all retries",
		match: regexp.MustCompile(`(?i)\bI/O error\b`),
		part:  regexp.MustCompile(`(?i)dev ([a-z0-9]+)`), other: "disk",
	},
	{
		name: "kernel.hung-task", what: "hung task or lockup lines", source: "Linux Documentation/admin-guide/sysctl/kernel.rst: hung_task_timeout_secs, watchdog_thresh",
		match: regexp.MustCompile(`blocked for more than \d+ seconds|soft lockup|hard LOCKUP|rcu.*detected stall`),
		part:  regexp.MustCompile(`(?i)task ([^:]+):`), other: "kernel",
	},
	{
		name: "kernel.xid", what: "NVRM Xid lines but those of an application's own faults (13, 31, 43, 45)", source: "NVIDIA Xid Errors: all others are of the hardware or its driver",
		match: regexp.MustCompile(`NVRM: Xid`), except: regexp.MustCompile(`NVRM: Xid [^:]*(?::[^ ]*)*: (13|31|43|45)\b`),
		part: regexp.MustCompile(`PCI:([0-9a-fA-F:.]+)`), other: "GPU",
	},
	{
		name: "kernel.gpu-lost", what: "lines of a GPU that fell off the bus", source: "NVIDIA Xid Errors: 79; the line can come without an Xid",
		match: regexp.MustCompile(`NVRM: [^X].*(fallen off the bus|GPU is lost|lost from the bus)`), // with an Xid it is told above
		part:  regexp.MustCompile(`(?:PCI:|GPU (?:at )?)([0-9a-fA-F]{4,}:[0-9a-fA-F:.]+[0-9a-fA-F])`), other: "GPU",
	},
	{
		name: "kernel.sxid", what: "NVSwitch SXid lines", source: "NVIDIA Fabric Manager User Guide: SXid errors",
		match: regexp.MustCompile(`\bSXid\b`),
		part:  regexp.MustCompile(`PCI:([0-9a-fA-F:.]+)`), other: "NVSwitch",
	},
}

// checkKernelLog looks for every symptom in the kernel's log.
func (fs FS) checkKernelLog() []api.Check {
	lines, lost, err := fs.kernelLog()
	var checks []api.Check
	for _, s := range symptoms {
		c := s.judge(lines)
		switch {
		case err != nil && c.Verdict == pass:
			c.Verdict, c.Reading = notRun, err.Error()
		case lost && c.Verdict == pass:
			// A line that fell out of the ring may have been the one.
			c.Verdict, c.Reading = notRun, c.Reading+"; the start of the log was overwritten"
		}
		checks = append(checks, c)
	}
	return checks
}

// judge counts a symptom's lines; the first is the reading.
func (s symptom) judge(lines []string) api.Check {
	c := api.Check{Name: s.name, Verdict: pass, Reading: fmt.Sprintf("0 in %d lines", len(lines)), Threshold: "no " + s.what, Source: s.source, Part: s.other}
	n, excepted := 0, 0
	for _, line := range lines {
		if !s.match.MatchString(line) {
			continue
		}
		if s.except != nil && s.except.MatchString(line) {
			excepted++
			continue
		}
		if n++; n > 1 {
			continue
		}
		c.Verdict, c.Reading = fail, line
		if m := s.part.FindStringSubmatch(line); m != nil {
			c.Part = m[1]
			if !strings.Contains(strings.ToLower(c.Part), strings.ToLower(s.other)) {
				c.Part = s.other + " " + c.Part
			}
		}
	}
	if excepted > 0 && n == 0 {
		c.Reading += fmt.Sprintf("; %d of applications", excepted)
	}
	if n > 1 {
		c.Reading = fmt.Sprintf("%s (and %d more)", c.Reading, n-1)
	}
	return c
}

// kernelLog reads what the kernel itself logged since it started, from
// /dev/kmsg; in a tree of fixtures that is a file of records, one a line.
// lost says that the oldest records were overwritten.
func (fs FS) kernelLog() (lines []string, lost bool, err error) {
	fd, err := unix.Open(fs.Path("dev/kmsg"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, &os.PathError{Op: "open", Path: fs.Path("dev/kmsg"), Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10) // a record is at most 8 KiB; less than one is EINVAL
	var text strings.Builder
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EPIPE): // overwritten while we read
			lost = true
			continue
		case errors.Is(err, unix.EAGAIN) || (err == nil && n == 0):
			lines, first := parseKmsg(text.String())
			return lines, lost || first > 0, nil
		case err != nil:
			return nil, lost, &os.PathError{Op: "read", Path: fs.Path("dev/kmsg"), Err: err}
		}
		text.Write(buf[:n])
	}
}

// parseKmsg reads records "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT" with
// continuation lines that start with a space (Documentation/ABI/testing/dev-kmsg).
// It keeps those of the kernel, facility 0, and returns the sequence number
// of the first record: above 0, earlier ones are gone.
func parseKmsg(text string) (lines []string, first int64) {
	first = -1
	for line := range strings.Lines(text) {
		head, body, ok := strings.Cut(strings.TrimRight(line, "\n"), ";")
		f := strings.Split(head, ",")
		if !ok || len(f) < 3 || strings.HasPrefix(line, " ") {
			continue
		}
		priority, err1 := strconv.Atoi(f[0])
		sequence, err2 := strconv.ParseInt(f[1], 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		if first < 0 {
			first = sequence
		}
		if priority>>3 == 0 {
			lines = append(lines, body)
		}
	}
	return lines, max(first, 0)
}
