package cuda

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"
)

// device is one GPU and its primary context, current on this thread.
type device struct {
	*driver
	number  int // the driver's
	name    string
	uuid    string
	pci     string // 0000:18:00.0
	sms     int
	memory  uint64
	shared  int // bytes of shared memory that a block can have
	cc      int // compute capability, 90 for 9.0
	version string
	context uintptr
	modules map[string]uintptr
	held    map[uintptr]bool // memory that is not freed yet
}

// The attributes of a device, by the numbers of CUdevice_attribute.
const (
	attributeSMs    = 16
	attributeMajor  = 75
	attributeMinor  = 76
	attributeShared = 97
)

// devices lists the GPUs in PCI order, which is not the driver's.
func (d *driver) devices() ([]*device, error) {
	var count, version int32
	if err := d.call("cuDriverGetVersion", uintptr(unsafe.Pointer(&version))); err != nil {
		return nil, err
	}
	if err := d.call("cuDeviceGetCount", uintptr(unsafe.Pointer(&count))); err != nil {
		return nil, err
	}
	var all []*device
	for i := range int(count) {
		g := &device{driver: d, modules: map[string]uintptr{}, held: map[uintptr]bool{}, version: fmt.Sprintf("CUDA %d.%d", version/1000, version%1000/10)}
		if err := g.describe(i); err != nil {
			return nil, fmt.Errorf("GPU %d of %d: %w", i, count, err)
		}
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *device) int { return strings.Compare(a.pci, b.pci) })
	return all, nil
}

// find is the GPU of an order: by UUID if there is one, else by index.
func find(all []*device, uuid string, index int) (*device, error) {
	if uuid == "" {
		if index < 0 || index >= len(all) {
			return nil, fmt.Errorf("no GPU %d: the driver has %d", index, len(all))
		}
		return all[index], nil
	}
	for _, g := range all {
		if g.uuid == uuid {
			return g, nil
		}
	}
	return nil, fmt.Errorf("no GPU %s among the %d that the driver has", uuid, len(all))
}

func (g *device) describe(ordinal int) error {
	var number int32
	if err := g.call("cuDeviceGet", uintptr(unsafe.Pointer(&number)), uintptr(ordinal)); err != nil {
		return err
	}
	g.number = int(number)
	text := make([]byte, 256)
	id := make([]byte, 16)
	err := g.call("cuDeviceGetName", uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)), uintptr(g.number))
	g.name = cString(text)
	clear(text)
	err = errors.Join(err,
		g.call("cuDeviceGetPCIBusId", uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)), uintptr(g.number)),
		g.call("cuDeviceGetUuid_v2", uintptr(unsafe.Pointer(&id[0])), uintptr(g.number)),
		g.call("cuDeviceTotalMem_v2", uintptr(unsafe.Pointer(&g.memory)), uintptr(g.number)))
	g.pci = strings.ToLower(cString(text))
	g.uuid = fmt.Sprintf("GPU-%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	attribute := func(which uintptr) int {
		var v int32
		err = errors.Join(err, g.call("cuDeviceGetAttribute", uintptr(unsafe.Pointer(&v)), which, uintptr(g.number)))
		return int(v)
	}
	g.sms, g.shared = attribute(attributeSMs), attribute(attributeShared)
	g.cc = 10*attribute(attributeMajor) + attribute(attributeMinor)
	return err
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// open makes the GPU's primary context, current on this thread.
func (g *device) open() error {
	if err := g.call("cuDevicePrimaryCtxRetain", uintptr(unsafe.Pointer(&g.context)), uintptr(g.number)); err != nil {
		return err
	}
	return g.enter()
}

// enter makes the context current; with two GPUs, before what concerns each.
func (g *device) enter() error { return g.call("cuCtxSetCurrent", g.context) }

func (g *device) sync() error { return g.call("cuCtxSynchronize") }

// Options of cuModuleLoadDataEx.
const (
	jitErrorLog     = 5
	jitErrorLogSize = 6
)

// function finds a kernel, which the driver first translates from PTX.
func (g *device) function(ptx, name string) (uintptr, error) {
	module, ok := g.modules[ptx]
	if !ok {
		code := append([]byte(source(ptx)), 0)
		log := make([]byte, 8<<10)
		// Its address is passed in a list: it must neither move nor go.
		var pin runtime.Pinner
		pin.Pin(&log[0])
		defer pin.Unpin()
		options := []int32{jitErrorLog, jitErrorLogSize}
		values := []uintptr{uintptr(unsafe.Pointer(&log[0])), uintptr(len(log))}
		err := g.call("cuModuleLoadDataEx", uintptr(unsafe.Pointer(&module)), uintptr(unsafe.Pointer(&code[0])), uintptr(len(options)),
			uintptr(unsafe.Pointer(&options[0])), uintptr(unsafe.Pointer(&values[0])))
		if err != nil {
			return 0, fmt.Errorf("load %s: %w %s", ptx, err, cString(log))
		}
		// The driver has its own copy of the code by now.
		g.modules[ptx] = module
	}
	var f uintptr
	if err := g.call("cuModuleGetFunction", uintptr(unsafe.Pointer(&f)), module, uintptr(unsafe.Pointer(cBytes(name)))); err != nil {
		return 0, fmt.Errorf("kernel %s of %s: %w", name, ptx, err)
	}
	return f, nil
}

func cBytes(s string) *byte { return &append([]byte(s), 0)[0] }

// launch starts a kernel. Its parameters are pointers to their values.
func (g *device) launch(f uintptr, grid, threads, shared int, params ...unsafe.Pointer) error {
	return g.call("cuLaunchKernel", f, uintptr(grid), 1, 1, uintptr(threads), 1, 1, uintptr(shared), 0, uintptr(unsafe.Pointer(&params[0])), 0)
}

// buffer is memory of a GPU.
type buffer struct {
	at   uintptr
	size uint64
}

func (g *device) alloc(size uint64) (buffer, error) {
	b := buffer{size: size}
	if err := g.call("cuMemAlloc_v2", uintptr(unsafe.Pointer(&b.at)), uintptr(size)); err != nil {
		return buffer{}, fmt.Errorf("%d bytes of the GPU's memory: %w", size, err)
	}
	g.held[b.at] = true
	return b, nil
}

func (g *device) free(b buffer) error {
	delete(g.held, b.at)
	return g.call("cuMemFree_v2", b.at)
}

// release frees all memory that was taken.
func (g *device) release() error {
	if err := g.enter(); err != nil {
		return err
	}
	for at := range g.held {
		if err := g.free(buffer{at: at}); err != nil {
			return err
		}
	}
	return nil
}

func (g *device) clear(b buffer) error { return g.call("cuMemsetD8_v2", b.at, 0, uintptr(b.size)) }

// upload and download copy, and return when the bytes are there.
func upload[T any](g *device, to uintptr, from []T) error {
	var one T
	return g.call("cuMemcpyHtoD_v2", to, uintptr(unsafe.Pointer(unsafe.SliceData(from))), uintptr(len(from))*unsafe.Sizeof(one))
}

func download[T any](g *device, to []T, from uintptr) error {
	var one T
	return g.call("cuMemcpyDtoH_v2", uintptr(unsafe.Pointer(unsafe.SliceData(to))), from, uintptr(len(to))*unsafe.Sizeof(one))
}

// available is how much memory is free, and how much there is.
func (g *device) available() (free, total uint64, err error) {
	err = g.call("cuMemGetInfo_v2", uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&total)))
	return free, total, err
}
