package fabricsim

import (
	"container/heap"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// agenda carries flights through their own time: each is taken on when it is
// due, in that order.
type agenda struct {
	mu   sync.Mutex
	due  dueHeap
	wake chan struct{} // holds one when there is something after nothing was
}

type dueHeap []*flight

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(*flight)) }
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

// add enters a flight at its time.
func (a *agenda) add(fl *flight) {
	a.mu.Lock()
	heap.Push(&a.due, fl)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// next takes the first flight that is due, or says how long until one is; 0:
// there is none.
func (a *agenda) next() (*flight, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.due) == 0 {
		return nil, 0
	}
	if wait := time.Until(a.due[0].due); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&a.due).(*flight), 0
}

// How finely it waits. Hops take microseconds and Go's timers sleep whole
// milliseconds when nothing else runs, so it sleeps in a thread of its own, in
// slices: what comes in between may be due earlier.
const (
	slice = 50 * time.Microsecond
	slack = 1 // nanoseconds; the kernel's own default adds 50 µs to every sleep
)

// run takes flights on until ended is closed.
func (a *agenda) run(ended <-chan struct{}, take func(*flight)) {
	runtime.LockOSThread() // and never unlocked: the thread ends with it
	// Without it sleeps are longer, and nothing else is different.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, slack, 0, 0, 0)
	for {
		fl, wait := a.next()
		switch {
		case fl != nil:
			take(fl)
		case wait > 0:
			t := unix.NsecToTimespec(int64(min(wait, slice)))
			_ = unix.Nanosleep(&t, nil) // cut short by a signal, it looks again
		default:
			select {
			case <-a.wake:
			case <-ended:
				return
			}
			continue
		}
		select {
		case <-ended:
			return
		default:
		}
	}
}
