package bmc

import (
	"errors"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// keepAlive is how often an idle console's session says that it is there: BMCs
// end one that is silent for a minute (§6.12.15). It is all that an idle console
// costs.
const keepAlive = 20 * time.Second

// line is a conversation's open serial console. Only the engine's goroutine
// touches it.
type line struct {
	serial
	sink  func(data []byte) // takes the machine's characters and must not block; they are its own
	over  func(error)       // called once: the console is closed, or is gone
	quit  bool              // it is closed by us, which the BMC will tell us too
	timer *time.Timer       // of the packet under way, or of idleness
}

// console makes v's session the one that everything else with this BMC goes
// through, for a BMC has few slots, and lets others have their turn.
func (v *conversation) console() {
	e := v.engine
	v.t.console, v.hosting = v, true
	v.limit /= 2 // of silence: what dies here is asked anew in a session of its own
	e.park(v)
	e.pass(v)
	v.tend()
}

// tend sends what is to be sent and sets the timer.
func (v *conversation) tend() {
	l := v.line
	if p := l.next(); p != nil {
		v.sendSOL(p)
	}
	wait := keepAlive
	if l.flight != nil {
		wait = l.wait + v.t.rtt.wait(0)
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = time.AfterFunc(wait, func() { // stopped by hang
		v.engine.post(func() {
			if v.line == l {
				v.lineTimeout()
			}
		})
	})
}

func (v *conversation) lineTimeout() {
	l := v.line
	if l.flight == nil {
		if v.phase == phaseReady {
			v.call(request{command: types.CommandGetDeviceID}, func([]byte, error) {}) // silence ends the console in answer
		}
		v.tend()
		return
	}
	p, err := l.again()
	if err != nil {
		v.hang(err)
		return
	}
	if p != nil {
		v.engine.count.Repeated.Add(1)
		v.sendSOL(p)
	}
	v.tend()
}

func (v *conversation) sendSOL(p *solPacket) {
	v.seq++
	pkt, err := v.sealAs(types.PayloadTypeSOL, v.seq, p.append(nil))
	if err == nil {
		err = v.engine.transmit(v.t, pkt)
	}
	if err != nil {
		v.hang(err)
	}
}

// solPacket takes a packet of the payload, which is authentic.
func (v *conversation) solPacket(payload []byte) {
	l := v.line
	p, ok := parseSOL(payload)
	if l == nil || !ok {
		v.engine.count.Foreign.Add(1)
		return
	}
	data, answer := l.receive(p)
	if answer != nil {
		v.sendSOL(answer)
	}
	if len(data) > 0 && v.line != nil {
		l.sink(append([]byte(nil), data...))
	}
	switch {
	case v.line == nil || l.quit:
	case l.ended:
		v.hang(ErrConsoleTaken)
	default:
		v.tend()
	}
}

// ErrConsoleTaken says that the BMC has ended a console that was open.
var ErrConsoleTaken = errors.New("the bmc has ended the console: somebody else has taken it, or the bmc restarts")

// hang ends the console because of err, without the BMC's help; the session goes
// with it, for a silent BMC has lost it.
func (v *conversation) hang(err error) {
	if v.line == nil {
		return
	}
	v.unplug(err)
	if v.phase == phaseReady {
		v.leave()
	} // else the call that is under way does it
}

// leave ends a session that nobody needs, without waiting for the BMC.
func (v *conversation) leave() {
	v.abandon(types.RmcpStatusCodeNoResToCreateSess)
	v.finish()
}

// unplug takes the console off the session.
func (v *conversation) unplug(err error) {
	l := v.line
	v.line = nil
	if v.t.console == v {
		v.t.console = nil
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	l.over(err)
}

// borrow has v go through the session of an open console.
func (v *conversation) borrow(host *conversation) {
	v.host, v.phase = host, phaseReady
	v.engine.disarm(v)
	v.opened(nil)
}

// ownSession logs v in by itself and makes its call again: the console's session
// has died, as when the BMC was restarted.
func (v *conversation) ownSession(why error, req request, then func(data []byte, err error)) {
	v.host.hang(why)
	v.host = nil
	v.opened = func(err error) {
		if err != nil {
			then(nil, err)
			return
		}
		v.call(req, then)
	}
	v.login()
}

// lend makes a call of v for who borrows it, after what is under way.
func (v *conversation) lend(by *conversation, req request, then func(data []byte, err error)) {
	start := func() {
		if by.borrowed != nil { // cancelled meanwhile
			then(nil, by.borrowed)
			return
		}
		v.serving = by
		v.call(req, func(data []byte, err error) {
			v.serving = nil
			then(data, err)
		})
	}
	if v.phase == phaseCall || v.phase == phaseBusy {
		v.later = append(v.later, start)
		return
	}
	start()
}
