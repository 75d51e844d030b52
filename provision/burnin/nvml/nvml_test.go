//go:build cgo

package nvml

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// childEnv makes this program read what library it is given and print that.
const childEnv = "FIRSTLIGHT_NVML_CHILD"

func TestMain(m *testing.M) {
	if limit := os.Getenv(childEnv); limit != "" {
		d, err := time.ParseDuration(limit)
		if err != nil {
			panic(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(Read(Options{Interval: time.Millisecond, Limit: d, OneByOne: os.Getenv("FIRSTLIGHT_NVML_ONE_BY_ONE") != "", Progress: os.Stderr})); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// build compiles the stand-in for NVIDIA's library, without some symbols, and
// gives the directory that it is in.
func build(t *testing.T, lacks ...string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc")
	}
	header, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "hide.map")
	text := "{ global: *;"
	if len(lacks) > 0 {
		text += " local: " + strings.Join(lacks, "; ") + ";"
	}
	if err := os.WriteFile(script, []byte(text+" };\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-I", filepath.Join(strings.TrimSpace(string(header)), "pkg/nvml"),
		"-Wl,--version-script="+script, "-o", filepath.Join(dir, library), "testdata/nvml.c").CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return dir
}

// patience is for calls that return: ample, for a machine that is busy.
const patience = time.Minute

// read reads the stand-in in dir, with the faults of script, in a process of
// its own. err is how that ended.
func read(t *testing.T, dir, script string, limit time.Duration) (h burnin.Health, progress string, err error) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+limit.String(), "LD_LIBRARY_PATH="+dir, "FAKE_NVML="+script)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err = cmd.Run(); err == nil {
		if err := json.Unmarshal(stdout.Bytes(), &h); err != nil {
			t.Fatalf("%v: %s", err, stdout.Bytes())
		}
	}
	return h, stderr.String(), err
}

var declared = burnin.Declared{Count: 8, ID: "10de:2335", Memory: 141e9, NVLinks: 18, Source: "hardware.hcl:11"}

// verdicts are the checks that do not pass, each "VERDICT NAME [GPU N]: READING".
func verdicts(h burnin.Health) []string {
	var onBus []string
	for i := range 8 {
		onBus = append(onBus, fmt.Sprintf("0000:%02x:00.0", 0x18+0x10*i))
	}
	var out []string
	for _, c := range burnin.JudgeHealth(h, burnin.ClassOf(declared, h), onBus) {
		if c.Verdict == acceptance.Pass {
			continue
		}
		part, _, _ := strings.Cut(c.Part, " 0000:")
		out = append(out, fmt.Sprintf("%s %s %s: %s", c.Verdict, c.Name, part, c.Reading))
	}
	return out
}

// TestFaults reads a healthy node, and then one with each of the faults that
// the stand-in can have.
func TestFaults(t *testing.T) {
	dir := build(t)
	cases := []struct {
		script string
		want   []string
	}{
		{"", nil},
		{"gpus=7", []string{"fail gpu.count GPUs: one is not seen by the driver; look for its Xid, reseat, then replace: 7", "fail gpu.responds GPU: 1 of 8 do not answer"}},
		{"3.link_down=7", []string{"fail gpu.nvlink.count GPU 3: 17 (link 7 down)"}},
		{"3.link_speed=13281", []string{"fail gpu.nvlink.speed GPU 3: 13281 MB/s (link 5)"}},
		{"3.link_errors=1", []string{"fail gpu.nvlink.errors GPU 3: 500 more (2000 in all)"}},
		{"3.link_recoveries=1", []string{"fail gpu.nvlink.recoveries GPU 3: 500 more (2000 in all)"}},
		{"3.remap_pending=1", []string{"fail gpu.remap.pending GPU 3: 1"}},
		{"3.remap_failed=1", []string{"fail gpu.remap.failed GPU 3: 1"}},
		{"3.remap_bare=2", []string{"fail gpu.remap.spares GPU 3: 2"}},
		{"3.recovery=2", []string{"fail gpu.recovery GPU 3: 2"}},
		{"3.pcie_width=8", []string{"fail gpu.pcie.width GPU 3: 8"}},
		{"3.pcie_gen=4", []string{"fail gpu.pcie.generation GPU 3: 4"}},
		{"3.xid=94", []string{"fail gpu.xid.events GPU 3: 1 (Xid 94)"}},
		{"3.xid=79 3.lost=1", nil}, // judged below
		{"3.hw_thermal=1", []string{"fail gpu.slowed.hw-thermal GPU 3: 500 ns more (2000 ns in all)"}},
		{"3.sw_thermal=1", []string{"fail gpu.slowed.sw-thermal GPU 3: 500 ns more (2000 ns in all)"}},
		{"3.power_brake=1", []string{"fail gpu.slowed.power-brake GPU 3: 500 ns more (2000 ns in all)"}},
		{"3.reasons=0x85", []string{"fail gpu.clocks.reasons GPU 3: 0x85"}},
		{"3.power_limit=500000", []string{"fail gpu.power.limit GPU 3: 500 W"}},
		{"3.margin=-2", []string{"fail gpu.temperature.margin GPU 3: -2 °C"}},
		{"3.uncorrected=3", []string{"fail gpu.ecc.uncorrected GPU 3: 3"}},
		{"3.ecc=0 3.ecc_pending=0", []string{"fail gpu.ecc.mode GPU 3: 0", "fail gpu.ecc.pending GPU 3: 0"}},
		{"3.sram=1 3.sram_over=1", []string{"fail gpu.sram.threshold GPU 3: 1", "fail gpu.sram.uncorrected GPU 3: 1"}},
		{"3.fabric=2 3.fabric_status=999", []string{"fail gpu.fabric.state GPU 3: 2 (in progress)", "fail gpu.fabric.status GPU 3: 999 (unknown error)"}},
		{"3.fabric_health=0x29", []string{"fail gpu.fabric.health GPU 3: 1 (degraded bandwidth)"}},
		{"3.fabric_health=0x3aa", []string{"fail gpu.fabric.health GPU 3: 1 (incorrect configuration 3)"}},
		{"3.vbios=2", []string{"fail gpu.vbios GPU 3: 96.00.A5.00.02"}},
		{"3.pid=4711", []string{"fail gpu.processes GPU 3: 1 (pid 4711)"}},
		{"3.mig=1 3.persistence=0", []string{"fail gpu.persistence GPU 3: 0", "fail gpu.mig GPU 3: 1"}},
		{"confidential=1", []string{"fail gpu.confidential GPUs: on"}},
		{"3.memory_mib=71885", []string{"fail gpu.memory GPU 3: 71885 MiB"}},
		{"3.bar1_mib=256", []string{"fail gpu.bar1 GPU 3: 256 MiB"}},
		{"3.fails=nvmlDeviceGetRemappedRows", []string{"not-run gpu.remap.pending GPU 3: nvmlDeviceGetRemappedRows: unknown error", "not-run gpu.remap.failed GPU 3: nvmlDeviceGetRemappedRows: unknown error"}},
		{"3.lacks=nvmlDeviceGetMigMode", []string{"not-applicable gpu.mig GPU 3: nvmlDeviceGetMigMode: not supported by this GPU or driver"}},
		{"no_field_230=1", []string{"not-run gpu.recovery GPUs, 8: nvmlDeviceGetFieldValues: not supported by this GPU or driver; needs field 230"}},
		{"init=9", []string{"not-run gpu.driver NVIDIA driver: nvmlInit_v2: the NVIDIA driver is not loaded"}},
		{"init=18", []string{"not-run gpu.driver NVIDIA driver: nvmlInit_v2: library and kernel module are of different driver versions: reboot"}},
	}
	for _, tt := range cases {
		h, progress, err := read(t, dir, tt.script, patience)
		if err != nil {
			t.Errorf("%q: %v\n%s", tt.script, err, progress)
			continue
		}
		got := verdicts(h)
		if strings.Contains(tt.script, "lost") {
			if len(got) != 2 || got[0] != "fail gpu.responds GPU: 1 of 8 do not answer" {
				t.Errorf("%q: %q; want gpu.responds to fail, and one line for what was not run", tt.script, got)
			}
			continue
		}
		if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%q:\ngot  %q\nwant %q", tt.script, got, tt.want)
		}
	}
}

// A call that hangs costs the rest of its own GPU, and is named; the others
// are read to the end.
func TestHang(t *testing.T) {
	dir := build(t)
	h, _, err := read(t, dir, "3.hang=nvmlDeviceGetTemperature", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if want := []burnin.Stuck{{Call: "nvmlDeviceGetTemperature", PCI: "0000:48:00.0", How: "did not return within 2s"}}; !slices.Equal(h.Stuck, want) {
		t.Errorf("stuck: %+v; want %+v", h.Stuck, want)
	}
	for _, v := range verdicts(h) {
		if !strings.Contains(v, "GPU 3") || !strings.Contains(v, "nvmlDeviceGetTemperature") {
			t.Errorf("%s; want only lines of GPU 3 that name the call", v)
		}
	}
	h, _, err = read(t, dir, "hang=nvmlInit_v2", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got := verdicts(h); len(got) != 2 || got[1] != "fail gpu.hang NVIDIA driver: NVML hangs in nvmlInit_v2: did not return within 2s" {
		t.Errorf("with a hang at the start: %q", got)
	}
}

// A call that ends the process is the last that it told of and did not see end.
func TestCrash(t *testing.T) {
	t.Setenv("FIRSTLIGHT_NVML_ONE_BY_ONE", "1")
	_, progress, err := read(t, build(t), "3.crash=nvmlDeviceGetTemperature", patience)
	if err == nil {
		t.Fatal("the process outlived a crash")
	}
	begun := strings.Count(progress, "+ 0000:48:00.0 nvmlDeviceGetTemperature\n")
	if begun != 1 || strings.Contains(progress, "- 0000:48:00.0 nvmlDeviceGetTemperature\n") {
		t.Errorf("progress does not say where it died:\n%s", progress)
	}
	if strings.Contains(progress, "0000:58:00.0") {
		t.Errorf("GPU 4 was read beside GPU 3:\n%s", progress)
	}
}

// A call that the driver lacks ends the process, unless it is not made.
func TestMissingSymbols(t *testing.T) {
	lacks := map[string][]string{
		"nvmlDeviceGetMarginTemperature":          {"gpu.temperature.margin"},
		"nvmlDeviceGetSramEccErrorStatus":         {"gpu.sram.threshold", "gpu.sram.uncorrected"},
		"nvmlDeviceGetGpuFabricInfoV":             {"gpu.fabric.health"},
		"nvmlDeviceGetComputeRunningProcesses_v3": {"gpu.processes"},
		"nvmlEventSetCreate":                      {"gpu.xid.events"},
		"nvmlSystemGetConfComputeState":           {"gpu.confidential"},
	}
	var all []string
	want := map[string]bool{}
	for symbol, checks := range lacks {
		all = append(all, symbol)
		for _, c := range checks {
			want[c] = true
		}
	}
	h, progress, err := read(t, build(t, all...), "", patience)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress)
	}
	got := map[string]bool{}
	for _, v := range verdicts(h) {
		f := strings.Fields(v)
		if f[0] == "fail" || !strings.Contains(v, "this driver has no nvml") {
			t.Errorf("%s; want it not run for lack of a symbol", v)
		}
		got[f[1]] = true
	}
	for c := range want {
		if !got[c] {
			t.Errorf("%s passes without its call", c)
		}
	}
	if len(got) != len(want) {
		t.Errorf("not run: %v; want %v", got, want)
	}

	h, progress, err = read(t, build(t, "nvmlInit_v2"), "", patience)
	if err != nil || h.Library != "this driver has no nvmlInit_v2" {
		t.Errorf("without nvmlInit_v2: %+v, %v\n%s", h, err, progress)
	}
}

// Without any one symbol the process lives, and something does not pass: what
// cannot be asked is not thereby in order.
func TestEachSymbolMissing(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a library for each symbol")
	}
	seen := map[string]bool{"nvmlDeviceGetPerformanceState": true} // judged by no check of its own
	for _, e := range calls() {
		for _, symbol := range e.symbols[:1] {
			judged := slices.ContainsFunc(burnin.HealthChecks(), func(k burnin.HealthCheck) bool { return slices.Contains(e.reads, k.Reads) })
			if seen[symbol] || !judged {
				continue
			}
			seen[symbol] = true
			h, progress, err := read(t, build(t, symbol), "", patience)
			if err != nil {
				t.Errorf("without %s: %v\n%s", symbol, err, progress)
			} else if got := verdicts(h); !strings.Contains(strings.Join(got, "\n"), "this driver has no "+symbol) {
				t.Errorf("without %s: %q; want it named", symbol, got)
			}
		}
	}
}

func TestNoLibrary(t *testing.T) {
	if h, _, err := read(t, t.TempDir(), "", patience); err != nil || len(h.GPUs) == 0 && !strings.Contains(h.Library, library) {
		t.Errorf("without a library: %+v, %v; want it named", h, err)
	}
}
