package mad

import (
	"errors"
	"time"
)

// Packet is a MAD and the other end of its way.
type Packet struct {
	LID     uint16        // of the other end; PermissiveLID on a directed route
	QP      uint32        // QPSubnet or QPGeneral
	Timeout time.Duration // of a request: how long a reply is waited for
	// TimedOut marks a packet received that is the request itself: it was not
	// answered in time, or could not be delivered.
	TimedOut bool
	MAD      [Size]byte
}

// ErrForeign is of a packet received that is not a MAD: the receiver goes on.
var ErrForeign = errors.New("not a MAD")

// TIDMask covers the part of a transaction's identifier that comes back as it
// was sent: the kernel and ibsim both write into the upper half.
const TIDMask = 0xffffffff
