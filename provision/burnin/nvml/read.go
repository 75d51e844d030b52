//go:build cgo

package nvml

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

const library = "libnvidia-ml.so.1"

// Read reads all GPUs, each in a goroutine of its own. It returns when each is
// read or has a call that takes longer than the limit; what hangs is left
// behind and named in the result, and the process should soon end.
func Read(opt Options) burnin.Health {
	opt.Interval, opt.Limit = cmp.Or(opt.Interval, DefaultInterval), cmp.Or(opt.Limit, DefaultLimit)
	r := &reader{opt: opt, open: map[string]call{}, health: burnin.Health{Version: burnin.HealthVersion, Engine: acceptance.EngineNode, Interval: opt.Interval.Seconds()}}
	var devices []device
	r.watch([]string{""}, func(string) { devices = r.begin() })
	if h := r.snapshot(); h.Library != "" || len(h.Stuck) > 0 {
		h.Library = cmp.Or(h.Library, "NVML hangs")
		return h
	}
	byPCI := map[string]device{}
	var pcis []string
	for _, d := range devices {
		byPCI[d.pci] = d
		pcis = append(pcis, d.pci)
	}
	together := [][]string{pcis}
	if opt.OneByOne {
		together = slices.Collect(slices.Chunk(pcis, 1))
	}
	for _, some := range together {
		r.watch(some, func(pci string) { r.readGPU(byPCI[pci]) })
	}
	return r.snapshot()
}

// device is a GPU that the library gave a handle of.
type device struct {
	index int
	pci   string
	nvml.Device
}

// call is one that is under way.
type call struct {
	symbol string
	began  time.Time
}

type reader struct {
	opt Options
	lib nvml.Interface
	dl  *dl.DynamicLibrary

	mu     sync.Mutex
	open   map[string]call // by PCI address
	left   []string        // addresses whose call hangs: nothing more is taken from them
	health burnin.Health
}

// watch runs work for each address, and returns when all are done or hang.
func (r *reader) watch(pcis []string, work func(pci string)) {
	done := make(chan string, len(pcis))
	for _, pci := range pcis {
		go func() { // ends when its calls do; one that hangs is left behind
			work(pci)
			done <- pci
		}()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	waiting := slices.Clone(pcis)
	for len(waiting) > 0 {
		select {
		case pci := <-done:
			waiting = slices.DeleteFunc(waiting, func(p string) bool { return p == pci })
		case now := <-tick.C:
			waiting = slices.DeleteFunc(waiting, func(p string) bool { return r.stuck(p, now) })
		}
	}
}

// stuck gives an address up when its call has taken too long.
func (r *reader) stuck(pci string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, busy := r.open[pci]
	if !busy || now.Sub(c.began) < r.opt.Limit {
		return false
	}
	r.left = append(r.left, pci)
	r.health.Stuck = append(r.health.Stuck, burnin.Stuck{Call: c.symbol, PCI: pci, How: fmt.Sprintf("did not return within %s", r.opt.Limit)})
	return true
}

// snapshot is what was read so far. A call that was left behind may yet come
// back: what it gives is not taken any more.
func (r *reader) snapshot() burnin.Health {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.health
	h.GPUs = slices.Clone(h.GPUs)
	for i := range h.GPUs {
		h.GPUs[i].First, h.GPUs[i].Later = maps.Clone(h.GPUs[i].First), maps.Clone(h.GPUs[i].Later)
	}
	return h
}

// call makes one call of the library for a GPU, if the driver has one of the
// symbols that it may need: the first that is there is the one that go-nvml
// takes. what is the error otherwise, or the library's own.
func (r *reader) call(pci string, symbols []string, f func() nvml.Return) (what burnin.Value) {
	i := slices.IndexFunc(symbols, r.has)
	if i < 0 {
		return burnin.Value{Err: "this driver has no " + symbols[0]}
	}
	symbol := symbols[i]
	r.tell(pci, symbol, true)
	ret := f()
	r.tell(pci, symbol, false)
	if ret == nvml.SUCCESS {
		return burnin.Value{}
	}
	return burnin.Value{Err: symbol + ": " + describe(ret), Absent: ret == nvml.ERROR_NOT_SUPPORTED, Lost: ret == nvml.ERROR_GPU_IS_LOST}
}

// tell notes that a call begins or has ended.
func (r *reader) tell(pci, symbol string, begins bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sign := "-"
	if delete(r.open, pci); begins {
		r.open[pci], sign = call{symbol, time.Now()}, "+"
	}
	if r.opt.Progress != nil {
		// Told under the lock, and before the call: the last line of a process
		// that died is the call that it died in.
		io.WriteString(r.opt.Progress, fmt.Sprintf("%s %s %s\n", sign, cmp.Or(pci, "-"), symbol))
	}
}

// has looks a symbol up: a call of one that the driver lacks ends the process.
func (r *reader) has(symbol string) bool { return r.dl.Lookup(symbol) == nil }

// put keeps a reading.
func (r *reader) put(index int, pci string, later bool, q burnin.Quantity, v burnin.Value) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.left, pci) {
		return
	}
	g := &r.health.GPUs[index]
	if later {
		g.Later[q] = v
	} else {
		g.First[q] = v
	}
}

// begin loads the library and finds the GPUs.
func (r *reader) begin() []device {
	fail := func(why string) []device {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.health.Library = why
		return nil
	}
	r.dl = dl.New(library, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
	r.tell("", "dlopen", true)
	err := r.dl.Open()
	r.tell("", "dlopen", false)
	if err != nil {
		return fail(err.Error())
	}
	r.lib = nvml.New()
	if v := r.call("", []string{"nvmlInit_v2", "nvmlInit"}, r.lib.Init); v.Err != "" {
		return fail(v.Err)
	}
	var version string
	driver := r.call("", []string{"nvmlSystemGetDriverVersion"}, func() (ret nvml.Return) { version, ret = r.lib.SystemGetDriverVersion(); return ret })
	driver.Text = version
	var state nvml.ConfComputeSystemState
	confined := r.call("", []string{"nvmlSystemGetConfComputeState"}, func() (ret nvml.Return) { state, ret = r.lib.SystemGetConfComputeState(); return ret })
	confined.Number = int64(state.CcFeature)
	// A driver without the call has no such mode.
	confined.Absent = confined.Absent || !r.has("nvmlSystemGetConfComputeState")
	r.mu.Lock()
	r.health.Driver, r.health.Confined = driver, confined
	r.mu.Unlock()
	n := 0
	if v := r.call("", []string{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"}, func() (ret nvml.Return) { n, ret = r.lib.DeviceGetCount(); return ret }); v.Err != "" {
		return fail(v.Err)
	}
	return r.devices(n)
}

// devices gets a handle of each GPU. One that gives none is lost by its index.
func (r *reader) devices(n int) []device {
	var out []device
	for i := range n {
		d := device{index: i}
		why := r.call("", []string{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"}, func() (ret nvml.Return) { d.Device, ret = r.lib.DeviceGetHandleByIndex(i); return ret })
		var info nvml.PciInfo
		if why.Err == "" {
			why = r.call("", []string{"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"}, func() (ret nvml.Return) { info, ret = d.GetPciInfo(); return ret })
		}
		g := burnin.HealthGPU{Index: i, First: map[burnin.Quantity]burnin.Value{}, Later: map[burnin.Quantity]burnin.Value{}}
		if why.Err == "" {
			g.PCI = fmt.Sprintf("%04x:%02x:%02x.0", info.Domain, info.Bus, info.Device)
			// The id has the device above the vendor.
			g.First[burnin.GPUID] = burnin.Value{Text: fmt.Sprintf("%04x:%04x", info.PciDeviceId&0xffff, info.PciDeviceId>>16)}
			d.pci = g.PCI
			out = append(out, d)
		} else {
			for _, e := range calls() {
				for _, q := range e.reads {
					g.First[q] = why
				}
			}
			g.First[burnin.XidEvents] = why
		}
		r.mu.Lock()
		r.health.GPUs = append(r.health.GPUs, g)
		r.mu.Unlock()
	}
	return out
}

// readGPU reads one GPU, and what counts of it once more after the interval.
func (r *reader) readGPU(d device) {
	end := time.Now().Add(r.opt.Interval)
	xids := r.listen(d)
	for _, e := range calls() {
		r.readCall(d, e, false)
	}
	time.Sleep(time.Until(end))
	for _, e := range calls() {
		if slices.ContainsFunc(e.reads, burnin.Quantity.Counting) {
			r.readCall(d, e, true)
		}
	}
	r.put(d.index, d.pci, true, burnin.XidEvents, xids())
}

// readCall makes one entry of the table.
func (r *reader) readCall(d device, e entry, later bool) {
	got := map[burnin.Quantity]burnin.Value{}
	why := r.call(d.pci, e.symbols, func() nvml.Return {
		return e.call(d.Device, func(q burnin.Quantity, v burnin.Value) { got[q] = v })
	})
	for _, q := range e.reads {
		v, ok := got[q]
		if why.Err != "" {
			v = why
		} else if !ok {
			v = burnin.Value{Err: e.symbols[0] + " did not tell"}
		}
		r.put(d.index, d.pci, later, q, v)
	}
}

// listen asks for Xid events of a GPU from now on. The function that it
// returns ends that, and gives what came.
func (r *reader) listen(d device) func() burnin.Value {
	var set nvml.EventSet
	why := r.call(d.pci, []string{"nvmlEventSetCreate"}, func() (ret nvml.Return) { set, ret = r.lib.EventSetCreate(); return ret })
	if why.Err == "" {
		why = r.call(d.pci, []string{"nvmlDeviceRegisterEvents"}, func() nvml.Return { return d.RegisterEvents(nvml.EventTypeXidCriticalError, set) })
	}
	r.put(d.index, d.pci, false, burnin.XidEvents, why)
	return func() burnin.Value {
		var got burnin.Value
		for why.Err == "" && got.Number < 100 {
			var data nvml.EventData
			timeout := false
			why = r.call(d.pci, []string{"nvmlEventSetWait_v2", "nvmlEventSetWait"}, func() (ret nvml.Return) {
				data, ret = set.Wait(0)
				timeout = ret == nvml.ERROR_TIMEOUT
				return ret
			})
			if timeout {
				return got
			}
			if why.Err == "" {
				got.Number++
				got.Text = fmt.Sprintf("Xid %d", data.EventData)
			}
		}
		if why.Err != "" {
			return why
		}
		return got
	}
}
