package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/provision/agent"
	"firstlight/provision/agent/api"
)

var testKey = []byte("0123456789abcdef0123456789abcdef")

// register admits as a controller does: one nonce a boot.
type register struct {
	mu     sync.Mutex
	nonces map[string]string
}

func (g *register) admit(_ context.Context, h api.Hello, _ netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.nonces == nil {
		g.nonces = map[string]string{}
	}
	if n, used := g.nonces[h.BootID]; used && n != h.Nonce {
		return errors.New("token was used before")
	}
	g.nonces[h.BootID] = h.Nonce
	return nil
}

// front is the controller's address: the hub behind it can be replaced, as
// by a restart, or be away.
type front struct {
	hub    atomic.Pointer[Hub]
	server *httptest.Server
}

// crash takes the hub away with all its connections.
func (f *front) crash() {
	f.hub.Store(nil)
	f.server.CloseClientConnections()
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := f.hub.Load()
	if h == nil {
		panic(http.ErrAbortHandler) // a controller that is down
	}
	h.ServeHTTP(w, r)
}

func newFront(t *testing.T, h *Hub) (*front, string) {
	t.Helper()
	f := new(front)
	f.hub.Store(h)
	f.server = httptest.NewServer(f)
	t.Cleanup(func() { f.server.CloseClientConnections(); f.server.Close() })
	return f, f.server.URL
}

// start runs an agent until the test ends.
func start(t *testing.T, a *agent.Agent) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		if err := a.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v; want %v", err, context.Canceled)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
}

func newAgent(t *testing.T, h *Hub, url, node, boot string) *agent.Agent {
	t.Helper()
	fs := t.TempDir()
	write(t, fs, "proc/meminfo", "MemTotal:  2048 kB\n")
	write(t, fs, "proc/sys/kernel/osrelease", "6.1.0-test\n")
	write(t, fs, "proc/cpuinfo", "processor : 0\nmodel name : Test CPU\n")
	return &agent.Agent{
		Controller: url, Token: h.Token(node, boot, api.BootBringUp),
		Args: agent.Args{Node: node, BootID: boot, Kind: api.BootBringUp},
		FS:   agent.FS(fs), Backoff: 20 * time.Millisecond, Version: "test",
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) observe(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// wait returns the first event of a kind.
func (r *recorder) wait(t *testing.T, kind string) Event {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		for _, e := range r.events {
			if e.Kind == kind {
				r.mu.Unlock()
				return e
			}
		}
		r.mu.Unlock()
	}
	t.Fatalf("no event %q; have %+v", kind, r.events)
	return Event{}
}

func TestHelloJobResultLog(t *testing.T) {
	rec, reg := new(recorder), new(register)
	h := &Hub{Key: testKey, Admit: reg.admit, Observe: rec.observe, LogDir: t.TempDir()}
	_, url := newFront(t, h)
	a := newAgent(t, h, url, "n1", "b1")
	a.Stream = new(agent.LogBuffer)
	fmt.Fprintf(a.Stream, "hello \x1b[31mworld\n")
	a.Reports = []api.Report{{Kind: api.ReportBootFailed, Message: "digest differs"}}
	start(t, a)

	got, err := h.Do(soon(t), "n1", "b1", api.Job{ID: "j1", Kind: api.JobInspect})
	if err != nil {
		t.Fatal(err)
	}
	if got.Inspection == nil || got.Inspection.Memory.Total != 2<<20 || got.Inspection.CPU.Model != "Test CPU" {
		t.Errorf("Do(inspect) = %+v; want 2 MiB and Test CPU", got)
	}
	hello := rec.wait(t, EventHello)
	if hello.Node != "n1" || hello.BootID != "b1" || hello.Hello.KernelRelease != "6.1.0-test" {
		t.Errorf("hello event = %+v", hello)
	}
	if hello.Hello.Token != "" {
		t.Error("the event carries the token")
	}
	if r := rec.wait(t, EventReport); r.Report.Message != "digest differs" {
		t.Errorf("report event = %+v", r)
	}
	if at, ok := h.Seen("n1"); !ok || time.Since(at) > 10*time.Second {
		t.Errorf("Seen = %v, %v; want now", at, ok)
	}
	want := "hello ?[31mworld\n"
	file := filepath.Join(h.LogDir, "n1", "b1.log")
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(file)
		if strings.HasPrefix(string(b), want) {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("log = %q; want %q", b, want)
		}
	}
}

func TestUnknownJobAndDeadline(t *testing.T) {
	h := &Hub{Key: testKey, Admit: new(register).admit}
	_, url := newFront(t, h)
	start(t, newAgent(t, h, url, "n1", "b1"))
	got, err := h.Do(soon(t), "n1", "b1", api.Job{ID: "j", Kind: "dance"})
	if want := `agent test does not know jobs of kind "dance"`; err != nil || got.Error != want {
		t.Errorf("Do(dance) = %q, %v; want %q", got.Error, err, want)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.Do(ctx, "n2", "b2", api.Job{ID: "j", Kind: api.JobInspect}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Do for an absent agent = %v; want %v", err, context.DeadlineExceeded)
	}
	if n := len(h.boots[identity{node: "n2", boot: "b2"}].jobs); n != 0 {
		t.Errorf("%d jobs are left after their waiter went; want 0", n)
	}
}

// The controller restarts while the job runs. The agent is asked again by the
// new one, and does the work once.
func TestControllerRestart(t *testing.T) {
	reg := new(register)
	first := &Hub{Key: testKey, Admit: reg.admit}
	f, url := newFront(t, first)
	a := newAgent(t, first, url, "n1", "b1")
	begun, release := make(chan struct{}, 9), make(chan struct{})
	a.Settle = func(ctx context.Context) error {
		begun <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	start(t, a)
	ctx, crash := context.WithCancel(context.Background())
	gone := make(chan struct{})
	job := api.Job{ID: "j1", Kind: api.JobInspect}
	go func() { // ends when the first controller "crashes"
		defer close(gone)
		if _, err := first.Do(ctx, "n1", "b1", job); err == nil {
			t.Error("the first controller got a result")
		}
	}()
	<-begun
	f.crash()
	crash()
	<-gone
	close(release)                     // the work ends while no controller is there
	time.Sleep(100 * time.Millisecond) // the agent retries against nothing
	second := &Hub{Key: testKey, Admit: reg.admit}
	f.hub.Store(second)
	got, err := second.Do(soon(t), "n1", "b1", job)
	if err != nil || got.Inspection == nil {
		t.Fatalf("Do after the restart = %+v, %v; want an inspection", got, err)
	}
	// Asked a third time, after the result was accepted: from memory.
	again, err := second.Do(soon(t), "n1", "b1", job)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, again); d != "" {
		t.Errorf("the repeated job has another result (-first +again):\n%s", d)
	}
	if n := len(begun); n != 0 {
		t.Errorf("the work was done %d times; want once", n+1)
	}
}

func TestRebootIsAcknowledgedFirst(t *testing.T) {
	rec := new(recorder)
	h := &Hub{Key: testKey, Admit: new(register).admit, Observe: rec.observe}
	_, url := newFront(t, h)
	a := newAgent(t, h, url, "n1", "b1")
	done := make(chan string, 1)
	a.Reboot = func(kind string) {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		for _, e := range rec.events {
			if e.Kind == EventResult {
				done <- kind
				return
			}
		}
		done <- "before it was acknowledged"
	}
	start(t, a)
	if _, err := h.Do(soon(t), "n1", "b1", api.Job{ID: "j", Kind: api.JobPowerOff}); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != api.JobPowerOff {
		t.Errorf("Reboot(%q); want %q", got, api.JobPowerOff)
	}
}

// post sends one message as an agent would and returns the status.
func post(t *testing.T, url, session string, v any) (int, string) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+session)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestTokens(t *testing.T) {
	rec := new(recorder)
	h := &Hub{Key: testKey, Admit: new(register).admit, Observe: rec.observe}
	_, url := newFront(t, h)
	good := api.Hello{Node: "n1", BootID: "b1", Kind: api.BootImage, Token: h.Token("n1", "b1", api.BootImage), Nonce: "nonce-one"}
	with := func(f func(*api.Hello)) api.Hello { x := good; f(&x); return x }
	tests := []struct {
		name  string
		hello api.Hello
		want  int
	}{
		{"no token", with(func(h *api.Hello) { h.Token = "" }), 403},
		{"foreign node", with(func(h *api.Hello) { h.Node = "n2" }), 403},
		{"other boot", with(func(h *api.Hello) { h.BootID = "b2" }), 403},
		{"other kind", with(func(h *api.Hello) { h.Kind = api.BootBringUp }), 403},
		{"no nonce", with(func(h *api.Hello) { h.Nonce = "" }), 403},
		{"path in the name", with(func(x *api.Hello) { x.Node = "../n"; x.Token = h.Token("../n", "b1", x.Kind) }), 403},
		{"first use", good, 200},
		{"repeated, same nonce", good, 200},
		{"token reused with a new nonce", with(func(h *api.Hello) { h.Nonce = "nonce-two" }), 403},
		{"longer than allowed", with(func(h *api.Hello) { h.AgentVersion = strings.Repeat("x", maxHello) }), 413},
	}
	for _, tt := range tests {
		if got, body := post(t, url+api.PathHello, "", tt.hello); got != tt.want {
			t.Errorf("%s: hello = %d %s; want %d", tt.name, got, body, tt.want)
		}
	}
	e := rec.wait(t, EventRefused)
	if e.Reason != "token is not for this boot of this node" || e.Node != "n1" || !e.Remote.IsLoopback() {
		t.Errorf("refused event = %+v", e)
	}
}

func TestAdmitUnavailable(t *testing.T) {
	h := &Hub{Key: testKey, Admit: func(context.Context, api.Hello, netip.Addr) error {
		return fmt.Errorf("journal: %w", ErrUnavailable)
	}}
	_, url := newFront(t, h)
	hello := api.Hello{Node: "n1", BootID: "b1", Token: h.Token("n1", "b1", ""), Nonce: "nonce-one"}
	if got, _ := post(t, url+api.PathHello, "", hello); got != 503 {
		t.Errorf("hello = %d; want 503", got)
	}
}

func TestForeignSession(t *testing.T) {
	h := &Hub{Key: testKey, Admit: new(register).admit}
	_, url := newFront(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { // ends with cancel below
		_, err := h.Do(ctx, "n1", "b1", api.Job{ID: "j1", Kind: api.JobCheck})
		ended <- err
	}()
	for {
		if j, _ := h.next(identity{node: "n1", boot: "b1"}, nil); j != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	lie := api.Result{JobID: "j1", Kind: api.JobCheck, Checks: []api.Check{{Verdict: "pass"}}}
	other := h.session(identity{"n2", "b2", api.BootImage})
	earlier := h.session(identity{"n1", "b0", api.BootImage})
	mine := h.session(identity{"n1", "b1", api.BootImage})
	forged := mine[:strings.Index(mine, ".")] + other[strings.Index(other, "."):]
	for _, tt := range []struct {
		name, session string
		want          int
	}{
		{"another node's", other, 204}, {"an earlier boot's", earlier, 204},
		{"forged", forged, 401}, {"none", "", 401}, {"garbage", "a.b.c", 401},
		{"of another key", (&Hub{Key: []byte("x")}).session(identity{"n1", "b1", ""}), 401},
	} {
		if got, body := post(t, url+api.PathResult, tt.session, lie); got != tt.want {
			t.Errorf("%s session: result = %d %s; want %d", tt.name, got, body, tt.want)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Do = %v; want that no foreign session answered it", err)
	}
}

func TestWriteLog(t *testing.T) {
	h := &Hub{LogDir: t.TempDir(), LogCap: 40}
	id := identity{node: "n", boot: "b"}
	steps := []struct {
		name   string
		offset int64
		text   string
		want   string
	}{
		{"first", 0, "one\n", "one\n"},
		{"repeated", 0, "one\n", "one\n"},
		{"overlap", 2, "e\ntwo\n", "one\ntwo\n"},
		{"past is not rewritten", 0, "ONE\nTWO\nthree\n", "one\ntwo\nthree\n"},
		{"gap", 18, "four\n", "one\ntwo\nthree\n   \nfour\n"},
		{"control characters", 23, "\x1b[2Jx\r\n", "one\ntwo\nthree\n   \nfour\n?[2Jx?\n"},
		{"C1 and text in UTF-8", 30, "\u009bé", "one\ntwo\nthree\n   \nfour\n?[2Jx?\n??é"},
		{"cap", 34, "0123456789", "one\ntwo\nthree\n   \nfour\n?[2Jx?\n??é012345"},
		{"far past the cap", 1 << 60, "x", "one\ntwo\nthree\n   \nfour\n?[2Jx?\n??é012345"},
	}
	for _, s := range steps {
		if err := h.writeLog(id, s.offset, []byte(s.text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(h.LogDir, "n", "b.log"))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s.want, string(got)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", s.name, d)
		}
	}
}

// A result that the controller cannot take does not hang the job.
func TestResultTooLarge(t *testing.T) {
	h := &Hub{Key: testKey, Admit: new(register).admit}
	_, url := newFront(t, h)
	a := newAgent(t, h, url, "n1", "b1")
	write(t, string(a.FS), "proc/cpuinfo", "model name : "+strings.Repeat("x", maxResult)+"\n")
	start(t, a)
	got, err := h.Do(soon(t), "n1", "b1", api.Job{ID: "j", Kind: api.JobInspect})
	want := fmt.Sprintf("413 Request Entity Too Large: message is longer than %d bytes", maxResult)
	if err != nil || got.Inspection != nil || !strings.Contains(got.Error, want) {
		t.Errorf("Do = %.300q, %v; want the reason", got.Error, err)
	}
}

// A job that panics is an error of the job, and the agent lives on.
func TestJobPanics(t *testing.T) {
	h := &Hub{Key: testKey, Admit: new(register).admit}
	_, url := newFront(t, h)
	a := newAgent(t, h, url, "n1", "b1")
	panics := true
	a.Settle = func(context.Context) error {
		if panics {
			panics = false
			panic("bad driver")
		}
		return nil
	}
	start(t, a)
	got, err := h.Do(soon(t), "n1", "b1", api.Job{ID: "j1", Kind: api.JobInspect})
	if want := "inspect panicked on the node: bad driver; the stack is in the node's log"; err != nil || got.Error != want {
		t.Errorf("Do = %q, %v; want %q", got.Error, err, want)
	}
	if got, err := h.Do(soon(t), "n1", "b1", api.Job{ID: "j2", Kind: api.JobInspect}); err != nil || got.Error != "" {
		t.Errorf("the next job = %q, %v; want none", got.Error, err)
	}
}

// The agent waits for a controller that is not there yet, and for one that
// lost its key and got it back.
func TestAgentWaitsForController(t *testing.T) {
	h := &Hub{Key: testKey, Admit: new(register).admit}
	f, url := newFront(t, h)
	f.hub.Store(nil)
	start(t, newAgent(t, h, url, "n1", "b1"))
	time.Sleep(50 * time.Millisecond)
	f.hub.Store(&Hub{Key: []byte("another"), Admit: h.Admit})
	time.Sleep(100 * time.Millisecond)
	f.hub.Store(h)
	if got, err := h.Do(soon(t), "n1", "b1", api.Job{ID: "j", Kind: api.JobInspect}); err != nil || got.Inspection == nil {
		t.Errorf("Do = %+v, %v; want an inspection", got, err)
	}
}
