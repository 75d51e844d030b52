package refbmc

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Boot option parameters (§28.13, table 28-14).
const (
	paramSetInProgress  = 0
	paramValidBitClear  = 3
	paramBootInfoAck    = 4
	paramBootFlags      = 5
	bootParamVersion    = 1
	flagValid           = 0x80
	flagPersistent      = 0x40
	flagEFI             = 0x20
	devicePXE           = 0x01 // of bits 5:2 of the second byte
	deviceDisk          = 0x02
	keepAfterTimeout    = 0x08 // parameter 3: do not clear when no chassis control comes
	bootOptionsLifetime = 60 * time.Second
)

// bootOptions is the state behind Set and Get System Boot Options.
type bootOptions struct {
	inProgress byte
	keep       byte // parameter 3: events that do not clear the valid bit
	ack        [2]byte
	flags      [5]byte
	// expires is when the valid bit falls, unless a chassis control comes
	// before (§28.12); zero: it stays.
	expires time.Time
	forgets time.Time // the fault of that name; zero: never
}

// expire clears the valid bit when its time is over.
func (o *bootOptions) expire(now time.Time) {
	if !o.forgets.IsZero() && !now.Before(o.forgets) {
		o.flags[0] &^= flagValid
	}
	if !o.expires.IsZero() && o.keep&keepAfterTimeout == 0 && !now.Before(o.expires) {
		o.flags[0] &^= flagValid
		o.expires = time.Time{}
	}
}

// override decodes the flags; the firmware's own order when they are not valid.
func (o *bootOptions) override() Boot {
	if o.flags[0]&flagValid == 0 {
		return Boot{}
	}
	boot := Boot{EFI: o.flags[0]&flagEFI != 0, Persistent: o.flags[0]&flagPersistent != 0}
	switch o.flags[1] >> 2 & 0x0f {
	case devicePXE:
		boot.Device = "pxe"
	case deviceDisk:
		boot.Device = "disk"
	}
	return boot
}

// TakeBoot returns the override for the boot that starts now, and forgets it
// unless it is persistent. The BMC calls it before Machine.PowerOn; whoever runs
// the machine calls it when the guest reboots by itself.
func (b *BMC) TakeBoot() Boot {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.boot.expire(b.clock())
	boot := b.boot.override()
	if !boot.Persistent {
		b.boot.flags[0] &^= flagValid
	}
	b.boot.expires = time.Time{}
	if b.Faults.IgnoreBootOverride {
		return Boot{}
	}
	return boot
}

// chassisControlCame stops the countdown of the boot flags.
func (b *BMC) chassisControlCame() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.boot.expire(b.clock())
	b.boot.expires = time.Time{}
}

// setBootOptions is Set System Boot Options (§28.12).
func (b *BMC) setBootOptions(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	param, data := req[0]&0x7f, req[1:]
	want, known := map[byte]int{paramSetInProgress: 1, paramValidBitClear: 1, paramBootInfoAck: 2, paramBootFlags: 5}[param]
	switch {
	case !known:
		return nil, types.CodeParameterNotSupported, nil
	case len(data) == 0:
		return nil, types.CodeOK, nil // only the parameter's lock bit, which we do not keep
	case len(data) < want:
		return nil, types.CodeRequestDataTruncated, nil
	}
	b.mu.Lock()
	o := &b.boot
	cc := types.CodeOK
	detail := ""
	switch param {
	case paramSetInProgress:
		if data[0]&3 == 1 && o.inProgress == 1 {
			cc = types.CodeParamConfigSetInProgressConflict
			break
		}
		o.inProgress = data[0] & 1 // "commit write" (2) ends it too
	case paramValidBitClear:
		o.keep = data[0] & 0x1f
	case paramBootInfoAck:
		// A bit of data[1] is written only where the mask data[0] has it.
		o.ack = [2]byte{0, o.ack[1]&^data[0] | data[1]&data[0]}
	case paramBootFlags:
		detail = fmt.Sprintf("% x", data[:5])
		if b.Faults.RevertBootOverride || b.Faults.RevertUntilReset {
			detail += " (reverted)"
			break
		}
		copy(o.flags[:], data)
		if b.Faults.IgnoreEFI {
			o.flags[0] &^= flagEFI
		}
		o.expires, o.forgets = time.Time{}, time.Time{}
		if o.flags[0]&flagValid != 0 {
			o.expires = b.clock().Add(cmp.Or(b.Lifetime, bootOptionsLifetime))
			if b.Faults.ForgetAfter > 0 {
				o.forgets = b.clock().Add(b.Faults.ForgetAfter)
			}
		}
	}
	b.mu.Unlock()
	if param == paramBootFlags {
		b.event("boot-override", detail)
	}
	return nil, cc, nil
}

// getBootOptions is Get System Boot Options (§28.13).
func (b *BMC) getBootOptions(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.boot.expire(b.clock())
	out := []byte{bootParamVersion, req[0] & 0x7f}
	switch req[0] & 0x7f {
	case paramSetInProgress:
		out = append(out, b.boot.inProgress)
	case paramValidBitClear:
		out = append(out, b.boot.keep)
	case paramBootInfoAck:
		out = append(out, b.boot.ack[:]...)
	case paramBootFlags:
		out = append(out, b.boot.flags[:]...)
	default:
		return nil, types.CodeParameterNotSupported, nil
	}
	return out, types.CodeOK, nil
}
