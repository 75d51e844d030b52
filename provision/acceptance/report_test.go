package acceptance

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

func digestOf(n int) string { return fmt.Sprintf("sha256:%08x%056d", uint32(n+1)*2654435761, n) }

// evidence makes the proof of one state as the engine would.
func evidence(node, state string, at time.Time, lab bool, bad ...Check) *Evidence {
	e := &Evidence{Node: node, State: state, Time: at, Engine: EngineNode, Lab: lab}
	switch state {
	case "reachable":
		e.Checks = []Check{{"bmc.credential", Pass, "accepted", "credential \"bmc\"", "main.hcl:9", "BMC 10.20.0.11"},
			{"bmc.serial", Pass, "SN-" + node, "SN-" + node, "main.hcl:31", "BMC 10.20.0.11"}}
	case "enrolled":
		e.Checks = []Check{{"boot.override", Pass, "pxe, once", "pxe", "main.hcl:31", "BMC 10.20.0.11"},
			{"boot.path", Pass, "dhcp-discover 03:00:22, tftp-read, script, kernel, initramfs", "DHCP and fetches of this MAC", "main.hcl:38", "boot NIC 52:54:00:00:00:11"}}
	case "matched":
		e.Checks = []Check{{"cpu.sockets", Pass, "2", "2", "main.hcl:14", "CPU"}, {"cpu.cores", Pass, "96", "96", "main.hcl:15", "CPU"},
			{"memory.total", Pass, "2 TiB", "2TiB", "main.hcl:18", "memory"}, {"memory.dimms", Pass, "32", "32", "main.hcl:19", "DIMMs"},
			{"disk.scratch", Pass, "2 of 7.68 TB, nvme", "2 of 7.68TB, nvme", "main.hcl:24", "disks nvme0n1, nvme1n1"},
			{"gpu.count", NotApplicable, "none found", "none declared", "main.hcl:13", "GPUs"}}
	case "provisioned":
		e.Checks = []Check{{"image.digest", Pass, "4c2af0b1d2e3", "4c2af0b1d2e3", "main.hcl:5", "image compute"},
			{"image.root", Pass, "measured on the node: 99aa01bc22de", "99aa01bc22de", "main.hcl:5", "image compute"}}
	case "validated":
		e.Checks = []Check{{"link.boot", Pass, "10 Gb/s, up", "up", "main.hcl:38", "NIC eno1"}, {"clock.skew", Pass, "0.02 s", "1 s", "built in", "clock"}}
	case "burned-in":
		e.Checks = []Check{{"burn-in", NotApplicable, "no burn-in stage is declared", "none declared", "main.hcl:31", "node"}}
	}
	e.Checks = append(e.Checks, bad...)
	return e
}

// chain is a node's way as far as a state, each taking a little more or less.
func chain(name string, lab bool, seed int, until string) NodeReport {
	n := NodeReport{Name: name, Serial: "SN-" + name, Power: "on", Image: "compute 4c2af0b1d2e3", State: "declared"}
	at := start
	n.History = []Span{{State: "declared", Entered: at}}
	took := []float64{2.4, 41.7, 1.9, 28.2, 3.1, 0.2, 0.1}
	deadline := []float64{60, 1200, 120, 1500, 300, 259200, 60}
	for i, s := range append(Required(), "ready") {
		sec := math.Round(took[i]*(1+0.13*float64((seed*7+i*3)%5))*10) / 10
		at = at.Add(time.Duration(sec * float64(time.Second)))
		span := Span{State: s, Entered: at, Seconds: sec, Deadline: deadline[i], Attempts: 1, Evidence: digestOf(seed*16 + i)}
		if s == "ready" {
			n.Record = digestOf(seed*16 + 15)
		} else {
			span.Proof = evidence(name, s, at, lab)
		}
		n.History = append(n.History, span)
		n.State = s
		if s == until {
			break
		}
	}
	return n
}

func fail(n NodeReport, state, proof string, after float64, reason string, lab bool, bad ...Check) NodeReport {
	last := n.History[len(n.History)-1]
	at := last.Entered.Add(time.Duration(after * float64(time.Second)))
	s := Span{State: state, Entered: at, Seconds: after, Reason: reason, Attempts: 3}
	if len(bad) > 0 {
		s.Evidence, s.Proof = digestOf(99), evidence(n.Name, proof, at, lab, bad...)
	}
	n.History = append(n.History, s)
	n.State, n.Reason = state, reason
	return n
}

func twoNodes() Report {
	r := Report{Cluster: "two-node-lab", Lab: true, Inventory: digestOf(1), Serial: 58, Made: start.Add(5 * time.Minute), By: "firstlight 0.1.0",
		Nodes: []NodeReport{chain("lab1", true, 1, "ready"), chain("lab2", true, 3, "ready")}}
	burned := r.Nodes[0].History[6].Proof
	burned.Engine, burned.Checks = EngineReference, []Check{{"burn-in.gemm.exact", Pass, "0 wrong in 403 products", "0 wrong", "exact", "GPU 0"}}
	r.Nodes[0].Charts = []Chart{{Title: "Throughput", Unit: "TFLOP/s", Lines: []ChartLine{
		{"GPU 0", []ChartPoint{{0.5, 701}, {1.5, 733.5}, {2.5, math.NaN()}, {3.5, 640}}},
		{"GPU 1", []ChartPoint{{0.5, 690}, {1.5, 691}}}}},
		{Title: "Nothing known", Unit: "W", Lines: []ChartLine{{Name: "GPU 0"}}}}
	return r
}

func rackWithFailures() Report {
	r := Report{Cluster: "rack-a", Inventory: digestOf(2), Serial: 412, Made: start.Add(21 * time.Minute), By: "firstlight 0.1.0"}
	for i := 1; i <= 8; i++ {
		n := chain(fmt.Sprintf("hnode%03d", i), false, i, "ready")
		switch i {
		case 3:
			n = fail(chain(n.Name, false, i, "enrolled"), "failed", "matched", 2.2, "31 DIMMs found, 32 declared: slot P1-DIMM-C2 is empty", false,
				Check{"memory.dimms.slot", Fail, "slot P1-DIMM-C2 is empty", "32 DIMMs", "nodes.hcl:19", "DIMM P1-DIMM-C2"},
				Check{"memory.total.slot", Fail, "1984 GiB", "2TiB", "nodes.hcl:18", "memory"},
				Check{"gpu.memory", NotRun, "nvidia driver not loaded", "141GB", "nodes.hcl:23", "GPUs"})
		case 5:
			n = fail(chain(n.Name, false, i, "reachable"), "failed", "", 1200, "its DHCP request never came: the BMC accepted the boot override and the node booted its disk, 3 times", false)
		case 6:
			n = chain(n.Name, false, i, "provisioned")
			n.Reason = "retry 2 of 3 in 20 s: its agent has not spoken"
		case 7:
			n = NodeReport{Name: n.Name, Serial: n.Serial, State: "declared", History: []Span{{State: "declared", Entered: start}}}
			n = fail(n, "quarantined", "", 1.1, "BMC 10.20.0.17 refused the password of credential \"bmc\" (main.hcl:9); tried once", false)
		}
		n.Rack, n.Unit = "a01", 2*i
		r.Nodes = append(r.Nodes, n)
	}
	r.Discovered = []Discovered{{MAC: "52:54:00:de:ad:01", Seen: start.Add(4 * time.Minute), Detail: "UEFI x86-64, PXEClient:Arch:00007"}}
	port := func(name, port string, unit int) FabricPort { return FabricPort{name, port, "a01", unit, port} }
	r.Fabric = &FabricReport{Read: start.Add(20 * time.Minute), Source: "mlx5_0/1, mlx5_1/1", Complete: true, Summary: map[string]int{"switches": 4, "hcas": 64, "links": 70, "findings": 2},
		NotRead: []string{"wrong-partition: what was read has no P_Key tables"}, Picture: "<!DOCTYPE html><title>a picture</title><p class=\"q\">drawn</p>\n",
		Findings: []FabricFinding{
			{"swapped-pair", "error", "hnode002", []string{"hnode002", "hnode004"}, []FabricPort{port("leaf-01", "2", 41), port("hnode002", "ibn1", 4)}, "hnode002 ibn1 - leaf-01 port 2", "hnode002 ibn1 - leaf-01 port 4",
				"cables.csv:9", "swap the cables at leaf-01 port 2 and leaf-01 port 4", "hnode002 ibn1: cabled to leaf-01 port 4, declared leaf-01 port 2 (cables.csv:9); hnode004 ibn1 is the other half of the swap"},
			{"extra-cable", "warning", "hnode008", []string{"hnode008"}, nil, "no cable", "hnode008 ibn9 - leaf-02 port 60", "", "remove the cable from leaf-02 port 60 to hnode008 ibn9, or declare it", "hnode008 ibn9: cabled to leaf-02 port 60, and no cable is declared there"},
		}}
	return r
}

func hostile() Report {
	const evil = `</title><script>alert(1)</script>"'&]]>` + "\x00\u202e"
	n := NodeReport{Name: evil, Rack: evil, Serial: evil, Image: evil, Power: evil, State: "failed", Reason: evil, Record: evil, History: []Span{
		{State: evil, Entered: start},
		{State: "failed", Entered: start.Add(time.Second), Seconds: 1, Reason: evil, Evidence: evil,
			Proof: &Evidence{Node: evil, State: evil, Time: start, Engine: Engine(evil), Checks: []Check{{evil, Fail, evil, evil, evil, evil}, {evil, Verdict(evil), evil, evil, evil, evil}}}}}}
	n.Charts = []Chart{{Title: evil, Unit: evil, Lines: []ChartLine{{evil, []ChartPoint{{0, math.Inf(1)}, {1, 1}, {2, math.MaxFloat64}}}}}}
	return Report{Cluster: evil, Inventory: evil, By: evil, Made: start, Nodes: []NodeReport{n}, Discovered: []Discovered{{evil, start, evil}},
		Fabric: &FabricReport{Read: start, Source: evil, Why: evil, NotRead: []string{evil}, Picture: evil, Findings: []FabricFinding{
			{evil, evil, evil, []string{evil}, []FabricPort{{evil, evil, evil, 1, evil}}, evil, evil, evil, evil, evil}}}}
}

type writer struct {
	ext   string
	write func(Report, io.Writer) error
}

func writers() []writer {
	return []writer{{"html", Report.WriteHTML}, {"json", Report.WriteJSON}, {"xml", Report.WriteJUnit}}
}

func render(t *testing.T, r Report, w writer) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := w.write(r, &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestGolden(t *testing.T) {
	reports := map[string]Report{"lab": twoNodes(), "rack": rackWithFailures(), "empty": {Cluster: "none", Made: start}}
	for name, r := range reports {
		for _, w := range writers() {
			got := render(t, r, w)
			if again := render(t, r, w); !bytes.Equal(got, again) {
				t.Errorf("%s.%s: two runs differ", name, w.ext)
			}
			golden := filepath.Join("testdata", name+"."+w.ext)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got), -update rewrites it:\n%s", golden, diff)
			}
		}
	}
}

func TestHostileText(t *testing.T) {
	for _, w := range writers() {
		got := string(render(t, hostile(), w))
		switch w.ext {
		case "html":
			if n := strings.Count(got, "<script>"); n != 1 {
				t.Errorf("%d script elements; want only the page's own", n)
			}
			if strings.Count(got, "</title>") != 2 /* the page's and the line's */ || strings.Contains(got, "alert(1)</script>") {
				t.Error("text of an inventory became markup")
			}
		case "json":
			if !json.Valid([]byte(got)) {
				t.Error("not JSON")
			}
		case "xml":
			if err := xml.Unmarshal([]byte(got), new(junitSuites)); err != nil {
				t.Errorf("not XML: %v", err)
			}
		}
	}
}

// TestSelfContained: the page must read the same from a USB stick in a rack
// without a network.
func TestSelfContained(t *testing.T) {
	got := render(t, rackWithFailures(), writers()[0])
	if m := regexp.MustCompile(`(?i)(src=|<link|@import|url\(|https?://)`).Find(got); m != nil {
		t.Errorf("the page refers to something outside itself: %q", m)
	}
	if bytes.Contains(got, []byte(`class="lab"`)) {
		t.Error("a metal report says LAB")
	}
	if lab := render(t, twoNodes(), writers()[0]); !bytes.Contains(lab, []byte(`<div class="lab"><b>LAB</b>`)) {
		t.Error("a lab report does not say LAB")
	}
}

// TestWhatFailedComesFirst: the part to look at stands above the nodes.
func TestWhatFailedComesFirst(t *testing.T) {
	got := string(render(t, rackWithFailures(), writers()[0]))
	nodes := strings.Index(got, "<h2>Nodes</h2>")
	for _, want := range []string{"DIMM P1-DIMM-C2", "slot P1-DIMM-C2 is empty", "nodes.hcl:19", "its DHCP request never came", "refused the password", "52:54:00:de:ad:01"} {
		if i := strings.Index(got, want); i < 0 || i > nodes {
			t.Errorf("%q stands at %d; want it above the list of nodes, at %d", want, i, nodes)
		}
	}
}

func TestJUnitVerdicts(t *testing.T) {
	var got junitSuites
	if err := xml.Unmarshal(render(t, rackWithFailures(), writers()[2]), &got); err != nil {
		t.Fatal(err)
	}
	outcome := map[string]string{}
	for _, s := range got.Suites {
		for _, c := range s.Cases {
			v := "pass"
			if c.Failure != nil {
				v = "failure: " + c.Failure.Message
			} else if c.Skipped != nil {
				v = "skipped: " + c.Skipped.Message
			}
			outcome[s.Name+" "+c.Name] = v
		}
	}
	for name, want := range map[string]string{
		"hnode001 node ready":                          "pass",
		"hnode003 memory.dimms.slot (DIMM P1-DIMM-C2)": "failure: DIMM P1-DIMM-C2: found slot P1-DIMM-C2 is empty, required 32 DIMMs (nodes.hcl:19)",
		"hnode003 gpu.memory (GPUs)":                   "skipped: not run: found nvidia driver not loaded, required 141GB (nodes.hcl:23)",
		"hnode001 gpu.count (GPUs)":                    "skipped: not applicable: none found",
		"hnode006 node ready":                          "skipped: not finished: provisioned: retry 2 of 3 in 20 s: its agent has not spoken",
		"hnode007 node ready":                          `failure: quarantined: BMC 10.20.0.17 refused the password of credential "bmc" (main.hcl:9); tried once`,
		"hnode001 memory.dimms (DIMMs)":                "pass",
		"fabric read from mlx5_0/1, mlx5_1/1":          "pass",
		"fabric hnode002 ibn1: cabled to leaf-01 port 4, declared leaf-01 port 2 (cables.csv:9); hnode004 ibn1 is the other half of the swap": "failure: swap the cables at leaf-01 port 2 and leaf-01 port 4",
	} {
		if outcome[name] != want {
			t.Errorf("case %q = %q; want %q", name, outcome[name], want)
		}
	}
	if len(got.Suites) != 9 {
		t.Errorf("%d suites; want one per node, and the fabric's", len(got.Suites))
	}
}

func TestCountsAndSlow(t *testing.T) {
	r := rackWithFailures()
	if got, want := r.Counts(), (Counts{Nodes: 8, Ready: 4, Failed: 3, Unfinished: 1}); got != want {
		t.Errorf("Counts = %+v; want %+v", got, want)
	}
	slow := r.Slow()
	if slow[0].State != "enrolled" || slow[0].Nodes != 6 || slow[0].Deadline != 1200 || len(slow[0].Slowest) != 3 {
		t.Errorf("slowest transition = %+v; want enrolled, of 6 nodes", slow[0])
	}
	if s := slow[0]; s.Max != s.Slowest[0].Seconds || s.P50 > s.Max || s.Slowest[0].Seconds < s.Slowest[1].Seconds {
		t.Errorf("inconsistent: %+v", s)
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		in   []Verdict
		want Verdict
	}{
		{nil, NotRun}, {[]Verdict{Pass}, Pass}, {[]Verdict{Pass, NotApplicable}, Pass}, {[]Verdict{Pass, NotRun}, NotRun},
		{[]Verdict{NotRun, Fail}, Fail}, {[]Verdict{Pass, "odd"}, NotRun}, {[]Verdict{""}, NotRun},
	} {
		e := Evidence{}
		for _, v := range c.in {
			e.Checks = append(e.Checks, Check{Verdict: v})
		}
		if got := e.Verdict(); got != c.want {
			t.Errorf("Verdict(%q) = %q; want %q", c.in, got, c.want)
		}
	}
}

func TestSeconds(t *testing.T) {
	for in, want := range map[float64]string{0: "0.0 s", 2.44: "2.4 s", 41.7: "42 s", 99: "99 s", 250: "4m10s", 15000: "4h10m", 259200: "72h00m"} {
		if got := seconds(in); got != want {
			t.Errorf("seconds(%v) = %q; want %q", in, got, want)
		}
	}
}

// large is a hall of nodes, a few of which failed.
func large() Report {
	r := rackWithFailures()
	r.Cluster, r.Nodes = "hall-1", nil
	for i := 1; i <= 766; i++ {
		n := chain(fmt.Sprintf("hnode%03d", i), false, i, "ready")
		if i%97 == 0 {
			n = fail(chain(n.Name, false, i, "reachable"), "failed", "", 1200, "its DHCP request never came", false)
		}
		n.Rack, n.Unit = fmt.Sprintf("a%02d", 1+i/8), 1+i%8*4
		r.Nodes = append(r.Nodes, n)
	}
	return r
}

func TestLargeReport(t *testing.T) {
	if got := len(render(t, large(), writers()[0])); got > 8<<20 {
		t.Errorf("the page of 766 nodes has %d bytes; want at most 8 MiB", got)
	}
}

func BenchmarkHTML766(b *testing.B) {
	r := large()
	for b.Loop() {
		if err := r.WriteHTML(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
