package bmc

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// FuzzSetup feeds the parsers of messages outside of sessions.
func FuzzSetup(f *testing.F) {
	f.Add(openMessage(suites()[0], 9))
	f.Add(append([]byte{1, 0, 4, 0, 9, 0, 0, 0, 7, 0, 0, 0}, openMessage(suites()[0], 9)[8:]...))
	f.Add(append([]byte{1, 0, 0, 0, 9, 0, 0, 0}, make([]byte, 64)...))
	f.Add([]byte{1, 0x12})
	f.Add(probePacket(7))
	f.Fuzz(func(t *testing.T, b []byte) {
		if isProbeReply(b) {
			probeTag(b)
		}
		_ = reportedError(b)
		parseHeader(b)
		if len(b) < 2 { // what the engine looks at first
			return
		}
		for _, su := range suites() {
			id, err := parseOpen(b, su)
			if err == nil && (id == 0 || b[16]&0x3f != byte(su.auth) || b[24]&0x3f != byte(su.integrity) || b[32]&0x3f != byte(su.crypt)) {
				t.Errorf("session %d with other algorithms than suite %d's: % x", id, su.id, b)
			}
			if m, err := parseRAKP2(b, su); err == nil {
				k := keys{suite: su, bmcID: 7, consoleID: 9}
				s := secrets{user: "u", role: uint8(types.PrivilegeLevelOperator) | nameOnly, password: make([]byte, 20), kg: make([]byte, 20), rand: make([]byte, 16)}
				if s.knowsPassword(&k, m) {
					t.Errorf("% x proves a password", b)
				}
			}
		}
	})
}

// mute is a socket to nowhere.
type mute struct{}

func (mute) receive([]datagram) ([]datagram, error) { select {} }
func (mute) send([]datagram) []datagram             { return nil }
func (mute) Close() error                           { return nil }

// fuzzPeer is the address of the BMC that the fuzzer plays.
var fuzzPeer = netip.MustParseAddrPort("192.0.2.1:623")

// stand returns an engine without goroutines whose conversation stands at phase p.
func stand(p phase, opened func(*conversation, error)) (*engine, *conversation) {
	e := newEngine(1, func(bool) (packetConn, error) { return mute{}, nil })
	e.socks[0] = &socketState{conn: mute{}}
	e.now = time.Unix(1, 0)
	v := e.newConversation(endpoint(fuzzPeer), time.Minute, opened)
	e.admit()
	if p == phaseOpen {
		return e, v
	}
	v.beginRAKP(7)
	if p == phaseRAKP1 {
		return e, v
	}
	v.prove(rakp2{rand: make([]byte, 16), guid: make([]byte, 16)})
	if p == phaseRAKP3 {
		return e, v
	}
	v.phase = phaseReady
	v.call(request{command: types.CommandGetChassisStatus}, func(data []byte, err error) {
		if err == nil {
			panic("a reply was believed")
		}
	})
	return e, v
}

// FuzzEngine plays a BMC, or somebody in its place, that does not know the
// password: at no phase does anything it sends open a session or answer a call.
func FuzzEngine(f *testing.F) {
	setup := func(kind types.PayloadType, msg []byte) []byte { return setupPacket(kind, msg) }
	f.Add([]byte{}, []byte{6, 0, 255, 7, 6})
	f.Add(setup(types.PayloadTypeRmcpOpenSessionResponse, make([]byte, 36)), setup(types.PayloadTypeRAKPMessage2, make([]byte, 72)))
	f.Add(setup(types.PayloadTypeRAKPMessage2, make([]byte, 60)), setup(types.PayloadTypeRAKPMessage4, make([]byte, 24)))
	f.Add(setup(types.PayloadTypeRAKPMessage4, []byte{0, 0x0d}), setup(types.PayloadTypeRmcpOpenSessionResponse, []byte{0, 0x11}))
	f.Add(probePacket(1), setup(types.PayloadTypeIPMI, make([]byte, 80)))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		for _, p := range []phase{phaseOpen, phaseRAKP1, phaseRAKP3, phaseCall} {
			e, v := stand(p, func(_ *conversation, err error) {
				if err == nil {
					t.Errorf("a session was opened from %s", p)
				}
			})
			for _, pkt := range [][]byte{one, two, addressed(v, one), addressed(v, two), one} {
				e.receive(datagram{peer: fuzzPeer, data: append([]byte(nil), pkt...)})
				e.now = e.now.Add(5 * time.Millisecond)
				e.expire()
				e.admit()
				e.flush()
			}
			for range 100 { // it ends, however it was led astray
				e.now = e.now.Add(10 * time.Second)
				e.expire()
			}
			if v.phase == phaseReady {
				v.close(func() {})
			}
			for range 10 {
				e.now = e.now.Add(time.Second)
				e.expire()
			}
			if v.phase != phaseDone || e.live != 0 || e.talking != 0 || len(e.timers) != 0 || v.t.current != nil {
				t.Errorf("from %s: phase %s, live %d, talking %d, timers %d", p, v.phase, e.live, e.talking, len(e.timers))
			}
		}
	})
}

// addressed puts the tag and the session ID that v waits for in pkt, which a
// fuzzer does not guess.
func addressed(v *conversation, pkt []byte) []byte {
	pkt = append([]byte(nil), pkt...)
	if len(pkt) >= payloadAt+8 {
		if types.PayloadType(pkt[5]&0x3f) == types.PayloadTypeIPMI {
			binary.LittleEndian.PutUint32(pkt[6:], v.consoleID)
		} else {
			pkt[payloadAt] = v.last
			binary.LittleEndian.PutUint32(pkt[payloadAt+4:], v.consoleID)
		}
	}
	return pkt
}

// FuzzSequence holds the window against a set of all numbers ever taken.
func FuzzSequence(f *testing.F) {
	f.Add([]byte{1, 2, 2, 1, 40, 9, 8})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var w window
		taken := make(map[uint32]bool)
		at := uint32(100)
		for _, s := range steps {
			seq := at + uint32(int32(int8(s)))
			if w.take(seq) {
				if taken[seq] {
					t.Fatalf("%d was taken twice", seq)
				}
				taken[seq] = true
				at = max(at, seq)
			}
		}
	})
}
