package refbmc

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Faults are ways in which a BMC, or the network before it, misbehaves. The
// zero value has none.
type Faults struct {
	IgnoreBootOverride bool          // accepts and reads back the override, and boots its default
	RevertBootOverride bool          // answers OK to the override and does not keep it
	RevertUntilReset   bool          // so it does until the BMC is restarted
	IgnoreEFI          bool          // keeps the override without its EFI flag: the machine boots as a BIOS does
	ForgetAfter        time.Duration // forgets the override that long after it was set, whatever parameter 3 says; 0: never
	Lie                bool          // answers OK to a chassis control and does nothing

	IgnoreReset bool // answers OK to Cold Reset and goes on as before

	Silent       bool // receives and never answers
	FreezeAfter  int  // answers so many commands and then nothing at all; 0: all
	SessionsFull bool // has no session to give
	RefuseLogins int  // refuses so many logins, though the credential is right
	LockAfter    int  // locks the account after so many refused logins in a row; 0: never

	Slow      time.Duration // before each answer
	Loss      float64       // share of packets lost, each way
	Twice     float64       // share of packets doubled, each way
	Reorder   bool          // an answer that comes within overtakenWithin of another overtakes it
	Malformed bool          // sends rubbish before each answer
	Replay    bool          // sends each answer again, after the one that follows it
	Forge     bool          // an unprotected "power is on" comes before each answer, and the answer with a wrong check value
	Downgrade bool          // grants neither integrity nor encryption
}

// SetFaults changes the faults of a BMC that serves.
func (b *BMC) SetFaults(f Faults) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Faults = f
}

func (b *BMC) faults() Faults {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Faults
}

// tally is what the faults of a wire count.
type tally struct {
	random   *rand.Rand
	commands int                 // answered
	refusals int                 // by RefuseLogins
	wrong    int                 // refused logins in a row
	held     []byte              // an answer that is to be overtaken
	last     []byte              // the answer before
	consoles map[[4]byte][4]byte // the console's session, by the BMC's
}

// overtakenWithin is how long an answer is held for another to overtake it.
const overtakenWithin = 30 * time.Millisecond

// mostConsoles bounds what is kept of sessions: far more than are open at once.
const mostConsoles = 64

// copies is how often a packet arrives.
func (t *tally) copies(f Faults) int {
	switch {
	case f.Loss > 0 && t.random.Float64() < f.Loss:
		return 0
	case f.Twice > 0 && t.random.Float64() < f.Twice:
		return 2
	}
	return 1
}

// refusal answers a request that the library is not to see; nil: it sees it.
func (t *tally) refusal(f Faults, pkt []byte) []byte {
	kind, payload := session(pkt)
	switch {
	case kind == types.PayloadTypeRmcpOpenSessionRequest && f.SessionsFull && len(payload) >= 8:
		return setupRefusal(kind+1, types.RmcpStatusCodeNoResToCreateSess, payload[0], payload[4:8])
	case kind != types.PayloadTypeRAKPMessage1 || len(payload) < 8:
		return nil
	case f.LockAfter > 0 && t.wrong >= f.LockAfter:
	case t.refusals < f.RefuseLogins:
		t.refusals++
	default:
		return nil
	}
	console := t.consoles[[4]byte(payload[4:8])]
	return setupRefusal(types.PayloadTypeRAKPMessage2, types.RmcpStatusCodeUnauthorizedName, payload[0], console[:])
}

// setupRefusal is a message of the session setup that carries a status (§13.18,
// §13.21).
func setupRefusal(kind types.PayloadType, status types.RmcpStatusCode, tag byte, session []byte) []byte {
	return protocol.BuildRMCPPlusPacket(uint8(kind), 0, 0, 0, append([]byte{tag, byte(status), 0, 0}, session...))
}

// session is the kind and the payload of an RMCP+ packet.
func session(pkt []byte) (types.PayloadType, []byte) {
	if len(pkt) < 5 || pkt[4] != byte(types.AuthTypeRMCPPlus) {
		return 0xff, nil
	}
	_, _, kind, _, payload, ok := protocol.ParseRMCPPlusHeader(pkt)
	if !ok {
		return 0xff, nil
	}
	return types.PayloadType(kind & 0x3f), payload
}

// answers are the packets that go out for an answer, in order.
func (t *tally) answers(f Faults, pkt []byte) [][]byte {
	kind, payload := session(pkt)
	if kind == types.PayloadTypeIPMI {
		if t.commands++; f.FreezeAfter > 0 && t.commands > f.FreezeAfter {
			return nil
		}
	}
	if kind == types.PayloadTypeRmcpOpenSessionResponse && len(payload) >= 12 {
		if len(t.consoles) >= mostConsoles {
			clear(t.consoles)
		}
		t.consoles[[4]byte(payload[8:12])] = [4]byte(payload[4:8])
	}
	pkt = append([]byte(nil), pkt...)
	if f.Downgrade && kind == types.PayloadTypeRmcpOpenSessionResponse && len(payload) >= 36 {
		p := pkt[len(pkt)-len(payload):]
		p[24], p[32] = 0, 0
	}
	var out [][]byte
	if f.Malformed {
		out = append(out, []byte{}, []byte{6, 0, 255, 7}, pkt[:len(pkt)-1], wrongLength(pkt))
	}
	if f.Forge {
		bad := append([]byte(nil), pkt...)
		bad[len(bad)-1] ^= 1
		out = append(out, unprotectedOn, bad)
	}
	if f.Reorder && t.held == nil {
		t.held = pkt
		return out
	}
	out = append(out, pkt)
	if t.held != nil {
		out = append(out, t.held)
		t.held = nil
	}
	if f.Replay && t.last != nil {
		out = append(out, t.last)
	}
	t.last = pkt
	return out
}

// wrongLength says of a packet that it is longer than it is.
func wrongLength(pkt []byte) []byte {
	bad := append([]byte(nil), pkt...)
	if len(bad) >= 16 {
		binary.LittleEndian.PutUint16(bad[14:], binary.LittleEndian.Uint16(bad[14:])+100)
	}
	return bad
}

// unprotectedOn is an IPMI 1.5 packet without authentication that answers Get
// Chassis Status (§28.2): the power is on.
var unprotectedOn = []byte{6, 0, 255, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0x81, 1 << 2, 0x7b, 0x20, 1 << 2, 0x01, 0, 0x01, 0, 0, 0, 0xda}
