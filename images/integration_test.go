package images

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// needTools skips the test, naming the first tool that is not installed.
func needTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := lookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
}

// testAgent compiles the stand-in for the agent.
func testAgent(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(dir, "firstlight-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", out, "./testdata/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the test agent: %v\n%s", err, msg)
	}
	return out
}
