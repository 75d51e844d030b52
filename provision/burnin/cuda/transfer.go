package cuda

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"firstlight/provision/burnin"
)

// transfer is an order that moves bytes: LoadStream, LoadHost or LoadPeer.
type transfer struct {
	*memory
	order   burnin.Order
	emit    func(burnin.Event)
	sensors func() burnin.Sample
	moved   uint64
}

// mostMoved is the largest block that is moved at once.
const mostMoved = 1 << 30

// block is a size to move: at most a part of the free memory.
func (t *transfer) block() (uint64, error) {
	free, _, err := t.available()
	size := min(mostMoved, free/4) &^ 4095
	if err == nil && size == 0 {
		err = fmt.Errorf("only %d bytes of the GPU's memory are free", free)
	}
	return size, err
}

// tell reports bytes moved along a path, and the words that arrived wrong.
func (t *transfer) tell(path string, bytes uint64, took time.Duration, wrong uint64) {
	t.moved += bytes
	t.emit(burnin.Event{Kind: burnin.EventTransfer, Transfer: &burnin.Transfer{Path: path, Bytes: bytes, Seconds: max(took.Seconds(), 1e-6), Errors: wrong}})
}

// run repeats a round until the order is carried out, with other words in each:
// what a round before has left cannot pass for what this one moved.
func (t *transfer) run(ctx context.Context, round func(seed uint64) error) error {
	began := time.Now()
	limit := time.Duration(t.order.Seconds * float64(time.Second))
	done := 0
	for ; ctx.Err() == nil; done++ {
		if (done > 0 && t.order.Iterations == 0 && time.Since(began) >= limit) || (limit > 0 && time.Since(began) >= limit) ||
			(t.order.Iterations > 0 && done >= t.order.Iterations) {
			break
		}
		from, before := time.Now(), t.moved
		if err := round(t.order.Seed + uint64(done)); err != nil {
			return err
		}
		sample := t.sensors()
		sample.GBps = float64(t.moved-before) / time.Since(from).Seconds() / 1e9
		t.emit(burnin.Event{Kind: burnin.EventSample, Sample: &sample})
	}
	t.emit(burnin.Event{Kind: burnin.EventCoverage, Coverage: &burnin.Coverage{Iterations: done, Bytes: t.moved, Seconds: time.Since(began).Seconds()}})
	t.emit(burnin.Event{Kind: burnin.EventDone})
	return nil
}

// stream copies within the GPU's memory.
func (t *transfer) stream(ctx context.Context) error {
	size, err := t.block()
	if err != nil {
		return err
	}
	from, err := t.alloc(size)
	if err != nil {
		return err
	}
	to, err := t.alloc(size)
	if err != nil {
		return err
	}
	const times = 256
	return t.run(ctx, func(seed uint64) error {
		if err := t.fill(from, burnin.PatternRandom, seed); err != nil {
			return err
		}
		began := time.Now()
		if err := t.copy(to, from, times); err != nil {
			return err
		}
		took := time.Since(began)
		wrong, err := t.check(to, burnin.PatternRandom, seed)
		if err != nil {
			return err
		}
		t.tell("device", 2*times*size, took, wrong.words) // read and written
		return nil
	})
}

// pinned is memory of the host that the GPU reads and writes by itself.
func (t *transfer) pinned(size uint64) ([]uint64, error) {
	var at unsafe.Pointer
	if err := t.device.call("cuMemAllocHost_v2", uintptr(unsafe.Pointer(&at)), uintptr(size)); err != nil {
		return nil, fmt.Errorf("%d bytes of the host's memory: %w", size, err)
	}
	return unsafe.Slice((*uint64)(at), size/8), nil
}

// host copies to the GPU and back.
func (t *transfer) host(ctx context.Context) error {
	size, err := t.block()
	if err != nil {
		return err
	}
	size = min(size, 256<<20)
	on, err := t.alloc(size)
	if err != nil {
		return err
	}
	out, err := t.pinned(size)
	if err != nil {
		return err
	}
	back, err := t.pinned(size)
	if err != nil {
		return err
	}
	const times = 16
	err = t.run(ctx, func(seed uint64) error {
		for i := range out {
			out[i] = burnin.PatternRandom.Word(seed, uint64(i))
		}
		began := time.Now()
		if err := t.repeat(times, "cuMemcpyHtoDAsync_v2", on.at, uintptr(unsafe.Pointer(unsafe.SliceData(out))), uintptr(size), 0); err != nil {
			return err
		}
		took := time.Since(began)
		wrong, err := t.check(on, burnin.PatternRandom, seed)
		if err != nil {
			return err
		}
		t.tell("h2d", times*size, took, wrong.words)
		began = time.Now()
		if err := t.repeat(times, "cuMemcpyDtoHAsync_v2", uintptr(unsafe.Pointer(unsafe.SliceData(back))), on.at, uintptr(size), 0); err != nil {
			return err
		}
		took = time.Since(began)
		differ := uint64(0)
		for i, v := range back {
			if v != out[i] {
				differ++
			}
		}
		t.tell("d2h", times*size, took, differ)
		return nil
	})
	for _, p := range [][]uint64{out, back} {
		err = errors.Join(err, t.device.call("cuMemFreeHost", uintptr(unsafe.Pointer(unsafe.SliceData(p)))))
	}
	return err
}

// repeat makes an asynchronous call some times and waits for all of them.
//
//go:uintptrescapes
func (t *transfer) repeat(times int, call string, args ...uintptr) error {
	for range times {
		if err := t.device.call(call, args...); err != nil {
			return err
		}
	}
	return t.sync()
}

// peer copies from this GPU's memory into another's and checks there.
func (t *transfer) peer(ctx context.Context, other *device) error {
	if other.number == t.number {
		return errors.New("the peer of an order is the GPU itself")
	}
	var can int32
	if err := t.device.call("cuDeviceCanAccessPeer", uintptr(unsafe.Pointer(&can)), uintptr(t.number), uintptr(other.number)); err != nil {
		return err
	}
	if can == 0 {
		return fmt.Errorf("%s has no direct way to %s", t.pci, other.pci)
	}
	size, err := t.block()
	if err != nil {
		return err
	}
	from, err := t.alloc(size)
	if err != nil {
		return err
	}
	if err := other.open(); err != nil {
		return fmt.Errorf("peer %s: %w", other.pci, err)
	}
	there, err := newMemory(other)
	if err != nil {
		return fmt.Errorf("peer %s: %w", other.pci, err)
	}
	to, err := there.alloc(size)
	if err != nil {
		return fmt.Errorf("peer %s: %w", other.pci, err)
	}
	if err := t.enter(); err != nil {
		return err
	}
	var e *Error
	if err := t.device.call("cuCtxEnablePeerAccess", other.context, 0); err != nil && (!errors.As(err, &e) || e.Code != peerIsEnabled) {
		return err
	}
	const times = 64
	return t.run(ctx, func(seed uint64) error {
		if err := t.fill(from, burnin.PatternRandom, seed); err != nil {
			return err
		}
		began := time.Now()
		if err := t.repeat(times, "cuMemcpyPeerAsync", to.at, other.context, from.at, t.context, uintptr(size), 0); err != nil {
			return err
		}
		took := time.Since(began)
		if err := other.enter(); err != nil {
			return err
		}
		wrong, err := there.check(to, burnin.PatternRandom, seed)
		if err != nil {
			return fmt.Errorf("peer %s: %w", other.pci, err)
		}
		t.tell("p2p", times*size, took, wrong.words)
		return t.enter()
	})
}
