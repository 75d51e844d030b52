package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/agent"
	"firstlight/provision/burnin"
)

const burninUsage = `firstlight-agent burnin: put this machine's GPUs under load and check every result

usage: firstlight-agent burnin [flags]

All GPUs work together, each under a child process of its own. Products are of
integers with one right answer, verified on the CPU; before anything counts, one
bit is corrupted on purpose and must be found. What was not run is no pass.

  -gemm 60s        matrix products for so long; 0 leaves them out
  -hbm-sweep       write and verify all GPU memory, pattern by pattern (default; -hbm-sweep=false leaves it out)
  -soak 24h        every load in turns for so long, after the others
  -gpus 8          how many GPUs there should be
  -max-temp 90     end when a GPU is hotter, in degrees Celsius
  -engine cuda     cuda, or reference: the same on a CPU, which proves nothing about GPUs
  -also LIST       then ask these programs too, where the node has them: dcgmi (or dcgmi:1 to :3,
                   the level), nvbandwidth, nccl (all_reduce_perf); they can add failures, and stand for nothing of the above
  -state FILE      keep what is done in FILE; run again with it, it goes on there
  -json            print JSON
  -junit FILE      write JUnit XML for a CI
  -quiet           say nothing on the way

It exits with 0 when everything passes, 1 when something fails, 3 when nothing
fails but something could not be run or was stopped. Ctrl-C stops it cleanly.

examples:
  firstlight-agent burnin
  firstlight-agent burnin -gpus 8 -soak 24h -state /var/tmp/burnin.json
  firstlight-agent burnin -gpus 8 -also dcgmi:2,nvbandwidth,nccl
  firstlight-agent burnin -json | jq '.checks[] | select(.verdict != "pass")'
  firstlight-agent burnin -engine reference -gemm 5s -gpus 2 # try it without a GPU
`

// burninOptions are the verb's flags.
type burninOptions struct {
	gemm, soak   time.Duration
	sweep        bool
	gpus         int
	maxTemp      float64
	engine       string
	also         string
	state, junit string
	json, quiet  bool
	fault        string // undocumented: planted by tests, with the reference engine
}

// burninReport is what burnin -json prints. Fields are added, never changed.
type burninReport struct {
	Engine acceptance.Engine  `json:"engine"`
	Notice string             `json:"notice,omitempty"`
	Checks []acceptance.Check `json:"checks"`
	Began  time.Time          `json:"began"`
	GPUs   []burnin.GPU       `json:"gpus"`
	Cover  burnin.Coverage    `json:"coverage"`
	Hours  float64            `json:"gpu_hours"`
	State  string             `json:"state,omitempty"` // where samples are kept
}

// referenceNotice goes with every result of the reference engine.
const referenceNotice = "REFERENCE ENGINE: computed on a CPU in place of GPUs; this says nothing about GPUs"

func burninFlags(args []string) (burninOptions, error) {
	opt := burninOptions{}
	f := flag.NewFlagSet("burnin", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.DurationVar(&opt.gemm, "gemm", time.Minute, "")
	f.DurationVar(&opt.soak, "soak", 0, "")
	f.BoolVar(&opt.sweep, "hbm-sweep", true, "")
	f.IntVar(&opt.gpus, "gpus", 0, "")
	f.Float64Var(&opt.maxTemp, "max-temp", burnin.DefaultTemp, "")
	f.StringVar(&opt.engine, "engine", string(acceptance.EngineCUDA), "")
	f.StringVar(&opt.also, "also", "", "")
	f.StringVar(&opt.state, "state", "", "")
	f.StringVar(&opt.junit, "junit", "", "")
	f.BoolVar(&opt.json, "json", false, "")
	f.BoolVar(&opt.quiet, "quiet", false, "")
	f.StringVar(&opt.fault, "plant", "", "")
	if err := f.Parse(args); err != nil {
		return opt, err
	}
	switch {
	case f.NArg() > 0:
		return opt, fmt.Errorf("unknown argument %q", f.Arg(0))
	case opt.gemm < 0 || opt.soak < 0 || opt.gpus < 0 || opt.maxTemp <= 0:
		return opt, errors.New("times, counts and temperatures are positive")
	case opt.engine != string(acceptance.EngineCUDA) && opt.engine != string(acceptance.EngineReference):
		return opt, fmt.Errorf("no engine is called %q: cuda or reference", opt.engine)
	case opt.gemm == 0 && opt.soak == 0 && !opt.sweep:
		return opt, errors.New("nothing is left to do: give -gemm, -hbm-sweep or -soak")
	case opt.fault != "" && opt.engine != string(acceptance.EngineReference):
		return opt, errors.New("a fault is planted with the reference engine only")
	case opt.also != "" && opt.engine != string(acceptance.EngineCUDA):
		return opt, errors.New("other programs are asked with the cuda engine only")
	}
	_, err := burnin.ParseAlso(opt.also, opt.gpus)
	return opt, err
}

// stages are those that the flags ask for.
func (opt burninOptions) stages() []burnin.Stage {
	const source = "command line"
	var out []burnin.Stage
	if opt.gemm > 0 {
		out = append(out, burnin.Stage{Name: burnin.StageGEMM, Seconds: opt.gemm.Seconds(), Source: source})
	}
	if opt.sweep {
		out = append(out, burnin.Stage{Name: burnin.StageSweep, Source: source})
	}
	if opt.soak > 0 {
		out = append(out, burnin.Stage{Name: burnin.StageSoak, Seconds: opt.soak.Seconds(), Source: source})
	}
	return out
}

// burnIn is the verb.
func burnIn(ctx context.Context, root agent.FS, args []string, stdout, stderr io.Writer) int {
	opt, err := burninFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, burninUsage)
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "firstlight-agent burnin: %v; see firstlight-agent burnin -help\n", err)
		return exitUsage
	}
	engine := acceptance.Engine(opt.engine)
	var fault *burnin.Fault
	if opt.fault != "" {
		if err := json.Unmarshal([]byte(opt.fault), &fault); err != nil {
			fmt.Fprintf(stderr, "firstlight-agent burnin: -plant: %v\n", err)
			return exitUsage
		}
	}
	stages := opt.stages()
	resume, err := readState(opt.state, engine, stages)
	if err != nil {
		fmt.Fprintf(stderr, "firstlight-agent burnin: %v\n", err)
		return exitFail
	}
	start, err := agent.BurnWorkers(engine)
	if err != nil {
		// Without workers nothing runs: the report says so, line by line.
		fmt.Fprintf(stderr, "firstlight-agent burnin: %v\n", err)
		missing := err
		start = func(burnin.Order) (*burnin.Worker, error) { return nil, missing }
	}
	r, done := agent.BurnRunner(root, engine, opt.gpus, start)
	defer done()
	r.Limits.Temp, r.Seed, r.Fault = opt.maxTemp, burnin.Seed, fault
	show := &burninProgress{w: stderr, terminal: isTerminal(stderr), quiet: opt.quiet}
	r.Progress = show.update
	var stateErr error
	r.Saved = func(b *burnin.Burn) { stateErr = errors.Join(stateErr, writeState(opt.state, b)) }
	burn := r.Run(ctx, stages, resume)
	show.end()
	if stateErr = errors.Join(stateErr, writeState(opt.state, burn)); stateErr != nil {
		fmt.Fprintf(stderr, "firstlight-agent burnin: %v\n", stateErr)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "firstlight-agent burnin: stopped"+resumeHint(opt.state))
	}
	report := burninReport{Engine: engine, Checks: append([]acceptance.Check{agent.CheckGPUs(r.GPUs, opt.gpus)}, burnin.Checks(stages, burn)...),
		Began: burn.Began, GPUs: r.GPUs, State: opt.state}
	report.Cover, report.Hours = burn.Coverage()
	report.Checks = append(report.Checks, opt.askOthers(ctx, len(r.GPUs), report.Checks, burn.Device())...)
	if engine == acceptance.EngineReference {
		report.Notice = referenceNotice
	}
	return report.print(opt, burn, stdout, stderr)
}

// askOthers asks the programs of -also, once own checks are known.
func (opt burninOptions) askOthers(ctx context.Context, gpus int, own []acceptance.Check, device string) []acceptance.Check {
	programs, err := burnin.ParseAlso(opt.also, gpus)
	if err != nil { // the flag was read before: it names others now
		return []acceptance.Check{{Name: "burn-in.also", Verdict: acceptance.NotRun, Part: "GPUs", Reading: err.Error(), Threshold: "carried out to its end", Source: "command line"}}
	}
	return agent.RunAlso(ctx, programs, own, device)
}

func resumeHint(state string) string {
	if state == "" {
		return "; nothing was kept: with -state FILE it could be gone on with"
	}
	return "; the same command goes on where it was"
}

// print says what was found, everywhere it was asked for, and gives the exit
// status.
func (r burninReport) print(opt burninOptions, burn *burnin.Burn, stdout, stderr io.Writer) int {
	code, known := map[acceptance.Verdict]int{acceptance.Pass: exitOK, acceptance.NotRun: exitNotRun}[acceptance.Evidence{Checks: r.Checks}.Verdict()]
	if !known {
		code = exitFail
	}
	if opt.junit != "" {
		var buf bytes.Buffer
		err := acceptance.WriteChecksJUnit(&buf, "burn-in by the "+string(r.Engine)+" engine", "burn-in", r.Checks, r.Began, time.Since(r.Began))
		if err == nil {
			err = os.WriteFile(opt.junit, buf.Bytes(), 0o644)
		}
		if err != nil {
			fmt.Fprintf(stderr, "firstlight-agent burnin: %v\n", err)
			code = max(code, exitFail)
		}
	}
	if opt.json {
		if failed := printJSON(r, stdout, stderr); failed != exitOK {
			return failed
		}
		return code
	}
	if r.Notice != "" {
		fmt.Fprintln(stdout, r.Notice)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	// What did not pass is what one looks for: it comes last.
	slices.SortStableFunc(r.Checks, func(a, b acceptance.Check) int { return rank(a) - rank(b) })
	for _, c := range r.Checks {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s (want %s)\n", c.Verdict, c.Name, c.Part, c.Reading, c.Threshold)
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(stderr, "firstlight-agent:", err)
		return exitFail
	}
	fmt.Fprintf(stdout, "\n%s: %s\n", acceptance.Evidence{Checks: r.Checks}.Verdict(), burn.Covered())
	return code
}

func rank(c acceptance.Check) int {
	return slices.Index([]acceptance.Verdict{acceptance.NotApplicable, acceptance.Pass, acceptance.NotRun, acceptance.Fail}, c.Verdict)
}

// readState is what an earlier run of the same burn-in left, or nil.
func readState(file string, engine acceptance.Engine, stages []burnin.Stage) (*burnin.Burn, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	var b burnin.Burn
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, fmt.Errorf("read state %s: %w", file, err)
	}
	if why := b.Continues(engine, stages); why != "" {
		return nil, fmt.Errorf("%s holds another burn-in (%s): remove it, or give another -state", file, why)
	}
	return &b, nil
}

// writeState replaces the state file as a whole or not at all.
func writeState(file string, b *burnin.Burn) error {
	if file == "" {
		return nil
	}
	raw, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".burnin-*")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	defer os.Remove(tmp.Name()) // fails once it is renamed
	_, err = tmp.Write(raw)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// burnWorker is the other end of the reference engine's order, in a process of
// its own.
func burnWorker(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if !slices.Equal(args, []string{"-engine", string(acceptance.EngineReference)}) {
		fmt.Fprintln(stderr, "firstlight-agent burn: is for burnin's own use, with -engine reference")
		return exitUsage
	}
	if err := burnin.ServeReference(ctx, stdin, stdout); err != nil {
		fmt.Fprintln(stderr, "firstlight-agent burn:", err)
		return exitFail
	}
	return exitOK
}

// burninProgress shows how far it is: one line that changes on a terminal, a
// line now and then elsewhere.
type burninProgress struct {
	w               io.Writer
	terminal, quiet bool
	mu              sync.Mutex
	told            time.Time
	drawn           bool
}

// linesEvery is how often a line is written where none can be changed.
const linesEvery = 30 * time.Second

func (p *burninProgress) update(now burnin.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet || !p.terminal && time.Since(p.told) < linesEvery {
		return
	}
	p.told = time.Now()
	line := fmt.Sprintf("%s: %s, %s done, %s left", now.Stage, now.Load, round(now.Elapsed), round(now.Left))
	if now.TFLOPs > 0 {
		line += fmt.Sprintf(", %.3g TFLOP/s", now.TFLOPs)
	}
	if now.Temp > 0 {
		line += fmt.Sprintf(", %.0f °C at most", now.Temp)
	}
	if now.Wrong > 0 {
		line += fmt.Sprintf(", %d WRONG", now.Wrong)
	}
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		p.drawn = true
		return
	}
	fmt.Fprintln(p.w, line)
}

func (p *burninProgress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func round(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
