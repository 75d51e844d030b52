package cuda

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// The environment that makes this test program a worker.
const (
	asWorker = "FIRSTLIGHT_CUDA_WORKER" // path of the driver's library
	withNVML = "FIRSTLIGHT_CUDA_NVML"   // path of NVML's
	patience = "FIRSTLIGHT_CUDA_PATIENCE"
)

func TestMain(m *testing.M) {
	if lib := os.Getenv(asWorker); lib != "" {
		wait, _ := time.ParseDuration(os.Getenv(patience))
		if err := (Worker{Library: lib, Management: cmp.Or(os.Getenv(withNVML), "none.so"), Patience: wait}).Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is the stand-ins for NVIDIA's libraries, once they were needed.
var built struct {
	sync.Once
	dir string
	err error
}

// libraries builds those of testdata and returns where they are.
func libraries(t *testing.T) (cuda, nvml string) {
	t.Helper()
	clang, err := exec.LookPath("clang-19")
	if err != nil {
		t.Skip("needs clang-19")
	}
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "firstlight-libcuda-"); built.err != nil {
			return
		}
		for name, args := range map[string][]string{
			"libcuda.so.1":      {"-x", "c++", "-std=c++17", "-O2", "-fno-exceptions", "-fno-rtti", "-Wall", "-Werror", "testdata/libcuda.cc"},
			"libnvidia-ml.so.1": {"-O2", "-Wall", "-Werror", "testdata/libnvml.c"},
		} {
			out, err := exec.Command(clang, append([]string{"-fPIC", "-shared", "-o", filepath.Join(built.dir, name)}, args...)...).CombinedOutput()
			if err != nil {
				built.err = fmt.Errorf("%w\n%s", err, out)
			}
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "libcuda.so.1"), filepath.Join(built.dir, "libnvidia-ml.so.1")
}

func order(mod func(*burnin.Order)) burnin.Order {
	o := burnin.Order{Version: burnin.ProtocolVersion, Engine: acceptance.EngineCUDA, Load: burnin.LoadGEMM,
		Shape: burnin.Shape{M: 256, N: 384, K: 512}, Seed: 42, Iterations: 2, Prove: true}
	if mod != nil {
		mod(&o)
	}
	return o
}

// work has a worker of its own process carry out an order.
func work(t *testing.T, o burnin.Order, env ...string) ([]burnin.Event, error) {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, feed := io.Pipe()
	defer feed.Close()
	go feed.Write(raw) // ends when the worker has read it
	cmd := exec.CommandContext(t.Context(), self)
	lib, _ := libraries(t)
	cmd.Env = append(append(os.Environ(), asWorker+"="+lib), env...)
	cmd.WaitDelay = time.Second
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	go io.Copy(pipe, in) // ends with feed
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if errs.Len() > 0 {
		t.Logf("worker: %s", &errs)
	}
	var all []burnin.Event
	for dec := json.NewDecoder(&out); dec.More(); {
		var e burnin.Event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all, err
}

func pick(events []burnin.Event, kind burnin.EventKind) []burnin.Event {
	var out []burnin.Event
	for _, e := range events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}
