package bmc

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"firstlight/internal/refbmc"
)

// plantedPassword is the secret that must not be printed anywhere.
const testUser, plantedPassword = "admin", "planted-pw-7Qx9"

// peer is a BMC to test against.
type peer struct {
	name  string
	suite int // that must be agreed on
	// keepsOverride: boot parameter 5 reads back as it was written. ipmi_sim
	// keeps the device and drops the rest.
	keepsOverride bool
	start         func(t *testing.T) netip.AddrPort
}

func peers() []peer {
	return []peer{
		{"refbmc suite 17", 17, true, func(t *testing.T) netip.AddrPort { return startRef(t, &refbmc.BMC{}).addr }},
		{"refbmc suite 3", 3, true, func(t *testing.T) netip.AddrPort {
			return startRef(t, &refbmc.BMC{Suites: []int{3}}).addr
		}},
		{"ipmi_sim suite 3", 3, false, func(t *testing.T) netip.AddrPort { return startSim(t, "") }},
	}
}

// endpoint is a declared BMC at addr.
func endpoint(addr netip.AddrPort) Endpoint {
	return Endpoint{Node: "hnode001", Address: addr, Username: testUser, Password: plantedPassword, DeclaredAt: "nodes.hcl:12"}
}

// machine is a machine that starts and stops at once.
type machine struct {
	mu    sync.Mutex
	on    bool
	boots []refbmc.Boot
	stuck bool // ignores what it is told
}

func (m *machine) PowerOn(_ context.Context, boot refbmc.Boot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on, m.boots = !m.stuck, append(m.boots, boot)
	return nil
}

func (m *machine) PowerOff(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = false
	return nil
}

func (m *machine) SoftOff(ctx context.Context) error { return m.PowerOff(ctx) }

// started returns how the machine was started, each time.
func (m *machine) started() []refbmc.Boot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]refbmc.Boot(nil), m.boots...)
}

// force puts the machine in a state behind its BMC's back.
func (m *machine) force(on, stuck bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on, m.stuck = on, stuck
}

func (m *machine) Powered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}

// ref is a running refbmc.
type ref struct {
	addr    netip.AddrPort
	machine *machine
	bmc     *refbmc.BMC
	mu      sync.Mutex
	events  map[string]int // by kind
	order   []string       // the kinds of what was done to the machine
	frozen  bool           // it falls silent after a login
	dies    bool           // it falls silent when it is restarted
}

func (r *ref) count(kind string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[kind]
}

// startRef serves b, on a free port of 127.0.0.1 if it says no other, until the
// test ends.
func startRef(t testing.TB, b *refbmc.BMC) *ref {
	t.Helper()
	r := &ref{machine: &machine{}, bmc: b, events: make(map[string]int)}
	ready := make(chan netip.AddrPort, 1)
	b.Username, b.Machine = testUser, r.machine
	if b.Password == "" {
		b.Password = plantedPassword
	}
	if b.Listen == "" {
		b.Listen = "127.0.0.1:0"
	}
	if b.Serial == "" {
		b.Manufacturer, b.Product, b.Serial = "Example Corp", "EX-200", "SN0042"
	}
	b.Ready = func(a netip.AddrPort) { ready <- a }
	b.Observe = func(e refbmc.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events[e.Kind]++
		switch e.Kind {
		case "login":
			if r.frozen {
				b.SetFaults(refbmc.Faults{Silent: true})
			}
		case "bmc-reset":
			if r.dies {
				b.SetFaults(refbmc.Faults{Silent: true})
			}
			r.order = append(r.order, e.Kind)
		case "login-attempt", "login-refused", "boot-override":
		default:
			r.order = append(r.order, e.Kind)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("refbmc: %v", err)
		}
	})
	select {
	case r.addr = <-ready:
	case <-time.After(5 * time.Second):
		t.Fatal("refbmc did not bind in 5 s")
	}
	return r
}

// tap is a relay in front of a BMC that counts, drops, delays, repeats or
// forges packets.
type tap struct {
	addr netip.AddrPort
	// reply and request say what to send on instead of a packet; nil: the packet.
	// They see the how-manyth it is, from 0.
	reply, request func(n int, pkt []byte) [][]byte
	delay          time.Duration // of each reply

	mu     sync.Mutex
	counts map[types.PayloadType]int // of requests
	proofs int                       // RAKP messages 3 that carry a proof of the password
}

func (p *tap) count(kind types.PayloadType) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[kind]
}

func (p *tap) see(request []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if kind, _, _, _, payload, ok := parseHeader(request); ok {
		p.counts[kind]++
		if kind == types.PayloadTypeRAKPMessage3 && payload[1] == 0 {
			p.proofs++
		}
	}
}

func (p *tap) proofCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proofs
}

// startTap relays to upstream until the test ends. It serves one client socket
// at a time.
func startTap(t *testing.T, upstream netip.AddrPort, p *tap) *tap {
	t.Helper()
	p.counts = make(map[types.PayloadType]int)
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(upstream))
	if err != nil {
		t.Fatal(err)
	}
	p.addr = in.LocalAddr().(*net.UDPAddr).AddrPort()
	var wg sync.WaitGroup
	t.Cleanup(func() { // ends the goroutines
		in.Close()
		out.Close()
		wg.Wait()
	})
	var client *net.UDPAddr
	answered := make(chan struct{}, 1)
	type reply struct {
		due  time.Time
		pkts [][]byte
	}
	replies := make(chan reply, 256)
	wg.Go(func() {
		buf := make([]byte, 2048)
		for n := 0; ; n++ {
			size, from, err := in.ReadFromUDP(buf)
			if err != nil {
				return
			}
			pkt := append([]byte(nil), buf[:size]...)
			p.see(pkt)
			p.mu.Lock()
			client = from
			p.mu.Unlock()
			for i, q := range relay(p.request, n, pkt) {
				if i > 0 { // the reference BMC would take both at once, in any order
					select {
					case <-answered:
					case <-time.After(time.Second):
					}
				}
				select { // what came unasked is no answer to this one
				case <-answered:
				default:
				}
				out.Write(q)
			}
		}
	})
	wg.Go(func() {
		defer close(replies)
		buf := make([]byte, 2048)
		for n := 0; ; n++ {
			size, err := out.Read(buf)
			if err != nil {
				return
			}
			replies <- reply{time.Now().Add(p.delay), relay(p.reply, n, append([]byte(nil), buf[:size]...))}
			select {
			case answered <- struct{}{}:
			default:
			}
		}
	})
	wg.Go(func() { // in the order in which the BMC sent them
		for r := range replies {
			time.Sleep(time.Until(r.due))
			p.mu.Lock()
			to := client
			p.mu.Unlock()
			for _, q := range r.pkts {
				in.WriteToUDP(q, to)
			}
		}
	})
	return p
}

func relay(f func(int, []byte) [][]byte, n int, pkt []byte) [][]byte {
	if f == nil {
		return [][]byte{pkt}
	}
	return f(n, pkt)
}
