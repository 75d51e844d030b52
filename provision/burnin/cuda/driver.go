package cuda

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

// driver is the CUDA driver API: its library and the functions found in it.
type driver struct {
	library uintptr
	found   map[string]uintptr
	begun   atomic.Pointer[inCall] // nil between calls
}

// inCall is a call that has not returned.
type inCall struct {
	name  string
	since time.Time
}

// Error is a call of the CUDA driver API that failed.
type Error struct {
	Call string // cuMemAlloc_v2
	Code int    // CUresult
	Name string // CUDA_ERROR_OUT_OF_MEMORY
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s (%d)", e.Call, e.Name, e.Code) }

// The results that the worker tells apart.
const (
	success        = 0
	outOfMemory    = 2
	peerIsEnabled  = 704
	unknownFailure = "unknown CUDA error"
)

// openDriver opens the driver's library, and tells opened of it before the
// first call, which may hang. Its path is for tests.
func openDriver(path string, opened chan<- *driver) (*driver, error) {
	if path == "" {
		path = "libcuda.so.1"
	}
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("open the CUDA driver: %w: is NVIDIA's driver installed on this node?", err)
	}
	d := &driver{library: lib, found: map[string]uintptr{}}
	opened <- d
	if err := d.call("cuInit", 0); err != nil {
		return nil, err
	}
	return d, nil
}

// call calls a function by its name; a driver that lacks it gives an error.
// Addresses of Go memory are converted in the call, which keeps that memory.
//
//go:uintptrescapes
func (d *driver) call(name string, args ...uintptr) error {
	f, ok := d.found[name]
	if !ok {
		var err error
		if f, err = purego.Dlsym(d.library, name); err != nil {
			return fmt.Errorf("the CUDA driver has no %s: it is too old for this worker (%w)", name, err)
		}
		d.found[name] = f
	}
	d.begun.Store(&inCall{name: name, since: time.Now()})
	code, _, _ := purego.SyscallN(f, args...)
	d.begun.Store(nil)
	if int32(code) == success {
		return nil
	}
	return &Error{Call: name, Code: int(int32(code)), Name: d.errorName(code)}
}

// hung is the call that has not returned for so long, if there is one.
func (d *driver) hung(patience time.Duration) error {
	c := d.begun.Load()
	if c == nil || time.Since(c.since) < patience {
		return nil
	}
	return fmt.Errorf("%s has not returned for %v: the GPU or its driver hangs", c.name, patience)
}

func (d *driver) errorName(code uintptr) string {
	f, err := purego.Dlsym(d.library, "cuGetErrorName")
	if err != nil {
		return unknownFailure
	}
	var name *byte
	if r, _, _ := purego.SyscallN(f, code, uintptr(unsafe.Pointer(&name))); int32(r) != success || name == nil {
		return unknownFailure
	}
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(name), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(name, n))
}
