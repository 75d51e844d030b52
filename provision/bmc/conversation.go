package bmc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"
)

// phase is where a conversation stands.
type phase string

const (
	phaseWaiting phase = "waiting" // for its BMC's turn or a slot
	phasePause   phase = "pause"   // before the key exchange starts again
	phaseOpen    phase = "Open Session"
	phaseRAKP1   phase = "RAKP message 1"
	phaseRAKP3   phase = "RAKP message 3"
	phaseReady   phase = "ready" // the session is open and nothing is asked
	phaseCall    phase = "call"
	phaseBusy    phase = "busy" // so the BMC said: the call is made again
	phaseClosing phase = "closing"
	phaseDone    phase = "done"
)

// conversation is one login, the commands after it, and the close. Only the
// engine's goroutine touches it.
type conversation struct {
	engine *engine
	ep     Endpoint
	t      *target
	limit  time.Duration // of silence
	opened func(error)   // called once: the session is open, or will not be

	phase   phase
	timer   int // place in the engine's heap, plus one
	due     time.Time
	talking bool // it holds one of the engine's slots

	// What is asked now.
	doing    string
	began    time.Time // it was first sent
	era      int       // of its network's level, then
	end      time.Time // silence until then is too long
	lastSent time.Time
	sent     int // transmissions of it
	wait     time.Duration
	keyExchange
	keys
	commands
}

// newConversation has opened called once, by the engine.
func (e *engine) newConversation(ep Endpoint, limit time.Duration, opened func(*conversation, error)) *conversation {
	v := &conversation{engine: e, ep: ep, limit: limit, phase: phaseWaiting}
	v.secrets = secrets{user: ep.Username, role: uint8(ep.level()) | nameOnly, password: crypto.PadPassword20([]byte(ep.Password.Reveal()))}
	v.kg = v.password
	if ep.KG != "" {
		v.kg = crypto.PadPassword20([]byte(ep.KG.Reveal()))
	}
	v.opened = func(err error) { opened(v, err) }
	e.begin(v)
	return v
}

// ask begins to ask something; the caller sends it.
func (v *conversation) ask(p phase, doing string, limit time.Duration) {
	v.phase, v.doing, v.sent, v.bad = p, doing, 0, nil
	v.began = v.engine.now
	v.end = v.began.Add(limit)
	v.engine.unpark(v)
	v.era = v.t.lan.era()
}

// transmitted notes that what is asked was sent, and that it is sent again after
// the wait.
func (v *conversation) transmitted(wait time.Duration) {
	if v.sent++; v.sent > 1 {
		v.engine.count.Repeated.Add(1)
		// Those that lost a packet together must not send again together: of a burst
		// that is too large for the network it is always the same that are lost.
		wait += rand.N(wait/2+1) - wait/4
	}
	v.lastSent, v.wait = v.engine.now, wait
	if v.keepsSlot() {
		v.engine.unpark(v)
	} else if v.talking {
		wait = min(wait, v.engine.typical.wait(slotWait))
	}
	v.rearm(v.lastSent.Add(wait))
}

// rearm sets the timer, but not beyond the end.
func (v *conversation) rearm(due time.Time) {
	if due.After(v.end) {
		due = v.end
	}
	v.engine.arm(v, due)
}

// timeout is called at the time that was armed.
func (v *conversation) timeout() {
	now := v.engine.now
	switch v.phase {
	case phasePause:
		v.openSession()
		return
	case phaseBusy:
		v.command()
		return
	case phaseOpen, phaseRAKP1, phaseRAKP3:
		if v.setupTimeout() {
			return
		}
	case phaseCall, phaseClosing:
	default:
		return
	}
	if !now.Before(v.end) {
		v.fail(v.silent())
		return
	}
	if !v.keepsSlot() {
		v.engine.park(v)
	}
	if again := v.lastSent.Add(v.wait); now.Before(again) {
		v.rearm(again)
		return
	}
	switch v.phase {
	case phaseOpen:
		v.openAgain()
	case phaseRAKP1:
		v.rakp1Again()
	case phaseRAKP3:
		v.rakp3Again()
	default:
		v.commandAgain()
	}
}

// silent says that no answer came.
func (v *conversation) silent() *silence {
	began := v.began
	if v.restarts > 0 && v.phase != phaseCall {
		began = v.loginBegan
	}
	return &silence{doing: v.doing, after: v.engine.now.Sub(began)}
}

// fail ends what is asked: the login, a call or the close.
func (v *conversation) fail(err error) {
	switch v.phase {
	case phaseDone, phaseReady:
	case phaseCall, phaseBusy:
		v.answer(0, nil, err)
	case phaseClosing:
		v.finish()
	default:
		v.failLogin(err)
	}
}

// unreachable takes the network's word that a packet did not arrive.
func (v *conversation) unreachable(err error) {
	if v.sent == 0 {
		return // it is about an earlier conversation
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		silent := v.silent()
		silent.portClosed = true
		v.fail(silent)
	case errors.Is(err, syscall.EHOSTUNREACH): // nobody has the address (no answer to ARP)
		v.fail(v.silent())
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.EAGAIN): // lost on the way out
	default:
		v.fail(err)
	}
}

// cancel ends what is asked because the caller's context is over: where its time
// ran out while the BMC had been asked and said nothing, that is silence.
func (v *conversation) cancel(err error) {
	const asked = 500 * time.Millisecond
	if v.phase == phaseClosing {
		return // a slot is given back, whatever the caller's time
	}
	if v.phase == phaseWaiting {
		err = fmt.Errorf("waiting for a turn: %w", err)
	}
	if v.host != nil {
		v.borrowed = err
		if v.host.serving == v {
			v.host.cancel(err)
		}
		return
	}
	if after := v.engine.now.Sub(v.began); v.sent > 0 && after >= asked && errors.Is(err, context.DeadlineExceeded) {
		err = &silence{doing: v.doing, after: after}
	}
	v.fail(err)
}

// finish is the end of the conversation.
func (v *conversation) finish() {
	if v.phase == phaseDone {
		return
	}
	v.phase = phaseDone
	v.engine.end(v)
	if v.closed != nil {
		v.closed()
	}
}

// abandon frees the BMC's slot of a session that was not opened to the end. No
// reply is waited for.
func (v *conversation) abandon(why types.RmcpStatusCode) {
	v.freeSpares()
	if v.bmcID == 0 {
		return
	}
	if v.k1 != nil { // it may be open, and only the reply that says so lost
		msg := message(v.closeRequest(), 0)
		v.seq++
		if pkt, err := v.seal(v.seq, msg); err == nil {
			_ = v.engine.transmit(v.t, pkt)
		}
	}
	v.engine.abort(v.t, v.bmcID, why)
	v.bmcID, v.k1 = 0, nil
}

func (v *conversation) closeRequest() request {
	return request{command: types.CommandCloseSession, data: binary.LittleEndian.AppendUint32(nil, v.bmcID)}
}
