package images

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
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

func TestScratch(t *testing.T) {
	needTools(t, "apt-get")
	dir := "/tmp/img/scratch"
	os.RemoveAll(dir)
	b := &Builder{Store: Store{Dir: dir + "/store"}, Cache: "/tmp/img/cache", Agent: testAgent(t, t.TempDir()),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	start := time.Now()
	b.Progress = func(s string) { t.Log(time.Since(start), s) }
	m, err := b.BringUp(context.Background())
	t.Log(time.Since(start), err, string(m.canonical()), m.Digest())
	start = time.Now()
	_, err = b.BringUp(context.Background())
	t.Log(time.Since(start), err)
	src := t.TempDir()
	os.WriteFile(src+"/image.hcl", []byte("packages = [\"busybox-static\"]\n"), 0o644)
	start = time.Now()
	m, err = b.Image(context.Background(), "compute", src)
	t.Log(time.Since(start), err, string(m.canonical()), m.Digest())
	_ = bytes.MinRead
}
