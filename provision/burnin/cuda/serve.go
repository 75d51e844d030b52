package cuda

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// Worker carries out one order. The zero value is ready for use.
type Worker struct {
	Library    string        // path of the CUDA driver; "" is libcuda.so.1 where the system has it
	Management string        // path of NVML, for the sensors; "" is libnvidia-ml.so.1
	Patience   time.Duration // with one call of the driver; 0 is a minute
}

// teller writes events until the last one.
type teller struct {
	mu    sync.Mutex
	enc   *json.Encoder
	began time.Time
	ended bool
}

func (t *teller) emit(e burnin.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = e.Kind == burnin.EventError || e.Kind == burnin.EventDone
	e.At = time.Since(t.began).Seconds()
	// A reader that has gone closes this worker's standard input too.
	_ = t.enc.Encode(e)
}

// Serve reads an order from in, carries it out and writes its events to out. It
// returns when the order is carried out, in ends or ctx does, or a call of the
// driver does not return for longer than Patience. An error is the last event
// too. After a call that hangs, the process should end: its thread is lost.
func (w Worker) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	t := &teller{enc: json.NewEncoder(out), began: time.Now()}
	err := w.serve(ctx, in, t.emit)
	if err != nil {
		t.emit(burnin.Event{Kind: burnin.EventError, Error: err.Error()})
	}
	return err
}

func (w Worker) serve(ctx context.Context, in io.Reader, emit func(burnin.Event)) error {
	o, err := burnin.ReadOrder(in)
	if err != nil {
		return err
	}
	if o.Engine != acceptance.EngineCUDA {
		return fmt.Errorf("order for the %s engine came to the CUDA worker", o.Engine)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends when the other side closes its end or this process ends
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	opened := make(chan *driver, 1)
	done := make(chan error, 1)
	go func() {
		// A context is current on a thread: this one is kept, and ends with
		// the goroutine.
		runtime.LockOSThread()
		done <- w.work(ctx, o, emit, opened)
	}()
	return w.watch(opened, done)
}

func (w Worker) patience() time.Duration {
	if w.Patience > 0 {
		return w.Patience
	}
	return time.Minute
}

// watch waits for the work to end, and gives it up when a call hangs.
func (w Worker) watch(opened <-chan *driver, done <-chan error) error {
	patience := w.patience()
	tick := time.NewTicker(min(patience/4, time.Second))
	defer tick.Stop()
	var d *driver
	for {
		select {
		case d = <-opened:
		case err := <-done:
			return err
		case <-tick.C:
			if d == nil {
				continue
			}
			if err := d.hung(patience); err != nil {
				return err
			}
		}
	}
}

func (w Worker) work(ctx context.Context, o burnin.Order, emit func(burnin.Event), opened chan<- *driver) error {
	d, err := openDriver(w.Library, opened)
	if err != nil {
		return err
	}
	all, err := d.devices()
	if err != nil {
		return err
	}
	g, err := find(all, o.UUID, o.GPU)
	if err != nil {
		return err
	}
	if err := g.open(); err != nil {
		return fmt.Errorf("%s: %w", g.pci, err)
	}
	ready := burnin.Ready{Engine: acceptance.EngineCUDA, Device: g.name, UUID: g.uuid, PCI: g.pci, SMs: g.sms, Memory: g.memory, Driver: g.version}
	nvml := openSensors(ctx, w.Management, g.pci, w.patience()/6)
	if v := nvml.driver.Load(); v != nil {
		ready.Driver = *v + ", " + g.version
	}
	sensors := nvml.read
	switch o.Load {
	case burnin.LoadGEMM, burnin.LoadPulse:
		err = multiply(ctx, o, g, ready, sensors, emit)
	case burnin.LoadMemory, burnin.LoadStream, burnin.LoadHost, burnin.LoadPeer:
		err = move(ctx, o, g, all, ready, sensors, emit)
	default:
		err = fmt.Errorf("the CUDA worker has no load %q", o.Load)
	}
	if err != nil {
		return err
	}
	// The last event was sent: what goes wrong now is told by the exit code.
	return g.release()
}

// move carries out the loads that fill, check and move memory.
func move(ctx context.Context, o burnin.Order, g *device, all []*device, ready burnin.Ready, sensors func() burnin.Sample, emit func(burnin.Event)) error {
	m, err := newMemory(g)
	if err != nil {
		return err
	}
	emit(burnin.Event{Kind: burnin.EventReady, Ready: &ready})
	t := &transfer{memory: m, order: o, emit: emit, sensors: sensors}
	switch o.Load {
	case burnin.LoadStream:
		return t.stream(ctx)
	case burnin.LoadHost:
		return t.host(ctx)
	case burnin.LoadPeer:
		other, err := find(all, "", o.Peer)
		if err != nil {
			return err
		}
		return t.peer(ctx, other)
	}
	return m.sweep(ctx, o, emit, sensors)
}

func multiply(ctx context.Context, o burnin.Order, g *device, ready burnin.Ready, sensors func() burnin.Sample, emit func(burnin.Event)) error {
	k, err := choose(o, g)
	if err != nil {
		return err
	}
	free, _, err := g.available()
	if err != nil {
		return err
	}
	shape, err := k.shape(o.Shape, free)
	if err != nil {
		return err
	}
	p, err := newProduct(g, o, k, shape)
	if err != nil {
		return err
	}
	p.sensors = sensors
	ready.Kernel, ready.Type, ready.Shape = k.name, k.typ, shape
	emit(burnin.Event{Kind: burnin.EventReady, Ready: &ready})
	return burnin.RunGEMM(ctx, o, ready, p, emit)
}
