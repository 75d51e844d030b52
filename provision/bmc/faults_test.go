package bmc

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"

	"firstlight/internal/refbmc"
)

func TestNoAnswer(t *testing.T) {
	closed, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	closedAddr := closed.LocalAddr().(*net.UDPAddr).AddrPort()
	closed.Close()
	silent := startRef(t, &refbmc.BMC{Faults: refbmc.Faults{Silent: true}})
	tests := []struct {
		name   string
		addr   netip.AddrPort
		closed bool
		within time.Duration
		want   string
	}{
		{"closed port", closedAddr, true, 200 * time.Millisecond, "does not listen on that UDP port"},
		{"silent", silent.addr, false, 1500 * time.Millisecond, "did not answer for 1."},
	}
	c := &Client{Timeout: 1200 * time.Millisecond}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			_, err := c.Power(t.Context(), endpoint(tt.addr))
			if d := time.Since(began); d > tt.within {
				t.Errorf("took %s; want at most %s", d, tt.within)
			}
			var none *NoAnswerError
			if !errors.As(err, &none) || none.PortClosed != tt.closed {
				t.Fatalf("Power: %v; want *NoAnswerError, port closed %v", err, tt.closed)
			}
			for _, part := range []string{"node hnode001", tt.addr.String(), "nodes.hcl:12", tt.want} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error lacks %q: %v", part, err)
				}
			}
		})
	}
}

// TestLoginEvents counts what the BMC itself sees of a wrong password.
func TestLoginEvents(t *testing.T) {
	r := startRef(t, &refbmc.BMC{})
	ep := endpoint(r.addr)
	ep.Password = "wrong"
	var c Client
	var auth *AuthError
	if err := c.SetBoot(t.Context(), ep, Override{Device: BootPXE, EFI: true}); !errors.As(err, &auth) {
		t.Fatalf("SetBoot: %v; want *AuthError", err)
	}
	time.Sleep(50 * time.Millisecond) // the refusal that we send is not waited for
	got := map[string]int{"login-attempt": r.count("login-attempt"), "login-refused": r.count("login-refused"),
		"login": r.count("login"), "boot-override": r.count("boot-override")}
	want := map[string]int{"login-attempt": 1, "login-refused": 1, "login": 0, "boot-override": 0}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

// TestOverrideOnBoot follows overrides to the machine.
func TestOverrideOnBoot(t *testing.T) {
	once, always := Override{Device: BootPXE, EFI: true}, Override{Device: BootPXE, EFI: true, Persistent: true}
	onceBoot, alwaysBoot := refbmc.Boot{Device: "pxe", EFI: true}, refbmc.Boot{Device: "pxe", EFI: true, Persistent: true}
	tests := []struct {
		name   string
		faults refbmc.Faults
		set    Override
		held   bool          // SetBoot succeeds
		boots  []refbmc.Boot // on, then cycle
		after  Override      // read after both
	}{
		{"once", refbmc.Faults{}, once, true, []refbmc.Boot{onceBoot, {}}, Override{}},
		{"persistent", refbmc.Faults{}, always, true, []refbmc.Boot{alwaysBoot, alwaysBoot}, always},
		{"cleared", refbmc.Faults{}, Override{}, true, []refbmc.Boot{{}, {}}, Override{}},
		{"ignored", refbmc.Faults{IgnoreBootOverride: true}, once, true, []refbmc.Boot{{}, {}}, Override{}},
		{"reverted", refbmc.Faults{RevertBootOverride: true}, once, false, []refbmc.Boot{{}, {}}, Override{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startRef(t, &refbmc.BMC{Faults: tt.faults})
			var c Client
			err := c.With(t.Context(), endpoint(r.addr), func(s *Session) error {
				err := s.SetBoot(t.Context(), tt.set)
				var back *ReadBackError
				if held := err == nil; held != tt.held || !held && !errors.As(err, &back) {
					t.Errorf("SetBoot: %v; want held %v", err, tt.held)
				}
				if !tt.held && !strings.Contains(err.Error(), `(nodes.hcl:12) accepted the boot override "pxe uefi once" and reads back "none"`) {
					t.Errorf("SetBoot: %v", err)
				}
				if err := s.SetPower(t.Context(), ActionOn); err != nil {
					return err
				}
				if err := s.SetPower(t.Context(), ActionCycle); err != nil {
					return err
				}
				after, err := s.Boot(t.Context())
				if after != tt.after {
					t.Errorf("Boot afterwards = %s; want %s", after, tt.after)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.boots, r.machine.started()); d != "" {
				t.Errorf("boots (-want +got):\n%s", d)
			}
		})
	}
}

func TestPowerNotReached(t *testing.T) {
	r := startRef(t, &refbmc.BMC{})
	r.machine.force(false, true)
	c := &Client{PowerWithin: 300 * time.Millisecond}
	err := c.SetPower(t.Context(), endpoint(r.addr), ActionOn)
	var back *ReadBackError
	if !errors.As(err, &back) || back.What != "power" || back.Wanted != "on" || back.Got != "off" {
		t.Errorf("SetPower(on) of a stuck machine: %v; want *ReadBackError on, off", err)
	}
}

// network is something that UDP may do to packets.
type network struct {
	name string
	tap  *tap
}

func networks() []network {
	one := func(pkt []byte) [][]byte { return [][]byte{pkt} }
	random := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex // two relays draw from random
	lossy := func(n int, pkt []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(10) == 0 {
			return nil
		}
		return one(pkt)
	}
	var held []byte
	return []network{
		{"every reply doubled", &tap{reply: func(_ int, pkt []byte) [][]byte { return [][]byte{pkt, pkt} }}},
		{"every request doubled", &tap{request: func(_ int, pkt []byte) [][]byte { return [][]byte{pkt, pkt} }}},
		{"each reply repeats the last", &tap{reply: func(_ int, pkt []byte) [][]byte {
			out := [][]byte{held, pkt}
			held = pkt
			return out
		}}},
		{"first request lost", &tap{request: func(n int, pkt []byte) [][]byte {
			if n == 0 {
				return nil
			}
			return one(pkt)
		}}},
		{"RAKP message 2 lost", &tap{reply: func(n int, pkt []byte) [][]byte {
			if n == 1 {
				return nil
			}
			return one(pkt)
		}}},
		{"one in ten lost each way", &tap{request: lossy, reply: lossy}},
		{"slower than the first retransmission", &tap{delay: 1200 * time.Millisecond}},
		{"rubbish before each reply", &tap{reply: func(n int, pkt []byte) [][]byte {
			cut := append([]byte(nil), pkt[:len(pkt)-1]...)
			short := append([]byte(nil), pkt...)
			short[14], short[15] = 3, 0
			return [][]byte{{}, {6, 0, 255, 7}, cut, short, pkt}
		}}},
	}
}

// TestUnreliableNetwork runs a whole recipe through each of them.
func TestUnreliableNetwork(t *testing.T) {
	for _, tt := range networks() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startRef(t, &refbmc.BMC{})
			ep := endpoint(startTap(t, r.addr, tt.tap).addr)
			c := &Client{Timeout: 15 * time.Second}
			err := c.With(t.Context(), ep, func(s *Session) error {
				if err := s.SetBoot(t.Context(), Override{Device: BootPXE, EFI: true}); err != nil {
					return err
				}
				return s.SetPower(t.Context(), ActionOn)
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]refbmc.Boot{{Device: "pxe", EFI: true}}, r.machine.started()); d != "" {
				t.Errorf("boots (-want +got):\n%s", d)
			}
		})
	}
}

// TestForgery is about replies that the BMC did not send.
func TestForgery(t *testing.T) {
	// A chassis status "on" in an IPMI 1.5 packet without authentication.
	status := message(request{command: types.CommandGetChassisStatus, data: []byte{0, 1, 0, 0}}, 1)
	status[1] |= 1 << 2
	v15 := append([]byte{6, 0, 255, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(status))}, status...)
	const refusalSize = 8 // Open Session Response and RAKP messages with a status that is not 0, §13.18–13.23
	forge := func(kind types.PayloadType, change func([]byte)) func(int, []byte) [][]byte {
		return func(_ int, pkt []byte) [][]byte {
			// A refusal, as of a request sent twice, is shorter than the reply
			// that is to be forged, and stays.
			if k, _, _, _, payload, ok := parseHeader(pkt); ok && k == kind && len(payload) > refusalSize {
				change(payload)
			}
			return [][]byte{v15, pkt}
		}
	}
	tests := []struct {
		name  string
		reply func(int, []byte) [][]byte
		want  string // in the error; "": the truth is read
	}{
		{"1.5 reply", forge(types.PayloadTypeSOL, nil), ""},
		{"weaker integrity granted", forge(types.PayloadTypeRmcpOpenSessionResponse, func(p []byte) { p[24] = 0 }), "something else granted"},
		{"no encryption granted", forge(types.PayloadTypeRmcpOpenSessionResponse, func(p []byte) { p[32] = 0 }), "something else granted"},
		{"BMC that does not know the password", forge(types.PayloadTypeRAKPMessage2, func(p []byte) { p[45] ^= 1 }), "wrong user name or password"},
		{"changed check value", forge(types.PayloadTypeRAKPMessage4, func(p []byte) { p[10] ^= 1 }), "wrong check value"},
		{"changed reply", forge(types.PayloadTypeIPMI, func(p []byte) { p[20] ^= 1 }), "(Get Chassis Status): check that the bmc has power"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startRef(t, &refbmc.BMC{})
			c := &Client{Timeout: time.Second}
			got, err := c.Power(t.Context(), endpoint(startTap(t, r.addr, &tap{reply: tt.reply}).addr))
			if tt.want == "" && (err != nil || got != PowerOff) {
				t.Errorf("Power = %q, %v; want off", got, err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Power = %q, %v; want an error with %q", got, err, tt.want)
			}
		})
	}
}

// TestCycleOnce: a reply that does not come is no reason to cycle a node twice.
func TestCycleOnce(t *testing.T) {
	tests := []struct {
		name string
		cut  int // the reply from which on none comes
		want string
	}{
		// Open Session, two RAKP messages, status and privilege come before.
		{"no reply to the cycle", 5, "(Chassis Control)"},
		{"no status after the cycle", 6, "(Get Chassis Status after power cycle was accepted)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startRef(t, &refbmc.BMC{})
			r.machine.force(true, false)
			tp := &tap{reply: func(n int, pkt []byte) [][]byte {
				if n >= tt.cut {
					return nil
				}
				return [][]byte{pkt}
			}}
			c := &Client{Timeout: 2500 * time.Millisecond}
			err := c.SetPower(t.Context(), endpoint(startTap(t, r.addr, tp).addr), ActionCycle)
			var none *NoAnswerError
			if !errors.As(err, &none) || !none.MayBeDone || !strings.Contains(err.Error(), "look at the node before repeating it") ||
				!strings.Contains(err.Error(), tt.want) {
				t.Errorf("SetPower(cycle): %v; want *NoAnswerError %s that may be done", err, tt.want)
			}
			if got := r.count("power-cycle"); got != 1 {
				t.Errorf("%d power cycles; want 1", got)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	r := startRef(t, &refbmc.BMC{Faults: refbmc.Faults{Silent: true}})
	var c Client
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	// The second waits for its turn behind the first.
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := c.Power(ctx, endpoint(r.addr)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Power: %v; want the context's error", err)
			}
		})
	}
	wg.Wait()
	if d := time.Since(began); d > time.Second {
		t.Errorf("cancelled calls took %s", d)
	}
	nothingHeld(t, &c)
}
