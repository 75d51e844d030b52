package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/fabric"
	"firstlight/internal/ibsimtest"
	"firstlight/provision/acceptance"
)

// healthSite is an inventory of the nodes and leaves of FatTree(4, 2), in racks,
// with a fabric whose limits are given.
func healthSite(t *testing.T, limits string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "site")
	cables := "a_device,a_port,b_device,b_port\n"
	for n := range 4 {
		for r := range 2 {
			cables += fmt.Sprintf("hnode%03d,ibn%d,leaf-%03d,%d\n", n+1, r+1, r+1, n+1)
		}
	}
	for name, text := range map[string]string{"cables.csv": cables, "image/image.hcl": "", "site.hcl": `
cluster "c" {}
credential "bmc" {
  username = "admin"
  password = "not-a-secret-of-anyone"
}
network "oob" {
  cidr = "10.20.0.0/24"
}
image "compute" {
  source = "./image"
}
hardware "x2" {
  hca "ibn1" {
    rail   = 1
    device = "mlx5_0"
  }
  hca "ibn2" {
    rail   = 2
    device = "mlx5_1"
  }
}
rack "a01" {}
node "hnode" {
  count    = 4
  name     = format("hnode%03d", count.index + 1)
  rack     = rack.a01
  unit     = count.index + 1
  hardware = hardware.x2
  image    = image.compute
  bmc {
    address    = cidrhost("10.20.0.0/24", 10 + count.index)
    credential = credential.bmc
  }
  nic "boot" {
    mac = format("52:54:00:00:00:%02x", count.index + 1)
  }
}
switch "leaf" {
  count = 2
  name  = format("leaf-%03d", count.index + 1)
  model = switch_model.qm9700
  rack  = rack.a01
  unit  = 40 + count.index
}
fabric "compute" {
  link_layer = "infiniband"
  cables     = csvdecode(file("cables.csv"))
` + limits + `
}
`} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// healthSim simulates the fabric, with a subnet manager's LIDs.
func healthSim(t *testing.T) *ibsimtest.Sim {
	t.Helper()
	net, _ := ibsimtest.FatTree(4, 2)
	sim := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	sim.Run("ibnetdiscover") // it has read its file
	return sim
}

// countersOutput is what fabric counters -json prints.
type countersOutput struct {
	Source    string
	Complete  bool
	Summary   map[string]int
	Undecided map[string]int
	Checks    []fabric.LinkCheck
	NotRead   []string `json:"not_read"`
}

// counting runs fabric counters, and types commands at the simulator's console
// while it waits.
func counting(t *testing.T, sim *ibsimtest.Sim, want int, commands []string, args ...string) (countersOutput, string) {
	t.Helper()
	typed := make(chan struct{})
	go func() { // ends with the commands
		defer close(typed)
		time.Sleep(700 * time.Millisecond)
		if len(commands) > 0 {
			sim.Do(commands...)
		}
	}()
	out, errs, code := inProcess(t, append([]string{"fabric", "counters", "-json", "-window", "2s", "-ibsim", sim.Socket, "-ibsim-node", ibsimtest.Adapter(1, 0)}, args...)...)
	<-typed
	if code != want {
		t.Fatalf("fabric counters %q exits %d, wanted %d: %s\n%s", args, code, want, errs, out)
	}
	var c countersOutput
	if err := json.Unmarshal([]byte(out), &c); err != nil && code != 1 {
		t.Fatalf("fabric counters %q: %v", args, err)
	}
	return c, errs
}

func told(checks []fabric.LinkCheck) []string {
	var out []string
	for _, c := range checks {
		out = append(out, fmt.Sprintf("%s %s: %s", c.Verdict, c.Name, c.Part))
	}
	slices.Sort(out)
	return out
}

// TestInteropCountersVerb: errors typed at ibsim's console between the two
// readings are found at their port and their end, and none else is.
func TestInteropCountersVerb(t *testing.T) {
	sim := healthSim(t)
	_, errs := counting(t, sim, 1, nil)
	if !strings.Contains(errs, "the counters of no port could be read") || !strings.Contains(errs, "is a subnet manager running?") {
		t.Errorf("without a subnet manager: %s; want the question whether one is running", errs)
	}
	sim.Manage(ibsimtest.Adapter(2, 0))
	// What was counted before does not matter.
	sim.Do(`PerformanceSet "leaf-001"[1] PortCounters.SymbolErrorCounter=60`, `PerformanceSet "leaf-001"[2] PortCounters.PortRcvErrors=65535`)
	dir := healthSite(t, "")
	const near, far = "hnode003 ibn2 (rack a01 unit 3)", "leaf-002 port 3 (2/1) (rack a01 unit 41)"

	got, _ := counting(t, sim, 2, nil, dir)
	if want := []string{"not-run receive-errors: hnode002 ibn1 (rack a01 unit 2) — leaf-001 port 2 (1/2) (rack a01 unit 40)"}; !slices.Equal(told(got.Checks), want) {
		t.Errorf("with a counter that is full: %q; want %q", told(got.Checks), want)
	}
	sim.Do(`PerformanceSet "leaf-001"[2] PortCounters.PortRcvErrors=0`)
	got, _ = counting(t, sim, 0, nil, dir)
	if n := len(got.Checks); n != 0 || !got.Complete || got.Summary["off"] != 0 || got.Undecided["symbol-errors-1e-15"] != got.Summary["links"] || len(got.NotRead) != 1 {
		t.Errorf("nothing happened: %d checks off, %+v; want none, and bit error rates undecided on all links", n, got)
	}

	got, _ = counting(t, sim, 2, []string{
		`PerformanceSet "leaf-002"[3] PortCounters.SymbolErrorCounter=120`,
		`PerformanceSet "hnode004 mlx5_0"[1] PortCounters.PortRcvErrors=1`,
		`PerformanceSet "hnode002 mlx5_1"[1] PortCounters.LinkDownedCounter=1`,
		`PerformanceSet "leaf-002"[2] PortCounters.LinkDownedCounter=1`,
		`PerformanceSet "leaf-001"[3] PortCounters.LinkDownedCounter=1`, // of one end: no verdict on the cable
	}, dir)
	want := []string{
		"fail link-downed: hnode002 ibn2 (rack a01 unit 2) — leaf-002 port 2 (1/2) (rack a01 unit 41)",
		"fail receive-errors: hnode004 ibn1 (rack a01 unit 4) — leaf-001 port 4 (2/2) (rack a01 unit 40)",
		"fail symbol-errors-1e-14: " + near + " — " + far,
		"fail symbol-errors-1e-15: " + near + " — " + far,
	}
	if !slices.Equal(told(got.Checks), want) {
		t.Errorf("errors typed at the console:\n%s\nwant\n%s", strings.Join(told(got.Checks), "\n"), strings.Join(want, "\n"))
	}
	for _, c := range got.Checks {
		switch {
		case strings.HasPrefix(c.Name, "symbol") && (c.New != 120 || !strings.Contains(c.Reading, "leaf-002 port 3 (2/1): 120 in") ||
			!strings.HasPrefix(c.Suspect, "the transmitter of hnode003 ibn2, the cable, or the receiver of leaf-002 port 3 (2/1), which counts; the other direction is clean")):
			t.Errorf("%+v; want 120 at the leaf's end, and the adapter's transmitter suspect", c)
		case c.Name == "receive-errors" && !strings.HasPrefix(c.Suspect, "the transmitter of leaf-001 port 4 (2/2), the cable, or the receiver of hnode004 ibn1"):
			t.Errorf("%+v; want the leaf's transmitter suspect", c)
		}
	}

	// Cleared between the readings is not clean; a cable that was pulled is gone.
	got, _ = counting(t, sim, 2, []string{`PerformanceSet "leaf-002"[3] PortCounters.SymbolErrorCounter=0`, `Unlink "hnode003 mlx5_0"[1]`}, dir)
	want = []string{"fail link-state: hnode003 ibn1 (rack a01 unit 3) — leaf-001 port 3 (2/1) (rack a01 unit 40)", "not-run counters-read: " + near + " — " + far}
	if !slices.Equal(told(got.Checks), want) {
		t.Errorf("cleared and pulled:\n%s\nwant\n%s", strings.Join(told(got.Checks), "\n"), strings.Join(want, "\n"))
	}

	// Limits of the inventory, by their line; -all has every check; -target narrows.
	dir = healthSite(t, "  limits {\n    receive_errors = 5\n  }\n")
	got, _ = counting(t, sim, 0, []string{`PerformanceSet "hnode004 mlx5_0"[1] PortCounters.PortRcvErrors=4`}, "-all", "-target", "hnode004", dir)
	i := slices.IndexFunc(got.Checks, func(c fabric.LinkCheck) bool { return c.Name == "receive-errors" && c.New > 0 })
	if got.Summary["links"] != 2 || i < 0 || got.Checks[i].Verdict != acceptance.NotRun || !strings.HasPrefix(got.Checks[i].Source, "site.hcl:") || !strings.Contains(got.Checks[i].Reading, "3 in 2") {
		t.Errorf("of hnode004, with 3 receive errors where 5 in an hour are allowed: %+v", got)
	}
}

// TestInteropLinks lists what ibsim has, and a cable that ibsim loses.
func TestInteropLinks(t *testing.T) {
	sim := healthSim(t)
	dir := healthSite(t, "")
	type output struct {
		Summary map[string]int
		Links   []linkStatus
	}
	list := func(want int, args ...string) output {
		t.Helper()
		out, errs, code := inProcess(t, append([]string{"fabric", "links", "-json", "-ibsim", sim.Socket, "-ibsim-node", ibsimtest.Adapter(1, 0)}, args...)...)
		var got output
		if err := json.Unmarshal([]byte(out), &got); code != want || err != nil {
			t.Fatalf("fabric links %q exits %d, %v; want %d: %s", args, code, err, want, errs)
		}
		return got
	}
	before := list(2, dir)
	if before.Summary["off"] == 0 || before.Links[0].State != "Init" || !strings.Contains(before.Links[0].Off[0].Suspect, "subnet manager") {
		t.Errorf("before a subnet manager ran: %+v; want its work missed", before.Links[0])
	}
	sim.Manage(ibsimtest.Adapter(2, 0))
	got := list(0, "-target", "hnode003", dir)
	if len(got.Links) != 2 || got.Summary["links"] != 2 || got.Summary["hcas"] != 8 {
		t.Fatalf("links of hnode003: %+v", got)
	}
	l := got.Links[0]
	if l.A.Name != "hnode003" || l.A.Port != "ibn1" || l.A.Rack != "a01" || l.A.Unit != 3 || l.B.Name != "leaf-001" || l.B.Label != "2/1" || l.Rate != "HDR" || l.Lanes != "4xHDR" || l.State != "Active" {
		t.Errorf("%+v; want hnode003 ibn1 to leaf-001 port 3, at HDR", l)
	}
	if whole := list(0); whole.Summary["off"] != 0 || whole.Links[0].A.Rack != "" {
		t.Errorf("without an inventory: %+v", whole.Summary)
	}
	out, _, code := inProcess(t, "fabric", "links", "-failed", "-ibsim", sim.Socket)
	if code != 0 || out != fmt.Sprintf("%d links, 0 with something off, from ibsim %s\n", len(list(0).Links), sim.Socket) {
		t.Errorf("only those with something off: exit %d\n%s", code, out)
	}
}

// TestInteropWatch watches over several readings and a restart.
func TestInteropWatch(t *testing.T) {
	sim := healthSim(t)
	sim.Manage(ibsimtest.Adapter(2, 0))
	dir := healthSite(t, "")
	type event struct {
		Type string
		Data json.RawMessage
	}
	watching := func(want int, commands []string, args ...string) (events []event, lines []string) {
		t.Helper()
		typed := make(chan struct{})
		go func() { // ends with the commands
			defer close(typed)
			time.Sleep(500 * time.Millisecond)
			if len(commands) > 0 {
				sim.Do(commands...)
			}
		}()
		out, errs, code := inProcess(t, append([]string{"fabric", "watch", "-json", "-interval", "1s", "-ibsim", sim.Socket, "-ibsim-node", ibsimtest.Adapter(1, 0)}, append(args, dir)...)...)
		<-typed
		if code != want {
			t.Fatalf("fabric watch %q exits %d, wanted %d: %s", args, code, want, errs)
		}
		for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
			var e event
			if err := dec.Decode(&e); err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
			var c fabric.LinkCheck
			if e.Type != "sample" && e.Type != "end" && json.Unmarshal(e.Data, &c) == nil {
				lines = append(lines, fmt.Sprintf("%s %s %s: %s", e.Type, c.Verdict, c.Name, c.Ports[1]))
			}
		}
		return events, lines
	}
	events, lines := watching(0, nil, "-samples", "2")
	if len(events) != 3 || len(lines) != 0 || events[2].Type != "end" {
		t.Fatalf("nothing happens: %+v; want two samples and the end", events)
	}
	// After a restart the errors since the last watch are there, and those that come.
	sim.Do(`PerformanceSet "leaf-001"[3] PortCounters.PortRcvErrors=2`)
	_, lines = watching(2, []string{`PerformanceSet "leaf-002"[4] PortCounters.SymbolErrorCounter=1`, `Unlink "hnode003 mlx5_1"[1]`}, "-samples", "3")
	want := []string{"off fail receive-errors: leaf-001 port 3 (2/1)", "worse fail link-state: leaf-002 port 3 (2/1)", "worse not-run symbol-errors-1e-14: leaf-002 port 4 (2/2)"}
	slices.Sort(lines)
	if !slices.Equal(lines, want) {
		t.Errorf("after a restart:\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	// Errors go on counting from before; what stands is told once.
	events, lines = watching(2, []string{`PerformanceSet "leaf-002"[4] PortCounters.SymbolErrorCounter=4`, `Link "hnode003 mlx5_1"[1] "leaf-002"[3]`}, "-samples", "3")
	// The link that is back has no LID until a subnet manager sees to it.
	want = []string{"off fail receive-errors: leaf-001 port 3 (2/1)", "worse fail link-state: leaf-002 port 3 (2/1)",
		"worse not-run counters-read: leaf-002 port 3 (2/1)", "worse fail symbol-errors-1e-14: leaf-002 port 4 (2/2)"}
	if !slices.Equal(lines, want) {
		t.Errorf("later:\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	var end struct {
		Summary map[string]int
		Samples int
	}
	if err := json.Unmarshal(events[len(events)-1].Data, &end); err != nil || end.Samples != 7 || end.Summary["off"] != 3 {
		t.Errorf("the end: %+v, %v; want 7 intervals of 8 samples, and three links off", end, err)
	}

	// Stopped by Ctrl-C it ends well, and with plain lines.
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var out, errs strings.Builder
	code := run(ctx, []string{"fabric", "watch", "-interval", "1s", "-ibsim", sim.Socket, dir}, strings.NewReader(""), &out, &errs)
	if code != 2 || errs.String() == "" || strings.Count(out.String(), "  off     receive-errors: hnode003 ibn1 (rack a01 unit 3) — leaf-001 port 3 (2/1) (rack a01 unit 40): ") != 1 ||
		!strings.HasSuffix(out.String(), fmt.Sprintf("  %d links, 3 with something off; undecided: symbol-errors-1e-14 on %[2]d, symbol-errors-1e-15 on %[2]d, flaps on %[3]d, transmit-discards on %[3]d\n",
			end.Summary["links"], end.Summary["links"]-2, end.Summary["links"]-1)) {
		t.Errorf("stopped: exit %d, %s\n%s", code, errs.String(), out.String())
	}

	// A cable that is pulled stays off; after a subnet manager's work it is better.
	sim.Manage(ibsimtest.Adapter(2, 0))
	_, lines = watching(2, []string{`Unlink "hnode002 mlx5_1"[1]`}, "-samples", "4")
	if n := strings.Count(strings.Join(lines, "\n"), "leaf-002 port 2"); n != 1 || slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "leaf-002 port 3") }) {
		t.Errorf("pulled: %q; want it told once, and nothing of what the subnet manager mended", lines)
	}

	// One watch at a time, and a damaged history is named.
	unlock, err := lockWatch(filepath.Join(dir, ".firstlight", "fabric"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, code := inProcess(t, "fabric", "watch", "-ibsim", sim.Socket, dir)
	if code != 1 || !strings.Contains(text, "another firstlight fabric watch keeps its readings in") {
		t.Errorf("beside another: exit %d, %s", code, text)
	}
	unlock()
	history := filepath.Join(dir, ".firstlight", "fabric", "history")
	if err := os.Truncate(history, 100); err != nil {
		t.Fatal(err)
	}
	_, text, code = inProcess(t, "fabric", "watch", "-ibsim", sim.Socket, dir)
	if code != 1 || !strings.Contains(text, history+": not a history of a fabric, or damaged") || !strings.Contains(text, "move it away to begin anew") {
		t.Errorf("with a damaged history: exit %d, %s", code, text)
	}
}
