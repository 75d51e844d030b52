package refbmc

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

// wire is the BMC's socket, and the faults of what passes it. The library
// reports no logins, so they are read off the packets.
type wire struct {
	*net.UDPConn
	bmc   *BMC
	state *bmc.BMC

	mu sync.Mutex
	tally
	again []arrival // packets that arrive a second time
}

// arrival is a packet and where it came from.
type arrival struct {
	pkt  []byte
	from net.Addr
}

func newWire(sock *net.UDPConn, b *BMC, state *bmc.BMC) *wire {
	return &wire{UDPConn: sock, bmc: b, state: state, tally: tally{random: rand.New(rand.NewPCG(1, 2)), consoles: map[[4]byte][4]byte{}}}
}

// ReadFrom skips what the BMC must not see, and what the network loses.
func (w *wire) ReadFrom(buf []byte) (int, net.Addr, error) {
	for {
		n, addr, err := w.next(buf)
		if err != nil {
			return n, addr, err
		}
		f := w.bmc.faults()
		if w.bmc.deaf() || malformed(buf[:n]) {
			continue
		}
		w.observe(buf[:n], addr)
		w.mu.Lock()
		refusal := w.refusal(f, buf[:n])
		w.mu.Unlock()
		if refusal == nil {
			return n, addr, nil
		}
		if _, err := w.WriteTo(refusal, addr); err != nil {
			return n, addr, err
		}
	}
}

// next is the next packet that arrives.
func (w *wire) next(buf []byte) (int, net.Addr, error) {
	if len(w.again) > 0 { // the library reads from one goroutine
		a := w.again[0]
		w.again = w.again[1:]
		return copy(buf, a.pkt), a.from, nil
	}
	for {
		n, addr, err := w.UDPConn.ReadFrom(buf)
		if err != nil {
			return n, addr, err
		}
		w.mu.Lock()
		copies := w.copies(w.bmc.faults())
		w.mu.Unlock()
		switch copies {
		case 0:
			continue
		case 2:
			w.again = append(w.again, arrival{append([]byte(nil), buf[:n]...), addr})
		}
		return n, addr, nil
	}
}

// malformed says that the library must not see pkt: it adds up the length of the
// user name in a byte, and panics when that overflows.
func malformed(pkt []byte) bool {
	_, _, kind, _, payload, ok := protocol.ParseRMCPPlusHeader(pkt)
	return ok && types.PayloadType(kind) == types.PayloadTypeRAKPMessage1 && len(payload) >= 28 && payload[27] > 16
}

// WriteTo sends nothing when the BMC fell silent since the request.
func (w *wire) WriteTo(pkt []byte, addr net.Addr) (int, error) {
	if w.bmc.deaf() {
		return len(pkt), nil
	}
	defer w.bmc.restartIfDue(w.state)
	f := w.bmc.faults()
	w.observe(pkt, addr)
	var out [][]byte
	w.mu.Lock()
	for _, p := range w.answers(f, pkt) {
		for range w.copies(f) {
			out = append(out, p)
		}
	}
	held := w.held
	w.mu.Unlock()
	if held != nil {
		time.AfterFunc(f.Slow+overtakenWithin, func() { w.release(held, addr) })
	}
	if f.Slow > 0 {
		time.AfterFunc(f.Slow, func() { w.send(out, addr) }) // the socket may be closed by then, as a BMC may be gone
		return len(pkt), nil
	}
	return len(pkt), w.send(out, addr)
}

func (w *wire) send(pkts [][]byte, addr net.Addr) (err error) {
	for _, p := range pkts {
		if _, e := w.UDPConn.WriteTo(p, addr); e != nil {
			err = e
		}
	}
	return err
}

// release sends an answer that no other has overtaken.
func (w *wire) release(held []byte, addr net.Addr) {
	w.mu.Lock()
	still := len(w.held) > 0 && &w.held[0] == &held[0]
	if still {
		w.held = nil
	}
	w.mu.Unlock()
	if still {
		w.send([][]byte{held}, addr)
	}
}

// observe reports the messages that open a session (§13.20 to §13.24). The
// second byte of RAKP messages 2 and 4 is the status: 0 is success.
func (w *wire) observe(pkt []byte, addr net.Addr) {
	if len(pkt) < 5 || pkt[4] != byte(types.AuthTypeRMCPPlus) {
		return
	}
	_, _, kind, _, payload, ok := protocol.ParseRMCPPlusHeader(pkt)
	if !ok || len(payload) < 2 {
		return
	}
	switch types.PayloadType(kind) {
	case types.PayloadTypeRmcpOpenSessionResponse:
		if payload[1] == 0 && len(payload) >= 12 {
			w.bmc.opened(binary.LittleEndian.Uint32(payload[8:]))
		}
	case types.PayloadTypeRAKPMessage1:
		w.bmc.event("login-attempt", fmt.Sprintf("%q from %s", rakpUser(payload), addr))
	case types.PayloadTypeRAKPMessage2:
		if payload[1] != 0 {
			w.refused(addr, payload)
		}
	case types.PayloadTypeRAKPMessage3:
		// The console says that it does not know the password that message 2 proved
		// (§13.22): to a BMC that is a failed login.
		if types.RmcpStatusCode(payload[1]) == types.RmcpStatusCodeInvalidIntegrityCheckValue && len(payload) >= 8 {
			w.mu.Lock()
			console, ok := w.consoles[[4]byte(payload[4:8])]
			w.mu.Unlock()
			if ok {
				w.failed(console)
			}
		}
	case types.PayloadTypeRAKPMessage4:
		if payload[1] != 0 {
			w.refused(addr, payload)
			return
		}
		w.mu.Lock()
		w.wrong = 0
		w.mu.Unlock()
		w.bmc.loggedIn()
		w.bmc.event("login", addr.String())
	}
}

func (w *wire) refused(addr net.Addr, payload []byte) {
	if len(payload) >= 8 {
		w.failed([4]byte(payload[4:8]))
	}
	w.bmc.event("login-refused", fmt.Sprintf("%s: status %#02x", addr, payload[1]))
}

// failed counts a failed login of the console's session.
func (w *wire) failed(console [4]byte) {
	row := w.bmc.loginFailed(console)
	w.mu.Lock()
	w.wrong = row
	w.mu.Unlock()
}

// rakpUser is the user name in a RAKP message 1, whose length is its 28th byte.
func rakpUser(payload []byte) []byte {
	if len(payload) < 28 || len(payload) < 28+int(payload[27]) {
		return nil
	}
	return payload[28 : 28+int(payload[27])]
}
