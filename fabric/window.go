package fabric

import "time"

// window bounds how many requests of one kind a local port has on the way.
// Subnet management runs on VL15, which has no flow control: what a switch
// cannot take it drops, and a window that is too large loses more than it wins.
// So it grows on success and is halved on loss, as TCP's does.
type window struct {
	size     float64
	slowFrom float64 // from this size on it grows by one each window, before by one each answer
	most     float64 // that it was
	onTheWay int
	cut      time.Duration // when it was last halved, since the sweep began
	ceiling  float64
}

// The windows begin with what loses nothing on slow agents, and grow no further
// than ibnetdiscover is run with at most (-o 128). General management datagrams
// do not run on VL15 and are answered by the firmware of an adapter each, so
// theirs is larger.
const (
	smpStart, smpCeiling = 8, 128
	gmpStart, gmpCeiling = 128, 1024
	smallestWindow       = 2
)

func newWindow(start, ceiling int) window {
	return window{size: float64(start), most: float64(start), slowFrom: float64(ceiling), ceiling: float64(ceiling)}
}

// room reports that one more request may go.
func (w *window) room() bool { return w.onTheWay < int(w.size) }

// answered grows the window.
func (w *window) answered() {
	if w.size < w.slowFrom {
		w.size++
	} else {
		w.size += 1 / w.size
	}
	w.size = min(w.size, w.ceiling)
	w.most = max(w.most, w.size)
}

// lost halves the window, once for all requests that were on the way together:
// only one sent after the last cut says that the window is still too large.
func (w *window) lost(sent, now time.Duration) {
	if sent < w.cut {
		return
	}
	w.cut = now
	w.size = max(smallestWindow, w.size/2)
	w.slowFrom = w.size
}
