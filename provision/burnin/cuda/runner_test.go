package cuda

import (
	"os"
	"strings"
	"testing"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// A burn-in over this worker: what the agent runs, on the host's processor.
func TestBurnIn(t *testing.T) {
	lib, nvml := libraries(t)
	t.Setenv(asWorker, lib)
	t.Setenv(withNVML, nvml)
	t.Setenv("LIBCUDA_CC", "90")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stages := []burnin.Stage{{Name: burnin.StageGEMM, Seconds: 1, Source: "main.hcl:9"}, {Name: burnin.StageSweep, Source: "main.hcl:9"}}
	burn := func(f *burnin.Fault) map[string]acceptance.Check {
		r := &burnin.Runner{Engine: acceptance.EngineCUDA, Start: burnin.Process(self), GPUs: []burnin.GPU{{Index: 0}}, Seed: 7, Fault: f}
		found := map[string]acceptance.Check{}
		for _, c := range burnin.Checks(stages, r.Run(t.Context(), stages, nil)) {
			found[c.Name] = c
		}
		return found
	}
	well := burn(nil)
	for _, name := range []string{"burn-in.gemm", "burn-in.gemm.worker", "burn-in.gemm.proof", "burn-in.gemm.exact", "burn-in.gemm.temperature",
		"burn-in.hbm_sweep", "burn-in.hbm_sweep.exact"} {
		if well[name].Verdict != acceptance.Pass {
			t.Errorf("%s: %+v", name, well[name])
		}
	}
	ill := burn(&burnin.Fault{Kind: burnin.FaultBitFlip, SM: 1, Bit: 5, After: 1})
	if c := ill["burn-in.gemm.exact"]; c.Verdict != acceptance.Fail || !strings.Contains(c.Reading, "XOR 00000020") || !strings.Contains(c.Part, "SM 1") {
		t.Errorf("a bit flipped on SM 1: %+v", c)
	}
}
