//go:build bench && cgo

package nvml

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// agentEnv names the agent's program, with firstlight-gpu beside it.
const agentEnv = "FIRSTLIGHT_AGENT"

// TestBenchCheck prints how long the agent's checks of a node with eight GPUs
// take, medians of 5: healthy, and with a call of NVML that never returns. The
// GPUs are the stand-in's, so it is the time of everything but NVIDIA's driver.
func TestBenchCheck(t *testing.T) {
	agent := os.Getenv(agentEnv)
	if agent == "" {
		t.Skipf("needs %s: run make bench-check", agentEnv)
	}
	dir := build(t)
	for _, f := range []struct{ name, script, says string }{
		{"check_8gpus", "", "pass     gpu.responds"},
		{"check_8gpus_one_hangs", "3.hang=nvmlDeviceGetTemperature", "NVML hangs in nvmlDeviceGetTemperature"},
	} {
		var took []time.Duration
		for range 5 {
			cmd := exec.Command(agent, "check", "-gpus", "8")
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir, "FAKE_NVML="+f.script)
			began := time.Now()
			out, err := cmd.Output()
			took = append(took, time.Since(began))
			// Other checks may not pass on the machine that this runs on.
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if !strings.Contains(string(out), f.says) {
				t.Fatalf("%s: the agent does not say %q:\n%s", f.name, f.says, out)
			}
		}
		slices.Sort(took)
		verdict, median := "ok", took[2].Seconds()
		if median > 5 {
			verdict = "short"
			t.Errorf("%s takes %.2f s", f.name, median)
		}
		fmt.Printf("figure %s %.2f s goal<=5 %s\n", f.name, median, verdict)
	}
}
