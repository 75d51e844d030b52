package cuda

import (
	"context"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"

	"firstlight/provision/burnin"
)

// sensors reads a GPU's state through NVML, once a second and beside the load:
// a call that hangs delays nothing, and what was read before is soon too old to
// be told.
type sensors struct {
	wait   time.Duration // for the first reading; an older one is not told
	last   atomic.Pointer[reading]
	driver atomic.Pointer[string]
}

type reading struct {
	sample burnin.Sample
	at     time.Time
}

// read is the last reading; what is not known is zero.
func (s *sensors) read() burnin.Sample {
	if r := s.last.Load(); r != nil && time.Since(r.at) < s.wait {
		return r.sample
	}
	return burnin.Sample{}
}

// openSensors begins to read the sensors of the GPU at a PCI address. A node
// without NVML, or whose NVML does not answer for so long, has none.
func openSensors(ctx context.Context, library, pci string, wait time.Duration) *sensors {
	s := &sensors{wait: wait}
	first := make(chan struct{})
	go s.loop(ctx, library, pci, first) // ends with ctx, or with the process when NVML hangs
	select {
	case <-first:
	case <-time.After(wait):
	}
	return s
}

func (s *sensors) loop(ctx context.Context, library, pci string, first chan<- struct{}) {
	m, err := openManagement(library, pci)
	if err != nil {
		close(first)
		return
	}
	if v := m.driverVersion(); v != "" {
		s.driver.Store(&v)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		s.last.Store(&reading{sample: m.sample(), at: time.Now()})
		if n == 0 {
			close(first)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// management is NVML, and its handle of one GPU.
type management struct {
	library uintptr
	device  uintptr
}

func openManagement(path, pci string) (*management, error) {
	if path == "" {
		path = "libnvidia-ml.so.1"
	}
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, err
	}
	m := &management{library: lib}
	if err := m.call("nvmlInit_v2"); err != nil {
		return nil, err
	}
	return m, m.call("nvmlDeviceGetHandleByPciBusId_v2", uintptr(unsafe.Pointer(cBytes(pci))), uintptr(unsafe.Pointer(&m.device)))
}

// call calls a function by its name. A library may lack any of them.
//
//go:uintptrescapes
func (m *management) call(name string, args ...uintptr) error {
	f, err := purego.Dlsym(m.library, name)
	if err != nil {
		return err
	}
	if code, _, _ := purego.SyscallN(f, args...); int32(code) != success {
		return &Error{Call: name, Code: int(int32(code)), Name: "NVML error"}
	}
	return nil
}

func (m *management) driverVersion() string {
	text := make([]byte, 80)
	if m.call("nvmlSystemGetDriverVersion", uintptr(unsafe.Pointer(&text[0])), uintptr(len(text))) != nil {
		return ""
	}
	return cString(text)
}

// fieldValue is nvmlFieldValue_t.
type fieldValue struct {
	field, scope uint32
	at, latency  int64
	kind, status uint32
	value        uint64 // its first four bytes, for the fields that are read here
}

// sample reads what there is to read; what cannot be read stays zero.
func (m *management) sample() burnin.Sample {
	const temperatureGPU, clockSM, fieldMemoryTemp = 0, 1, 82
	var s burnin.Sample
	var v uint32
	if m.call("nvmlDeviceGetTemperature", m.device, temperatureGPU, uintptr(unsafe.Pointer(&v))) == nil {
		s.Temp = float64(v)
	}
	if m.call("nvmlDeviceGetClockInfo", m.device, clockSM, uintptr(unsafe.Pointer(&v))) == nil {
		s.Clock = float64(v)
	}
	if m.call("nvmlDeviceGetPowerUsage", m.device, uintptr(unsafe.Pointer(&v))) == nil {
		s.Power = float64(v) / 1000 // from mW
	}
	if m.call("nvmlDeviceGetCurrentClocksThrottleReasons", m.device, uintptr(unsafe.Pointer(&s.Throttle))) != nil {
		s.Throttle = 0
	}
	f := fieldValue{field: fieldMemoryTemp}
	if m.call("nvmlDeviceGetFieldValues", m.device, 1, uintptr(unsafe.Pointer(&f))) == nil && f.status == success {
		s.Memory = float64(uint32(f.value))
	}
	return s
}
