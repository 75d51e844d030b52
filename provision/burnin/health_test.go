package burnin

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"firstlight/provision/acceptance"
)

var declaredH200 = Declared{Count: 8, ID: "10de:2335", Memory: 141e9, NVLinks: 18, Source: "hardware.hcl:11"}

// healthy is a node of eight H200 as NVML tells of it.
func healthy() Health {
	h := Health{Version: HealthVersion, Engine: acceptance.EngineNode, Driver: Value{Text: "570.86.15"}, Interval: 1}
	for i := range 8 {
		num := func(n int64) Value { return Value{Number: n} }
		g := HealthGPU{Index: i, PCI: fmt.Sprintf("0000:%02x:00.0", 0x18+i*0x10), First: map[Quantity]Value{
			GPUName: {Text: "NVIDIA H200"}, GPUID: {Text: "10de:2335"}, GPUSerial: {Text: fmt.Sprintf("165%d", i)}, GPUUUID: {Text: fmt.Sprintf("GPU-%d", i)},
			GPUVBIOS: {Text: "96.00.A5.00.01"}, GPUInfoROM: {Text: "G520.0200.00.05"}, GPUMemory: num(143771 << 20), GPUBAR1: num(256 << 30),
			PCIeGen: num(5), PCIeGenMax: num(5), PCIeWidth: num(16), PCIeWidthMax: num(16), PCIeReplays: num(3),
			ECCMode: num(1), ECCPending: num(1), ECCUncorrected: num(0), ECCCorrected: num(2), SRAMOver: num(0), SRAMUncorrect: num(0),
			RemapUncorrected: num(0), RemapPending: num(0), RemapFailed: num(0), RemapBare: num(0), RecoveryAction: num(0),
			NVLinks: num(18), NVLinkSpeed: num(26562), NVLinkErrors: num(4), NVLinkRecovers: num(1), FabricState: num(3), FabricStatus: num(0), FabricHealth: num(0),
			// Idle (0x1) and the power cap (0x4) are no faults.
			ClockReasons: num(0x5), SlowHWThermal: num(9e9), SlowSWThermal: num(0), SlowBrake: num(0), SlowPowerCap: num(5e9), PState: num(0), ClockSM: num(1980),
			PowerUsage: num(75000), PowerEnforced: num(700000), PowerDefault: num(700000), Temperature: num(30), TempMemory: num(33), TempMargin: num(57),
			Persistence: num(1), MIG: num(0), Processes: num(0), XidEvents: num(0),
		}, Later: map[Quantity]Value{}}
		for q, v := range g.First {
			if q.Counting() {
				g.Later[q] = v
			}
		}
		h.GPUs = append(h.GPUs, g)
	}
	return h
}

func addresses(h Health) []string {
	var out []string
	for _, g := range h.GPUs {
		out = append(out, g.PCI)
	}
	return out
}

func judge(h Health) []acceptance.Check {
	return JudgeHealth(h, ClassOf(declaredH200, h), addresses(healthy()))
}

// off are the checks that do not pass.
func off(checks []acceptance.Check) []acceptance.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c acceptance.Check) bool { return c.Verdict == acceptance.Pass })
}

func TestHealthPasses(t *testing.T) {
	checks := judge(healthy())
	for _, c := range off(checks) {
		t.Errorf("of a healthy node: %+v", c)
	}
	for _, c := range checks {
		if c.Name == "" || c.Reading == "" || c.Threshold == "" || c.Source == "" || c.Part == "" || strings.Contains(c.Threshold+c.Reading, "%!") {
			t.Errorf("lacks something: %+v", c)
		}
	}
	if want := len(HealthChecks()) + 4; len(checks) != want {
		t.Errorf("%d lines for a healthy node; want %d: GPUs that pass share one", len(checks), want)
	}
}

// Each case is one fault of GPU 3: exactly the checks named fail, on that GPU.
// Every check of the table has such a case.
func TestHealthFaults(t *testing.T) {
	num := func(q Quantity, n int64) func(*Health) {
		return func(h *Health) {
			h.GPUs[3].First[q] = Value{Number: n}
			if q.Counting() {
				h.GPUs[3].Later[q] = Value{Number: n}
			}
		}
	}
	text := func(q Quantity, s string) func(*Health) {
		return func(h *Health) { h.GPUs[3].First[q] = Value{Text: s} }
	}
	later := func(q Quantity, n int64) func(*Health) {
		return func(h *Health) { h.GPUs[3].Later[q] = Value{Number: n} }
	}
	cases := []struct {
		name    string
		fault   func(*Health)
		reading string
	}{
		{"gpu.model", text(GPUName, "NVIDIA H100 80GB HBM3"), "NVIDIA H100 80GB HBM3"},
		{"gpu.serial", text(GPUSerial, ""), "empty"},
		{"gpu.uuid", text(GPUUUID, ""), "empty"},
		{"gpu.vbios", text(GPUVBIOS, "96.00.A5.00.02"), "96.00.A5.00.02"},
		{"gpu.inforom", text(GPUInfoROM, "G520.0200.00.04"), "G520.0200.00.04"},
		{"gpu.memory", num(GPUMemory, 128<<30), "131072 MiB"},
		{"gpu.bar1", num(GPUBAR1, 256<<20), "256 MiB"},
		{"gpu.ecc.mode", num(ECCMode, 0), "0"},
		{"gpu.ecc.pending", num(ECCPending, 0), "0"},
		{"gpu.ecc.uncorrected", num(ECCUncorrected, 1), "1"},
		{"gpu.ecc.uncorrected", later(ECCUncorrected, 1), "1"},
		{"gpu.sram.threshold", num(SRAMOver, 1), "1"},
		{"gpu.sram.uncorrected", num(SRAMUncorrect, 2), "2"},
		{"gpu.remap.pending", num(RemapPending, 1), "1"},
		{"gpu.remap.failed", num(RemapFailed, 1), "1"},
		{"gpu.remap.spares", num(RemapBare, 1), "1"},
		{"gpu.recovery", num(RecoveryAction, 2), "2"},
		{"gpu.pcie.generation.max", num(PCIeGenMax, 4), "4"},
		{"gpu.pcie.generation", num(PCIeGen, 4), "4"},
		{"gpu.pcie.width", num(PCIeWidth, 8), "8"},
		{"gpu.pcie.replays", later(PCIeReplays, 4), "1 more (4 in all)"},
		{"gpu.nvlink.count", func(h *Health) { h.GPUs[3].First[NVLinks] = Value{Number: 17, Text: "link 7 is down"} }, "17 (link 7 is down)"},
		{"gpu.nvlink.speed", num(NVLinkSpeed, 13281), "13281 MB/s"},
		{"gpu.nvlink.errors", later(NVLinkErrors, 9), "5 more (9 in all)"},
		{"gpu.nvlink.recoveries", later(NVLinkRecovers, 2), "1 more (2 in all)"},
		{"gpu.fabric.state", func(h *Health) { h.GPUs[3].First[FabricState] = Value{Number: 2, Text: "in progress"} }, "2 (in progress)"},
		{"gpu.fabric.status", num(FabricStatus, 999), "999"},
		{"gpu.fabric.health", func(h *Health) { h.GPUs[3].First[FabricHealth] = Value{Number: 1, Text: "degraded bandwidth"} }, "1 (degraded bandwidth)"},
		{"gpu.slowed.hw-thermal", later(SlowHWThermal, 9e9+5), "5 ns more (9000000005 ns in all)"},
		{"gpu.slowed.sw-thermal", later(SlowSWThermal, 7), "7 ns more (7 ns in all)"},
		{"gpu.slowed.power-brake", later(SlowBrake, 1), "1 ns more (1 ns in all)"},
		{"gpu.clocks.reasons", num(ClockReasons, 0x45), "0x45"}, // with idle and power cap beside it
		{"gpu.clocks.reasons", later(ClockReasons, 0x8), "0xd"},
		{"gpu.power.limit", num(PowerEnforced, 500000), "500 W"},
		{"gpu.power.default", func(h *Health) {
			h.GPUs[3].First[PowerDefault], h.GPUs[3].First[PowerEnforced] = Value{Number: 600000}, Value{Number: 600000}
		}, "600 W"},
		{"gpu.temperature.margin", num(TempMargin, 9), "9 °C"},
		{"gpu.persistence", num(Persistence, 0), "0"},
		{"gpu.mig", num(MIG, 1), "1"},
		{"gpu.processes", func(h *Health) { h.GPUs[3].First[Processes] = Value{Number: 1, Text: "pid 4711"} }, "1 (pid 4711)"},
		{"gpu.xid.events", func(h *Health) { h.GPUs[3].Later[XidEvents] = Value{Number: 1, Text: "Xid 94"} }, "1 (Xid 94)"},
	}
	left := map[string]bool{}
	for _, k := range HealthChecks() {
		left[k.Name] = true
	}
	for _, tt := range cases {
		delete(left, tt.name)
		h := healthy()
		tt.fault(&h)
		got := off(judge(h))
		if len(got) != 1 || got[0].Name != tt.name || got[0].Verdict != acceptance.Fail || got[0].Reading != tt.reading || got[0].Part != "GPU 3 0000:48:00.0 serial 1653" && tt.name != "gpu.serial" {
			t.Errorf("%s: got %+v; want it alone to fail for GPU 3 with %q", tt.name, got, tt.reading)
		}
	}
	for name := range left {
		t.Errorf("%s has no case that fails", name)
	}
}

// Faults of the node as a whole.
func TestHealthNode(t *testing.T) {
	type line struct{ name, verdict, reading, part string }
	cases := []struct {
		name  string
		fault func(*Health)
		want  []line
	}{
		{"7 of 8", func(h *Health) { h.GPUs = slices.Delete(h.GPUs, 3, 4) }, []line{
			{"gpu.count", "fail", "7", "one is not seen"}, {"gpu.responds", "fail", "1 of 8", "GPU 0000:48:00.0"}}},
		{"no GPU", func(h *Health) { h.GPUs = nil }, []line{
			{"gpu.count", "fail", "0", "GPUs"}, {"gpu.responds", "fail", "8 of 8", "0000:18:00.0"}}},
		{"no library", func(h *Health) { *h = Health{Library: "libnvidia-ml.so.1: not found"} }, []line{
			{"gpu.driver", "not-run", "not found", "NVIDIA driver"}}},
		{"no version", func(h *Health) { h.Driver = Value{Err: "driver has no nvmlSystemGetDriverVersion"} }, []line{
			{"gpu.driver", "not-run", "nvmlSystemGetDriverVersion", "NVIDIA driver"}}},
		{"a call hangs at the start", func(h *Health) {
			*h = Health{Library: "NVML hangs", Stuck: []Stuck{{Call: "nvmlInit_v2", How: "did not return within 3s"}}}
		}, []line{
			{"gpu.driver", "not-run", "NVML hangs", "NVIDIA driver"}, {"gpu.hang", "fail", "NVML hangs in nvmlInit_v2: did not return", "NVIDIA driver"}}},
		{"the process died", func(h *Health) {
			*h = Health{Library: "signal: aborted", Stuck: []Stuck{{Call: "nvmlDeviceGetName", PCI: "0000:48:00.0", Died: true, How: "signal: aborted"}}}
		}, []line{
			{"gpu.driver", "not-run", "signal: aborted", "NVIDIA driver"},
			{"gpu.hang", "fail", "NVML ends the process in nvmlDeviceGetName of GPU 0000:48:00.0: signal: aborted", "GPU 0000:48:00.0"}}},
		{"confidential computing", func(h *Health) { h.Confined.Number = 1 }, []line{{"gpu.confidential", "fail", "on", "GPUs"}}},
		{"not known whether confidential", func(h *Health) { h.Confined = Value{Err: "unknown error"} }, []line{{"gpu.confidential", "not-run", "unknown error", "GPUs"}}},
		{"cannot be confidential", func(h *Health) { h.Confined = Value{Err: "not supported", Absent: true} }, []line{{"gpu.confidential", "not-applicable", "not supported", "GPUs"}}},
	}
	for _, tt := range cases {
		h := healthy()
		tt.fault(&h)
		got := off(judge(h))
		ok := len(got) == len(tt.want)
		for i := 0; ok && i < len(got); i++ {
			w := tt.want[i]
			ok = got[i].Name == w.name && string(got[i].Verdict) == w.verdict && strings.Contains(got[i].Reading, w.reading) && strings.Contains(got[i].Part, w.part)
		}
		if !ok {
			t.Errorf("%s: %+v; want %+v", tt.name, got, tt.want)
		}
	}
}

// A GPU that hangs or is lost fails by name; the others are judged as ever.
func TestHealthOneGone(t *testing.T) {
	h := healthy()
	h.GPUs[3].First = map[Quantity]Value{GPUSerial: {Text: "1653"}}
	h.GPUs[3].Later = nil
	h.Stuck = []Stuck{{Call: "nvmlDeviceGetTemperature", PCI: h.GPUs[3].PCI, How: "did not return within 3s"}}
	hang := 0
	for _, c := range off(judge(h)) {
		if !strings.HasPrefix(c.Part, "GPU 3 ") || !strings.Contains(c.Reading, "NVML hangs in nvmlDeviceGetTemperature of GPU 0000:48:00.0: did not return within 3s") {
			t.Errorf("with a call that hangs on GPU 3: %+v", c)
		}
		if c.Name == "gpu.hang" && c.Verdict == acceptance.Fail {
			hang++
		} else if c.Verdict != acceptance.NotRun {
			t.Errorf("with a call that hangs on GPU 3: %+v; want not-run", c)
		}
	}
	if got := off(judge(h)); len(got) != 2 {
		t.Errorf("with a call that hangs on GPU 3: %+v; want the hang, and one line for what was not run", got)
	}
	if hang != 1 {
		t.Errorf("%d lines gpu.hang; want 1", hang)
	}

	h = healthy()
	for q := range h.GPUs[3].First {
		h.GPUs[3].First[q] = Value{Err: "GPU is lost", Lost: true}
	}
	got := off(judge(h))
	if got[0].Name != "gpu.responds" || got[0].Verdict != acceptance.Fail || got[0].Part != "GPU 3 0000:48:00.0" {
		t.Errorf("with GPU 3 lost: %+v first; want gpu.responds to fail", got[0])
	}
	// One that has no address any more is told once, by that on the bus.
	h.GPUs[3].PCI = ""
	if got := off(judge(h)); got[0].Name != "gpu.responds" || got[0].Part != "GPU 0000:48:00.0" || got[0].Reading != "1 of 8 do not answer" {
		t.Errorf("with GPU 3 lost, address and all: %+v first; want gpu.responds to fail for 0000:48:00.0", got[0])
	}
}

// What is not read never passes: every quantity, missing in every way.
func TestHealthUnread(t *testing.T) {
	for _, k := range HealthChecks() {
		for _, v := range []Value{{Err: "driver has no such call", Absent: true}, {Err: "unknown error"}} {
			h := healthy()
			h.GPUs[3].First[k.Reads] = v
			if k.Reads.Counting() {
				h.GPUs[3].Later[k.Reads] = v
			}
			got := slices.DeleteFunc(off(judge(h)), func(c acceptance.Check) bool { return c.Name != k.Name })
			want := acceptance.NotRun
			if v.Absent && k.Lacking == mayLack {
				want = acceptance.NotApplicable
			}
			if len(got) != 1 || got[0].Verdict != want || !strings.Contains(got[0].Reading, v.Err) {
				t.Errorf("%s with %+v: %+v; want one %s", k.Name, v, got, want)
			}
		}
		h := healthy()
		delete(h.GPUs[3].First, k.Reads)
		delete(h.GPUs[3].Later, k.Reads)
		got := slices.DeleteFunc(off(judge(h)), func(c acceptance.Check) bool { return c.Name != k.Name })
		if len(got) != 1 || got[0].Verdict != acceptance.NotRun {
			t.Errorf("%s left out: %+v; want one not-run", k.Name, got)
		}
	}
}

// Of a kind that nothing is known of, and where nothing is declared, GPUs are
// held against each other and against what they say of themselves.
func TestHealthOfAnUnknownKind(t *testing.T) {
	unknown := func() Health {
		h := healthy()
		for _, g := range h.GPUs {
			g.First[GPUID] = Value{Text: "10de:ffff"}
		}
		return h
	}
	got := map[string]acceptance.Verdict{}
	h := unknown()
	for _, c := range off(JudgeHealth(h, ClassOf(Declared{Count: 8}, h), nil)) {
		got[c.Name] = c.Verdict
	}
	want := []string{"gpu.memory", "gpu.nvlink.count", "gpu.nvlink.speed", "gpu.pcie.generation.max", "gpu.power.default"}
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
		t.Errorf("without a threshold: %q; want %q", names, want)
	}
	for name, v := range got {
		if v != acceptance.NotApplicable {
			t.Errorf("%s = %s without a threshold; want not-applicable", name, v)
		}
	}
	for q, name := range map[Quantity]string{NVLinks: "gpu.nvlink.count", NVLinkSpeed: "gpu.nvlink.speed", PCIeGenMax: "gpu.pcie.generation.max",
		PCIeGen: "gpu.pcie.generation", PCIeWidth: "gpu.pcie.width", GPUMemory: "gpu.memory"} {
		h := unknown()
		h.GPUs[3].First[q] = Value{Number: h.GPUs[3].First[q].Number - 1}
		checks := JudgeHealth(h, ClassOf(Declared{Count: 8}, h), nil)
		if !slices.ContainsFunc(checks, func(c acceptance.Check) bool {
			return c.Name == name && c.Verdict == acceptance.Fail && strings.HasPrefix(c.Part, "GPU 3 ")
		}) {
			t.Errorf("%s of one GPU is one less than of its peers, and %s does not fail", q, name)
		}
	}
}

// An idle GPU may lower its link; one at full clocks may not.
func TestHealthIdleLink(t *testing.T) {
	h := healthy()
	h.GPUs[3].First[PCIeGen], h.GPUs[3].First[PState] = Value{Number: 1}, Value{Number: 8}
	got := off(judge(h))
	if len(got) != 1 || got[0].Verdict != acceptance.NotRun || !strings.Contains(got[0].Reading, "idle") {
		t.Errorf("idle link: %+v; want one not-run that says so", got)
	}
}

func TestHealthJSON(t *testing.T) {
	h := healthy()
	raw, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var back Health
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if got := off(judge(back)); len(got) != 0 {
		t.Errorf("after JSON: %+v", got)
	}
}

// Without a declaration, a baseboard of a known kind has 4 or 8.
func TestHealthUndeclaredCount(t *testing.T) {
	for n, want := range map[int]acceptance.Verdict{4: acceptance.Pass, 7: acceptance.Fail, 8: acceptance.Pass} {
		h := healthy()
		h.GPUs = h.GPUs[:n]
		checks := JudgeHealth(h, ClassOf(Declared{}, h), nil)
		i := slices.IndexFunc(checks, func(c acceptance.Check) bool { return c.Name == "gpu.count" })
		if checks[i].Verdict != want || checks[i].Threshold != "4 or 8" {
			t.Errorf("%d H200: %+v; want %s", n, checks[i], want)
		}
	}
}

// A simulated node passes, whatever its class, and says that it is simulated.
func TestSimulatedHealth(t *testing.T) {
	for _, d := range []Declared{declaredH200, {Count: 4, ID: "10de:ffff"}, {Count: 2, ID: "1002:74a1", Memory: 192e9}} {
		var pcis []string
		for i := range d.Count {
			pcis = append(pcis, fmt.Sprintf("0000:%02x:00.0", i))
		}
		c := ClassOf(d, Health{})
		h := SimulatedHealth(c, pcis)
		for _, k := range JudgeHealth(h, ClassOf(d, h), pcis) {
			if k.Verdict != acceptance.Pass && (k.Verdict != acceptance.NotApplicable || c.Name != "") {
				t.Errorf("%s: %+v", d.ID, k)
			}
			if k.Name == "gpu.driver" && !strings.Contains(k.Reading, "simulated") {
				t.Errorf("%+v; want it to say that it is simulated", k)
			}
		}
	}
}
