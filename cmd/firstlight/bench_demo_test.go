//go:build bench

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBenchDemo measures the demo: both programs built, the lab brought up and
// applied until two nodes are ready, with what was fetched before and with
// nothing fetched or compiled before; and the controller's memory meanwhile.
func TestBenchDemo(t *testing.T) {
	needLab(t)
	var rss float64
	run := func(name string, bound float64, prepare func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			prepare(t)
			wall, used := demo(t)
			rss = max(rss, used)
			atMost(t, name, wall.Seconds(), "s", bound)
		})
	}
	// The catalogue of the copied inventory is empty in both.
	run("demo_cold", 12*60, func(t *testing.T) {
		cache := t.TempDir()
		t.Setenv("XDG_CACHE_HOME", cache)
		t.Setenv("GOCACHE", filepath.Join(cache, "go-build"))
		t.Setenv("GOMODCACHE", filepath.Join(cache, "go-mod"))
	})
	run("demo_warm", 8*60, func(*testing.T) {})
	atMost(t, "controller_rss", rss, "MB", 150)
}

// demo does what `make demo` does once its Debian packages are there. It
// returns how long that took and the most memory that apply had resident, in
// MB of 10^6 bytes.
func demo(t *testing.T) (time.Duration, float64) {
	start := time.Now()
	l := newVMLab(t)
	up := time.Since(start)
	cmd := exec.Command(l.program, "apply", "-auto-approve", l.dir)
	stuck := time.AfterFunc(15*time.Minute, func() {
		if cmd.Process != nil {
			_ = cmd.Process.Signal(syscall.SIGINT)
		}
	})
	defer stuck.Stop()
	out, err := cmd.CombinedOutput()
	wall := time.Since(start)
	if err != nil || !strings.Contains(string(out), "2/2 ready") {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		t.Fatal("no resource usage of apply")
	}
	mb := float64(used.Maxrss) * 1024 / 1e6
	fmt.Printf("%s: build and lab up %.1f s, apply %.1f s, apply's memory %.0f MB, load %s\n", filepath.Base(t.Name()), up.Seconds(), (wall - up).Seconds(), mb, load())
	return wall, mb
}
