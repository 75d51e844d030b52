package bmc

import (
	"errors"
	"time"
)

// Serial over LAN, the payload (§15.9, table 15-2).
const (
	solHeader = 4
	// solMost is the most characters that are sent in one packet, whatever the BMC
	// says that it takes.
	solMost = 128
	// solTries is how often a packet is sent before the BMC counts as gone, solWait
	// the first pause between them, which doubles up to solMaxWait.
	solTries   = 8
	solWait    = 100 * time.Millisecond
	solMaxWait = 2 * time.Second
)

// Bits of the last header byte: of what we send, and of what the BMC does.
const (
	solNACK        = 0x40
	solBreak       = 0x10 // to the BMC: send a serial break
	solUnavailable = 0x20 // from the BMC: it cannot pass characters on now
	solEnded       = 0x10 // from the BMC: the payload is deactivated
	solOverrun     = 0x08 // from the BMC: characters of the machine were lost
)

// solPacket is one packet. seq is 0 of one that only acknowledges.
type solPacket struct {
	seq, acked, accepted, bits uint8
	data                       []byte
}

// parseSOL reads a packet; its data are those of b.
func parseSOL(b []byte) (p solPacket, ok bool) {
	if len(b) < solHeader {
		return p, false
	}
	return solPacket{seq: b[0] & 0x0f, acked: b[1] & 0x0f, accepted: b[2], bits: b[3], data: b[solHeader:]}, true
}

func (p *solPacket) append(b []byte) []byte {
	return append(append(b, p.seq, p.acked, p.accepted, p.bits), p.data...)
}

// serial is the state of an open payload, apart from the network. One packet is
// under way at a time, as the protocol has it.
type serial struct {
	most int // characters in one packet

	queue  []byte // typed and not sent
	breaks int    // to be sent before the queue
	last   uint8  // number of the last packet sent
	flight *solPacket
	wait   time.Duration // until flight is sent again
	tries  int           // transmissions of flight
	held   bool          // the BMC took nothing: flight waits for its time
	seen   uint8         // number of the last packet received
	lost   bool          // characters of the machine were lost since the last look
	ended  bool
}

var errSOLSilent = errors.New("the bmc does not acknowledge what is sent to its console")

// receive takes a packet: the machine's characters, and what is to be answered at
// once, or nil.
func (s *serial) receive(p solPacket) (data []byte, answer *solPacket) {
	if p.acked != 0 && s.flight != nil && p.acked == s.flight.seq {
		s.acknowledged(p)
	}
	s.lost = s.lost || p.bits&solOverrun != 0
	s.ended = s.ended || p.bits&solEnded != 0
	if p.seq == 0 {
		return nil, nil
	}
	answer = &solPacket{acked: p.seq, accepted: uint8(min(len(p.data), 0xff))}
	if p.seq == s.seen {
		return nil, answer // again, because our answer was lost
	}
	s.seen = p.seq
	return p.data, answer
}

// acknowledged takes the answer to the packet under way. Of a packet that was
// taken in part, the rest goes into the next.
func (s *serial) acknowledged(p solPacket) {
	taken := min(int(p.accepted), len(s.flight.data))
	rest := s.flight.data[taken:]
	if p.bits&(solNACK|solUnavailable) != 0 && len(rest) > 0 && taken == 0 {
		s.held = true // a BMC that takes nothing would be asked again at once
		return
	}
	if p.bits&solNACK == 0 && taken == 0 && len(rest) > 0 && s.flight.bits&solBreak == 0 {
		// Some firmware acknowledges without a count what it took as a whole.
		rest = nil
	}
	s.queue = append(append([]byte(nil), rest...), s.queue...)
	s.flight, s.held = nil, false
}

// next is the packet to send now; nil: there is none, or one is under way.
func (s *serial) next() *solPacket {
	if s.flight != nil || s.ended || len(s.queue) == 0 && s.breaks == 0 {
		return nil
	}
	s.last = s.last%0x0f + 1
	p := &solPacket{seq: s.last}
	if s.breaks > 0 {
		s.breaks--
		p.bits = solBreak
	} else {
		n := min(len(s.queue), s.most)
		p.data, s.queue = s.queue[:n:n], s.queue[n:]
	}
	s.flight, s.tries, s.wait = p, 1, solWait
	return p
}

// again is called when the packet under way has waited long enough: it is sent
// again, or the BMC is given up.
func (s *serial) again() (*solPacket, error) {
	if s.flight == nil || s.ended {
		return nil, nil
	}
	if s.held { // it answers, and takes nothing: that is patience, not loss
		s.held, s.tries = false, 0
	}
	if s.tries >= solTries {
		return nil, errSOLSilent
	}
	s.tries++
	s.wait = min(2*s.wait, solMaxWait)
	return s.flight, nil
}
