package bmc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"

	"firstlight/internal/refbmc"
	"firstlight/inventory"
)

func TestEndpointCheck(t *testing.T) {
	addr := netip.MustParseAddrPort("127.0.0.1:9")
	tests := []struct {
		name string
		ep   Endpoint
		want string
	}{
		{"no address", Endpoint{Node: "n1"}, "no valid address and UDP port are declared"},
		{"no port", Endpoint{Node: "n1", Address: netip.MustParseAddrPort("127.0.0.1:0")}, "no valid address and UDP port are declared"},
		{"long user", Endpoint{Node: "n1", Address: addr, Username: strings.Repeat("u", 17)}, "node n1: bmc 127.0.0.1:9: the user name is 17 bytes long and IPMI allows 16"},
		{"long password", Endpoint{Node: "n1", Address: addr, DeclaredAt: "a.hcl:3", Password: inventory.Secret(strings.Repeat("p", 21))},
			"node n1: bmc 127.0.0.1:9 (a.hcl:3): the password is 21 bytes long and IPMI allows 20"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c Client
			if _, err := c.Power(t.Context(), tt.ep); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Power: %v; want %q", err, tt.want)
			}
		})
	}
	if err := (Endpoint{Node: "n1", Address: addr, Username: strings.Repeat("u", 16), Password: inventory.Secret(strings.Repeat("p", 20))}).check(); err != nil {
		t.Errorf("the longest name and password: %v", err)
	}
}

// TestLongestPassword: all 20 bytes count.
func TestLongestPassword(t *testing.T) {
	r := startRef(t, &refbmc.BMC{})
	ep := endpoint(r.addr)
	var c Client
	ep.Password += "x"
	if _, err := c.Power(t.Context(), ep); err == nil {
		t.Error("a password with one byte more was accepted")
	}
}

// TestSecrecy looks for the password in everything that is printed of every kind
// of outcome.
func TestSecrecy(t *testing.T) {
	var out lockedBuffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	good := startRef(t, &refbmc.BMC{Log: log})
	reverting := startRef(t, &refbmc.BMC{Log: log, Faults: refbmc.Faults{RevertBootOverride: true}})
	silent := startRef(t, &refbmc.BMC{Log: log, Faults: refbmc.Faults{Silent: true}})
	c := &Client{Timeout: 300 * time.Millisecond, Log: log}
	wrong := endpoint(good.addr)
	wrong.Password += "-bad"
	long := endpoint(good.addr)
	long.Password += "-much-too-long"
	var kinds []string
	for _, ep := range []Endpoint{endpoint(good.addr), endpoint(reverting.addr), endpoint(silent.addr), wrong, long, {Password: plantedPassword}} {
		err := c.SetBoot(t.Context(), ep, Override{Device: BootPXE})
		js, _ := json.Marshal(map[string]any{"endpoint": ep, "error": err})
		fmt.Fprintf(&out, "%v %+v %#v %s %+v %#v %s\n", err, err, err, ep, ep, ep, js)
		log.Info("x", "endpoint", ep, "error", err)
		kinds = append(kinds, fmt.Sprintf("%T", err))
	}
	want := []string{"<nil>", "*bmc.ReadBackError", "*bmc.NoAnswerError", "*bmc.AuthError"}
	if d := cmp.Diff(want, kinds[:len(want)]); d != "" {
		t.Errorf("outcomes (-want +got):\n%s", d)
	}
	if !strings.Contains(out.String(), "hnode001") {
		t.Fatal("nothing was printed")
	}
	if strings.Contains(out.String(), plantedPassword) {
		t.Errorf("the password was printed:\n%s", out.String())
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestOneSessionPerBMC: a BMC has four slots and other people use them too.
func TestOneSessionPerBMC(t *testing.T) {
	r := startRef(t, &refbmc.BMC{})
	c := &Client{Concurrency: 4}
	var mu sync.Mutex
	var inside, most int
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			err := c.With(t.Context(), endpoint(r.addr), func(s *Session) error {
				mu.Lock()
				inside++
				most = max(most, inside)
				mu.Unlock()
				_, err := s.Power(t.Context())
				mu.Lock()
				inside--
				mu.Unlock()
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d sessions at once on one BMC; want 1", most)
	}
	nothingHeld(t, c)
}

// nothingHeld checks that the engine has forgotten all conversations.
func nothingHeld(t *testing.T, c *Client) {
	t.Helper()
	held := make(chan [4]int)
	c.engine.post(func() {
		turns := 0
		for _, g := range c.engine.targets {
			turns += len(g.queue)
			if g.current != nil {
				turns++
			}
		}
		held <- [4]int{turns, c.engine.talking, c.engine.live, len(c.engine.timers)}
	})
	if got := <-held; got != [4]int{} {
		t.Errorf("%v turns, slots, conversations and timers are still held; want none", got)
	}
}

// TestConcurrency: a fleet's conversations are bounded, and hung BMCs hold up
// nobody but their own callers.
func TestConcurrency(t *testing.T) {
	c := &Client{Concurrency: 2, Timeout: time.Second}
	var mu sync.Mutex
	var inside, most int
	var wg sync.WaitGroup
	for range 8 {
		r := startRef(t, &refbmc.BMC{})
		wg.Go(func() {
			err := c.With(t.Context(), endpoint(r.addr), func(s *Session) error {
				mu.Lock()
				inside++
				most = max(most, inside)
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
				mu.Lock()
				inside--
				mu.Unlock()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most > 2 {
		t.Errorf("%d conversations at once; want at most 2", most)
	}
}

func TestIdentity(t *testing.T) {
	tests := []struct {
		name, manufacturer, product, serial string
		want                                Identity
	}{
		{"usual", "Example Corp", "EX-200", "SN0042", Identity{Manufacturer: "Example Corp", Product: "EX-200", Serial: "SN0042", ChassisSerial: "SN0042"}},
		{"one letter, which would end the fields", "X", "Y", "Z", Identity{Manufacturer: "X", Product: "Y", Serial: "Z", ChassisSerial: "Z"}},
		{"longer than a read", strings.Repeat("m", 60), strings.Repeat("p", 63), "S", Identity{Manufacturer: strings.Repeat("m", 60), Product: strings.Repeat("p", 63), Serial: "S", ChassisSerial: "S"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &refbmc.BMC{Manufacturer: tt.manufacturer, Product: tt.product, Serial: tt.serial}
			var c Client
			got, err := c.Identity(t.Context(), endpoint(startRef(t, b).addr))
			if err != nil {
				t.Fatal(err)
			}
			if len(got.GUID) != 36 || got.GUID[14] != '8' {
				t.Errorf("GUID = %q; want a version 8 UUID", got.GUID)
			}
			tt.want.GUID, tt.want.Firmware = got.GUID, "1.00"
			tt.want.BoardSerial, tt.want.BoardPart = tt.serial+"-B", "B-1"
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("Identity (-want +got):\n%s", d)
			}
		})
	}
}

// badFRU is a wire with a damaged FRU behind it.
type badFRU struct{ fru []byte }

func (w badFRU) call(_ context.Context, req request) ([]byte, error) {
	switch req.command.ID {
	case types.CommandGetFRUInventoryAreaInfo.ID:
		return []byte{byte(len(w.fru)), byte(len(w.fru) >> 8), 0}, nil
	case types.CommandReadFRUData.ID:
		at, n := int(req.data[1])|int(req.data[2])<<8, int(req.data[3])
		return append([]byte{byte(n)}, w.fru[at:at+n]...), nil
	}
	return nil, &commandError{command: req.command, code: types.CodeInvalidCommand}
}

func (badFRU) sleep(context.Context, time.Duration) error { return nil }

// FuzzFRU feeds FRU images to the reader: it may fail, not fall over.
func FuzzFRU(f *testing.F) {
	fru, err := types.PackFRU(types.FRUPackConfig{
		Chassis: &types.FRUPackChassis{Type: 0x17, Serial: "SN0042"},
		Product: &types.FRUPackProduct{Manufacturer: "Example Corp", Name: "EX-200", Serial: "SN0042"},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fru)
	f.Add(fru[:20])
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0x83, 0x41, 0x42, 0x43, 0xb1})
	f.Fuzz(func(t *testing.T, fru []byte) {
		if len(fru) > 0xffff {
			return
		}
		// Both through the checksums and past them.
		var id Identity
		_ = (&Session{wire: badFRU{fru}}).fru(t.Context(), &id)
		fruFields(fru, 3)(2)
	})
}

// FuzzUnseal feeds packets to an open session: none is ours, and none may panic.
func FuzzUnseal(f *testing.F) {
	k := &keys{suite: suites()[0], bmcID: 7, consoleID: 9, k1: make([]byte, 32), k2: make([]byte, 32)}
	pkt, err := k.seal(1, message(request{command: types.CommandGetChassisStatus}, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pkt)
	f.Add(pkt[:20])
	f.Fuzz(func(t *testing.T, pkt []byte) {
		if _, _, err := k.unseal(pkt, types.PayloadTypeIPMI); err == nil {
			t.Errorf("a packet that is addressed to the BMC was taken as its reply: % x", pkt)
		}
		parseReply(pkt, request{}, 0)
	})
}

func TestSealUnseal(t *testing.T) {
	for _, su := range suites() {
		k := &keys{suite: su, bmcID: 7, consoleID: 7, k1: bytes.Repeat([]byte{1}, 32), k2: bytes.Repeat([]byte{2}, 32)}
		for n := range 40 {
			payload := bytes.Repeat([]byte{0xab}, n)
			pkt, err := k.seal(5, payload)
			if err != nil {
				t.Fatal(err)
			}
			seq, got, err := k.unseal(pkt, types.PayloadTypeIPMI)
			if err != nil || seq != 5 || !bytes.Equal(got, payload) {
				t.Fatalf("suite %d, %d bytes: unseal = %d, % x, %v", su.id, n, seq, got, err)
			}
			for i := rmcpSize; i < len(pkt); i++ {
				pkt[i] ^= 1
				if _, _, err := k.unseal(pkt, types.PayloadTypeIPMI); err == nil {
					t.Fatalf("suite %d: byte %d of %d changed and the packet was accepted", su.id, i, len(pkt))
				}
				pkt[i] ^= 1
			}
		}
	}
}

// BenchmarkStatus is one power status: login, status, close.
func BenchmarkStatus(b *testing.B) {
	for _, s := range []int{17, 3} {
		b.Run(fmt.Sprintf("suite=%d", s), func(b *testing.B) {
			r := startRef(b, &refbmc.BMC{Suites: []int{s}})
			var c Client
			for b.Loop() {
				if _, err := c.Power(b.Context(), endpoint(r.addr)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFleet is the power status of 100 and 1,000 BMCs.
func BenchmarkFleet(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("bmcs=%d", n), func(b *testing.B) {
			var refs []*ref
			for range n {
				refs = append(refs, startRef(b, &refbmc.BMC{}))
			}
			var c Client
			for b.Loop() {
				var wg sync.WaitGroup
				for _, r := range refs {
					wg.Go(func() {
						if _, err := c.Power(b.Context(), endpoint(r.addr)); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
			}
		})
	}
}
