package burnin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"firstlight/provision/acceptance"
)

// mostNote is how much of a program's own words is kept with a result.
const mostNote = 300

// document is the first JSON object in out: some versions print a line before it.
func document(out []byte, into any) error {
	i := bytes.IndexByte(out, '{')
	if i < 0 {
		return errors.New("it has no JSON object")
	}
	return json.NewDecoder(bytes.NewReader(out[i:])).Decode(into)
}

// dcgmDiag is the document of dcgmi diag -j: DCGM 4 names an entity, DCGM 3 a
// list of GPUs (DCGM user guide, DCGM Diagnostics).
type dcgmDiag struct {
	Categories []struct {
		Tests []struct {
			Name    string       `json:"name"`
			Results []dcgmResult `json:"results"`
			Summary *dcgmResult  `json:"test_summary"`
		} `json:"tests"`
	} `json:"test_categories"`
	Error   string `json:"runtime_error"`
	Version string `json:"version"`
}

type dcgmResult struct {
	Group    string          `json:"entity_group"`
	ID       *int            `json:"entity_id"`
	GPUs     string          `json:"gpu_ids"`
	Status   string          `json:"status"`
	Warnings json.RawMessage `json:"warnings"` // texts, or objects with one
	Info     json.RawMessage `json:"info"`     // texts, or one
}

// part names what a result is of, by DCGM's own count.
func (r dcgmResult) part() string {
	switch {
	case r.ID != nil:
		return fmt.Sprintf("%s %d, as dcgmi counts", cmp.Or(r.Group, "GPU"), *r.ID)
	case r.GPUs != "":
		return fmt.Sprintf("GPU %s, as dcgmi counts", r.GPUs)
	}
	return "GPUs"
}

// words are the warnings, or else the information.
func (r dcgmResult) words() string {
	for _, raw := range []json.RawMessage{r.Warnings, r.Info} {
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			list = []json.RawMessage{raw}
		}
		var said []string
		for _, item := range list {
			var text string
			var object struct {
				Warning string `json:"warning"`
			}
			if json.Unmarshal(item, &text) == nil && text != "" {
				said = append(said, text)
			} else if json.Unmarshal(item, &object) == nil && object.Warning != "" {
				said = append(said, object.Warning)
			}
		}
		if len(said) > 0 {
			return shorten(strings.Join(said, "; "))
		}
	}
	return ""
}

// shorten makes a note one line that is not too long.
func shorten(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > mostNote {
		return string(runes[:mostNote]) + " …"
	}
	return s
}

// readDCGM takes every result that did not pass as a line of its own; GPUs that
// pass a test share one.
func readDCGM(out []byte) (told, error) {
	var doc struct {
		Four     *dcgmDiag `json:"DCGM Diagnostic"`
		Three    *dcgmDiag `json:"DCGM GPU Diagnostic"`
		Metadata struct {
			Version string `json:"version"`
		} `json:"metadata"`
	}
	if err := document(out, &doc); err != nil {
		return told{}, err
	}
	diag := cmp.Or(doc.Four, doc.Three)
	if diag == nil {
		return told{}, errors.New("it has no DCGM Diagnostic")
	}
	t := told{version: shorten(cmp.Or(doc.Metadata.Version, diag.Version))}
	if diag.Error != "" {
		return t, errors.New(shorten(diag.Error))
	}
	for _, category := range diag.Categories {
		for _, test := range category.Tests {
			name := slug(test.Name)
			passed, worst := 0, acceptance.Pass
			for _, r := range test.Results {
				v := ownVerdict(r.Status)
				if v == acceptance.Pass {
					passed++
					continue
				}
				if worst != acceptance.Fail {
					worst = v
				}
				t.lines = append(t.lines, toldLine{what: name, part: r.part(), own: cmp.Or(shorten(r.Status), "no status"), verdict: v, note: r.words()})
			}
			if passed > 0 {
				t.lines = append(t.lines, toldLine{what: name, part: "GPUs", own: "Pass", verdict: acceptance.Pass, note: fmt.Sprintf("%d of %d results", passed, len(test.Results))})
			}
			// A summary that is worse than its results is kept: it knows of more.
			if s := test.Summary; s != nil && ownVerdict(s.Status) != acceptance.Pass && worst == acceptance.Pass {
				t.lines = append(t.lines, toldLine{what: name, part: "GPUs", own: cmp.Or(shorten(s.Status), "no status"), verdict: ownVerdict(s.Status), note: s.words()})
			} else if len(test.Results) == 0 {
				t.lines = append(t.lines, toldLine{what: name, part: "GPUs", own: "no result", verdict: acceptance.NotRun})
			}
		}
	}
	return t, nil
}

// slug makes part of a check's name of what another program calls a test.
func slug(name string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	out = strings.Trim(out[:min(len(out), 40)], "-")
	return cmp.Or(out, "unnamed")
}

// nvbandwidthCase is one test of nvbandwidth -j: numbers are texts, "N/A" where
// there is no pair (its json_output.cpp).
type nvbandwidthCase struct {
	Name   string     `json:"name"`
	Status string     `json:"status"`
	Error  string     `json:"error"`
	Matrix [][]string `json:"bandwidth_matrix"`
}

// nvbandwidthPaths are the tests that are asked for, by the path that they are
// of.
func nvbandwidthPaths() map[string]string {
	return map[string]string{"host_to_device_memcpy_ce": "h2d", "device_to_host_memcpy_ce": "d2h", "device_to_device_memcpy_read_ce": "p2p"}
}

func readNVBandwidth(out []byte) (told, error) {
	var doc struct {
		Root *struct {
			Version string            `json:"version"`
			Error   string            `json:"error"`
			Cases   []nvbandwidthCase `json:"testcases"`
		} `json:"nvbandwidth"`
	}
	if err := document(out, &doc); err != nil {
		return told{}, err
	}
	if doc.Root == nil {
		return told{}, errors.New("it has no nvbandwidth")
	}
	t := told{version: shorten(doc.Root.Version)}
	if doc.Root.Error != "" {
		return t, errors.New(shorten(doc.Root.Error))
	}
	for _, c := range doc.Root.Cases {
		lines, err := c.lines()
		if err != nil {
			return t, err
		}
		t.lines = append(t.lines, lines...)
	}
	return t, nil
}

// lines are the lowest rate of each GPU of a test: a copy to one GPU says
// nothing of the next.
func (c nvbandwidthCase) lines() ([]toldLine, error) {
	path, known := nvbandwidthPaths()[c.Name]
	what := cmp.Or(path, slug(c.Name))
	if v := ownVerdict(c.Status); v != acceptance.Pass {
		return []toldLine{{what: what, part: "GPUs", own: cmp.Or(shorten(c.Status), "no status"), verdict: v, note: shorten(c.Error)}}, nil
	}
	least := map[int]float64{}
	for row, values := range c.Matrix {
		for column, text := range values {
			if text == "N/A" {
				continue
			}
			rate, err := strconv.ParseFloat(text, 64)
			if err != nil || rate < 0 || math.IsNaN(rate) || math.IsInf(rate, 0) {
				return nil, fmt.Errorf("%s: %q is no rate", shorten(c.Name), shorten(text))
			}
			gpu := column
			if path == "p2p" {
				gpu = row
			}
			if low, ok := least[gpu]; !ok || rate < low {
				least[gpu] = rate
			}
		}
	}
	if len(least) == 0 || !known {
		return []toldLine{{what: what, part: "GPUs", own: shorten(c.Status), verdict: acceptance.NotRun, note: "without a rate that is known here"}}, nil
	}
	var out []toldLine
	for gpu := range 1 + max(len(c.Matrix), longest(c.Matrix)) {
		if rate, ok := least[gpu]; ok {
			out = append(out, toldLine{what: path, part: fmt.Sprintf("GPU %d, as CUDA counts in PCI order", gpu), own: "Passed", verdict: acceptance.Pass, path: path, rate: rate})
		}
	}
	return out, nil
}

func longest(rows [][]string) int {
	n := 0
	for _, r := range rows {
		n = max(n, len(r))
	}
	return n
}

// What all_reduce_perf of nccl-tests prints (its README and src/common.cu): a
// line for each GPU, one for each size, and a summary.
var (
	ncclVersion = regexp.MustCompile(`(?m)^# nccl-tests version (\S+)(?: .*nccl-library=(\d+))?`)
	ncclDevice  = regexp.MustCompile(`(?m)^# +Rank +\d+ .* device +\d+ \[[^\]\n]*\] (.+)$`)
	ncclBounds  = regexp.MustCompile(`(?m)^# Out of bounds values : (\d+) (OK|FAILED)`)
	ncclAverage = regexp.MustCompile(`(?m)^# Avg bus bandwidth +: (\S+)`)
)

// ncclRanks is how many GPUs the floor is of.
const ncclRanks = 8

func readNCCL(out []byte) (told, error) {
	var t told
	if m := ncclVersion.FindSubmatch(out); m != nil {
		t.version = "(nccl-tests " + shorten(string(m[1])) + ")"
		if len(m[2]) > 0 {
			t.version = "(nccl-tests " + shorten(string(m[1])) + ", NCCL " + shorten(string(m[2])) + ")"
		}
	}
	devices := ncclDevice.FindAllSubmatch(out, -1)
	if len(devices) > 0 {
		t.device = shorten(string(devices[0][1]))
	}
	bounds, average := ncclBounds.FindSubmatch(out), ncclAverage.FindSubmatch(out)
	if bounds == nil || average == nil {
		return t, errors.New("its summary is not there: it did not come to its end")
	}
	wrong, rows := ncclRows(string(out))
	if rows == 0 {
		return t, errors.New("it has no result of any size")
	}
	rate, err := strconv.ParseFloat(string(average[1]), 64)
	if err != nil || rate < 0 || math.IsNaN(rate) || math.IsInf(rate, 0) {
		return t, fmt.Errorf("%q is no rate", shorten(string(average[1])))
	}
	exact := toldLine{what: "exact", part: "GPUs", own: string(bounds[2]), verdict: ownVerdict(string(bounds[2])), note: fmt.Sprintf("%s values out of bounds", bounds[1])}
	switch {
	case wrong < 0 && exact.verdict == acceptance.Pass:
		exact.verdict, exact.note = acceptance.NotRun, "its results were not checked"
	case wrong > 0:
		exact.verdict, exact.note = acceptance.Fail, fmt.Sprintf("%g values wrong", wrong)
	}
	speed := toldLine{what: "all-reduce", part: "GPUs", verdict: acceptance.Pass, path: "all-reduce", rate: rate, note: fmt.Sprintf("over %d GPUs", len(devices))}
	if len(devices) != ncclRanks {
		speed.path, speed.own, speed.verdict = "", fmt.Sprintf("%.4g GB/s", rate), acceptance.NotApplicable
		speed.note += fmt.Sprintf("; a floor is known for %d", ncclRanks)
	}
	t.lines = []toldLine{exact, speed}
	return t, nil
}

// ncclRows adds up the values that were wrong; less than 0: a row does not say.
func ncclRows(out string) (wrong float64, rows int) {
	said := true
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 9 {
			continue
		}
		if _, err := strconv.ParseUint(f[0], 10, 64); err != nil {
			continue
		}
		rows++
		for i := 8; i < len(f); i += 4 {
			n, err := strconv.ParseFloat(f[i], 64)
			if err != nil || math.IsNaN(n) || n < 0 {
				said = false
				continue
			}
			wrong += n
		}
	}
	if !said && wrong == 0 {
		return -1, rows
	}
	return wrong, rows
}
