package bmc

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// Stats counts packets of all BMCs since the Client was made. What is not
// believed is ignored, and shows here only.
type Stats struct {
	Sent, Received uint64
	Repeated       uint64 // sent again, because no reply had come
	Late           uint64 // replies to a packet that was answered or repeated before: a slow BMC, or a doubled packet
	Foreign        uint64 // from nobody we talk to, or to no question of ours
	Malformed      uint64 // too short, cut, or with wrong lengths
	Forged         uint64 // wrong check value
	Replayed       uint64 // session sequence number seen before
	Unprotected    uint64 // IPMI 1.5 or unencrypted where only a protected reply counts
	Logins         uint64 // key exchanges that reached the password
	Restarted      uint64 // key exchanges begun again, because messages were lost
}

// counters are the Stats while they are counted.
type counters struct {
	Sent, Received, Repeated, Late, Foreign, Malformed, Forged, Replayed, Unprotected, Logins, Restarted atomic.Uint64
}

func (c *counters) stats() Stats {
	return Stats{
		Sent: c.Sent.Load(), Received: c.Received.Load(), Repeated: c.Repeated.Load(), Late: c.Late.Load(),
		Foreign: c.Foreign.Load(), Malformed: c.Malformed.Load(), Forged: c.Forged.Load(), Replayed: c.Replayed.Load(),
		Unprotected: c.Unprotected.Load(), Logins: c.Logins.Load(), Restarted: c.Restarted.Load(),
	}
}

// target is what the engine knows of one BMC, also between conversations.
type target struct {
	addr    netip.AddrPort
	lan     *lan
	rtt     roundTrip
	current *conversation // that has the turn
	console *conversation // with an open serial console, whose session the others use
	queue   []*conversation
	refused []latch
	skip    int // suites that it does not offer, from the front of suites()
	lastTag uint8
	sent    []transmission // the last few, in order
}

// latch keeps the reason why a credential was refused.
type latch struct {
	credential credential
	reason     refusal
}

// credential is what a BMC accepts or refuses.
type credential struct{ username, password, kg string }

// latched returns the reason why c must not be tried again.
func (t *target) latched(c credential) *refusal {
	for i := range t.refused {
		if t.refused[i].credential == c {
			return &t.refused[i].reason
		}
	}
	return nil
}

// maxTransmissions is how many packets outside of sessions are remembered, to
// tell late replies from foreign ones.
const maxTransmissions = 16

// transmission is one packet outside of a session. Each has a tag of its own,
// which the reply echoes: so the reply's time is known even after repetitions.
type transmission struct {
	kind      types.PayloadType // of the request; PayloadTypeIPMI is a probe
	tag       uint8
	consoleID uint32
	at        time.Time
	answered  bool
	abort     bool // frees a session; its reply means nothing
}

// remember makes a transmission with a new tag.
func (t *target) remember(kind types.PayloadType, consoleID uint32, now time.Time) *transmission {
	t.lastTag++
	if len(t.sent) == maxTransmissions {
		copy(t.sent, t.sent[1:])
		t.sent = t.sent[:maxTransmissions-1]
	}
	t.sent = append(t.sent, transmission{kind: kind, tag: t.lastTag, consoleID: consoleID, at: now})
	return &t.sent[len(t.sent)-1]
}

// find returns the transmission that a reply echoes; nil: none of ours. mask says
// which bits of the tag the reply can carry.
func (t *target) find(kind types.PayloadType, tag, mask uint8) *transmission {
	for i := len(t.sent) - 1; i >= 0; i-- {
		if s := &t.sent[i]; s.kind == kind && s.tag&mask == tag&mask {
			return s
		}
	}
	return nil
}

// packet gives a packet of t to its conversation.
func (e *engine) packet(t *target, pkt []byte) {
	if isProbeReply(pkt) {
		e.probeReply(t, pkt)
		return
	}
	kind, flags, id, _, payload, ok := parseHeader(pkt)
	switch {
	case !ok && len(pkt) > 4 && pkt[0] == 0x06 && pkt[3] == 0x07 && pkt[4] != byte(types.AuthTypeRMCPPlus):
		e.count.Unprotected.Add(1)
	case !ok:
		e.count.Malformed.Add(1)
	case kind == types.PayloadTypeRmcpOpenSessionResponse, kind == types.PayloadTypeRAKPMessage2, kind == types.PayloadTypeRAKPMessage4:
		if flags != 0 || id != 0 || len(payload) < 2 {
			e.count.Malformed.Add(1)
			return
		}
		e.setupReply(t, kind, payload)
	case t.current != nil && t.current.inSession(id):
		t.current.packet(pkt)
	case t.console != nil && t.console.inSession(id):
		t.console.packet(pkt)
	default:
		e.count.Foreign.Add(1)
	}
}

// setupReply takes a message of the key exchange. Its sender is not proven
// before RAKP message 2.
func (e *engine) setupReply(t *target, kind types.PayloadType, payload []byte) {
	s := t.find(kind-1, payload[0], 0xff) // a reply's type follows its request's
	if s == nil {
		e.count.Foreign.Add(1)
		return
	}
	if s.abort {
		return
	}
	switch {
	case len(payload) < 8: // ipmi_sim ends an error after the status
		if payload[1] == 0 {
			e.count.Malformed.Add(1)
			return
		}
	default:
		// An error comes without our session ID when the BMC lost the session.
		echo := binary.LittleEndian.Uint32(payload[4:])
		if echo != s.consoleID && (echo != 0 || payload[1] == 0) {
			e.count.Foreign.Add(1)
			return
		}
	}
	first := !s.answered
	if first {
		s.answered = true
		e.measured(t, e.now.Sub(s.at))
	}
	v := t.current
	if v != nil && v.consoleID == s.consoleID {
		// The reply leads to the next question, and that moves what s points to.
		asked, era, again := *s, v.era, s.at != v.began
		if v.setupReply(asked, first, payload) {
			if first {
				t.lan.heard(era, e.now.Sub(asked.at), again)
			}
			return
		}
	}
	e.count.Late.Add(1)
	if id, ok := openedSession(kind, payload); ok && (v == nil || v.consoleID != s.consoleID || !v.uses(id)) &&
		(t.console == nil || !t.console.uses(id)) {
		e.abort(t, id, types.RmcpStatusCodeNoResToCreateSess) // a slot that nobody will use
	}
}

// abort has the BMC free the slot of a session that is not open yet (§13.22). It
// carries no proof and is no login attempt.
func (e *engine) abort(t *target, bmcID uint32, why types.RmcpStatusCode) {
	s := t.remember(types.PayloadTypeRAKPMessage3, 0, e.now)
	s.abort = true
	m3 := make([]byte, 8)
	m3[0], m3[1] = s.tag, byte(why)
	binary.LittleEndian.PutUint32(m3[4:], bmcID)
	_ = e.transmit(t, setupPacket(types.PayloadTypeRAKPMessage3, m3)) // the BMC's own time-out is left
}

// probe asks for something that takes no session: its answer, or the lack of it,
// tells a slow BMC from a lost packet.
func (e *engine) probe(t *target) error {
	s := t.remember(types.PayloadTypeIPMI, 0, e.now)
	return e.transmit(t, probePacket(s.tag))
}

// probeReply takes the answer to a probe. It is not protected, so it is used for
// its time only.
func (e *engine) probeReply(t *target, pkt []byte) {
	s := t.find(types.PayloadTypeIPMI, probeTag(pkt), probeTagMask)
	if s == nil || s.answered {
		e.count.Unprotected.Add(1)
		return
	}
	s.answered = true
	e.measured(t, e.now.Sub(s.at))
	if t.current != nil {
		t.current.probed(s.at)
	}
}
