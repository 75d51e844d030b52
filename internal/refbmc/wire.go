package refbmc

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

// wire is the BMC's socket. The library reports no logins, so they are read off
// the packets that pass.
type wire struct {
	*net.UDPConn
	bmc   *BMC
	state *bmc.BMC
}

// ReadFrom skips what a silent BMC must not see.
func (w *wire) ReadFrom(buf []byte) (int, net.Addr, error) {
	for {
		n, addr, err := w.UDPConn.ReadFrom(buf)
		if err != nil {
			return n, addr, err
		}
		if w.bmc.deaf() || malformed(buf[:n]) {
			continue
		}
		w.observe(buf[:n], addr)
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
	w.observe(pkt, addr)
	n, err := w.UDPConn.WriteTo(pkt, addr)
	w.bmc.restartIfDue(w.state)
	return n, err
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
			w.bmc.event("login-refused", fmt.Sprintf("%s: status %#02x", addr, payload[1]))
		}
	case types.PayloadTypeRAKPMessage4:
		if payload[1] != 0 {
			w.bmc.event("login-refused", fmt.Sprintf("%s: status %#02x", addr, payload[1]))
			return
		}
		w.bmc.event("login", addr.String())
	}
}

// rakpUser is the user name in a RAKP message 1, whose length is its 28th byte.
func rakpUser(payload []byte) []byte {
	if len(payload) < 28 || len(payload) < 28+int(payload[27]) {
		return nil
	}
	return payload[28 : 28+int(payload[27])]
}
