package refbmc

import (
	"context"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

// replyWithin is how long a chassis control waits for the machine before it is
// answered: a quick machine's error reaches the client as a completion code, and
// a slow one does not make the client send the command twice.
const replyWithin = 200 * time.Millisecond

// powerOp is one accepted chassis control.
type powerOp struct {
	kind string // the event's kind
	do   func(ctx context.Context) error
	done chan error // buffered: nobody may be waiting any more
}

// powerWorker makes the machine's power operations one after the other.
type powerWorker struct {
	bmc *BMC
	ops chan powerOp
}

// run ends with ctx.
func (w *powerWorker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case op := <-w.ops:
			err := op.do(ctx)
			if err != nil {
				w.bmc.Log.Error("machine did not obey its bmc", "listen", w.bmc.Listen, "action", op.kind, "error", err)
			}
			op.done <- err
		}
	}
}

// getChassisStatus is Get Chassis Status (§28.2).
func (b *BMC) getChassisStatus(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	resp := &chassis.GetChassisStatusResponse{PowerIsOn: b.Machine.Powered()}
	return resp.Pack(), types.CodeOK, nil
}

// chassisControl is Chassis Control (§28.3). What would change nothing succeeds;
// cycle and reset of a machine that is off are refused, as §28.3 allows.
func (w *powerWorker) chassisControl(ctx context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	w.bmc.chassisControlCame()
	m := w.bmc.Machine
	on := m.Powered()
	op := powerOp{done: make(chan error, 1)}
	switch chassis.ChassisControl(req[0] & 0x0f) {
	case chassis.ChassisControlPowerDown:
		if !on {
			return nil, types.CodeOK, nil
		}
		op.kind, op.do = "power-off", m.PowerOff
	case chassis.ChassisControlPowerUp:
		if on {
			return nil, types.CodeOK, nil
		}
		op.kind, op.do = "power-on", w.powerOn
	case chassis.ChassisControlPowerCycle:
		op.kind, op.do = "power-cycle", w.restart
	case chassis.ChassisControlHardReset:
		op.kind, op.do = "reset", w.restart
	case chassis.ChassisControlSoftShutdown:
		if !on {
			return nil, types.CodeOK, nil
		}
		op.kind, op.do = "soft-off", m.SoftOff
	default:
		return nil, types.CodeRequestDataFieldInvalid, nil
	}
	if !on && (op.kind == "power-cycle" || op.kind == "reset") {
		return nil, types.CodeNotSupported, nil // D5h: not in the present state
	}
	if w.bmc.lies() {
		w.bmc.event(op.kind, "not done")
		return nil, types.CodeOK, nil
	}
	select {
	case w.ops <- op:
	default:
		return nil, types.CodeNodeBusy, nil
	}
	w.bmc.event(op.kind, fmt.Sprintf("by %s", h.User.Name))
	select {
	case err := <-op.done:
		if err != nil {
			return nil, types.CodeUnspecifiedError, nil
		}
	case <-time.After(replyWithin):
	case <-ctx.Done():
	}
	return nil, types.CodeOK, nil
}

func (b *BMC) lies() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Faults.Lie
}

// powerOn looks again, because an operation queued before it may have done it.
func (w *powerWorker) powerOn(ctx context.Context) error {
	if w.bmc.Machine.Powered() {
		return nil
	}
	return w.bmc.Machine.PowerOn(ctx, w.bmc.TakeBoot())
}

func (w *powerWorker) restart(ctx context.Context) error {
	if err := w.bmc.Machine.PowerOff(ctx); err != nil {
		return err
	}
	return w.bmc.Machine.PowerOn(ctx, w.bmc.TakeBoot())
}
