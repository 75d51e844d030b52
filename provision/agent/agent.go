package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/agent/api"
	"firstlight/provision/burnin"
)

// Agent is one boot of one node. Controller, Args and Token are needed; the
// zero value of everything else is useful.
type Agent struct {
	Controller string // base URL; "" means Args.Controller
	Args       Args
	Token      string // one-time
	Nonce      string // "" means a random one, chosen once by Run
	RootDigest string // of the root file system, as measured; "" when there is none
	Address    string // provisioning address of this node
	Version    string // of the agent

	FS      FS            // the machine; "" means "/"
	HTTP    *http.Client  // nil means one that uses no proxy
	Log     *slog.Logger  // nil discards
	Stream  *LogBuffer    // streamed to the controller; nil streams nothing
	Reports []api.Report  // posted right after hello
	Backoff time.Duration // the longest wait between two attempts; 0 means 5 s

	// Reboot is called with api.JobReboot or api.JobPowerOff once the
	// controller has the acknowledgement. nil ignores both.
	Reboot func(kind string)
	// Settle is called before each inspection and check, and returns when the
	// machine's drivers are loaded. nil means that they are.
	Settle func(ctx context.Context) error
	// Workers starts the burn-in workers of an engine. nil means BurnWorkers.
	Workers func(engine acceptance.Engine) (burnin.Starter, error)
	// ReadGPUs reads the GPUs of a node that is declared to have some. nil means
	// GPUHealth.
	ReadGPUs func(ctx context.Context) burnin.Health
	// Fault is planted in every burn-in, by labs; nil for none.
	Fault *burnin.Fault

	run struct {
		client
		mu     sync.Mutex
		offset *time.Duration // the node's clock less the controller's
		jobs   map[string]*task
		repoll context.CancelFunc // ends the poll under way
		done   sync.WaitGroup

		burnTold time.Time // when a burn-in was last heard of

		streaming sync.Mutex // held while a chunk of log travels
		streamed  int64      // offset up to which the controller has the log
	}
}

// How long the agent works on a job before it answers that it did not finish.
const (
	inspectDeadline = 3 * time.Minute
	checkDeadline   = 10 * time.Minute
)

// Timing of the protocol.
const (
	firstBackoff   = 250 * time.Millisecond
	longestBackoff = 5 * time.Second
	refusedBackoff = 15 * time.Second // after a 403: a person may have to look
	helloTimeout   = 10 * time.Second
	postTimeout    = 30 * time.Second
	pollWait       = 25 * time.Second // how long the controller holds a poll
)

// Run says hello and serves jobs until ctx ends; it returns ctx's error and
// only then. A controller that does not answer, answers nonsense or restarts
// is waited for.
func (a *Agent) Run(ctx context.Context) error {
	a.prepare()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := a.hello(ctx); err != nil {
		return err
	}
	if a.Stream != nil {
		a.spawn(func() { a.stream(ctx) }) // ends with ctx
	}
	for _, r := range a.Reports {
		a.spawn(func() { // ends when delivered or with ctx
			if err := a.deliver(ctx, api.PathReport, r); err != nil && ctx.Err() == nil {
				a.Log.Error("controller does not take a report", "report", r.Message, "err", err)
			}
		})
	}
	err := a.serve(ctx)
	cancel()
	a.run.done.Wait()
	return err
}

// spawn runs f in a goroutine that Run waits for. A panic in it is logged: as
// PID 1 the agent would take the kernel with it.
func (a *Agent) spawn(f func()) {
	a.run.done.Add(1)
	go func() { // ends with f
		defer a.run.done.Done()
		defer func() {
			if p := recover(); p != nil {
				a.Log.Error("agent panicked", "panic", p, "stack", string(debug.Stack()))
			}
		}()
		f()
	}()
}

func (a *Agent) prepare() {
	if a.Controller == "" {
		a.Controller = a.Args.Controller
	}
	if a.FS == "" {
		a.FS = "/"
	}
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	if a.HTTP == nil {
		a.HTTP = &http.Client{Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}}
	}
	if a.Nonce == "" {
		a.Nonce = rand.Text()
	}
	if a.Backoff <= 0 {
		a.Backoff = longestBackoff
	}
	a.run.client = client{base: strings.TrimRight(a.Controller, "/"), http: a.HTTP}
	a.run.jobs = map[string]*task{}
}

// hello repeats until the controller admits this boot. A refusal is retried
// too: the controller may have been restored from a backup, or be the wrong
// one of two, and a person will put that right while the node waits.
func (a *Agent) hello(ctx context.Context) error {
	wait := backoff{longest: a.Backoff}
	for attempt := 1; ; attempt++ {
		var reply api.HelloReply
		before := time.Now()
		code, err := a.run.do(ctx, helloTimeout, http.MethodPost, api.PathHello, a.message(), &reply)
		if err == nil && reply.Session == "" {
			err = fmt.Errorf("%s%s: the reply has no session: is this a firstlight controller?", a.run.base, api.PathHello)
		}
		if err == nil {
			after := time.Now()
			a.admitted(reply, before.Add(after.Sub(before)/2))
			a.Log.Info("controller admitted this boot", "controller", a.Controller, "attempt", attempt)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause := wait.next()
		if code == http.StatusForbidden {
			pause = max(pause, min(refusedBackoff, 3*a.Backoff))
			a.Log.Error("controller refuses this boot: the token is used, wrong or another node's; power the node on again through the controller", "err", err)
		} else if attempt == 1 || attempt%10 == 0 {
			a.Log.Warn("controller does not answer; trying on", "attempt", attempt, "err", err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (a *Agent) message() api.Hello {
	return api.Hello{
		Node: a.Args.Node, BootID: a.Args.BootID, Kind: a.Args.Kind,
		Token: a.Token, Nonce: a.Nonce, AgentVersion: a.Version,
		KernelRelease: a.FS.line("proc/sys/kernel/osrelease"),
		Image:         a.Args.Image, RootDigest: a.RootDigest,
		MACs: a.FS.macs(), Address: a.Address,
		UptimeSeconds: a.FS.uptime(), Time: time.Now(),
	}
}

func (a *Agent) admitted(reply api.HelloReply, at time.Time) {
	a.run.setSession(reply.Session)
	if reply.Time.IsZero() {
		return
	}
	offset := at.Sub(reply.Time)
	a.run.mu.Lock()
	a.run.offset = &offset
	a.run.mu.Unlock()
}

// clockOffset is the node's clock less the controller's, nil before hello.
func (a *Agent) clockOffset() *time.Duration {
	a.run.mu.Lock()
	defer a.run.mu.Unlock()
	return a.run.offset
}

// backoff doubles from firstBackoff to longest.
type backoff struct{ last, longest time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, firstBackoff), b.longest)
	return b.last
}

// sleep waits for d or until ctx ends, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
