package burnin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Multiplier is a processor that computes products. RunGEMM calls one method
// at a time.
type Multiplier interface {
	// Multiply computes C of the order's shape and seed, its tiles dealt to the
	// slots by Slot(tile, iteration, …), and fills in p for every tile that it
	// computed; p holds what says that none was. A non-zero plant.XOR flips
	// those bits of the element at plant.Index before it is hashed and kept.
	// What C held before is overwritten beforehand, or a tile that is not
	// computed would pass for a good one.
	Multiply(ctx context.Context, iteration int, plant Plant, p *Product) error
	// Tile copies a tile of the last C, TileM*TileN elements row by row.
	Tile(tile int, dst []uint32) error
	// Sensors reads the processor's state; what is not known is zero.
	Sensors() Sample
}

// Plant is one element corrupted on purpose.
type Plant struct {
	Index uint64
	XOR   uint32
}

// Product is what comes of one Multiply, by tile.
type Product struct {
	Hashes []uint64
	SMs    []int32 // that computed it
	Done   []bool
}

func newProduct(tiles int) *Product {
	return &Product{Hashes: make([]uint64, tiles), SMs: make([]int32, tiles), Done: make([]bool, tiles)}
}

func (p *Product) reset() {
	clear(p.Hashes)
	clear(p.Done)
	for i := range p.SMs {
		p.SMs[i] = -1
	}
}

// mostMismatches is where a GEMM gives up: more of them say nothing new.
const mostMismatches = 64

// gemm is one order of LoadGEMM or LoadPulse under way.
type gemm struct {
	order Order
	ready Ready
	mul   Multiplier
	emit  func(Event)

	golden   []uint64 // hash of each tile
	product  *Product
	pairs    []bool // SM*Tiles+tile: that SM computed that tile
	wrong    int
	verified int // iterations without a mismatch
	tile     []uint32
	truth    []uint32
}

// RunGEMM carries out an order for products: a golden result, verified on the
// CPU; a corruption on purpose, if the order asks for it; then products until
// the order's time or iterations are over or ctx ends, each held against the
// golden one. It sends every event from EventGolden to EventDone. A GPU that
// computes wrongly is told by events; an error means that it could not be
// worked with.
func RunGEMM(ctx context.Context, o Order, ready Ready, mul Multiplier, emit func(Event)) error {
	if err := ready.Shape.Check(); err != nil {
		return err
	}
	s := ready.Shape
	g := &gemm{order: o, ready: ready, mul: mul, emit: emit, product: newProduct(s.Tiles()),
		golden: make([]uint64, s.Tiles()), pairs: make([]bool, max(ready.SMs, 1)*s.Tiles()),
		tile: make([]uint32, s.TileM*s.TileN), truth: make([]uint32, s.TileM*s.TileN)}
	good, err := g.findGolden(ctx)
	if err != nil || !good {
		return g.end(err)
	}
	if o.Prove {
		if caught, err := g.prove(ctx); err != nil || !caught {
			return g.end(err)
		}
	}
	began := time.Now()
	err = g.loop(ctx, began)
	if err == nil {
		g.cover(time.Since(began))
	}
	return g.end(err)
}

func (g *gemm) end(err error) error {
	if err == nil {
		g.emit(Event{Kind: EventDone})
	}
	return err
}

// multiply is one product, with its tiles that are wrong once there is a
// golden result.
func (g *gemm) multiply(ctx context.Context, iteration int, plant Plant) (wrong []int, err error) {
	g.product.reset()
	if err := g.mul.Multiply(ctx, iteration, plant, g.product); err != nil {
		return nil, fmt.Errorf("iteration %d: %w", iteration, err)
	}
	for t, h := range g.product.Hashes {
		if !g.product.Done[t] || h != g.golden[t] {
			wrong = append(wrong, t)
		}
	}
	return wrong, nil
}

// findGolden computes the golden result and verifies it: by Freivalds' check,
// and its hashes from its bits.
func (g *gemm) findGolden(ctx context.Context) (good bool, err error) {
	began := time.Now()
	if _, err := g.multiply(ctx, 0, Plant{}); err != nil {
		return false, err
	}
	check, err := newFreivalds(g.ready.Shape, g.ready.Type, g.order.Seed)
	if err != nil {
		return false, err
	}
	var total uint64
	var odd []int // tiles whose hash is not that of their bits
	for t := range g.golden {
		if err := g.mul.Tile(t, g.tile); err != nil {
			return false, fmt.Errorf("read tile %d: %w", t, err)
		}
		check.add(t, g.tile)
		h := HashTile(g.ready.Shape, t, g.tile)
		if !g.product.Done[t] || g.product.Hashes[t] != h {
			odd = append(odd, t)
		}
		g.golden[t] = h
		total += h
	}
	rows := check.wrongRows()
	if len(rows) == 0 && len(odd) == 0 {
		g.emit(Event{Kind: EventGolden, Golden: &Golden{Hash: Hex(total), Rounds: 1, Seconds: time.Since(began).Seconds()}})
		return true, nil
	}
	return false, g.findWrong(rows, odd)
}

// findWrong names the tiles of a golden result that did not stand its check.
func (g *gemm) findWrong(rows, odd []int) error {
	s := g.ready.Shape
	across := s.N / s.TileN
	suspects := slices.Clone(odd)
	for _, r := range rows {
		for c := range across {
			suspects = append(suspects, r/s.TileM*across+c)
		}
	}
	slices.Sort(suspects)
	named := 0
	for _, t := range slices.Compact(suspects) {
		if named == 8 {
			break
		}
		m, err := g.compare(0, t)
		if err != nil {
			return err
		}
		if m.Elements > 0 || slices.Contains(odd, t) {
			named++
			g.report(m)
		}
	}
	if named == 0 {
		return errors.New("the golden result fails Freivalds' check, and no tile of it differs from the CPU's: the memory of this machine is at fault")
	}
	return nil
}

// prove corrupts one bit of one element and looks whether the check names just
// that.
func (g *gemm) prove(ctx context.Context) (caught bool, err error) {
	s := g.ready.Shape
	plant := Plant{Index: rand.Uint64N(uint64(s.M) * uint64(s.N)), XOR: 1 << rand.IntN(32)}
	tile := int(plant.Index/uint64(s.N))/s.TileM*(s.N/s.TileN) + int(plant.Index%uint64(s.N))/s.TileN
	wrong, err := g.multiply(ctx, 0, plant)
	if err != nil {
		return false, err
	}
	p := Proof{Index: plant.Index, XOR: Hex32(plant.XOR), Tile: -1}
	for _, t := range wrong {
		if t != tile {
			p.Other++
			continue
		}
		m, err := g.compare(0, t)
		if err != nil {
			return false, err
		}
		p.Tile, p.Found = t, m.XOR
		p.Caught = m.Elements == 1 && m.Index == plant.Index && uint32(m.XOR) == plant.XOR
	}
	p.Caught = p.Caught && p.Other == 0
	g.emit(Event{Kind: EventProof, Proof: &p})
	return p.Caught, nil
}

// compare diffs a tile of the last product with the CPU's.
func (g *gemm) compare(iteration, tile int) (Mismatch, error) {
	s := g.ready.Shape
	sensors := g.mul.Sensors()
	m := Mismatch{Iteration: iteration, Tile: tile, SM: int(g.product.SMs[tile]), Temp: sensors.Temp, Clock: sensors.Clock,
		PowerW: sensors.Power, Reference: Hex(g.golden[tile]), Hash: Hex(g.product.Hashes[tile])}
	if err := g.mul.Tile(tile, g.tile); err != nil {
		return m, fmt.Errorf("read tile %d: %w", tile, err)
	}
	Truth(s, g.ready.Type, g.order.Seed, tile, g.truth)
	row, column := s.Origin(tile)
	for i, want := range g.truth {
		got := g.tile[i]
		if got == want {
			continue
		}
		if m.Elements == 0 {
			m.Index = uint64(row+i/s.TileN)*uint64(s.N) + uint64(column+i%s.TileN)
			m.Want, m.Got = Hex32(want), Hex32(got)
		}
		m.Elements++
		m.XOR |= Hex32(got ^ want)
		if _, number := g.ready.Type.Value(got); !number {
			m.NaN = true
		}
	}
	return m, nil
}

func (g *gemm) report(m Mismatch) {
	g.wrong++
	g.emit(Event{Kind: EventMismatch, Mismatch: &m})
}

// mismatches tells of the wrong tiles of an iteration and computes it again, as
// it was dealt before, to see whether they are wrong again.
func (g *gemm) mismatches(ctx context.Context, iteration int, wrong []int) error {
	found := make([]Mismatch, 0, len(wrong))
	for _, t := range wrong[:min(len(wrong), mostMismatches-g.wrong)] {
		m, err := g.compare(iteration, t)
		if err != nil {
			return err
		}
		found = append(found, m)
	}
	again, err := g.multiply(ctx, iteration, Plant{})
	if err != nil && ctx.Err() == nil {
		return err
	}
	for _, m := range found {
		m.Again = slices.Contains(again, m.Tile)
		g.report(m)
	}
	return nil
}

// loop computes until the order is carried out.
func (g *gemm) loop(ctx context.Context, began time.Time) error {
	o := g.order
	every := time.Duration(o.Sample * float64(time.Second))
	limit := time.Duration(o.Seconds * float64(time.Second))
	told, batch := began, Iterations{}
	tell := func(now time.Time) {
		sample := g.mul.Sensors()
		sample.TFLOPs = float64(batch.Count) * g.ready.Shape.FLOPs() / now.Sub(told).Seconds() / 1e12
		g.emit(Event{Kind: EventSample, Sample: &sample})
		g.emit(Event{Kind: EventIterations, Iterations: &batch})
		told, batch = now, Iterations{First: batch.First + batch.Count}
	}
	for i := 0; ctx.Err() == nil && g.wrong < mostMismatches; i++ {
		now := time.Now()
		if now.Sub(told) >= every {
			tell(now)
		}
		if (limit > 0 && now.Sub(began) >= limit) || (o.Iterations > 0 && i >= o.Iterations) {
			break
		}
		wrong, err := g.multiply(ctx, i, Plant{})
		if err != nil {
			if ctx.Err() != nil {
				break // it was stopped in the middle of a product
			}
			return err
		}
		batch.Count++
		batch.Micros = append(batch.Micros, uint32(max(1, time.Since(now).Microseconds())))
		for t, sm := range g.product.SMs {
			if at := int(sm)*len(g.golden) + t; g.product.Done[t] && sm >= 0 && at < len(g.pairs) {
				g.pairs[at] = true
			}
		}
		if len(wrong) == 0 {
			g.verified++
		} else if err := g.mismatches(ctx, i, wrong); err != nil {
			return err
		}
		if o.Load == LoadPulse && i%pulse == pulse-1 {
			idle(ctx, time.Since(now)*pulse)
		}
	}
	if batch.Count > 0 {
		tell(time.Now())
	}
	return nil
}

// pulse is how many products LoadPulse computes between two pauses of the same
// length.
const pulse = 8

func idle(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (g *gemm) cover(took time.Duration) {
	c := Coverage{Iterations: g.verified, FLOPs: float64(g.verified) * g.ready.Shape.FLOPs(), Seconds: took.Seconds()}
	pairs := 0
	for of := range slices.Chunk(g.pairs, len(g.golden)) {
		n := 0
		for _, computed := range of {
			if computed {
				n++
			}
		}
		pairs += n
		c.SMs += min(n, 1)
	}
	c.Pairs = float64(pairs) / float64(len(g.pairs))
	g.emit(Event{Kind: EventCoverage, Coverage: &c})
}
