package bmc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	// holdBad is how long bad news of the key exchange waits for good news. They
	// are not protected: somebody may have been quicker than the BMC.
	holdBad = 20 * time.Millisecond
	// maxRAKP1 is how often RAKP message 1 is sent before the exchange starts
	// again: there are BMCs that ignore all but the first.
	maxRAKP1 = 4
	// maxRAKP3 is the same for message 3: ipmi_sim is silent to a second one, for
	// the session is open and only message 4 was lost.
	maxRAKP3 = 3
	// maxRefusals is how often a refusal is doubted where doubled packets or
	// lost replies may be its cause. The proof was right each time.
	maxRefusals = 2
	maxSpare    = 4
	firstPause  = 10 * time.Millisecond
	maxPause    = time.Second
	// openPatience is how long an unanswered Open Session is taken for slow, when
	// nothing else is known: each takes one of the BMC's few slots.
	openPatience = time.Second
)

// keyExchange is the state of a login.
type keyExchange struct {
	secrets
	loginBegan time.Time
	offers     []suite // that may be used, in order of preference
	tries      int     // that were skipped
	restarts   int     // key exchanges begun again
	refusals   int     // that were doubted
	// spare are sessions that later replies to the same Open Session named. The
	// first reply may not have been the BMC's.
	spare []uint32
	bad   error // held until the timer
	last  uint8 // tag of the last transmission
	// lost: a probe that was sent after the last Open Session has been answered,
	// so its reply does not come any more once the BMC's usual time is over.
	lost bool
	m2   *rakp2 // held while doubles are waited for
	// unsure: the BMC refused a right proof, as it does when message 1 was doubled
	// and we have not seen it.
	unsure   bool
	doubled  bool // the network brought RAKP message 1 to the BMC twice
	careful  bool // wait for the second reply, for the BMC counts the last
	rakp3    []byte
	wantCode []byte // of RAKP message 4
}

// login begins, when the conversation has its BMC's turn and a slot. Exactly one
// credential is proven, once: a refusal of one suite's password is never tried
// with the other.
func (v *conversation) login() {
	if reason := v.t.latched(v.credential()); reason != nil {
		v.failLogin(reason)
		return
	}
	if host := v.t.console; host != nil && host.credential() == v.credential() && host.role >= v.role {
		v.borrow(host)
		return
	}
	v.loginBegan = v.engine.now
	v.offers = suites()
	if v.ep.Suite != 0 {
		v.offers = slices.DeleteFunc(v.offers, func(su suite) bool { return su.id != v.ep.Suite })
	}
	v.tries = min(v.t.skip, len(v.offers)-1)
	v.openSession()
}

// left is how long the BMC may be silent: a slow BMC has the whole limit for each
// message, and one whose key exchange had to start again has it for all.
func (v *conversation) left() time.Duration {
	if v.restarts == 0 {
		return v.limit
	}
	return max(v.loginBegan.Add(v.limit).Sub(v.engine.now), 0)
}

func (v *conversation) credential() credential {
	return credential{v.ep.Username, v.ep.Password.Reveal(), v.ep.KG.Reveal()}
}

func (v *conversation) openSession() {
	v.keys = keys{suite: v.offers[v.tries], consoleID: binary.LittleEndian.Uint32(crypto.RandomBytes(4)) | 1} // zero means no session
	v.commands = commands{closed: v.closed}
	v.m2, v.doubled, v.unsure = nil, false, false
	v.ask(phaseOpen, "Open Session", v.left())
	v.sendOpen(v.t.rtt.wait(minWait))
}

// sendSetup sends msg with a new tag.
func (v *conversation) sendSetup(kind types.PayloadType, msg []byte, wait time.Duration) {
	s := v.t.remember(kind, v.consoleID, v.engine.now)
	msg[0], v.last = s.tag, s.tag
	if err := v.engine.transmit(v.t, setupPacket(kind, msg)); err != nil {
		v.fail(err)
		return
	}
	v.transmitted(wait)
}

func (v *conversation) sendOpen(wait time.Duration) {
	v.lost = false
	v.sendSetup(types.PayloadTypeRmcpOpenSessionRequest, openMessage(v.suite, v.consoleID), wait)
}

// openAgain sends Open Session again where it is lost rather than slow. The
// first repetition is free; before each more, a probe must have been answered,
// or a patient time be over.
func (v *conversation) openAgain() {
	patience := openPatience << min(max(v.sent-2, 0), 4)
	if v.sent < 2 || v.lost || v.engine.now.Sub(v.lastSent) >= patience {
		v.sendOpen(longer(v.wait))
	} else {
		v.wait = longer(v.wait)
		v.rearm(v.engine.now.Add(v.wait))
	}
	if v.phase != phaseOpen {
		return // it could not be sent
	}
	if err := v.engine.probe(v.t); err != nil {
		v.fail(err)
	}
}

// probed says that a probe sent at that time was answered.
func (v *conversation) probed(at time.Time) {
	if v.phase != phaseOpen || at.Before(v.lastSent) {
		return
	}
	v.lost = true
	v.wait = v.t.rtt.wait(minWait)
	v.rearm(v.lastSent.Add(v.wait))
}

// setupReply takes a message of this key exchange; false: it is late. first says
// that its transmission was not answered before.
func (v *conversation) setupReply(s transmission, first bool, msg []byte) bool {
	switch {
	case v.phase == phaseOpen && s.kind == types.PayloadTypeRmcpOpenSessionRequest:
		v.engine.unpark(v)
		v.takeOpen(msg)
	case v.phase == phaseRAKP1 && s.kind == types.PayloadTypeRmcpOpenSessionRequest:
		id, ok := openedSession(s.kind+1, msg)
		if !ok || v.uses(id) || len(v.spare) == maxSpare {
			return false
		}
		v.spare = append(v.spare, id)
		v.engine.count.Late.Add(1)
	case v.phase == phaseRAKP1 && s.kind == types.PayloadTypeRAKPMessage1:
		if s.tag != v.last {
			// The BMC has drawn another random number for the last one, or will: it
			// is slow, so wait longer for it.
			v.wait = v.t.rtt.wait(keyWait)
			v.rearm(v.lastSent.Add(v.wait))
			return false
		}
		v.engine.unpark(v)
		v.takeRAKP2(msg)
	case v.phase == phaseRAKP3 && s.kind == types.PayloadTypeRAKPMessage1:
		v.doubled = v.doubled || !first
		return false
	case v.phase == phaseRAKP3 && s.kind == types.PayloadTypeRAKPMessage3:
		v.engine.unpark(v)
		v.takeRAKP4(msg)
	default:
		return false
	}
	return true
}

// hold keeps bad news for a moment in which good news may come. Of two, that
// counts which is no refusal: nobody else may have a credential latched.
func (v *conversation) hold(err error) {
	switch {
	case v.bad == nil:
		v.engine.park(v)
		v.rearm(v.engine.now.Add(holdBad))
	case !isRefusal(v.bad) || isRefusal(err):
		return
	}
	v.bad = err
}

// setupTimeout deals with what was held.
func (v *conversation) setupTimeout() bool {
	refused := isRefusal(v.bad)
	switch {
	case v.bad == nil && v.m2 != nil && v.phase == phaseRAKP1:
		v.prove(*v.m2)
	case v.bad == nil:
		return false
	case v.phase == phaseRAKP3 && (v.doubled || refused && (v.sent > 1 || v.unsure && v.refusals == 0)):
		v.doubt(v.bad)
	case errors.Is(v.bad, errRestart), !refused && v.sent > 1 && v.phase != phaseOpen:
		v.restart()
	default:
		v.fail(v.bad)
	}
	return true
}

func (v *conversation) takeOpen(msg []byte) {
	id, err := parseOpen(msg, v.suite)
	switch {
	case errors.Is(err, errNotOffered) && v.tries+1 < len(v.offers):
		v.tries++
		v.openSession()
	case errors.Is(err, errNotOffered) && v.t.skip > 0 && v.tries > 0: // it was changed since
		v.t.skip, v.tries = 0, 0
		v.openSession()
	case errors.Is(err, errNotOffered) && v.ep.Suite != 0:
		v.failLogin(fmt.Errorf("the bmc does not offer cipher suite %d, which is declared for it", v.ep.Suite))
	case errors.Is(err, errNotOffered):
		v.failLogin(err)
	case err != nil:
		v.bmcID = id // to free it in the end, not now: somebody else may have said so
		v.hold(err)
	default:
		v.engine.count.Logins.Add(1)
		v.beginRAKP(id)
	}
}

// beginRAKP goes on in the session that the BMC has opened.
func (v *conversation) beginRAKP(bmcID uint32) {
	v.bmcID = bmcID
	v.rand = crypto.RandomBytes(16)
	v.ask(phaseRAKP1, "RAKP message 1", v.left())
	v.sendSetup(types.PayloadTypeRAKPMessage1, rakp1Message(v.bmcID, v.rand, v.role, v.user), v.t.rtt.wait(keyWait))
}

func (v *conversation) rakp1Again() {
	if v.sent == maxRAKP1 || len(v.spare) > 0 {
		v.restart()
		return
	}
	v.sendSetup(types.PayloadTypeRAKPMessage1, rakp1Message(v.bmcID, v.rand, v.role, v.user), longer(v.wait))
}

func (v *conversation) takeRAKP2(msg []byte) {
	m, err := parseRAKP2(msg, v.suite)
	switch {
	case err != nil:
		v.hold(err)
	case !v.knowsPassword(&v.keys, m):
		v.engine.count.Forged.Add(1)
		v.hold(&refusal{reason: "wrong user name or password"})
	case v.careful:
		v.doubled = v.doubled || v.m2 != nil
		// The BMC counts the last that it sends. A busy host takes its time to bring
		// it, and each wrong proof may count as a failed login.
		wait := holdBad << (2 * v.refusals)
		if v.m2 != nil {
			wait = holdBad
		}
		v.bad, v.m2 = nil, &m
		v.rearm(v.engine.now.Add(wait))
	default:
		v.bad = nil
		v.prove(m)
	}
}

func isRefusal(err error) bool {
	var refused *refusal
	return errors.As(err, &refused)
}

// prove proves the password to the BMC, which has proven that it knows it.
func (v *conversation) prove(m rakp2) {
	proof, want, err := v.derive(&v.keys, m)
	if err != nil {
		v.failLogin(err)
		return
	}
	v.freeSpares()
	v.rakp3, v.wantCode = rakp3Message(v.bmcID, proof), want
	v.ask(phaseRAKP3, "RAKP message 3", v.left())
	v.sendRAKP3(v.t.rtt.wait(keyWait))
}

func (v *conversation) rakp3Again() {
	if v.sent == maxRAKP3 {
		v.restart()
		return
	}
	v.sendRAKP3(longer(v.wait))
}

func (v *conversation) sendRAKP3(wait time.Duration) {
	v.sendSetup(types.PayloadTypeRAKPMessage3, v.rakp3, wait)
}

func (v *conversation) takeRAKP4(msg []byte) {
	err := rakpStatus(msg[1])
	switch {
	case err == nil && len(msg) >= 8 && crypto.Equal(v.wantCode, msg[8:]):
		if v.ep.Suite == 0 {
			v.t.skip = v.tries
		}
		v.phase, v.bad = phaseReady, nil
		v.engine.disarm(v)
		v.opened(nil)
	case err == nil:
		v.engine.count.Forged.Add(1)
		// The BMC took the proof, so its session is open under a key we do not have:
		// each further try would take another of its slots.
		v.hold(&refusal{reason: "the password is right and RAKP message 4 has a wrong check value: the bmc's key K_g is not the declared one, or someone is interfering on the out-of-band network"})
	case isRefusal(err):
		status := types.RmcpStatusCode(msg[1])
		v.unsure = status == types.RmcpStatusCodeUnauthorizedName || status == types.RmcpStatusCodeInvalidIntegrityCheckValue
		v.hold(&refusal{reason: fmt.Sprintf("the password is right and the bmc says %q: enable the user for LAN access as operator", types.RmcpStatusCode(msg[1]))})
	default:
		v.hold(err)
	}
}

// doubt starts the key exchange again after a refusal that may come from the
// network: for a doubled message 1 the BMC drew a second random number, which
// our proof cannot fit, and a repeated message 3 may find the session open.
func (v *conversation) doubt(err error) {
	if v.refusals++; v.refusals > maxRefusals {
		v.failLogin(err)
		return
	}
	v.careful = true
	v.restart()
}

// restart begins the key exchange again, with another session.
func (v *conversation) restart() {
	if n := len(v.spare); n > 0 && v.phase == phaseRAKP1 {
		v.engine.abort(v.t, v.bmcID, types.RmcpStatusCodeNoResToCreateSess)
		id := v.spare[n-1]
		v.spare = v.spare[:n-1]
		v.beginRAKP(id)
		return
	}
	v.abandon(types.RmcpStatusCodeNoResToCreateSess)
	if after := v.engine.now.Sub(v.loginBegan); after >= v.limit {
		v.failLogin(&silence{doing: "login", after: after})
		return
	}
	v.engine.count.Restarted.Add(1)
	pause := min(firstPause<<min(v.restarts, 10), maxPause)
	v.restarts++
	v.phase, v.bad, v.m2 = phasePause, nil, nil
	v.engine.arm(v, v.engine.now.Add(pause))
}

// uses says whether id is a session that this login may still need.
func (v *conversation) uses(id uint32) bool {
	return v.bmcID == id || slices.Contains(v.spare, id)
}

func (v *conversation) freeSpares() {
	for _, id := range v.spare {
		v.engine.abort(v.t, id, types.RmcpStatusCodeNoResToCreateSess)
	}
	v.spare = nil
}

// failLogin ends a conversation that did not come to a session. A refused
// credential is latched.
func (v *conversation) failLogin(err error) {
	why := types.RmcpStatusCodeNoResToCreateSess
	var refused *refusal
	switch {
	case !errors.As(err, &refused):
	case refused.role && v.ep.privilege > types.PrivilegeLevelOperator:
		// The password was not looked at, and an operator may be let in.
		err = fmt.Errorf("the user may not act as %s over LAN: give it that privilege on the bmc", v.ep.privilege)
	default:
		why = types.RmcpStatusCodeInvalidIntegrityCheckValue
		if v.t.latched(v.credential()) == nil {
			v.t.refused = append(v.t.refused, latch{v.credential(), *refused})
		}
	}
	v.abandon(why)
	v.finish()
	v.opened(err)
}
