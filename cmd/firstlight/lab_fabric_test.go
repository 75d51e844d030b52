package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/internal/ibsimtest"
)

// labRun is a lab fabric that runs, with what is typed and what it says.
type labRun struct {
	t     *testing.T
	typed io.Writer
	said  *bufio.Reader
	stop  context.CancelFunc
	errs  bytes.Buffer
	ended chan int
	once  sync.Once
	code  int
}

// startLabFabric runs lab fabric with -json until the test ends, and waits until
// clients can connect.
func startLabFabric(t *testing.T, args ...string) (*labRun, simulated) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	stdin, typed := io.Pipe()
	said, stdout := io.Pipe()
	l := &labRun{t: t, typed: typed, said: bufio.NewReader(said), stop: stop, ended: make(chan int, 1)}
	go func() { // ends with ctx
		l.ended <- run(ctx, append([]string{"lab", "fabric", "-json"}, args...), stdin, stdout, &l.errs)
		stdout.Close()
		stdin.Close()
	}()
	t.Cleanup(func() { l.end() })
	var s simulated
	l.event("ready", &s)
	return l, s
}

// end ends it as Ctrl-C does, and returns its exit status.
func (l *labRun) end() int {
	l.once.Do(func() {
		l.stop()
		_, _ = io.Copy(io.Discard, l.said)
		l.code = <-l.ended
	})
	return l.code
}

// event reads the next event, which must be of that type.
func (l *labRun) event(kind string, data any) {
	l.t.Helper()
	line, err := l.said.ReadString('\n')
	if err != nil {
		l.t.Fatalf("lab fabric exits %d: %s", <-l.ended, l.errs.String())
	}
	var e struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil || e.Type != kind {
		l.t.Fatalf("lab fabric says %q, %v; want an event %s", line, err, kind)
	}
	if err := json.Unmarshal(e.Data, data); err != nil {
		l.t.Fatal(err)
	}
}

// do types a command and returns what it did.
func (l *labRun) do(command string) string {
	l.t.Helper()
	fmt.Fprintln(l.typed, command)
	var b struct{ Command, Done string }
	l.event("broken", &b)
	return b.Done
}

// TestLabFabricStory does what docs/operations.md shows: what stands behind $ is
// run, what stands behind > is typed, and all that is printed is as it says.
func TestLabFabricStory(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text2, _ := strings.Cut(string(text), "## Pull a cable that isn't there\n")
	_, text2, _ = strings.Cut(text2, "```\n")
	story, _, ok := strings.Cut(text2, "```\n")
	if !ok {
		t.Fatal("the story is not there")
	}
	socket := fmt.Sprintf("story-%d", os.Getpid())
	here := strings.NewReplacer("examples/", "../../examples/", "-ibsim sim", "-ibsim "+socket)
	var lab *labRun
	verified := 0
	for step := range strings.SplitSeq("\n"+story, "\n$ ") {
		step, typed, _ := strings.Cut(step, "\n> ")
		command, want, _ := strings.Cut(step, "\n")
		args := strings.Fields(here.Replace(strings.TrimSuffix(command, " &")))
		switch {
		case command == "":
		case strings.HasPrefix(command, "firstlight lab fabric "):
			var s simulated
			lab, s = startLabFabric(t, append(args[3:], "-socket", socket)...)
			got := fmt.Sprintf("fabric %s: %d switches, %d adapters, %d cables; ibsim's sockets, name sim", s.Fabric, s.Switches, s.HCAs, s.Links)
			if got != strings.TrimSpace(want) {
				t.Errorf("%s gives %q; the page has %q", command, got, want)
			}
		default:
			got, errs, code := inProcess(t, args[1:]...)
			wanted := 0
			if strings.Contains(want, "findings (") {
				wanted = 2
			}
			if verified++; code != wanted || errs != "" {
				t.Errorf("%s exits %d with %q; want %d", command, code, errs, wanted)
			}
			if diff := cmp.Diff(strings.TrimRight(want, "\n"), strings.TrimRight(got, "\n")); diff != "" {
				t.Errorf("%s (-page +printed):\n%s", command, diff)
			}
		}
		for line := range strings.SplitSeq(strings.TrimSpace(typed), "\n") {
			if line = strings.TrimPrefix(line, "> "); line == "quit" {
				fmt.Fprintln(lab.typed, line)
				if code := <-lab.ended; code != 0 || lab.errs.Len() > 0 {
					t.Errorf("quit ends it with %d, %s", code, lab.errs.String())
				}
				lab.ended <- 0
			} else if line != "" {
				lab.do(line)
			}
		}
	}
	if verified != 3 {
		t.Errorf("the story verifies %d times; want 3", verified)
	}
}

// TestLabFabric breaks a fabric by every command, from the beginning and while it
// runs, and tells what was mistyped.
func TestLabFabric(t *testing.T) {
	dir := healthSite(t, "")
	socket := fmt.Sprintf("lab-%d", os.Getpid())
	lab, s := startLabFabric(t, "-socket", socket, "-break", "unplug leaf-001 4", "-break", "rename leaf-002 leaf two", dir)
	if diff := cmp.Diff(simulated{Fabric: "compute", Socket: socket, Switches: 2, HCAs: 8, Links: 8, Attach: []string{"hnode001 mlx5_0", "hnode001 mlx5_1"}}, s); diff != "" {
		t.Errorf("ready (-want +got):\n%s", diff)
	}
	for command, want := range map[string]string{
		"swap hnode001 ibn2 leaf-002 3": "swap hnode001 ibn2 leaf-002 3: hnode001 ibn2 — leaf-002 port 1, leaf-002 port 3 — hnode003 ibn2",
		"slow hnode002 mlx5_1 HDR":      "slow hnode002 mlx5_1 HDR: hnode002 ibn2 — leaf-002 port 2",
	} {
		if got := lab.do(command); got != want {
			t.Errorf("%s does %q; want %q", command, got, want)
		}
	}
	for _, command := range []string{"move leaf-001 3 leaf-001 9", "narrow leaf-001 2 1", "count leaf-001 1 SymbolErrorCounter 7", "count leaf-001 1 PortRcvErrors 0 0.5",
		"lose leaf-001 1 0", "heat leaf-001 1 75", "ber leaf-001 2 1e-12", "pkeys hnode001 ibn1 0xffff,0x0001", "off hnode004", "on hnode004", "mute leaf-002"} {
		lab.do(command)
	}
	got := strings.Join(verifyLabs(t, socket, dir), "\n")
	for _, want := range []string{"missing-cable: hnode004 ibn1, leaf-001 port 4", "miswired: hnode003 ibn1", "wrong-width: hnode002 ibn1, leaf-001 port 2"} {
		if !strings.Contains(got, want) {
			t.Errorf("found:\n%s\nwant %s", got, want)
		}
	}
	links, errs, code := inProcess(t, "fabric", "links", "-ibsim", socket, "-ibsim-node", "hnode001 mlx5_0", "-failed", dir)
	if want := "module-temperature: hnode001 ibn1: 45.0 °C; leaf-001 port 1 (1/1): 75.0 °C, wanted at most 70 °C"; code != 2 || errs != "" || !strings.Contains(links, want) {
		t.Errorf("fabric links exits %d, %s:\n%s\nwant %s", code, errs, links, want)
	}
	for command, want := range map[string]string{
		"unplug leaf-001 4":                  "fault unlink: leaf-001 port 4 has no cable",
		"unplug leaf-009 4":                  `unplug: the fabric has no node or switch "leaf-009"; did you mean "leaf-001"?`,
		"unplug hnode001 ibn3":               `unplug: hnode001 has no adapter "ibn3": there are ibn1, ibn2`,
		"unplug leaf-001 x":                  `unplug: "x" is no port of leaf-001: they are numbers`,
		"unplug leaf-001 900":                "fault unlink: leaf-001 port 900: it has ports 1 to 65",
		"unplug leaf-001":                    "usage: unplug DEVICE PORT",
		"slow leaf-001 1 fast":               `fault slow: no link runs at "fast"`,
		"narrow leaf-001 1 x":                `narrow: strconv.Atoi: parsing "x": invalid syntax`,
		"swap leaf-001 1":                    "usage: swap DEVICE PORT DEVICE PORT",
		"pkeys hnode001 ibn1 x":              `pkeys: "x" is no entry of a P_Key table: strconv.ParseUint: parsing "x": invalid syntax`,
		"off":                                "usage: off DEVICE",
		"rename leaf-001":                    "usage: rename DEVICE TEXT",
		"count leaf-001 1 Symbol 1 2":        `count: there is no counter "Symbol": there are`,
		"swop leaf-001 1 leaf-001 2":         `did you mean "swap"?`,
		"plug leaf-001 1 hnode001 ibn1":      "fault plug: leaf-001 port 1 or hnode001 mlx5_0 port 1 has a cable",
		"count leaf-001 1 PortXmitWait -1 0": `count: strconv.ParseUint: parsing "-1": invalid syntax`,
	} {
		fmt.Fprintln(lab.typed, command)
		var refused struct{ Command, Error string }
		lab.event("refused", &refused)
		if !strings.Contains(refused.Error, want) || refused.Command != command {
			t.Errorf("%s is refused as %+v; want %q", command, refused, want)
		}
	}
	if _, errs, code := inProcess(t, "lab", "fabric", "-socket", socket, dir); code != 1 || !strings.Contains(errs, "take another with -socket") {
		t.Errorf("a second one of that name exits %d: %s", code, errs)
	}
	if code := lab.end(); code != 0 || lab.errs.Len() > 0 {
		t.Errorf("Ctrl-C ends it with %d, %s", code, lab.errs.String())
	}
}

// verifyLabs are the findings of fabric verify on both rails of healthSite, of which
// one does not answer any more.
func verifyLabs(t *testing.T, socket, dir string) []string {
	t.Helper()
	out, errs, code := inProcess(t, "fabric", "verify", "-json", "-ibsim", socket, "-ibsim-node", "hnode001 mlx5_0", dir)
	var v verified
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 2 {
		t.Fatalf("fabric verify exits %d, %v: %s", code, err, errs)
	}
	return v.words()
}

// TestInteropLabFabric has opensm bring up what lab fabric simulates, and
// ibnetdiscover read it.
func TestInteropLabFabric(t *testing.T) {
	dir := healthSite(t, "")
	socket := fmt.Sprintf("lab-opensm-%d", os.Getpid())
	startLabFabric(t, "-socket", socket, "-unmanaged", dir)
	sim := ibsimtest.Attach(t, socket, "hnode001 mlx5_0", "opensm", "ibnetdiscover")
	sim.Manage("hnode001 mlx5_0")
	if out := sim.Run("ibnetdiscover"); !strings.Contains(out, `"hnode004 mlx5_0"`) || strings.Contains(out, "mlx5_1") {
		t.Errorf("ibnetdiscover prints\n%s\nwant the nodes of the first rail", out)
	}
	out, errs, code := inProcess(t, "fabric", "links", "-ibsim", socket, "-ibsim-node", "hnode001 mlx5_0", dir)
	if code != 0 || errs != "" || strings.Count(out, "Active") != 4 {
		t.Errorf("fabric links exits %d, %s:\n%s\nwant four links, Active", code, errs, out)
	}
}
