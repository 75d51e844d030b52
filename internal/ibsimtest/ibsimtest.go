// Package ibsimtest runs ibsim, the InfiniBand fabric simulator of Debian's
// ibsim-utils, and the diagnostic tools against it: the foreign peer that our
// reading of fabrics is tested with. It needs no /dev/infiniband and no root.
package ibsimtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// preloads are where the library lies that turns a tool's MADs into messages to
// ibsim, on any architecture.
const preloads = "/usr/lib/*/umad2sim/libumad2sim.so"

var runs atomic.Int64

// Sim is a running simulator.
type Sim struct {
	// Console takes ibsim's commands, as `Unlink "leaf-01"[1]`.
	Console io.Writer
	// Socket is the name that its sockets begin with, its IBSIM_SOCKNAME.
	Socket string

	t       testing.TB
	preload string
	host    string
	log     output
}

// Start simulates the fabric of a net file until the test ends. Tools see it
// from the node that is called attach in the file. A test without ibsim or the
// tools is skipped.
func Start(t testing.TB, netFile, attach string) *Sim {
	t.Helper()
	for _, tool := range []string{"ibsim", "ibnetdiscover"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	preload, _ := filepath.Glob(preloads)
	if len(preload) == 0 {
		t.Skipf("needs %s", preloads)
	}
	file := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(file, []byte(netFile), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &Sim{t: t, preload: preload[0], host: attach, Socket: fmt.Sprintf("firstlight-%d-%d", os.Getpid(), runs.Add(1))}
	nodes, switches := strings.Count(netFile, "\nCa"), strings.Count(netFile, "\nSwitch")
	cmd := exec.Command("ibsim", "-s", "-N", strconv.Itoa(nodes+switches+8), "-S", strconv.Itoa(switches+8),
		"-P", strconv.Itoa(3*(nodes+8)+(switchPorts+2)*(switches+8)), file)
	cmd.Env = append(os.Environ(), "IBSIM_SOCKNAME="+s.Socket)
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	console, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Console = console
	t.Cleanup(func() {
		console.Close() // the end of its console is its own
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("ibsim: %s", s.log.String())
		}
	})
	return s
}

// Run runs one tool against the simulated fabric and returns what it prints.
// While the simulator still reads its file, the tool is tried again.
func (s *Sim) Run(tool string, args ...string) string {
	s.t.Helper()
	var errs bytes.Buffer
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		errs.Reset()
		out, err := s.once(&errs, tool, args...)
		if err == nil {
			return out
		}
		if time.Since(begin) > 20*time.Second {
			s.t.Fatalf("%s %q: %v\n%s", tool, args, err, errs.String())
		}
	}
}

func (s *Sim) once(errs io.Writer, tool string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.WaitDelay = time.Second
	// The library makes a sys-PID directory where a tool is started, and leaves
	// it there when the tool is killed.
	cmd.Dir = s.t.TempDir()
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+s.preload, "SIM_HOST="+s.host, "IBSIM_SOCKNAME="+s.Socket)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, errs
	err := cmd.Run()
	return out.String(), err
}

// prompt is what the simulator prints when it has carried out a command.
const prompt = "sim> "

// Do types commands at the simulator's console, and waits until they are done.
func (s *Sim) Do(commands ...string) {
	s.t.Helper()
	done := 1 // it begins with a prompt
	for _, c := range append([]string{"# begin"}, commands...) {
		s.wait(done)
		done = s.log.count(prompt) + 1
		if _, err := fmt.Fprintln(s.Console, c); err != nil {
			s.t.Fatal(err)
		}
	}
	s.wait(done)
}

func (s *Sim) wait(prompts int) {
	s.t.Helper()
	for begin := time.Now(); s.log.count(prompt) < prompts; time.Sleep(time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			s.t.Fatalf("the simulator does not carry out its commands:\n%s", s.log.String())
		}
	}
}

// output is what a process printed, while it still prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) count(text string) int { return strings.Count(o.String(), text) }

// Manage runs opensm once, from the node of that name: every port gets a LID
// and becomes Active. A test without opensm is skipped.
func (s *Sim) Manage(node string) {
	s.t.Helper()
	if _, err := exec.LookPath("opensm"); err != nil {
		s.t.Skip("needs opensm")
	}
	dir := s.t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "opensm", "-o", "-R", "updn", "-f", filepath.Join(dir, "log"))
	cmd.WaitDelay = time.Second
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+s.preload, "SIM_HOST="+node, "IBSIM_SOCKNAME="+s.Socket, "OSM_TMP_DIR="+dir, "OSM_CACHE_DIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("opensm: %v\n%s", err, out)
	}
}
