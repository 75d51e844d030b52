package cuda

import (
	_ "embed" // the kernels' PTX
	"fmt"

	"firstlight/provision/burnin"
)

// The kernels as `make ptx` compiles them from kernels/*.cu.
var (
	//go:embed kernels/portable.ptx
	portablePTX string
	//go:embed kernels/ada.ptx
	adaPTX string
	//go:embed kernels/hopper.ptx
	hopperPTX string
)

// source is the PTX of a module.
func source(module string) string {
	switch module {
	case "ada":
		return adaPTX
	case "hopper":
		return hopperPTX
	}
	return portablePTX
}

// kernel is one way to compute a product.
type kernel struct {
	name    string // in Order and Ready
	typ     burnin.Type
	module  string
	entry   string
	fits    func(cc int) bool // on which GPUs
	tileM   int
	tileN   int
	threads int
	shared  int  // bytes
	warps   int  // that finish a tile
	maps    bool // the factors are passed as tensor maps
}

// kernels are those that there are, the best first.
func kernels() []kernel {
	from := func(least int) func(int) bool { return func(cc int) bool { return cc >= least } }
	mma := kernel{name: "mma", module: "portable", fits: from(80), tileM: 128, tileN: 128, threads: 256, shared: 3 << 15, warps: 8}
	bf16, int8, fp8 := mma, mma, mma
	bf16.typ, bf16.entry = burnin.BF16, "mma_bf16"
	int8.typ, int8.entry = burnin.INT8, "mma_int8"
	fp8.typ, fp8.entry, fp8.module, fp8.fits = burnin.FP8, "mma_fp8", "ada", from(89)
	wgmma := kernel{name: "wgmma", module: "hopper", fits: func(cc int) bool { return cc == 90 }, tileM: 128, tileN: 256, threads: 384, warps: 8, maps: true}
	const stages, slack = 4, 1024 + 64 // to begin at a multiple of 1024; the barriers
	wgmma.shared = stages*(wgmma.tileM+wgmma.tileN)*stepBytes + slack
	wbf16, wint8, wfp8 := wgmma, wgmma, wgmma
	wbf16.typ, wbf16.entry = burnin.BF16, "wgmma_bf16"
	wint8.typ, wint8.entry = burnin.INT8, "wgmma_int8"
	wfp8.typ, wfp8.entry, wfp8.tileN = burnin.FP8, "wgmma_fp8", 128
	return []kernel{wbf16, wint8, wfp8, bf16, int8, fp8}
}

// choose is the kernel of an order on a GPU.
func choose(o burnin.Order, g *device) (kernel, error) {
	for _, k := range kernels() {
		if k.typ == o.Type && k.fits(g.cc) && k.shared <= g.shared && (o.Kernel == "" || o.Kernel == k.name) {
			return k, nil
		}
	}
	return kernel{}, fmt.Errorf("no kernel %s for %s runs on %s (compute capability %d.%d)", o.Kernel, o.Type, g.name, g.cc/10, g.cc%10)
}

// stepBytes is how much of K a stage of each kernel takes.
const stepBytes = 128

func bytesOf(t burnin.Type) int {
	if t == burnin.BF16 {
		return 2
	}
	return 1
}

// format is the number of a type in kernels/arith.h.
func format(t burnin.Type) uint32 {
	switch t {
	case burnin.FP8:
		return 1
	case burnin.INT8:
		return 2
	}
	return 0
}

// shape completes the sizes that an order leaves to the worker. A product that
// takes some milliseconds makes what is done between two of them small.
func (k kernel) shape(s burnin.Shape, free uint64) (burnin.Shape, error) {
	if s.M == 0 && s.N == 0 && s.K == 0 {
		s.M, s.N, s.K = 16384, 16384, 8192
		for s.M > 256 && k.bytes(s) > free/2 {
			s.M, s.N, s.K = s.M/2, s.N/2, s.K/2
		}
	}
	if s.TileM == 0 && s.TileN == 0 {
		s.TileM, s.TileN = k.tileM, k.tileN
	}
	if s.TileM != k.tileM || s.TileN != k.tileN {
		return s, fmt.Errorf("shape %v: kernel %s computes tiles of %d x %d", s, k.entry, k.tileM, k.tileN)
	}
	if at := stepBytes / bytesOf(k.typ); s.K%at != 0 {
		return s, fmt.Errorf("shape %v: kernel %s needs a K that is a multiple of %d", s, k.entry, at)
	}
	return s, s.Check()
}

// bytes is the memory that a product takes.
func (k kernel) bytes(s burnin.Shape) uint64 {
	each := uint64(bytesOf(k.typ))
	return each*uint64(s.K)*uint64(s.M+s.N) + 4*uint64(s.M)*uint64(s.N)
}

// job is Job of kernels/product.h.
type job struct {
	a, b, c, results, spent  uint64
	plantIndex               uint64
	plantXor                 uint32
	fault, faultSM, faultXor uint32
	m, n, kBytes, iteration  uint32
	strip                    uint32
	bare                     uint32
}

// result is Result of kernels/product.h.
type result struct {
	hash  uint64
	sm    uint32
	warps uint32
}
