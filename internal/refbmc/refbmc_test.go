package refbmc

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"
)

const testUser, testPassword = "admin", "s3cret-0123456789ab"

// testMachine is a machine that starts and stops at once and keeps what it was
// told.
type testMachine struct {
	mu    sync.Mutex
	on    bool
	boots []Boot
	calls []string
	fail  error // returned by PowerOn
}

func (m *testMachine) PowerOn(_ context.Context, boot Boot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, "on")
	if m.fail != nil {
		return m.fail
	}
	m.on, m.boots = true, append(m.boots, boot)
	return nil
}

func (m *testMachine) PowerOff(context.Context) error { return m.off("off") }
func (m *testMachine) SoftOff(context.Context) error  { return m.off("soft") }

func (m *testMachine) off(call string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls, m.on = append(m.calls, call), false
	return nil
}

func (m *testMachine) breakDown(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *testMachine) Powered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}

// eventLog collects the kinds of events.
type eventLog struct {
	mu    sync.Mutex
	kinds map[string]int
}

func (l *eventLog) observe(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds == nil {
		l.kinds = make(map[string]int)
	}
	l.kinds[e.Kind]++
}

func (l *eventLog) count(kind string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kinds[kind]
}

// serve runs b on a free port until the test ends.
func serve(t *testing.T, b *BMC) netip.AddrPort {
	t.Helper()
	ready := make(chan netip.AddrPort, 1)
	b.Listen, b.Username, b.Password = "127.0.0.1:0", testUser, testPassword
	b.Ready = func(a netip.AddrPort) { ready <- a }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v; want nil after cancel", err)
		}
	})
	select {
	case a := <-ready:
		return a
	case err := <-done:
		done <- err
		t.Fatalf("Serve = %v", err)
	case <-time.After(5 * time.Second):
		t.Fatal("Serve did not bind in 5 s")
	}
	panic("unreachable")
}

func TestTakeBoot(t *testing.T) {
	pxeOnce := []byte{5, 0xa0, 0x04, 0, 0, 0}
	pxeAlways := []byte{5, 0xe0, 0x04, 0, 0, 0}
	keep := []byte{3, 0x08}
	tests := []struct {
		name   string
		faults Faults
		set    [][]byte
		wait   time.Duration
		want   []Boot // of successive boots
	}{
		{"nothing set", Faults{}, nil, 0, []Boot{{}}},
		{"once", Faults{}, [][]byte{pxeOnce}, 0, []Boot{{Device: "pxe", EFI: true}, {}}},
		{"persistent", Faults{}, [][]byte{pxeAlways}, 0, []Boot{{Device: "pxe", EFI: true, Persistent: true}, {Device: "pxe", EFI: true, Persistent: true}}},
		{"legacy disk", Faults{}, [][]byte{{5, 0x80, 0x08, 0, 0, 0}}, 0, []Boot{{Device: "disk"}}},
		{"flags not valid", Faults{}, [][]byte{{5, 0x20, 0x04, 0, 0, 0}}, 0, []Boot{{}}},
		{"expired", Faults{}, [][]byte{pxeOnce}, 60 * time.Second, []Boot{{}}},
		{"not yet expired", Faults{}, [][]byte{pxeOnce}, 59 * time.Second, []Boot{{Device: "pxe", EFI: true}}},
		{"expiry cancelled", Faults{}, [][]byte{keep, pxeOnce}, time.Hour, []Boot{{Device: "pxe", EFI: true}}},
		{"persistent expires too", Faults{}, [][]byte{pxeAlways}, 61 * time.Second, []Boot{{}}},
		{"ignored, and consumed", Faults{IgnoreBootOverride: true}, [][]byte{pxeOnce}, 0, []Boot{{}, {}}},
		{"reverted", Faults{RevertBootOverride: true}, [][]byte{pxeOnce}, 0, []Boot{{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1e9, 0)
			b := &BMC{Faults: tt.faults, now: func() time.Time { return now }}
			for _, req := range tt.set {
				if _, cc, err := b.setBootOptions(t.Context(), nil, req); cc != 0 || err != nil {
					t.Fatalf("setBootOptions(% x) = %#02x, %v; want OK", req, cc, err)
				}
			}
			now = now.Add(tt.wait)
			var got []Boot
			for range tt.want {
				got = append(got, b.TakeBoot())
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("TakeBoot (-want +got):\n%s", d)
			}
		})
	}
}

func TestBootOptionsReadBack(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := &BMC{now: func() time.Time { return now }}
	set := func(req ...byte) byte {
		_, cc, _ := b.setBootOptions(t.Context(), nil, req)
		return byte(cc)
	}
	get := func(param byte) []byte {
		out, _, _ := b.getBootOptions(t.Context(), nil, []byte{param, 0, 0})
		return out
	}
	set(5, 0xa0, 0x04, 1, 2, 3)
	if d := cmp.Diff([]byte{1, 5, 0xa0, 0x04, 1, 2, 3}, get(5)); d != "" {
		t.Errorf("parameter 5 (-want +got):\n%s", d)
	}
	now = now.Add(time.Minute)
	if d := cmp.Diff([]byte{1, 5, 0x20, 0x04, 1, 2, 3}, get(5)); d != "" {
		t.Errorf("parameter 5 after 60 s (-want +got):\n%s", d)
	}
	set(4, 0x01, 0x01)
	set(4, 0x02, 0x00)
	if d := cmp.Diff([]byte{1, 4, 0, 1}, get(4)); d != "" {
		t.Errorf("parameter 4 (-want +got):\n%s", d)
	}
	for _, tt := range []struct {
		req  []byte
		want byte
	}{
		{nil, 0xc6}, {[]byte{5, 0xa0}, 0xc6}, {[]byte{7, 1}, 0x80},
		{[]byte{0, 1}, 0}, {[]byte{0, 1}, 0x81}, {[]byte{0, 0}, 0},
	} {
		if got := set(tt.req...); got != tt.want {
			t.Errorf("setBootOptions(% x) = %#02x; want %#02x", tt.req, got, tt.want)
		}
	}
}

// slowMachine takes its time to start.
type slowMachine struct {
	testMachine
	release chan struct{}
}

func (m *slowMachine) PowerOn(ctx context.Context, boot Boot) error {
	select {
	case <-m.release:
	case <-ctx.Done():
	}
	return m.testMachine.PowerOn(ctx, boot)
}

// TestSlowMachine: the BMC answers before the machine has started, starts it
// once however often it is asked, and says that it is busy before it forgets.
func TestSlowMachine(t *testing.T) {
	m := &slowMachine{release: make(chan struct{})}
	b := &BMC{Machine: m, Log: slog.New(slog.DiscardHandler)}
	w := &powerWorker{bmc: b, ops: make(chan powerOp, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.run(ctx) })
	h := &handlers.HandlerContext{User: &bmc.User{Name: testUser}}
	began := time.Now()
	var got []types.CompletionCode
	for range 3 {
		_, cc, _ := w.chassisControl(t.Context(), h, []byte{1})
		got = append(got, cc)
	}
	if d := cmp.Diff([]types.CompletionCode{types.CodeOK, types.CodeOK, types.CodeNodeBusy}, got); d != "" {
		t.Errorf("completion codes (-want +got):\n%s", d)
	}
	if d := time.Since(began); d > 4*replyWithin {
		t.Errorf("three answers took %s", d)
	}
	close(m.release)
	for i := 0; !m.Powered() || len(w.ops) > 0; i++ {
		if i > 200 {
			t.Fatal("the machine did not start")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	if len(m.boots) != 1 {
		t.Errorf("started %d times; want 1", len(m.boots))
	}
}
