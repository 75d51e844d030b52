package burnin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/provision/acceptance"
)

var small = Shape{M: 64, N: 64, K: 64, TileM: 16, TileN: 16}

func order(mod func(*Order)) Order {
	o := Order{Version: ProtocolVersion, Engine: acceptance.EngineReference, Load: LoadGEMM, Type: BF16, Shape: small, Seed: 42, Iterations: 20, Prove: true, Sample: 1}
	if mod != nil {
		mod(&o)
	}
	return o
}

// serve runs an order to its end and returns its events.
func serve(t *testing.T, o Order) ([]Event, error) {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	in, stop := io.Pipe()
	defer stop.Close()
	go stop.Write(raw) // ends when the worker has read it
	var out bytes.Buffer
	err = ServeReference(t.Context(), in, &out)
	var all []Event
	for dec := json.NewDecoder(&out); dec.More(); {
		var e Event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all, err
}

func pick(events []Event, kind EventKind) []Event {
	var out []Event
	for _, e := range events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// A good processor, for ten thousand products and each number format: not one
// false alarm, and every SM has computed every tile.
func TestNoFalseAlarm(t *testing.T) {
	for typ, iterations := range map[Type]int{BF16: 10_000, FP8: 200, INT8: 200} {
		events, err := serve(t, order(func(o *Order) { o.Iterations, o.Type = iterations, typ }))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(pick(events, EventMismatch)); n != 0 {
			t.Errorf("%s: %d mismatches", typ, n)
		}
		proof := pick(events, EventProof)
		if len(proof) != 1 || !proof[0].Proof.Caught || proof[0].Proof.XOR != proof[0].Proof.Found {
			t.Errorf("%s: proof %+v", typ, proof)
		}
		cover := pick(events, EventCoverage)
		if len(cover) != 1 || cover[0].Coverage.Iterations != iterations || cover[0].Coverage.Pairs != 1 || cover[0].Coverage.SMs != referenceSMs {
			t.Errorf("%s: coverage %+v", typ, cover)
		}
		if events[len(events)-1].Kind != EventDone {
			t.Errorf("%s: ends with %s", typ, events[len(events)-1].Kind)
		}
	}
}

// Every single-bit flip and every NaN is caught, and the SM, the tile, the
// element and the bit are named.
func TestEveryFlipIsCaught(t *testing.T) {
	for bit := range 32 {
		for sm := range referenceSMs {
			events, err := serve(t, order(func(o *Order) {
				o.Iterations, o.Prove = 4, false
				o.Fault = &Fault{Kind: FaultBitFlip, SM: sm, Bit: bit, After: 2}
			}))
			if err != nil {
				t.Fatal(err)
			}
			m := pick(events, EventMismatch)
			if len(m) != 1 {
				t.Fatalf("bit %d, SM %d: %d mismatches; want 1", bit, sm, len(m))
			}
			got := m[0].Mismatch
			if got.SM != sm || got.XOR != 1<<bit || got.Elements != 1 || got.Again || got.Iteration != 2 {
				t.Errorf("bit %d, SM %d: %+v", bit, sm, got)
			}
			if c := pick(events, EventCoverage)[0].Coverage; c.Iterations != 3 {
				t.Errorf("%d iterations count as verified; want 3 of 4", c.Iterations)
			}
		}
	}
	for _, typ := range []Type{BF16, FP8} {
		events, err := serve(t, order(func(o *Order) { o.Type, o.Fault = typ, &Fault{Kind: FaultNaN, SM: 5, After: 7} }))
		if err != nil {
			t.Fatal(err)
		}
		m := pick(events, EventMismatch)
		if len(m) != 1 || !m[0].Mismatch.NaN || m[0].Mismatch.SM != 5 {
			t.Errorf("%s: NaN gives %+v", typ, m)
		}
	}
}

// Any bit of any element: straight at the product, without the worker.
func TestEveryElementCounts(t *testing.T) {
	s := Shape{M: 32, N: 32, K: 32, TileM: 16, TileN: 16}
	r := newReference(order(nil), s)
	good, bad := newProduct(s.Tiles()), newProduct(s.Tiles())
	if err := r.Multiply(t.Context(), 0, Plant{}, good); err != nil {
		t.Fatal(err)
	}
	for index := range uint64(s.M * s.N) {
		xor := uint32(1) << (index % 32)
		if err := r.Multiply(t.Context(), 0, Plant{Index: index, XOR: xor}, bad); err != nil {
			t.Fatal(err)
		}
		differ := 0
		for i := range good.Hashes {
			if good.Hashes[i] != bad.Hashes[i] {
				differ++
			}
		}
		if differ != 1 {
			t.Fatalf("element %d, bits %#x: %d tiles differ; want 1", index, xor, differ)
		}
	}
}

// A fault that is there from the start spoils the golden result: no golden
// event, and the part is named all the same.
func TestWrongFromTheStart(t *testing.T) {
	for _, f := range []Fault{{Kind: FaultBitFlip, SM: 3, Bit: 0}, {Kind: FaultNaN, SM: 3}, {Kind: FaultStuck, SM: 3}} {
		events, err := serve(t, order(func(o *Order) { o.Fault = &f }))
		if err != nil {
			t.Fatal(err)
		}
		m := pick(events, EventMismatch)
		if len(pick(events, EventGolden))+len(pick(events, EventCoverage)) != 0 || len(m) == 0 {
			t.Fatalf("%s: %d mismatches, golden %v", f.Kind, len(m), pick(events, EventGolden))
		}
		for _, e := range m {
			if e.Mismatch.SM != 3 {
				t.Errorf("%s: SM %d; want 3", f.Kind, e.Mismatch.SM)
			}
		}
	}
}

func TestStuckSM(t *testing.T) {
	events, err := serve(t, order(func(o *Order) { o.Fault = &Fault{Kind: FaultStuck, SM: 2, After: 5} }))
	if err != nil {
		t.Fatal(err)
	}
	m := pick(events, EventMismatch)
	if len(m) < 10 || len(m) > mostMismatches {
		t.Fatalf("%d mismatches", len(m))
	}
	for _, e := range m {
		if e.Mismatch.SM != 2 || !e.Mismatch.Again || e.Mismatch.Elements < 200 {
			t.Fatalf("%+v", e.Mismatch)
		}
	}
}

// blind is a processor whose check sees nothing: its hashes are always those of
// the first product.
type blind struct {
	*reference
	first []uint64
}

func (b *blind) Multiply(ctx context.Context, i int, plant Plant, p *Product) error {
	err := b.reference.Multiply(ctx, i, plant, p)
	if b.first == nil {
		b.first = slices.Clone(p.Hashes)
	}
	copy(p.Hashes, b.first)
	return err
}

func TestProofFailsOnABlindCheck(t *testing.T) {
	o := order(nil)
	ready, err := referenceReady(o)
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	if err := RunGEMM(t.Context(), o, ready, &blind{reference: newReference(o, ready.Shape)}, func(e Event) { events = append(events, e) }); err != nil {
		t.Fatal(err)
	}
	proof := pick(events, EventProof)
	if len(proof) != 1 || proof[0].Proof.Caught {
		t.Errorf("proof %+v; want one that caught nothing", proof)
	}
	if len(pick(events, EventCoverage)) != 0 {
		t.Error("something was counted after a proof that failed")
	}
}

func TestWorkerEnds(t *testing.T) {
	if _, err := serve(t, order(func(o *Order) { o.Fault = &Fault{Kind: FaultCrash, After: 3} })); !errors.Is(err, errCrash) {
		t.Errorf("crash ends with %v", err)
	}
	events, err := serve(t, order(func(o *Order) { o.Shape = Shape{M: 512, N: 512, K: 512, TileM: 16, TileN: 16} }))
	if err == nil || len(events) != 1 || events[0].Kind != EventError || !strings.Contains(events[0].Error, "256 at most") {
		t.Errorf("too large: %v, %+v", err, events)
	}
	if _, err := serve(t, order(func(o *Order) { o.Engine = acceptance.EngineCUDA })); err == nil {
		t.Error("an order for another engine is carried out")
	}
	if _, err := serve(t, order(func(o *Order) { o.Load = LoadPeer })); err == nil {
		t.Error("a load that it has not is carried out")
	}
}

// The end of a worker's standard input stops it, and what was done counts.
func TestStopped(t *testing.T) {
	raw, err := json.Marshal(order(func(o *Order) { o.Iterations, o.Seconds = 0, 3600 }))
	if err != nil {
		t.Fatal(err)
	}
	in, feed := io.Pipe()
	out, say := io.Pipe()
	done := make(chan error, 1)
	go func() { // ends with the worker
		done <- ServeReference(t.Context(), in, say)
		say.Close()
	}()
	go feed.Write(raw)
	var last Event
	covered := 0
	for dec := json.NewDecoder(out); ; {
		var e Event
		if dec.Decode(&e) != nil {
			break
		}
		if e.Kind == EventProof {
			time.AfterFunc(20*time.Millisecond, func() { feed.Close() })
		}
		if e.Kind == EventCoverage {
			covered = e.Coverage.Iterations
		}
		last = e
	}
	if err := <-done; err != nil || last.Kind != EventDone || covered == 0 {
		t.Errorf("stopped: %v, last event %s, %d iterations", err, last.Kind, covered)
	}
}

func TestMemory(t *testing.T) {
	sweep := order(func(o *Order) { o.Load = LoadMemory })
	events, err := serve(t, sweep)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(pick(events, EventSweep)); n != len(Patterns()) {
		t.Errorf("%d patterns; want %d", n, len(Patterns()))
	}
	if c := pick(events, EventCoverage)[0].Coverage; c.Bytes != uint64(len(Patterns()))*referenceMemory {
		t.Errorf("%d bytes", c.Bytes)
	}
	sweep.Fault = &Fault{Kind: FaultMemory, Bit: 40}
	if events, err = serve(t, sweep); err != nil {
		t.Fatal(err)
	}
	for _, e := range pick(events, EventSweep) {
		stuck := Pattern(e.Sweep.Pattern).Word(sweep.Seed, referenceMemory/8/3)&(1<<40) == 0
		if stuck != (e.Sweep.Errors == 1) {
			t.Errorf("%s: %d errors, first at %d: want %x, got %x", e.Sweep.Pattern, e.Sweep.Errors, e.Sweep.Address, e.Sweep.Want, e.Sweep.Got)
		}
	}
	if len(pick(events, EventSweep)) != len(Patterns()) {
		t.Error("patterns are missing")
	}
}

func TestFreivaldsSeesWhatTolerancesDoNot(t *testing.T) {
	r := newReference(order(nil), small)
	p := newProduct(small.Tiles())
	if err := r.Multiply(t.Context(), 0, Plant{Index: 77, XOR: 1}, p); err != nil {
		t.Fatal(err)
	}
	f, err := newFreivalds(small, BF16, 42)
	if err != nil {
		t.Fatal(err)
	}
	tile := make([]uint32, 256)
	for i := range small.Tiles() {
		if err := r.Tile(i, tile); err != nil {
			t.Fatal(err)
		}
		f.add(i, tile)
	}
	if got := f.wrongRows(); len(got) != 1 || got[0] != 1 {
		t.Errorf("wrong rows %v; want [1]", got)
	}
	if v := math.Float32frombits(r.c[77]); v == 0 {
		t.Error("the element is zero")
	}
}
