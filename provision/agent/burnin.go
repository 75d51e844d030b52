package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
	"firstlight/provision/burnin"
)

// gpuProgram carries out burn-in orders with CUDA. It lies beside the agent, or
// in the node's image.
const gpuProgram = "firstlight-gpu"

// BurnWorkers starts the burn-in workers of an engine as child processes: the
// reference engine is this program itself, CUDA is firstlight-gpu.
func BurnWorkers(engine acceptance.Engine) (burnin.Starter, error) {
	switch engine {
	case acceptance.EngineReference:
		// Not by its name: as PID 1 its file may be on a root that is gone.
		return burnin.Process("/proc/self/exe", "burn", "-engine", string(engine)), nil
	case acceptance.EngineCUDA:
		program := gpuProgram
		if self, err := os.Executable(); err == nil {
			if _, err := os.Stat(filepath.Join(filepath.Dir(self), gpuProgram)); err == nil {
				program = filepath.Join(filepath.Dir(self), gpuProgram)
			}
		}
		path, err := exec.LookPath(program)
		if err != nil {
			return nil, fmt.Errorf("%s is not on this node: the image must hold it beside the agent, or in PATH", gpuProgram)
		}
		return burnin.Process(path, "burn"), nil
	}
	return nil, fmt.Errorf("no engine is called %q: cuda or reference", engine)
}

// GPUs are those that a burn-in by an engine takes, in PCI order. The reference
// engine plays as many as there are, or as are asked for.
func (fs FS) GPUs(engine acceptance.Engine, count int) []burnin.GPU {
	var out []burnin.GPU
	for _, d := range gpus(fs.pci()) {
		if engine == acceptance.EngineReference || strings.HasPrefix(d.ID, "10de:") {
			out = append(out, burnin.GPU{Index: len(out), PCI: d.Address})
		}
	}
	if engine != acceptance.EngineReference {
		return out
	}
	if count <= 0 {
		count = max(len(out), 1)
	}
	for len(out) < count {
		out = append(out, burnin.GPU{Index: len(out)})
	}
	return out[:count]
}

// BurnRunner is a runner over this machine's GPUs that watches its kernel's log
// from now on, and has firstlight-gpu read them before, during and after. done is called once it has run.
func BurnRunner(fs FS, engine acceptance.Engine, count int, start burnin.Starter) (r *burnin.Runner, done func()) {
	r = &burnin.Runner{Engine: engine, GPUs: fs.GPUs(engine, count), Start: start}
	if engine != acceptance.EngineCUDA {
		return r, func() {}
	}
	r.Health = GPUHealth
	fd, err := fs.openLogEnd()
	if err != nil {
		return r, func() {} // unwatched; its evidence says so
	}
	r.Watch = func(ctx context.Context, report func(burnin.Trouble)) { watchXid(ctx, fd, report) }
	return r, func() { unix.Close(fd) }
}

// CheckGPUs holds how many GPUs there are against how many there should be. 0:
// nothing is declared.
func CheckGPUs(found []burnin.GPU, declared int) acceptance.Check {
	c := acceptance.Check{Name: "burn-in.gpus", Verdict: acceptance.Pass, Part: "GPUs", Reading: fmt.Sprintf("%d", len(found)),
		Threshold: fmt.Sprintf("%d", declared), Source: "the node's declared hardware"}
	switch {
	case len(found) == 0:
		c.Verdict, c.Reading = acceptance.NotRun, "no NVIDIA GPU on the PCI bus"
	case declared > 0 && len(found) != declared:
		c.Verdict = acceptance.Fail
	case declared == 0:
		c.Verdict, c.Threshold = acceptance.NotApplicable, "none declared"
	}
	return c
}

// burnIn carries out a burn-in job.
func (a *Agent) burnIn(ctx context.Context, order *api.BurnIn, result *api.Result) {
	if order == nil {
		result.Error = "the burn-in job says not what to do: the controller is of another version"
		return
	}
	engine := acceptance.Engine(order.Engine)
	workers := a.Workers
	if workers == nil {
		workers = BurnWorkers
	}
	start, err := workers(engine)
	if err != nil {
		result.Error = err.Error()
		return
	}
	r, done := BurnRunner(a.FS, engine, order.GPUs, start)
	defer done()
	r.Seed, r.Fault = order.Seed, a.Fault
	if r.Health != nil && a.ReadGPUs != nil {
		r.Health = a.ReadGPUs
	}
	if f := order.Fault; f != nil && engine == acceptance.EngineReference {
		r.Fault = &burnin.Fault{Kind: burnin.FaultKind(f.Kind), GPU: f.GPU, SM: f.SM, After: f.After, Bit: f.Bit}
	}
	r.Progress = a.burnProgress
	var stages []burnin.Stage
	for _, s := range order.Stages {
		stages = append(stages, burnin.Stage{Name: s.Name, Seconds: s.Seconds, Source: s.Source})
	}
	burn := r.Run(ctx, stages, nil)
	for _, c := range append([]acceptance.Check{CheckGPUs(r.GPUs, order.GPUs)}, burnin.Checks(stages, burn)...) {
		result.Checks = append(result.Checks, api.Check{Name: c.Name, Verdict: string(c.Verdict), Reading: c.Reading,
			Threshold: c.Threshold, Source: c.Source, Part: c.Part})
	}
	raw, err := json.Marshal(burn)
	if err != nil {
		result.Error = fmt.Sprintf("encode burn-in: %v", err)
		return
	}
	result.BurnIn = &api.BurnInResult{Engine: string(burn.Engine), Data: raw}
}

// burnProgress logs how far the burn-in is, every so often.
func (a *Agent) burnProgress(p burnin.Progress) {
	a.run.mu.Lock()
	due := time.Since(a.run.burnTold) >= burnLogEvery
	if due {
		a.run.burnTold = time.Now()
	}
	a.run.mu.Unlock()
	if due {
		a.Log.Info("burn-in", "stage", p.Stage, "load", p.Load, "elapsed_s", int(p.Elapsed), "left_s", int(p.Left), "wrong", p.Wrong, "tflops", p.TFLOPs, "temp", p.Temp)
	}
}

// burnLogEvery is how often a burn-in says in the node's log how far it is.
const burnLogEvery = 30 * time.Second

// burnDeadline is when a burn-in job is given up: well past the time of its
// stages, which the runner bounds themselves.
func burnDeadline(order *api.BurnIn) time.Duration {
	total := 0.0
	if order != nil {
		for _, s := range order.Stages {
			total += s.Seconds
		}
	}
	return time.Duration(1.2*total*float64(time.Second)) + time.Hour
}

// xidLine is how the NVIDIA driver logs that a GPU is in trouble.
var xidLine = regexp.MustCompile(`NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)`)

// applicationXids are those that the program on the GPU can be the cause of, as
// when a worker is ended in the middle of its work (NVIDIA Xid Errors).
var applicationXids = []int{13, 31, 32, 43, 45}

// parseXid reads one line of the kernel's log.
func parseXid(line string) (burnin.Trouble, bool) {
	m := xidLine.FindStringSubmatch(line)
	if m == nil {
		if strings.Contains(line, "fallen off the bus") {
			return burnin.Trouble{Line: line}, true
		}
		return burnin.Trouble{}, false
	}
	code, err := strconv.Atoi(m[2])
	if err != nil || slices.Contains(applicationXids, code) {
		return burnin.Trouble{}, false
	}
	return burnin.Trouble{PCI: strings.ToLower(m[1]), Code: code, Line: line}, true
}

// openLogEnd opens the kernel's log at its end.
func (fs FS) openLogEnd() (int, error) {
	path := fs.Path("dev/kmsg")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "seek", Path: path, Err: err}
	}
	return fd, nil
}

// logEvery is how often the kernel's log is read.
const logEvery = 200 * time.Millisecond

// watchXid reports every line about a GPU that comes until ctx ends. It may be
// called again with the same log, and goes on where it was.
func watchXid(ctx context.Context, fd int, report func(burnin.Trouble)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if n > 0 {
			lines, _ := parseKmsg(string(buf[:n]))
			for _, line := range lines {
				if t, ok := parseXid(line); ok {
					report(t)
				}
			}
			continue
		}
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR) {
			continue
		}
		if sleep(ctx, logEvery) != nil {
			return
		}
	}
}
