// Package nvml reads the health of NVIDIA GPUs through the driver's management
// library, libnvidia-ml.so.1 (NVML). It needs cgo, and a process of its own: a
// call that the driver lacks ends a process, and one that hangs never returns.
// Hence every symbol is looked up before it is called, each call has a time
// limit, and each is told of before it is made, so that whoever watches knows
// in which one the process ended.
package nvml

import (
	"io"
	"time"
)

// Options are how to read. The zero value reads with the defaults.
type Options struct {
	// Interval is the time between the two readings of what counts.
	// 0 means DefaultInterval.
	Interval time.Duration
	// Limit is how long one call may take before it counts as hung. 0 means
	// DefaultLimit.
	Limit time.Duration
	// OneByOne reads one GPU after the other, so that a call that ends the
	// process is the only one under way.
	OneByOne bool
	// Progress is told of each call: a line "+ PCI SYMBOL" before it and
	// "- PCI SYMBOL" after, PCI being "-" for a call that is of no GPU. nil
	// tells nobody.
	Progress io.Writer
}

// Defaults of Options. A call takes milliseconds; the first one after the
// driver was loaded, without persistence, takes a second or two.
const (
	DefaultInterval = time.Second
	DefaultLimit    = 3 * time.Second
)
