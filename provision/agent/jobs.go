package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"firstlight/provision/agent/api"
	"firstlight/provision/burnin"
)

// task is one job and, once it is done, its result. It is remembered for the
// whole boot, so that a controller that restarted gets the same answer.
type task struct {
	job    api.Job
	active bool        // worked on, or its result is not yet delivered
	result *api.Result // nil until done
}

// serve polls for jobs until ctx ends.
func (a *Agent) serve(ctx context.Context) error {
	wait := backoff{longest: a.Backoff}
	lost := false
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		job, code, err := a.poll(ctx)
		switch {
		case err == nil:
			if lost {
				a.Log.Info("controller is back")
			}
			lost, wait = false, backoff{longest: a.Backoff}
			if job != nil {
				a.take(ctx, *job)
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.Canceled): // by finish: poll again at once
		case code == http.StatusUnauthorized:
			a.Log.Warn("controller does not know this session; saying hello again")
			if err := a.hello(ctx); err != nil {
				return err
			}
		default:
			if !lost {
				a.Log.Warn("cannot ask for jobs; trying on", "err", err)
				lost = true
			}
			if err := sleep(ctx, wait.next()); err != nil {
				return err
			}
		}
	}
}

// poll asks for a job; nil means that there was none for a while.
func (a *Agent) poll(ctx context.Context) (*api.Job, int, error) {
	q := url.Values{"wait": {pollWait.String()}}
	if have := a.active(); len(have) > 0 {
		q.Set("have", strings.Join(have, ","))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.run.mu.Lock()
	a.run.repoll = cancel
	a.run.mu.Unlock()
	var job api.Job
	code, err := a.run.do(ctx, pollWait+15*time.Second, http.MethodGet, api.PathJob+"?"+q.Encode(), nil, &job)
	if err != nil || code == http.StatusNoContent {
		return nil, code, err
	}
	if job.ID == "" {
		return nil, code, fmt.Errorf("controller sent a job without an id (status %d)", code)
	}
	return &job, code, nil
}

func (a *Agent) active() []string {
	a.run.mu.Lock()
	defer a.run.mu.Unlock()
	var ids []string
	for id, t := range a.run.jobs {
		if t.active {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// take starts a job, or answers it from memory.
func (a *Agent) take(ctx context.Context, job api.Job) {
	a.run.mu.Lock()
	t, known := a.run.jobs[job.ID]
	if !known {
		t = &task{job: job}
		a.run.jobs[job.ID] = t
	}
	busy := t.active
	t.active = true
	a.run.mu.Unlock()
	if busy {
		return
	}
	a.spawn(func() { a.finish(ctx, t) }) // ends when the result is delivered or with ctx
}

// finish works on t unless it is done already, delivers the result, and
// carries out what is to happen after the acknowledgement.
func (a *Agent) finish(ctx context.Context, t *task) {
	a.run.mu.Lock()
	result := t.result
	a.run.mu.Unlock()
	repeated := result != nil
	if repeated {
		a.Log.Info("job handed out again; answering from memory", "job", t.job.ID, "kind", t.job.Kind)
	} else {
		a.Log.Info("job starts", "job", t.job.ID, "kind", t.job.Kind)
		started := time.Now()
		r := a.work(ctx, t.job)
		if ctx.Err() != nil {
			return
		}
		a.Log.Info("job ends", "job", r.JobID, "kind", r.Kind, "took", time.Since(started).Round(time.Millisecond).String(), "err", r.Error)
		result = &r
		a.run.mu.Lock()
		t.result = result
		a.run.mu.Unlock()
	}
	err := a.deliver(ctx, api.PathResult, result)
	if err != nil && ctx.Err() == nil {
		short := api.Result{JobID: result.JobID, Kind: result.Kind, Error: fmt.Sprintf("controller does not take the result: %v", err)}
		err = a.deliver(ctx, api.PathResult, short)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		a.Log.Error("controller does not take a result", "job", t.job.ID, "err", err)
	}
	a.run.mu.Lock()
	t.active = false
	// The poll under way says that this agent has the job in hand. A restarted
	// controller that took the result before it asked for it waits for that to end.
	a.run.repoll()
	a.run.mu.Unlock()
	if kind := t.job.Kind; (kind == api.JobReboot || kind == api.JobPowerOff) && !repeated && a.Reboot != nil {
		a.Log.Info("acknowledged; "+kind+" now", "job", t.job.ID)
		a.flush(ctx)
		a.Reboot(kind)
	}
}

// work runs a job in a goroutine of its own, so that a probe that hangs in
// the kernel (a dying disk) or panics costs this job and nothing else.
func (a *Agent) work(ctx context.Context, job api.Job) api.Result {
	limit := inspectDeadline
	switch job.Kind {
	case api.JobCheck:
		limit = checkDeadline
	case api.JobBurnIn:
		limit = burnDeadline(job.BurnIn)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan api.Result, 1)
	go func() { // ends when the job does; abandoned if it hangs past the deadline
		result := api.Result{JobID: job.ID, Kind: job.Kind}
		defer func() {
			if p := recover(); p != nil {
				a.Log.Error("job panicked", "job", job.ID, "kind", job.Kind, "panic", p, "stack", string(debug.Stack()))
				result.Error = fmt.Sprintf("%s panicked on the node: %v; the stack is in the node's log", job.Kind, p)
			}
			done <- result
		}()
		a.perform(ctx, job, &result)
	}()
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
		return api.Result{JobID: job.ID, Kind: job.Kind, Error: fmt.Sprintf("%s did not finish within %s on the node", job.Kind, limit)}
	}
}

func (a *Agent) perform(ctx context.Context, job api.Job, result *api.Result) {
	if (job.Kind == api.JobInspect || job.Kind == api.JobCheck || job.Kind == api.JobBurnIn) && a.Settle != nil {
		if err := a.Settle(ctx); err != nil {
			result.Error = fmt.Sprintf("waiting for the node's drivers: %v", err)
			return
		}
	}
	switch job.Kind {
	case api.JobInspect:
		found := Inspect(ctx, a.FS)
		result.Inspection = &found
	case api.JobCheck:
		result.Checks = Check(ctx, a.FS, a.boot(job.GPUs))
	case api.JobBurnIn:
		a.burnIn(ctx, job.BurnIn, result)
	case api.JobReboot, api.JobPowerOff: // done after the acknowledgement
	default:
		result.Error = fmt.Sprintf("agent %s does not know jobs of kind %q", a.Version, job.Kind)
	}
}

// boot is what a check needs to know. Without declared GPUs none are read.
func (a *Agent) boot(declared *api.GPUs) Boot {
	b := Boot{
		MAC: a.Args.MAC, ClockOffset: a.clockOffset(),
		Kind: a.Args.Kind, RootDeclared: a.Args.Root, RootMeasured: a.RootDigest,
	}
	if declared != nil {
		b.GPUs = burnin.Declared{Count: declared.Count, ID: declared.PCIID, Model: declared.Model, Memory: declared.Memory, NVLinks: declared.NVLinks, Source: declared.Source}
		if b.ReadGPUs = a.ReadGPUs; b.ReadGPUs == nil {
			b.ReadGPUs = GPUHealth
		}
	}
	return b
}

// deliver posts v until the controller has it. It fails with ctx, and when the
// controller says that it will never take this message (400, 413).
func (a *Agent) deliver(ctx context.Context, path string, v any) error {
	wait := backoff{longest: a.Backoff}
	for attempt := 1; ; attempt++ {
		code, err := a.run.do(ctx, postTimeout, http.MethodPost, path, v, nil)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge {
			return err
		}
		if attempt == 1 || attempt%10 == 0 {
			a.Log.Warn("cannot deliver; trying on", "path", path, "status", code, "err", err)
		}
		if err := sleep(ctx, wait.next()); err != nil {
			return err
		}
	}
}
