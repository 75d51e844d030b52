package cuda

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"firstlight/provision/burnin"
)

// mostWrong is how many wrong words a check tells of.
const mostWrong = 63

// wrongWords is Wrong of kernels/portable.cu.
type wrongWords struct {
	words uint64
	told  uint32
	_     uint32
	first [mostWrong]struct{ index, got uint64 }
}

// memory fills and checks a GPU's memory.
type memory struct {
	*device
	fillKernel, checkKernel, copyKernel uintptr
	wrong                               buffer
}

func newMemory(g *device) (*memory, error) {
	m := &memory{device: g}
	for name, at := range map[string]*uintptr{"memory_fill": &m.fillKernel, "memory_check": &m.checkKernel, "memory_copy": &m.copyKernel} {
		var err error
		if *at, err = g.function("portable", name); err != nil {
			return nil, err
		}
	}
	var err error
	m.wrong, err = g.alloc(uint64(unsafe.Sizeof(wrongWords{})))
	return m, err
}

// pattern is the number of a pattern in kernels/arith.h.
func pattern(p burnin.Pattern) uint32 { return uint32(slices.Index(burnin.Patterns(), p)) }

const sweepThreads = 1024

// fill writes a pattern. It returns when the memory has it.
func (m *memory) fill(b buffer, p burnin.Pattern, seed uint64) error {
	at, words, number := uint64(b.at), b.size/8, pattern(p)
	err := m.launch(m.fillKernel, 2*m.sms, sweepThreads, 0, unsafe.Pointer(&at), unsafe.Pointer(&words), unsafe.Pointer(&number), unsafe.Pointer(&seed))
	if err != nil {
		return err
	}
	return m.sync()
}

// check reads memory and holds it against a pattern.
func (m *memory) check(b buffer, p burnin.Pattern, seed uint64) (wrongWords, error) {
	at, words, number, wrong := uint64(b.at), b.size/8, pattern(p), uint64(m.wrong.at)
	out := make([]wrongWords, 1)
	if err := m.clear(m.wrong); err != nil {
		return out[0], err
	}
	err := m.launch(m.checkKernel, 2*m.sms, sweepThreads, 0, unsafe.Pointer(&at), unsafe.Pointer(&words), unsafe.Pointer(&number),
		unsafe.Pointer(&seed), unsafe.Pointer(&wrong))
	if err != nil {
		return out[0], err
	}
	return out[0], download(m.device, out, m.wrong.at)
}

// copy copies as many bytes as from has, so many times.
func (m *memory) copy(to, from buffer, times int) error {
	dst, src, words := uint64(to.at), uint64(from.at), from.size/8
	for range times {
		if err := m.launch(m.copyKernel, 2*m.sms, sweepThreads, 0, unsafe.Pointer(&dst), unsafe.Pointer(&src), unsafe.Pointer(&words)); err != nil {
			return err
		}
	}
	return m.sync()
}

// take allocates the share of the free memory that an order asks for; 0 is all.
// The driver keeps some for itself. Less than nine tenths of what was asked for
// is an error: a sweep of a part is no sweep.
func (m *memory) take(share float64) (buffer, error) {
	free, _, err := m.available()
	if err != nil {
		return buffer{}, err
	}
	if share <= 0 || share > 1 {
		share = 1
	}
	want := uint64(float64(free) * share)
	for size := want; size >= want/10*9; size -= max(want/200, 16) {
		b, err := m.alloc(size &^ 15)
		var e *Error
		if errors.As(err, &e) && e.Code == outOfMemory {
			continue
		}
		return b, err
	}
	return buffer{}, fmt.Errorf("%d bytes of the GPU's memory are free, and not even nine tenths of them can be had", want)
}

// sweep carries out an order of LoadMemory: every pattern at least once.
func (m *memory) sweep(ctx context.Context, o burnin.Order, emit func(burnin.Event), sensors func() burnin.Sample) error {
	b, err := m.take(o.Share)
	if err != nil {
		return err
	}
	began := time.Now()
	limit := time.Duration(o.Seconds * float64(time.Second))
	var cover burnin.Coverage
	done := func(round int) bool {
		if o.Iterations > 0 && round >= o.Iterations {
			return true
		}
		return round > 0 && (o.Iterations == 0 || limit > 0) && time.Since(began) >= limit
	}
	for round := 0; !done(round) && ctx.Err() == nil; round++ {
		for _, p := range burnin.Patterns() {
			if ctx.Err() != nil {
				break
			}
			s, err := m.once(b, p, o, o.Seed+uint64(round))
			if err != nil {
				return fmt.Errorf("pattern %s: %w", p, err)
			}
			cover.Bytes += s.Bytes
			emit(burnin.Event{Kind: burnin.EventSweep, Sweep: &s})
			sample := sensors()
			sample.GBps = 2 * float64(s.Bytes) / s.Seconds / 1e9
			emit(burnin.Event{Kind: burnin.EventSample, Sample: &sample})
		}
		cover.Iterations++
	}
	cover.Seconds = time.Since(began).Seconds()
	emit(burnin.Event{Kind: burnin.EventCoverage, Coverage: &cover})
	emit(burnin.Event{Kind: burnin.EventDone})
	return nil
}

// once writes one pattern and reads it back.
func (m *memory) once(b buffer, p burnin.Pattern, o burnin.Order, seed uint64) (burnin.Sweep, error) {
	s := burnin.Sweep{Pattern: string(p), Bytes: b.size}
	began := time.Now()
	if err := m.fill(b, p, seed); err != nil {
		return s, err
	}
	took := time.Since(began)
	if f := o.Fault; f != nil && f.GPU == o.GPU && f.Kind == burnin.FaultMemory {
		index := b.size / 8 / 3
		cell := []uint64{p.Word(seed, index) | 1<<(f.Bit&63)}
		if err := upload(m.device, b.at+uintptr(8*index), cell); err != nil {
			return s, err
		}
	}
	began = time.Now()
	wrong, err := m.check(b, p, seed)
	s.Seconds = max((took + time.Since(began)).Seconds(), 1e-6)
	if err != nil || wrong.words == 0 {
		return s, err
	}
	first := wrong.first[0]
	for _, w := range wrong.first[:min(wrong.told, mostWrong)] {
		if w.index < first.index {
			first = w
		}
	}
	s.Errors, s.Address, s.Device = wrong.words, 8*first.index, uint64(b.at)+8*first.index
	s.Want, s.Got = burnin.Hex(p.Word(seed, first.index)), burnin.Hex(first.got)
	return s, nil
}
