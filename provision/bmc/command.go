package bmc

import (
	"errors"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	// busyWait is the pause after "node busy".
	busyWait = 250 * time.Millisecond
	// closeLimit is how long the reply to Close Session is waited for, and
	// maxCloses how often it is sent: a BMC that has closed the session does not
	// answer when its reply was lost.
	closeLimit = time.Second
	maxCloses  = 4
)

// commands is the state of an open session.
type commands struct {
	seq      uint32 // of the last packet sent
	received window
	rqSeq    uint8 // of the last request, 6 bits
	elevated bool  // Set Session Privilege Level was done
	req      request
	msg      []byte
	calling  time.Time // the call began
	then     func(data []byte, err error)
	before   answered
	line     *line // the serial console; nil: none is open
	hosting  bool  // a console was opened, and others use the session

	host     *conversation // whose session this one goes through; nil: it has its own
	borrowed error         // why what is asked of host has ended
	serving  *conversation // who has the call that is under way made
	later    []func()      // calls that wait for the one under way
	closed   func()        // the conversation is over; nil: nobody waits
}

// answered is what is known of the last request that was answered.
type answered struct {
	rqSeq       uint8
	netFn, id   byte
	first, when time.Time // of the first transmission, and of the reply
}

// inSession says whether id is the session's, as the BMC addresses it.
func (v *conversation) inSession(id uint32) bool {
	switch v.phase {
	case phaseReady, phaseCall, phaseBusy, phaseClosing:
		return id == v.consoleID
	}
	return false
}

// call asks the BMC; then gets the data of the reply, without its completion
// code.
func (v *conversation) call(req request, then func(data []byte, err error)) {
	if v.host != nil {
		v.phase, v.borrowed = phaseCall, nil
		v.host.lend(v, req, func(data []byte, err error) {
			v.phase = phaseReady
			var silent *silence
			if errors.As(err, &silent) && v.borrowed == nil && !req.once {
				v.ownSession(err, req, then)
				return
			}
			then(data, err)
		})
		return
	}
	if v.phase != phaseReady {
		then(nil, fmt.Errorf("%s: the session is not open", req.command.Name))
		return
	}
	v.calling = v.engine.now
	if v.elevated || !elevates(req.command) {
		v.req, v.then = req, then
		v.command()
		return
	}
	// A session starts as user (§22.18).
	v.req = request{command: types.CommandSetSessionPrivilegeLevel, data: []byte{byte(v.ep.level())}}
	v.then = func(_ []byte, err error) {
		if err != nil {
			then(nil, err)
			return
		}
		v.elevated = true
		v.req, v.then = req, then
		v.command()
	}
	v.command()
}

// elevates says whether a command is more than a user's (appendix G).
func elevates(c types.Command) bool {
	switch c {
	case types.CommandGetChassisStatus:
		return false
	case types.CommandColdReset, types.CommandGetUserAccess, types.CommandGetUsername, types.CommandSetUserPassword,
		types.CommandActivatePayload, types.CommandDeactivatePayload:
		return true
	}
	return c.NetFn == types.NetFnChassisRequest || c.NetFn == types.NetFnTransportRequest
}

// command sends the request for the first time.
func (v *conversation) command() {
	v.ask(phaseCall, v.req.command.Name, v.limit)
	v.newRequest()
}

func (v *conversation) newRequest() {
	v.rqSeq = (v.rqSeq + 1) & 0x3f
	v.msg = message(v.req, v.rqSeq)
	v.sendCommand(v.t.rtt.wait(minWait))
}

func (v *conversation) sendCommand(wait time.Duration) {
	v.seq++
	pkt, err := v.seal(v.seq, v.msg)
	if err == nil {
		err = v.engine.transmit(v.t, pkt)
	}
	if err != nil {
		v.fail(err)
		return
	}
	v.transmitted(wait)
}

// commandAgain is called when no reply has come.
func (v *conversation) commandAgain() {
	switch {
	case v.phase == phaseClosing && v.sent == maxCloses:
		v.finish()
		return
	case v.phase == phaseClosing:
		v.sendCommand(v.wait)
		return
	case v.req.once:
		v.rearm(v.end)
		return
	}
	v.sendCommand(longer(v.wait))
}

// packet takes a packet that names the session.
func (v *conversation) packet(pkt []byte) {
	count := &v.engine.count
	kind := types.PayloadTypeIPMI
	if v.line != nil && types.PayloadType(pkt[5]&0x3f) == types.PayloadTypeSOL {
		kind = types.PayloadTypeSOL
	}
	seq, payload, err := v.unseal(pkt, kind)
	switch {
	case errors.Is(err, errUnprotected):
		count.Unprotected.Add(1)
		return
	case errors.Is(err, errForged):
		count.Forged.Add(1)
		return
	case err != nil:
		count.Malformed.Add(1)
		return
	case !v.received.take(seq):
		count.Replayed.Add(1)
		return
	}
	if kind == types.PayloadTypeSOL {
		v.solPacket(payload)
		return
	}
	if v.phase == phaseCall || v.phase == phaseClosing {
		if cc, data, err := parseReply(payload, v.req, v.rqSeq); err == nil {
			v.answeredNow()
			v.answer(cc, data, nil)
			return
		}
	}
	if !v.before.repeated(payload) {
		count.Foreign.Add(1)
		return
	}
	// The BMC got both transmissions, so its first reply was to the first one.
	count.Late.Add(1)
	v.engine.measured(v.t, v.before.when.Sub(v.before.first))
}

// answeredNow measures. Which transmission a reply belongs to is not known when
// there were several (Karn's rule), unless another reply comes.
func (v *conversation) answeredNow() {
	now := v.engine.now
	v.engine.unpark(v)
	v.before = answered{rqSeq: v.rqSeq, netFn: byte(v.req.command.NetFn) | 1, id: v.req.command.ID, first: v.began, when: now}
	if v.sent == 1 {
		v.engine.measured(v.t, now.Sub(v.began))
	}
}

// repeated says whether msg is a second reply to that request.
func (a *answered) repeated(msg []byte) bool {
	return !a.when.IsZero() && len(msg) >= 8 && msg[1]>>2 == a.netFn && msg[4]>>2 == a.rqSeq && msg[5] == a.id
}

// answer ends a call or the close.
func (v *conversation) answer(cc types.CompletionCode, data []byte, err error) {
	if v.phase == phaseClosing {
		v.finish()
		return
	}
	var silent *silence
	switch {
	case err != nil:
		if v.req.once && errors.As(err, &silent) {
			silent.mayBeDone = true
		}
	case cc == types.CodeNodeBusy && v.engine.now.Sub(v.calling) < v.limit:
		v.phase = phaseBusy
		v.engine.arm(v, v.engine.now.Add(busyWait))
		return
	case cc != types.CodeOK:
		data, err = nil, &commandError{command: v.req.command, code: cc}
	}
	v.phase = phaseReady
	v.engine.disarm(v)
	v.then(data, err)
	if v.hosting {
		v.answeredAtConsole(err)
	}
}

// answeredAtConsole goes on with what waits for an open console's session. One
// whose BMC is silent is gone, and what waits is told so.
func (v *conversation) answeredAtConsole(err error) {
	var silent *silence
	if errors.As(err, &silent) {
		v.hang(err)
	}
	for len(v.later) > 0 && v.phase != phaseCall && v.phase != phaseBusy {
		next := v.later[0]
		v.later = v.later[1:]
		next()
	}
	if v.phase == phaseReady {
		v.engine.park(v)
		if v.line == nil {
			v.leave()
		}
	}
}

// close ends the session; closed is called when the BMC has said so, or has
// been silent for closeLimit.
func (v *conversation) close(closed func()) {
	if v.host != nil && v.phase == phaseReady { // the console keeps the session
		v.closed = closed
		v.finish()
		return
	}
	if v.phase != phaseReady {
		closed()
		return
	}
	v.closed = closed
	v.req = v.closeRequest()
	v.ask(phaseClosing, v.req.command.Name, closeLimit)
	v.newRequest()
}

// commandError is a completion code other than OK.
type commandError struct {
	command types.Command
	code    types.CompletionCode
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: the bmc refuses with completion code %#02x, %s",
		e.command.Name, uint8(e.code), types.StrCC(e.command, uint8(e.code)))
}

// window is the session sequence numbers that were received (§13.29): each is
// taken once, and those that the network delays may come up to 32 later.
type window struct {
	top  uint32
	seen uint32 // bit n: top-n was received
}

// take says whether seq is new.
func (w *window) take(seq uint32) bool {
	const size = 32
	switch ahead := int32(seq - w.top); {
	case seq == 0:
		return false // of packets outside of sessions
	case w.top == 0:
		w.top, w.seen = seq, 1
	case ahead > 0:
		w.seen = w.seen<<min(ahead, size) | 1
		w.top = seq
	case ahead <= -size, w.seen>>(-ahead)&1 != 0:
		return false
	default:
		w.seen |= 1 << -ahead
	}
	return true
}
