package fabricsim

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric"
	"firstlight/fabric/mad"
)

// sweep reads a simulated fabric with the client that firstlight reads real ones
// with.
func sweep(t *testing.T, socket string, s fabric.Sweep) (*fabric.Swept, []string) {
	t.Helper()
	s.Transports = []fabric.Transport{dial(t, socket, attach)}
	swept, err := s.Run(context.Background())
	if swept == nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Logf("sweep: %v", err)
	}
	var links []string
	for _, l := range swept.Links() {
		links = append(links, linkText(End{l.A.Node.Description, l.A.Num}, End{l.B.Node.Description, l.B.Num}, fmt.Sprintf("%dx%s", l.A.Width, l.A.Speed)))
	}
	slices.Sort(links)
	return swept, links
}

// TestSweepThroughLoss: a fabric whose hops take time, whose queues overflow and
// whose cables lose packets is read whole all the same.
func TestSweepThroughLoss(t *testing.T) {
	net := pods(2, 8, 4, 4, true)
	f := build(t, net, Options{
		Managed: true, Hop: 20 * time.Microsecond, VL15: VL15{Depth: 16, Service: 5 * time.Microsecond}, Seed: 1,
		Faults: []Fault{{Kind: Lossy, At: End{"leaf-01", 33}, Share: 0.1}, {Kind: Lossy, At: End{"leaf-05", 1}, Share: 0.1}},
	})
	socket := serve(t, &Server{Fabric: f, Timeout: 20 * time.Millisecond})
	swept, links := sweep(t, socket, fabric.Sweep{Timeout: 100 * time.Millisecond, Attempts: 8})
	if diff := cmp.Diff(declared(net, narrower), links); diff != "" {
		t.Errorf("links (-declared +swept):\n%s\nunanswered: %v", diff, swept.Unanswered)
	}
	if swept.Stats.Repeats == 0 {
		t.Error("nothing had to be asked twice")
	}
}

// TestSweepHostile: none of these keeps the sweep from ending, and what is sound
// of the fabric is found.
func TestSweepHostile(t *testing.T) {
	net := pods(1, 4, 2, 2, false)
	sound := declared(net, narrower)
	for _, c := range []struct {
		fault Fault
		cost  int // sound links that it may hide
	}{
		{Fault{Kind: Loop, At: End{"leaf-01", 9}}, 0},
		{Fault{Kind: Endless, At: End{"leaf-02", 9}}, 0},
		{Fault{Kind: LiePorts, Node: "spine-01", Value: 254}, 0},
		{Fault{Kind: GUID, Node: "hnode003 mlx5_1", Value: 0xa088c20300000180}, 0},
		{Fault{Kind: Garble, Node: "leaf-02"}, 6},
		{Fault{Kind: Mute, Node: "leaf-02"}, 6},
	} {
		t.Run(string(c.fault.Kind), func(t *testing.T) {
			t.Parallel()
			f := build(t, net, Options{Managed: true, Faults: []Fault{c.fault}})
			socket := serve(t, &Server{Fabric: f})
			swept, links := sweep(t, socket, fabric.Sweep{Timeout: 50 * time.Millisecond, Deadline: 5 * time.Second})
			missing := 0
			for _, l := range sound {
				if !slices.Contains(links, l) {
					missing++
				}
			}
			if missing > c.cost {
				t.Errorf("%d sound links are not found; unanswered: %v", missing, swept.Unanswered)
			}
		})
	}
}

// TestSweepModules reads what modules tell of themselves. A device that does not know
// the vendor's class tells nothing, and is no fault of the fabric; nor is a fabric in
// which none knows it.
func TestSweepModules(t *testing.T) {
	net := pods(1, 20, 2, 2, false)
	now := time.Now()
	f := build(t, net, Options{Managed: true, Now: func() time.Time { return now }, Faults: []Fault{
		{Kind: Heat, At: End{"leaf-01", 3}, Value: 72}, {Kind: BitErrors, At: End{"hnode005 mlx5_1", 1}, Share: 3e-12}, {Kind: Opaque, Node: "hnode002 mlx5_0"}, {Kind: Opaque, Node: "spine-01"}}})
	now = now.Add(time.Hour)
	socket := serve(t, &Server{Fabric: f})
	swept, _ := sweep(t, socket, fabric.Sweep{Modules: true, Timeout: time.Second})
	if len(swept.Unanswered) > 0 {
		t.Errorf("unanswered: %v; want nothing told of who does not know the class", swept.Unanswered)
	}
	told := 0
	for _, l := range swept.Links() {
		for _, p := range []*fabric.Port{l.A, l.B} {
			name, o := p.Node.Description, p.Optics
			if name == "spine-01" || name == "hnode002 mlx5_0" {
				if o != nil {
					t.Errorf("%s tells %+v", p.Label(), o)
				}
				continue
			}
			if told++; o == nil || o.Module == nil || o.Operational == nil || o.Stats == nil {
				t.Fatalf("%s tells %+v; want all of it", p.Label(), o)
			}
			degrees, ber := 45.0, 0.0
			if name == "leaf-01" && p.Num == 3 {
				degrees = 72
			}
			if name == "hnode005 mlx5_1" {
				ber = 3e-12
			}
			if got, ok := p.Celsius(); !ok || got != degrees || o.Stats.Effective.Value() != ber || o.Stats.SinceClear != 3600_000 || p.FEC() != "KP4 RS(546,516) ×4 + PLR" || o.Module.Vendor != "NVIDIA" {
				t.Errorf("%s tells %v °C, %+v, %s, %+v", p.Label(), got, o.Stats, p.FEC(), o.Module)
			}
		}
	}
	if told < 80 {
		t.Errorf("%d ports tell of themselves; want those of 40 links", told)
	}
	for _, n := range net.Nodes {
		if err := f.Inject(Fault{Kind: Opaque, Node: n.Name}); err != nil {
			t.Fatal(err)
		}
	}
	swept, links := sweep(t, socket, fabric.Sweep{Modules: true, Counters: true, Timeout: time.Second})
	if diff := cmp.Diff(declared(net, narrower), links); diff != "" || len(swept.Unanswered) > 0 {
		t.Errorf("links (-declared +swept):\n%s\nunanswered: %v", diff, swept.Unanswered)
	}
}

// TestVendorRefuses has questions of the vendor's class that have no answer.
func TestVendorRefuses(t *testing.T) {
	f := build(t, pods(1, 2, 1, 1, false), Options{Managed: true})
	p := at(t, f, "hnode001 mlx5_0")
	ask := func(put func(m *[mad.Size]byte), lid uint16) mad.Status {
		t.Helper()
		fl := &flight{dlid: lid, dqp: mad.QPGeneral, sqp: mad.QPGeneral}
		put(&fl.mad)
		fl.sent = fl.mad
		if f.start(fl, p.c, false); fl.fate != answered {
			t.Fatalf("fate %d; want an answer", fl.fate)
		}
		h, err := mad.ParseHeader(fl.mad[:])
		if err != nil {
			t.Fatal(err)
		}
		return h.Status
	}
	leaf, hca := f.lidOf("leaf-01", 0), f.lidOf("hnode001 mlx5_0", 1)
	register := func(reg mad.Register, port, page uint8) func(*[mad.Size]byte) {
		return func(m *[mad.Size]byte) { mad.PutRegisterGet(m, 1, reg, port, page) }
	}
	for name, c := range map[string]struct {
		put  func(*[mad.Size]byte)
		lid  uint16
		want mad.Status
	}{
		"a port":                     {register(mad.RegPortDiagnostic, 2, mad.PageModule), leaf, 0},
		"a dark port":                {register(mad.RegPortDiagnostic, 60, mad.PageModule), leaf, 0},
		"port 0":                     {register(mad.RegPortDiagnostic, 0, mad.PageModule), leaf, statusBadValue},
		"no such port":               {register(mad.RegPortDiagnostic, 99, mad.PageModule), leaf, statusBadValue},
		"no such port of an adapter": {register(mad.RegPortCounters, 2, mad.GroupPhysical), hca, statusBadValue},
		"no such page":               {register(mad.RegPortDiagnostic, 2, 77), leaf, statusNoRegister},
		"no such register":           {register(0x1234, 2, 0), leaf, statusNoRegister},
		"no such attribute":          {func(m *[mad.Size]byte) { mad.PutVendorGet(m, 1, 0x99) }, leaf, statusBadAttribute},
		"a set": {func(m *[mad.Size]byte) {
			mad.PutVendorGet(m, 1, mad.AttrGeneralInfo)
			m[offMethod] = byte(mad.MethodSet)
		}, leaf, statusBadMethod},
	} {
		if got := ask(c.put, c.lid); got != c.want {
			t.Errorf("%s: status %v; want %v", name, got, c.want)
		}
	}
	if err := f.Inject(Fault{Kind: Heat, At: End{"leaf-01", 1}, Value: 200}); err == nil {
		t.Error("a module of 200 °C is taken")
	}
	for rate, want := range map[float64]mad.BER{0: {Coefficient: 15, Magnitude: 255}, 3e-12: {Coefficient: 3, Magnitude: 12}, 1e-9: {Coefficient: 1, Magnitude: 9}, 1: {Coefficient: 1}} {
		if got := berOf(rate); got != want {
			t.Errorf("berOf(%g) = %+v; want %+v", rate, got, want)
		}
	}
}
