package bmc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"

	"firstlight/internal/refbmc"
	"firstlight/inventory"
)

// startFleet serves n reference BMCs, of which every third machine is on.
func startFleet(t testing.TB, n int) (refs []*ref, eps []Endpoint) {
	t.Helper()
	for i := range n {
		r := startRef(t, &refbmc.BMC{})
		r.machine.force(i%3 == 0, false)
		refs, eps = append(refs, r), append(eps, endpoint(r.addr))
	}
	return refs, eps
}

// readAll returns the readings in the order of eps. It fails when one comes
// twice.
func readAll(ctx context.Context, t *testing.T, c *Client, eps []Endpoint) []PowerReading {
	t.Helper()
	out, seen := make([]PowerReading, len(eps)), make([]bool, len(eps))
	c.PowerAll(ctx, eps, func(i int, r PowerReading) {
		if seen[i] {
			t.Errorf("node %d was read twice", i)
		}
		out[i], seen[i] = r, true
	})
	for i, ok := range seen {
		if !ok {
			t.Errorf("node %d was not read", i)
		}
	}
	return out
}

// forgeries returns wrong packets for a reply that is on its way: what somebody
// on the network could send before it.
func forgeries() func(reply []byte) [][]byte {
	var last []byte
	status := message(request{command: types.CommandGetChassisStatus, data: []byte{0, 0x21, 0, 0}}, 1)
	status[1] |= 1 << 2
	v15 := append([]byte{6, 0, 255, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(status))}, status...)
	return func(reply []byte) [][]byte {
		out := [][]byte{{}, {6}, v15, reply[:len(reply)-1], last}
		last = reply
		kind, _, _, _, payload, ok := parseHeader(reply)
		if !ok {
			return out
		}
		change := func(f func(pkt, payload []byte)) {
			pkt := append([]byte(nil), reply...)
			f(pkt, pkt[len(reply)-len(payload):])
			out = append(out, pkt)
		}
		switch kind {
		case types.PayloadTypeIPMI:
			out = append(out, reply)                                  // which is then a replay
			change(func(pkt, _ []byte) { pkt[20] ^= 1 })              // encrypted data
			change(func(pkt, _ []byte) { pkt[len(pkt)-1] ^= 1 })      // check value
			change(func(pkt, _ []byte) { pkt[5] &^= 0xc0 })           // neither signed nor encrypted
			change(func(pkt, _ []byte) { pkt[10]++; pkt[11] = 0x7f }) // another sequence number
		case types.PayloadTypeRmcpOpenSessionResponse:
			if len(payload) < 36 {
				break
			}
			change(func(_, p []byte) { p[1] = byte(types.RmcpStatusCodeNoResToCreateSess) })
			change(func(_, p []byte) { p[24] = 0 })           // no integrity
			change(func(_, p []byte) { p[4] ^= 1 })           // another console
			change(func(_, p []byte) { p[0]++ })              // another tag
			change(func(_, p []byte) { copy(p[8:], p[0:1]) }) // nonsense
		case types.PayloadTypeRAKPMessage2:
			change(func(_, p []byte) { p[len(p)-1] ^= 1 })
			change(func(_, p []byte) { p[1] = byte(types.RmcpStatusCodeUnauthorizedName) })
		case types.PayloadTypeRAKPMessage4:
			change(func(_, p []byte) { p[len(p)-1] ^= 1 })
			change(func(_, p []byte) { p[1] = byte(types.RmcpStatusCodeInvalidIntegrityCheckValue) })
		}
		return out
	}
}

// TestWeather reads a fleet through each kind of bad network, with the same
// settings of the client.
func TestWeather(t *testing.T) {
	const forever = 25 * time.Second
	tests := []struct {
		name    string
		weather weather
		bmcs    int
		within  time.Duration
		stats   func(Stats) bool // what must have been seen
	}{
		{"fair", weather{}, 200, forever, func(s Stats) bool { return s.Foreign+s.Malformed+s.Forged+s.Unprotected+s.Replayed == 0 }},
		{"5 % lost each way", weather{loss: 0.05}, 200, 5 * time.Second, func(s Stats) bool { return s.Repeated > 0 }},
		{"10 % lost each way", weather{loss: 0.1}, 200, 8 * time.Second, func(s Stats) bool { return s.Repeated > 0 }},
		{"30 % doubled each way", weather{twice: 0.3}, 200, forever, func(s Stats) bool { return s.Late > 0 && s.Replayed > 0 }},
		{"all doubled each way", weather{twice: 1}, 50, forever, func(s Stats) bool { return s.Late > 0 && s.Replayed > 0 }},
		// Five round trips, and two or three packets each before the time is known.
		{"1.2 s away", weather{delay: 1200 * time.Millisecond}, 20, forever, func(s Stats) bool { return s.Late > 0 && s.Repeated < 60 }},
		{"2.5 s away", weather{delay: 2500 * time.Millisecond}, 20, forever, func(s Stats) bool { return s.Late > 0 && s.Repeated < 80 }},
		{"forged", weather{forge: forgeries()}, 100, forever, func(s Stats) bool {
			return s.Forged >= 200 && s.Unprotected >= 200 && s.Malformed >= 200 && s.Replayed >= 100 && s.Foreign >= 200
		}},
		{"lost, doubled and 0.1 s away", weather{loss: 0.05, twice: 0.05, delay: 100 * time.Millisecond}, 100, forever, func(s Stats) bool { return s.Repeated > 0 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.weather.delay > time.Second && testing.Short() {
				t.Skip("takes 15 s")
			}
			_, eps := startFleet(t, tt.bmcs)
			c := &Client{open: tt.weather.open}
			began := time.Now()
			for i, r := range readAll(t.Context(), t, c, eps) {
				want := PowerOff
				if i%3 == 0 {
					want = PowerOn
				}
				if r.Err != nil || r.State != want {
					t.Errorf("node %d: %q, %v; want %q", i, r.State, r.Err, want)
				}
			}
			if d := time.Since(began); d > tt.within {
				t.Errorf("took %s; want at most %s", d, tt.within)
			}
			if s := c.Stats(); !tt.stats(s) {
				t.Errorf("stats: %+v", s)
			}
			nothingHeld(t, c)
		})
	}
}

// TestFrozen: BMCs that never answer cost neither the others nor more than the
// caller's time.
func TestFrozen(t *testing.T) {
	_, eps := startFleet(t, 200)
	frozen := make(map[netip.AddrPort]bool)
	for i := 0; i < len(eps); i += 2 { // more than there are slots
		frozen[eps[i].Address] = true
	}
	c := &Client{Concurrency: 32, open: (&weather{frozen: func(a netip.AddrPort) bool { return frozen[a] }}).open}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	began := time.Now()
	for i, r := range readAll(ctx, t, c, eps) {
		var none *NoAnswerError
		switch {
		case frozen[eps[i].Address] && !errors.As(r.Err, &none):
			t.Errorf("frozen node %d: %q, %v; want *NoAnswerError", i, r.State, r.Err)
		case !frozen[eps[i].Address] && (r.Err != nil || r.Elapsed > 1400*time.Millisecond):
			t.Errorf("node %d: %v after %s", i, r.Err, r.Elapsed)
		}
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("took %s; want 1.5 s", d)
	}
	nothingHeld(t, c)
}

// TestRefusedIsLatched: however often it is asked for, a refused credential
// reaches a BMC once.
func TestRefusedIsLatched(t *testing.T) {
	refs, eps := startFleet(t, 40)
	wrong := append([]Endpoint(nil), eps...)
	for i := range wrong {
		wrong[i].Password = "wrong"
	}
	c := &Client{}
	for range 3 {
		for i, r := range readAll(t.Context(), t, c, append(wrong, wrong...)) {
			var auth *AuthError
			if !errors.As(r.Err, &auth) || auth.Reason != "wrong user name or password" {
				t.Fatalf("node %d: %v; want *AuthError", i, r.Err)
			}
		}
	}
	for i, r := range refs {
		if got := r.count("login-attempt"); got != 1 {
			t.Errorf("node %d: %d login attempts; want 1", i, got)
		}
	}
	// Another credential is another matter.
	for i, r := range readAll(t.Context(), t, c, eps) {
		if r.Err != nil {
			t.Errorf("node %d with the right password: %v", i, r.Err)
		}
	}
}

// TestSlowKeepsNoSlots: what a slow BMC opened for repetitions is given back.
func TestSlowKeepsNoSlots(t *testing.T) {
	r := startRef(t, &refbmc.BMC{})
	c := &Client{open: (&weather{delay: 700 * time.Millisecond}).open}
	if _, err := c.Power(t.Context(), endpoint(r.addr)); err != nil {
		t.Fatal(err)
	}
	// Open Session was sent again after 0.15 s, and not more often.
	if got := r.count("login-refused"); got != 1 {
		t.Errorf("%d half-open sessions were given back; want 1", got)
	}
	if got := r.count("login-attempt"); got != 1 {
		t.Errorf("%d RAKP messages 1; want 1", got)
	}
}

// TestCancelledKeepsNoSlots ends logins and calls in the middle, more often than
// a BMC has slots.
func TestCancelledKeepsNoSlots(t *testing.T) {
	const delay = 60 * time.Millisecond
	for _, after := range []time.Duration{delay / 2, 3 * delay / 2, 5 * delay / 2, 7 * delay / 2} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			r := startRef(t, &refbmc.BMC{})
			c := &Client{open: (&weather{delay: delay}).open}
			for range 6 {
				ctx, cancel := context.WithTimeout(t.Context(), after)
				if _, err := c.Power(ctx, endpoint(r.addr)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Power: %v; want the context's error", err)
				}
				cancel()
			}
			if _, err := c.Power(t.Context(), endpoint(r.addr)); err != nil {
				t.Errorf("Power afterwards: %v", err)
			}
			nothingHeld(t, c)
		})
	}
}

// TestSecondRAKP1Ignored is about a BMC that answers only the first RAKP message
// 1 of a session, and that late.
func TestSecondRAKP1Ignored(t *testing.T) {
	r := startRef(t, &refbmc.BMC{})
	var mu sync.Mutex
	seen := make(map[string]bool)
	tp := &tap{delay: 250 * time.Millisecond, request: func(_ int, pkt []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		if kind, _, _, _, payload, ok := parseHeader(pkt); ok && kind == types.PayloadTypeRAKPMessage1 {
			id := string(payload[4:8])
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		return [][]byte{pkt}
	}}
	c := &Client{}
	ep := endpoint(startTap(t, r.addr, tp).addr)
	e := c.start()
	known := make(chan struct{})
	e.post(func() { // it was quick before
		e.targets[ep.Address] = &target{addr: ep.Address, lan: e.lanOf(""), rtt: roundTrip{mean: time.Millisecond}}
		close(known)
	})
	<-known
	if _, err := c.Power(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
}

// TestSockets: a client uses one socket for each address family and gives them
// back.
func TestSockets(t *testing.T) {
	six := startIPv6(t)
	_, eps := startFleet(t, 20)
	var opened, closed atomic.Int32
	c := &Client{open: func(v6 bool) (packetConn, error) {
		opened.Add(1)
		conn, err := openSocket(v6)
		return countClose{conn, &closed}, err
	}}
	for i, r := range readAll(t.Context(), t, c, append(eps, endpoint(six))) {
		if r.Err != nil {
			t.Errorf("node %d: %v", i, r.Err)
		}
	}
	if got := opened.Load(); got != 2 {
		t.Errorf("%d sockets; want 2", got)
	}
	for began := time.Now(); closed.Load() != 2; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > 5*linger {
			t.Fatalf("%d of 2 sockets closed %s after the last use", closed.Load(), time.Since(began))
		}
	}
	if _, err := c.Power(t.Context(), eps[0]); err != nil {
		t.Errorf("Power after the sockets were closed: %v", err)
	}
}

type countClose struct {
	packetConn
	closed *atomic.Int32
}

func (c countClose) Close() error {
	c.closed.Add(1)
	return c.packetConn.Close()
}

// startIPv6 serves a BMC on ::1.
func startIPv6(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skipf("needs IPv6 on the loopback: %v", err)
	}
	conn.Close()
	return startRef(t, &refbmc.BMC{Listen: "[::1]:0"}).addr
}

func TestIPv6PortClosed(t *testing.T) {
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skipf("needs IPv6 on the loopback: %v", err)
	}
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	var c Client
	var none *NoAnswerError
	if _, err := c.Power(t.Context(), endpoint(addr)); !errors.As(err, &none) || !none.PortClosed {
		t.Errorf("Power: %v; want *NoAnswerError, port closed", err)
	}
}

// TestKG: a BMC with a key of its own takes nobody without it.
func TestKG(t *testing.T) {
	const key = "k_g-0123456789"
	peers := []struct {
		name  string
		start func(t *testing.T) netip.AddrPort
	}{
		{"refbmc", func(t *testing.T) netip.AddrPort { return startRef(t, &refbmc.BMC{KG: key}).addr }},
		{"ipmi_sim", func(t *testing.T) netip.AddrPort { return startSim(t, key) }},
	}
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			ep := endpoint(p.start(t))
			var c Client
			ep.KG = inventory.Secret(key)
			if _, err := c.Power(t.Context(), ep); err != nil {
				t.Errorf("with K_g: %v", err)
			}
			ep.KG = ""
			if _, err := c.Power(t.Context(), ep); err == nil || !strings.Contains(err.Error(), "K_g") {
				t.Errorf("without K_g: %v; want an error that names K_g", err)
			}
		})
	}
}

// TestPinnedSuite: a declared suite is used, or nothing.
func TestPinnedSuite(t *testing.T) {
	tests := []struct {
		offers []int
		pinned int
		want   int    // the suite agreed on
		err    string // "": none
	}{
		{[]int{3, 17}, 0, 17, ""},
		{[]int{3, 17}, 3, 3, ""},
		{[]int{3, 17}, 17, 17, ""},
		{[]int{3}, 0, 3, ""},
		{[]int{3}, 17, 0, "does not offer cipher suite 17, which is declared for it"},
		{[]int{17}, 3, 0, "does not offer cipher suite 3, which is declared for it"},
		{[]int{17}, 8, 0, "cipher suite 8 is declared, and only 17 and 3 are used"},
	}
	for _, tt := range tests {
		ep := endpoint(startRef(t, &refbmc.BMC{Suites: tt.offers}).addr)
		ep.Suite = tt.pinned
		var c Client
		got := 0
		for range 2 { // the second time it is remembered
			err := c.With(t.Context(), ep, func(s *Session) error {
				got = s.wire.(*remote).v.suite.id
				return nil
			})
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("offers %v, pinned %d: suite %d, %v; want %d, %q", tt.offers, tt.pinned, got, err, tt.want, tt.err)
			}
		}
	}
}

func TestWindow(t *testing.T) {
	var w window
	var got []bool
	for _, seq := range []uint32{0, 7, 7, 9, 8, 8, 7, 60, 29, 28, 60, 61, 1 << 31, 0x80000001, 61} {
		got = append(got, w.take(seq))
	}
	want := []bool{false, true, false, true, true, false, false, true, true, false, false, true, true, true, false}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("taken (-want +got):\n%s", d)
	}
}

func TestRoundTrip(t *testing.T) {
	var r roundTrip
	if got := r.wait(minWait); got != firstWait {
		t.Errorf("wait of an unknown BMC = %s; want %s", got, firstWait)
	}
	for range 50 {
		r.add(2 * time.Millisecond)
	}
	if got := r.wait(minWait); got != minWait {
		t.Errorf("wait of a quick BMC = %s; want %s", got, minWait)
	}
	r.add(2 * time.Second) // it became slow
	if got := r.wait(minWait); got < 2*time.Second || got > 5*time.Second {
		t.Errorf("wait after one reply of 2 s = %s", got)
	}
	for range 50 {
		r.add(2 * time.Millisecond)
	}
	if got := r.wait(minWait); got > 100*time.Millisecond {
		t.Errorf("wait of a BMC that is quick again = %s", got)
	}
}
