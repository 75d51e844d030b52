package agent

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
	"firstlight/provision/burnin"
)

// reader writes a program in place of firstlight-gpu.
func reader(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "firstlight-gpu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunHealth(t *testing.T) {
	document, err := json.Marshal(burnin.Health{Version: burnin.HealthVersion, Driver: burnin.Value{Text: "570"}})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, script string
		library      string // part of it
		stuck        []burnin.Stuck
	}{
		{"well", "echo '" + string(document) + "'", "", nil},
		{"well, with calls told", "echo '+ - nvmlInit_v2' >&2; echo '- - nvmlInit_v2' >&2; echo '" + string(document) + "'", "", nil},
		{"document, then it hangs", "echo '" + string(document) + "'; exec sleep 1000", "", nil},
		{"dies", "echo '+ - nvmlInit_v2' >&2; echo '- - nvmlInit_v2' >&2; echo '+ 0000:48:00.0 nvmlDeviceGetName' >&2; kill -ABRT $$", "signal: aborted",
			[]burnin.Stuck{{Call: "nvmlDeviceGetName", PCI: "0000:48:00.0", Died: true, How: "signal: aborted"}}},
		{"dies only beside others", "if [ \"$2\" = -one-by-one ]; then echo '" + string(document) + "'; else echo '+ 0000:48:00.0 nvmlDeviceGetName' >&2; kill -ABRT $$; fi", "signal: aborted",
			[]burnin.Stuck{{Call: "nvmlDeviceGetName", PCI: "0000:48:00.0", Died: true, How: "signal: aborted"}}},
		{"dies, and is read again", "if [ \"$2\" = -one-by-one ]; then echo '+ 0000:58:00.0 nvmlDeviceGetName' >&2; else printf '+ 0000:48:00.0 nvmlDeviceGetName\\n+ 0000:58:00.0 nvmlDeviceGetName\\n' >&2; fi; kill -ABRT $$", "signal: aborted",
			[]burnin.Stuck{{Call: "nvmlDeviceGetName", PCI: "0000:58:00.0", Died: true, How: "signal: aborted"}}},
		{"fails", "exit 7", "firstlight-gpu: exit status 7", nil},
		{"says nothing", "exit 0", "what it printed is no reading", nil},
		{"babbles", "echo hello", "what it printed is no reading", nil},
		{"is of another version", `echo '{"version":99}'`, "it is of version 99", nil},
	}
	for _, tt := range cases {
		h := runHealth(t.Context(), 5*time.Minute, reader(t, tt.script), "health")
		if !strings.Contains(h.Library, tt.library) || (tt.library == "") != (h.Library == "") || !slices.Equal(h.Stuck, tt.stuck) {
			t.Errorf("%s: %+v; want library %q, stuck %+v", tt.name, h, tt.library, tt.stuck)
		}
	}
	if h := runHealth(t.Context(), time.Minute, filepath.Join(t.TempDir(), "none")); !strings.Contains(h.Library, "no such file") {
		t.Errorf("without a program: %+v", h)
	}
}

// A reader that hangs is ended, and what it hung in is named.
func TestRunHealthHangs(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	program := reader(t, "echo '+ - nvmlInit_v2' >&2; >"+begun+"; exec sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(begun); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	h := runHealth(ctx, time.Hour, program, "health")
	if want := []burnin.Stuck{{Call: "nvmlInit_v2", How: "did not return within 1h0m0s"}}; h.Library != "NVML hangs" || !slices.Equal(h.Stuck, want) {
		t.Errorf("%+v; want stuck %+v", h, want)
	}
}

// GPUs are read beside the other checks: here the reading ends only once a disk
// is read, and the disk, a pipe, can be opened only while GPUs are read.
func TestGPUsDelayNothing(t *testing.T) {
	fs := node().with(tree{"dev/nvme0n1": ""}).fs(t)
	disk := fs.Path("dev/nvme0n1")
	if err := unix.Mkfifo(disk, 0o600); err != nil {
		t.Fatal(err)
	}
	boot := healthyBoot()
	boot.ReadGPUs = func(context.Context) burnin.Health {
		f, err := os.OpenFile(disk, os.O_WRONLY, 0) // returns when the disk is read
		if err != nil {
			return burnin.Health{Library: err.Error()}
		}
		t.Cleanup(func() { f.Close() }) // not before: the disk may be opened twice
		return burnin.Health{Library: "NVML hangs", Stuck: []burnin.Stuck{{Call: "nvmlInit_v2", How: "did not return"}}}
	}
	done := make(chan []api.Check, 1)
	go func() { done <- Check(context.Background(), fs, boot) }()
	select {
	case checks := <-done:
		i := slices.IndexFunc(checks, func(c api.Check) bool { return c.Name == "gpu.hang" })
		if i < 0 || checks[i].Verdict != fail || !strings.Contains(checks[i].Reading, "nvmlInit_v2") {
			t.Errorf("a hang is not told: %+v", checks)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the disks wait for the GPUs")
	}
}

// The GPU of the fixture is on the bus, and one that is declared may not be.
func TestCheckReadsGPUs(t *testing.T) {
	none := func(context.Context) burnin.Health { return burnin.Health{Library: "no library"} }
	empty := func(context.Context) burnin.Health {
		return burnin.Health{Version: burnin.HealthVersion, Driver: burnin.Value{Text: "570"}}
	}
	bare := node().with(tree{"sys/bus/pci/devices/0000:18:00.0": ""})
	cases := []struct {
		name string
		tree tree
		boot Boot
		want map[string]string
	}{
		{"not asked for", node(), Boot{}, map[string]string{}},
		{"no GPU, none declared", bare, Boot{ReadGPUs: none}, map[string]string{"gpu": notApplicable}},
		{"no GPU, and one declared", bare, Boot{ReadGPUs: empty, GPUs: burnin.Declared{Count: 1}}, map[string]string{"gpu.driver": pass, "gpu.count": fail, "gpu.responds": notRun}},
		{"a GPU that the driver has not", node(), Boot{ReadGPUs: empty}, map[string]string{"gpu.driver": pass, "gpu.count": fail, "gpu.responds": fail}},
		{"a GPU without a driver", node(), Boot{ReadGPUs: none}, map[string]string{"gpu.driver": notRun}},
	}
	for _, tt := range cases {
		got := map[string]string{}
		for _, c := range Check(t.Context(), tt.tree.fs(t), tt.boot) {
			if c.Name == "gpu" || strings.HasPrefix(c.Name, "gpu.") {
				got[c.Name] = c.Verdict
			}
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: %v; want %v", tt.name, got, tt.want)
		}
		for name, verdict := range tt.want {
			if got[name] != verdict {
				t.Errorf("%s: %s = %s; want %s", tt.name, name, got[name], verdict)
			}
		}
	}
}
