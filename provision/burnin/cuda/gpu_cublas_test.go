//go:build gpu

package cuda

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/ebitengine/purego"
)

// cublas is NVIDIA's own product, the yardstick: C is N x M, column by column,
// which is M x N row by row, from the same factors in the same layout as ours.
type cublas struct {
	library           uintptr
	handle            uintptr
	desc              uintptr
	a, b, c           uintptr // layouts
	algorithm         [96]byte
	workspace         buffer
	m, n, k           int
	out               buffer
	dataA, dataB      uint64
	alpha, beta       float32
	outType, outBytes int
}

// Numbers of cublasLt.h and library_types.h.
const (
	cudaR32F, cudaR16BF         = 0, 14
	cublasCompute32F            = 68
	cublasTransA                = 3
	cublasTransposed            = 1
	cublasMaxWorkspace          = 1
	cublasWorkspaceBytes uint64 = 64 << 20
)

func findCublas() (uintptr, error) {
	candidates := []string{os.Getenv("FIRSTLIGHT_CUBLASLT"), "libcublasLt.so.13", "libcublasLt.so.12"}
	for _, pattern := range []string{"/usr/local/cuda*/lib64/libcublasLt.so.*", "/usr/*/lib/python3*/*-packages/nvidia/cublas/lib/libcublasLt.so.*",
		"/usr/lib/python3*/*-packages/nvidia/cublas/lib/libcublasLt.so.*", "/opt/*/lib/python3*/*-packages/nvidia/*/lib/libcublasLt.so.*"} {
		found, _ := filepath.Glob(pattern)
		candidates = append(candidates, found...)
	}
	for _, path := range candidates {
		if path == "" {
			continue
		}
		if lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL); err == nil {
			return lib, nil
		}
	}
	return 0, errors.New("libcublasLt is not on this machine; FIRSTLIGHT_CUBLASLT names one")
}

//go:uintptrescapes
func (c *cublas) call(name string, args ...uintptr) error {
	f, err := purego.Dlsym(c.library, name)
	if err != nil {
		return err
	}
	if code, _, _ := purego.SyscallN(f, args...); int32(code) != success {
		return fmt.Errorf("%s: %d", name, int32(code))
	}
	return nil
}

// newCublas prepares bf16 products whose elements are kept in 4 or 2 bytes.
func newCublas(g *device, library uintptr, p *product, outBytes int) (*cublas, error) {
	c := &cublas{library: library, m: p.shape.M, n: p.shape.N, k: p.shape.K, alpha: 1, outBytes: outBytes, outType: cudaR32F}
	if outBytes == 2 {
		c.outType = cudaR16BF
	}
	c.dataA, c.dataB = uint64(p.buffers[0].at), uint64(p.buffers[1].at)
	var err error
	if c.out, err = g.alloc(uint64(outBytes * c.m * c.n)); err != nil {
		return nil, err
	}
	if c.workspace, err = g.alloc(cublasWorkspaceBytes); err != nil {
		return nil, err
	}
	transposed, most, preference, found := int32(cublasTransposed), cublasWorkspaceBytes, uintptr(0), int32(0)
	for _, f := range []func() error{
		func() error { return c.call("cublasLtCreate", uintptr(unsafe.Pointer(&c.handle))) },
		func() error {
			return c.call("cublasLtMatmulDescCreate", uintptr(unsafe.Pointer(&c.desc)), cublasCompute32F, cudaR32F)
		},
		func() error {
			return c.call("cublasLtMatmulDescSetAttribute", c.desc, cublasTransA, uintptr(unsafe.Pointer(&transposed)), 4)
		},
		func() error {
			return c.call("cublasLtMatrixLayoutCreate", uintptr(unsafe.Pointer(&c.a)), cudaR16BF, uintptr(c.k), uintptr(c.n), uintptr(c.k))
		},
		func() error {
			return c.call("cublasLtMatrixLayoutCreate", uintptr(unsafe.Pointer(&c.b)), cudaR16BF, uintptr(c.k), uintptr(c.m), uintptr(c.k))
		},
		func() error {
			return c.call("cublasLtMatrixLayoutCreate", uintptr(unsafe.Pointer(&c.c)), uintptr(c.outType), uintptr(c.n), uintptr(c.m), uintptr(c.n))
		},
		func() error { return c.call("cublasLtMatmulPreferenceCreate", uintptr(unsafe.Pointer(&preference))) },
		func() error {
			return c.call("cublasLtMatmulPreferenceSetAttribute", preference, cublasMaxWorkspace, uintptr(unsafe.Pointer(&most)), 8)
		},
		func() error {
			return c.call("cublasLtMatmulAlgoGetHeuristic", c.handle, c.desc, c.a, c.b, c.c, c.c, preference, 1,
				uintptr(unsafe.Pointer(&c.algorithm[0])), uintptr(unsafe.Pointer(&found)))
		},
	} {
		if err := f(); err != nil {
			return nil, err
		}
	}
	if found == 0 {
		return nil, errors.New("cublasLt has no algorithm for this product")
	}
	return c, nil
}

func (c *cublas) multiply() error {
	return c.call("cublasLtMatmul", c.handle, c.desc, uintptr(unsafe.Pointer(&c.alpha)), uintptr(c.dataB), c.a, uintptr(c.dataA), c.b,
		uintptr(unsafe.Pointer(&c.beta)), c.out.at, c.c, c.out.at, c.c, uintptr(unsafe.Pointer(&c.algorithm[0])), c.workspace.at, uintptr(c.workspace.size), 0)
}
