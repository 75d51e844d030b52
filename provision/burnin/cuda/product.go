package cuda

import (
	"context"
	"math"
	"os"
	"time"
	"unsafe"

	"firstlight/provision/burnin"
)

// product is a burnin.Multiplier: products on one GPU.
type product struct {
	*device
	order    burnin.Order
	kernel   kernel
	shape    burnin.Shape
	function uintptr
	job      job
	buffers  []buffer
	results  []result
	sensors  func() burnin.Sample
}

// newProduct makes the factors of an order on the GPU.
func newProduct(g *device, o burnin.Order, k kernel, s burnin.Shape) (*product, error) {
	p := &product{device: g, order: o, kernel: k, shape: s, results: make([]result, s.Tiles()), sensors: func() burnin.Sample { return burnin.Sample{} }}
	var err error
	if p.function, err = g.function(k.module, k.entry); err != nil {
		return nil, err
	}
	const maxDynamicShared = 8 // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
	if err := g.call("cuFuncSetAttribute", p.function, maxDynamicShared, uintptr(p.sharedBytes())); err != nil {
		return nil, err
	}
	each := bytesOf(k.typ)
	p.job = job{m: uint32(s.M), n: uint32(s.N), kBytes: uint32(s.K * each), strip: uint32(max(1, int(math.Sqrt(float64(g.sms)*float64(s.TileM)/float64(s.TileN)))))}
	for _, want := range []struct {
		at   *uint64
		size int
	}{
		{&p.job.a, s.M * s.K * each}, {&p.job.b, s.N * s.K * each}, {&p.job.c, 4 * s.M * s.N},
		{&p.job.results, len(p.results) * int(unsafe.Sizeof(result{}))}, {&p.job.spent, 4},
	} {
		b, err := g.alloc(uint64(want.size))
		if err != nil {
			return nil, err
		}
		if err := g.clear(b); err != nil {
			return nil, err
		}
		p.buffers, *want.at = append(p.buffers, b), uint64(b.at)
	}
	// B lies transposed: its columns are rows of K elements.
	if err := p.fill(p.job.a, s.M, o.Seed, uint64(s.K), 1); err != nil {
		return nil, err
	}
	if err := p.fill(p.job.b, s.N, burnin.SeedB(o.Seed), 1, uint64(s.N)); err != nil || !k.maps {
		return p, err
	}
	if p.job.a, err = p.tensorMap(p.job.a, s.M, s.TileM); err != nil {
		return nil, err
	}
	p.job.b, err = p.tensorMap(p.job.b, s.N, s.TileN)
	return p, err
}

// tensorMap describes a factor for the copies of its tiles, as rows of bytes,
// and leaves that with the GPU.
func (p *product) tensorMap(at uint64, rows, box int) (uint64, error) {
	// CUtensorMap is 128 bytes at a multiple of 64.
	raw := make([]byte, 128+63)
	m := raw[-uintptr(unsafe.Pointer(&raw[0]))&63:][:128]
	size := []uint64{uint64(p.job.kBytes), uint64(rows)}
	pitch := []uint64{uint64(p.job.kBytes)}
	boxes, step := []uint32{stepBytes, uint32(box)}, []uint32{1, 1}
	const bytes, interleaveNone, swizzle128, promote256, outsideZero = 0, 0, 3, 3, 0
	err := p.call("cuTensorMapEncodeTiled", uintptr(unsafe.Pointer(&m[0])), bytes, uintptr(len(size)), uintptr(at), uintptr(unsafe.Pointer(&size[0])),
		uintptr(unsafe.Pointer(&pitch[0])), uintptr(unsafe.Pointer(&boxes[0])), uintptr(unsafe.Pointer(&step[0])), interleaveNone, swizzle128, promote256, outsideZero)
	if err != nil {
		return 0, err
	}
	b, err := p.alloc(uint64(len(m)))
	if err != nil {
		return 0, err
	}
	p.buffers = append(p.buffers, b)
	return uint64(b.at), upload(p.device, b.at, m)
}

// sharedBytes is more than half of what an SM has, so that no two blocks of a
// small kernel share one.
func (p *product) sharedBytes() int { return max(p.kernel.shared, p.device.shared/2+1024) }

func (p *product) fill(at uint64, rows int, seed, rowStride, kStride uint64) error {
	f, err := p.device.function("portable", "fill")
	if err != nil {
		return err
	}
	words := uint64(rows) * uint64(p.job.kBytes) / 4
	form, perRow, span := format(p.kernel.typ), uint32(p.shape.K), uint32(p.kernel.typ.Span())
	err = p.launch(f, 8*p.sms, 256, 0, unsafe.Pointer(&at), unsafe.Pointer(&words), unsafe.Pointer(&form), unsafe.Pointer(&perRow),
		unsafe.Pointer(&rowStride), unsafe.Pointer(&kStride), unsafe.Pointer(&seed), unsafe.Pointer(&span))
	if err != nil {
		return err
	}
	return p.sync()
}

// Multiply implements burnin.Multiplier. Each iteration, results is cleared:
// a tile that no block computed has no hash, whatever C still holds.
func (p *product) Multiply(ctx context.Context, iteration int, plant burnin.Plant, out *burnin.Product) error {
	began := time.Now()
	j := p.job
	j.iteration, j.plantIndex, j.plantXor = uint32(iteration%p.sms), plant.Index, plant.XOR
	kind := p.planted(iteration, &j)
	if err := p.clear(buffer{at: uintptr(j.results), size: uint64(len(p.results)) * uint64(unsafe.Sizeof(result{}))}); err != nil {
		return err
	}
	if err := p.launch(p.function, p.sms, p.kernel.threads, p.sharedBytes(), unsafe.Pointer(&j)); err != nil {
		return err
	}
	if err := download(p.device, p.results, uintptr(j.results)); err != nil {
		return err
	}
	for t, r := range p.results {
		out.Hashes[t], out.SMs[t], out.Done[t] = r.hash, int32(r.sm), int(r.warps) == p.kernel.warps
		if r.warps == 0 {
			out.SMs[t] = -1
		}
	}
	if kind == burnin.FaultSlow {
		wait(ctx, time.Duration(float64(time.Since(began))*(max(p.order.Fault.Slow, 3)-1)))
	}
	return nil
}

// planted does what the order's fault asks for in an iteration.
func (p *product) planted(iteration int, j *job) burnin.FaultKind {
	f := p.order.Fault
	if f == nil || f.GPU != p.order.GPU || iteration < f.After {
		return ""
	}
	j.faultSM, j.faultXor = uint32(f.SM), 1<<(f.Bit&31)
	switch f.Kind {
	case burnin.FaultBitFlip:
		j.fault = 1
	case burnin.FaultNaN:
		j.fault = 2
	case burnin.FaultStuck:
		j.fault = 3
	case burnin.FaultHang:
		select {} // whoever started this worker must end it
	case burnin.FaultCrash:
		os.Exit(1) // without a word
	}
	return f.Kind
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// copy2D is CUDA_MEMCPY2D.
type copy2D struct {
	srcX, srcY uintptr
	srcType    uintptr // a CUmemorytype, 32 bits, and padding
	srcHost    unsafe.Pointer
	srcDevice  uintptr
	srcArray   uintptr
	srcPitch   uintptr
	dstX, dstY uintptr
	dstType    uintptr
	dstHost    unsafe.Pointer
	dstDevice  uintptr
	dstArray   uintptr
	dstPitch   uintptr
	width      uintptr // bytes
	height     uintptr
}

// Tile implements burnin.Multiplier.
func (p *product) Tile(tile int, dst []uint32) error {
	const memoryHost, memoryDevice = 1, 2
	row, column := p.shape.Origin(tile)
	wide := 4 * uintptr(p.shape.TileN)
	c := &copy2D{srcType: memoryDevice, srcDevice: uintptr(p.job.c) + 4*uintptr(row*p.shape.N+column), srcPitch: 4 * uintptr(p.shape.N),
		dstType: memoryHost, dstHost: unsafe.Pointer(unsafe.SliceData(dst)), dstPitch: wide, width: wide, height: uintptr(p.shape.TileM)}
	return p.call("cuMemcpy2D_v2", uintptr(unsafe.Pointer(c)))
}

// Sensors implements burnin.Multiplier.
func (p *product) Sensors() burnin.Sample {
	if f := p.order.Fault; f != nil && f.GPU == p.order.GPU && f.Kind == burnin.FaultHot {
		return burnin.Sample{Temp: 105, Memory: 110}
	}
	return p.sensors()
}
