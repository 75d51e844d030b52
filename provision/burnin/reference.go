package burnin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"firstlight/provision/acceptance"
)

// The processor that the reference engine plays: a small GPU on a CPU.
const (
	referenceSMs    = 8
	referenceMost   = 256     // the largest M, N and K
	referenceMemory = 4 << 20 // bytes
)

// errCrash is the end of a worker without a word.
var errCrash = errors.New("worker ends without a word")

// reference computes products on a CPU, with a planted fault. A slot of it is
// an SM.
type reference struct {
	order Order
	shape Shape
	a, b  []int32
	c     []uint32
	spent bool // a fault that happens once has happened
	sums  []int64
}

// referenceReady is what the reference engine says of itself for an order.
func referenceReady(o Order) (Ready, error) {
	s := o.Shape
	if s == (Shape{}) {
		s = Shape{M: 128, N: 128, K: 128, TileM: 32, TileN: 32}
	}
	if max(s.M, s.N, s.K) > referenceMost {
		return Ready{}, fmt.Errorf("shape %v: the reference engine multiplies matrices of %d at most", s, referenceMost)
	}
	return Ready{Engine: acceptance.EngineReference, Device: "reference engine on a CPU", SMs: referenceSMs, Memory: referenceMemory,
		Kernel: "reference", Type: o.Type, Shape: s}, s.Check()
}

func newReference(o Order, s Shape) *reference {
	r := &reference{order: o, shape: s, a: make([]int32, s.M*s.K), b: make([]int32, s.K*s.N), c: make([]uint32, s.M*s.N), sums: make([]int64, s.TileN)}
	for i := range r.a {
		r.a[i] = int32(Element(o.Seed, uint64(i), o.Type.Span()))
	}
	for i := range r.b {
		r.b[i] = int32(Element(SeedB(o.Seed), uint64(i), o.Type.Span()))
	}
	return r
}

// fault is the order's fault if it is at work on this GPU in that iteration.
func (r *reference) fault(iteration int) Fault {
	if f := r.order.Fault; f != nil && f.GPU == r.order.GPU && iteration >= f.After {
		return *f
	}
	return Fault{}
}

// Multiply implements Multiplier.
func (r *reference) Multiply(ctx context.Context, iteration int, plant Plant, p *Product) error {
	began := time.Now()
	f := r.fault(iteration)
	clear(r.c)
	for tile := range p.Hashes {
		sm := Slot(tile, iteration, referenceSMs)
		if f.Kind == FaultStuck && f.SM == sm {
			p.SMs[tile] = int32(sm) // the block ran, and what it wrote went nowhere
			p.Done[tile] = true
			continue
		}
		r.compute(tile)
		r.corrupt(tile, sm, f, plant)
		p.SMs[tile], p.Done[tile] = int32(sm), true
		p.Hashes[tile] = r.hash(tile)
	}
	switch f.Kind {
	case FaultSlow:
		slow := f.Slow
		if slow <= 1 {
			slow = 3
		}
		idle(ctx, time.Duration(float64(time.Since(began))*(slow-1)))
	case FaultHang:
		select {} // whoever started this worker must end it
	case FaultCrash:
		return errCrash
	}
	return nil
}

func (r *reference) compute(tile int) {
	s := r.shape
	row, column := s.Origin(tile)
	for i := range s.TileM {
		sums := r.sums
		clear(sums)
		for k, a := range r.a[(row+i)*s.K : (row+i+1)*s.K] {
			for c, b := range r.b[k*s.N+column : k*s.N+column+s.TileN] {
				sums[c] += int64(a) * int64(b)
			}
		}
		for c, v := range sums {
			r.c[(row+i)*s.N+column+c] = r.order.Type.Bits(v)
		}
	}
}

// corrupt does to a tile what the fault and the plant ask for.
func (r *reference) corrupt(tile, sm int, f Fault, plant Plant) {
	s := r.shape
	row, column := s.Origin(tile)
	if at, of := int(plant.Index)/s.N, int(plant.Index)%s.N; plant.XOR != 0 && at >= row && at < row+s.TileM && of >= column && of < column+s.TileN {
		r.c[plant.Index] ^= plant.XOR
	}
	if (f.Kind != FaultBitFlip && f.Kind != FaultNaN) || r.spent || sm != f.SM {
		return
	}
	r.spent = true
	at := row*s.N + column + s.TileN/2
	if f.Kind == FaultNaN {
		r.c[at] = math.Float32bits(float32(math.NaN()))
	} else {
		r.c[at] ^= 1 << (f.Bit & 31)
	}
}

func (r *reference) hash(tile int) uint64 {
	s := r.shape
	row, column := s.Origin(tile)
	var sum uint64
	for i := range s.TileM {
		at := (row+i)*s.N + column
		for c, b := range r.c[at : at+s.TileN] {
			sum += Term(uint64(at+c), b)
		}
	}
	return sum
}

// Tile implements Multiplier.
func (r *reference) Tile(tile int, dst []uint32) error {
	s := r.shape
	row, column := s.Origin(tile)
	for i := range s.TileM {
		at := (row+i)*s.N + column
		copy(dst[i*s.TileN:(i+1)*s.TileN], r.c[at:at+s.TileN])
	}
	return nil
}

// Sensors implements Multiplier. A CPU has no GPU's sensors.
func (r *reference) Sensors() Sample {
	if r.fault(math.MaxInt).Kind == FaultHot {
		return Sample{Temp: 105}
	}
	return Sample{}
}

// ServeReference is a worker of the reference engine: an order from in, events
// to out. It returns when the order is carried out, in ends or ctx does.
func ServeReference(ctx context.Context, in io.Reader, out io.Writer) error {
	o, err := ReadOrder(in)
	emit := events(out)
	if err == nil {
		err = serveReference(ctx, in, o, emit)
	}
	if err != nil && !errors.Is(err, errCrash) {
		emit(Event{Kind: EventError, Error: err.Error()})
	}
	return err
}

func serveReference(ctx context.Context, in io.Reader, o Order, emit func(Event)) error {
	if o.Engine != acceptance.EngineReference {
		return fmt.Errorf("order for the %s engine came to the reference engine", o.Engine)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends when the other side closes its end or this process ends
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	ready, err := referenceReady(o)
	if err != nil {
		return err
	}
	emit(Event{Kind: EventReady, Ready: &ready})
	switch o.Load {
	case LoadGEMM, LoadPulse:
		return RunGEMM(ctx, o, ready, newReference(o, ready.Shape), emit)
	case LoadMemory:
		return sweepReference(ctx, o, emit)
	}
	return fmt.Errorf("the reference engine has no load %q", o.Load)
}

// events writes events as JSON lines, from any goroutine.
func events(out io.Writer) func(Event) {
	began := time.Now()
	enc := json.NewEncoder(out)
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		e.At = time.Since(began).Seconds()
		// A reader that has gone closes this worker's standard input too.
		_ = enc.Encode(e)
	}
}
