package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"firstlight/provision/agent/api"
	"firstlight/provision/burnin"
)

// healthProgram reads GPUs. It lies beside the agent, or in the node's image.
const healthProgram = "firstlight-gpu"

// healthDeadline is how long it may take. It gives up each call that hangs by
// itself, after seconds; this is for when it cannot even do that.
const healthDeadline = 30 * time.Second

// GPUHealth reads the node's GPUs with firstlight-gpu, a process of its own:
// NVML can hang, or end the process that it is in. What happens to that is part
// of the result.
func GPUHealth(ctx context.Context) burnin.Health {
	program := healthProgram
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), healthProgram)
		if _, err := os.Stat(beside); err == nil {
			program = beside
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return burnin.Health{Library: healthProgram + " is not on this node: the image must hold it beside the agent, or in PATH"}
	}
	return runHealth(ctx, healthDeadline, path, "health")
}

// runHealth runs a program that reads GPUs. When it dies, it is run again with
// one GPU after the other: the call that it dies in is then known.
func runHealth(ctx context.Context, limit time.Duration, program string, args ...string) burnin.Health {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	h, died := runHealthOnce(ctx, limit, program, args...)
	if died && ctx.Err() == nil {
		if again, diedAgain := runHealthOnce(ctx, limit, program, append(slices.Clone(args), "-one-by-one", "-interval", "1ms")...); diedAgain {
			return again
		}
	}
	return h
}

// runHealthOnce does not wait for a process that cannot be killed, as one that
// sleeps in the driver: that is left behind.
func runHealthOnce(ctx context.Context, limit time.Duration, program string, args ...string) (h burnin.Health, died bool) {
	cmd := exec.Command(program, args...)
	out := &document{done: make(chan struct{})}
	calls := &underWay{open: map[string]string{}}
	cmd.Stdout, cmd.Stderr = out, calls
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return burnin.Health{Library: err.Error()}, false
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process; abandoned when that cannot be killed
	var err error
	select {
	case err = <-ended:
		out.end()
	case <-out.done: // the whole document is there: its process may hang where it ends
		go cmd.Process.Kill()
	case <-ctx.Done():
		go cmd.Process.Kill()
		select { // what it told until now is still to be read
		case <-ended:
		case <-time.After(2 * cmd.WaitDelay):
		}
		return burnin.Health{Library: "NVML hangs", Stuck: calls.stuck(false, fmt.Sprintf("did not return within %s", limit))}, false
	}
	h, jsonErr := out.health()
	switch {
	case jsonErr == nil:
		return h, false
	case err != nil:
		return burnin.Health{Library: fmt.Sprintf("%s: %v", filepath.Base(program), err), Stuck: calls.stuck(true, err.Error())}, true
	}
	return burnin.Health{Library: fmt.Sprintf("%s: %v", filepath.Base(program), jsonErr)}, false
}

// document collects one line of JSON.
type document struct {
	mu   sync.Mutex
	text []byte
	over bool
	done chan struct{} // closed once the line is whole
}

// most is how large a document may be: a GPU takes some 4 KiB.
const most = 4 << 20

// Write keeps what belongs to the first line.
func (d *document) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return len(p), nil
	}
	if len(d.text)+len(p) > most {
		return 0, errors.New("more than 4 MiB of output")
	}
	d.text = append(d.text, p...)
	if slices.Contains(p, '\n') {
		d.over = true
		close(d.done)
	}
	return len(p), nil
}

// end says that nothing more comes.
func (d *document) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}

func (d *document) health() (burnin.Health, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var h burnin.Health
	if err := json.Unmarshal(d.text, &h); err != nil {
		return h, fmt.Errorf("what it printed is no reading: %w", err)
	}
	if h.Version != burnin.HealthVersion {
		return h, fmt.Errorf("it is of version %d, and this agent of %d", h.Version, burnin.HealthVersion)
	}
	return h, nil
}

// underWay follows which calls a reader has begun and not ended, by the lines
// "+ PCI SYMBOL" and "- PCI SYMBOL" that it writes.
type underWay struct {
	mu   sync.Mutex
	rest string
	open map[string]string // PCI address, "-" for none -> symbol
}

// Write takes whole lines, and keeps a piece of one for later.
func (u *underWay) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rest += string(p)
	for {
		line, rest, ok := strings.Cut(u.rest, "\n")
		if !ok {
			u.rest = u.rest[max(0, len(u.rest)-4096):]
			return len(p), nil
		}
		u.rest = rest
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		switch f[0] {
		case "+":
			u.open[f[1]] = f[2]
		case "-":
			delete(u.open, f[1])
		}
	}
}

// stuck are the calls under way.
func (u *underWay) stuck(died bool, how string) []burnin.Stuck {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []burnin.Stuck
	for _, pci := range slices.Sorted(maps.Keys(u.open)) {
		out = append(out, burnin.Stuck{Call: u.open[pci], PCI: strings.TrimPrefix(pci, "-"), Died: died, How: how})
	}
	return out
}

// startGPUs begins to read the GPUs, beside all other checks. The function that
// it gives waits for that to end, and judges.
func (fs FS) startGPUs(ctx context.Context, boot Boot) func() []api.Check {
	onBus := []string{}
	for _, d := range gpus(fs.pci()) {
		if strings.HasPrefix(d.ID, "10de:") {
			onBus = append(onBus, d.Address)
		}
	}
	if boot.ReadGPUs == nil {
		return func() []api.Check { return nil }
	}
	if len(onBus) == 0 && boot.GPUs.Count == 0 {
		return func() []api.Check {
			return []api.Check{{Name: "gpu", Verdict: notApplicable, Reading: "no NVIDIA GPU on the PCI bus, and none declared", Threshold: "GPUs as declared", Source: firstlightOwn + "nothing to check", Part: "GPUs"}}
		}
	}
	read := make(chan burnin.Health, 1)
	go func() { read <- boot.ReadGPUs(ctx) }() // ends with ctx at the latest
	return func() []api.Check {
		h := <-read
		var out []api.Check
		for _, c := range burnin.JudgeHealth(h, burnin.ClassOf(boot.GPUs, h), onBus) {
			out = append(out, api.Check{Name: c.Name, Verdict: string(c.Verdict), Reading: c.Reading, Threshold: c.Threshold, Source: c.Source, Part: c.Part})
		}
		return out
	}
}
