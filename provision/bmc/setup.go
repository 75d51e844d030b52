package bmc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

// nameOnly, in the role of RAKP message 1: the user is found by name only (§13.20).
const nameOnly = 0x10

var errNotOffered = errors.New("the bmc offers neither cipher suite 17 nor 3, and nothing weaker is used: enable one of them on the bmc")

// errRestart says that the key exchange cannot go on and may be started again,
// because the password has not been refused.
var errRestart = errors.New("key exchange interrupted")

// setupPacket frames a message of the key exchange.
func setupPacket(kind types.PayloadType, msg []byte) []byte {
	return protocol.BuildRMCPPlusPacket(uint8(kind), 0, 0, 0, msg)
}

// openMessage is Open Session Request (§13.17) for exactly one suite, with the
// highest privilege of the suite. Its tag is left zero, as in all of these.
func openMessage(su suite, consoleID uint32) []byte {
	msg := make([]byte, 8, 32)
	binary.LittleEndian.PutUint32(msg[4:], consoleID)
	return append(msg,
		0, 0, 0, 8, byte(su.auth), 0, 0, 0,
		1, 0, 0, 8, byte(su.integrity), 0, 0, 0,
		2, 0, 0, 8, byte(su.crypt), 0, 0, 0)
}

// parseOpen reads Open Session Response (§13.18): the BMC's session ID, if it
// grants exactly su.
func parseOpen(msg []byte, su suite) (bmcID uint32, err error) {
	switch status := types.RmcpStatusCode(msg[1]); status {
	case types.RmcpStatusCodeNoErrors:
	case types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg, types.RmcpStatusCodeInvalidConfidentAlg,
		types.RmcpStatusCodeNoMatchingAuthPayload, types.RmcpStatusCodeNoMatchingIntegrityPayload, types.RmcpStatusCodeNoCipherSuiteMatch:
		return 0, errNotOffered
	case types.RmcpStatusCodeNoResToCreateSess:
		return 0, errors.New("all its session slots are taken: close other consoles, or wait 60 s for stale ones to expire")
	default:
		return 0, fmt.Errorf("open session: %s", status)
	}
	bmcID, ok := openedSession(types.PayloadTypeRmcpOpenSessionResponse, msg)
	if !ok {
		return 0, fmt.Errorf("open session: reply of %d bytes is too short, or without a session", len(msg))
	}
	for i, a := range []byte{byte(su.auth), byte(su.integrity), byte(su.crypt)} {
		if msg[12+8*i+4]&0x3f != a {
			return bmcID, fmt.Errorf("cipher suite %d was asked for and something else granted: refused, someone may be interfering on the out-of-band network", su.id)
		}
	}
	return bmcID, nil
}

// openedSession is the BMC's ID of the session that an Open Session Response
// has opened.
func openedSession(kind types.PayloadType, msg []byte) (id uint32, ok bool) {
	if kind != types.PayloadTypeRmcpOpenSessionResponse || len(msg) < 36 || msg[1] != 0 {
		return 0, false
	}
	id = binary.LittleEndian.Uint32(msg[8:])
	return id, id != 0
}

// rakp1Message is RAKP message 1 (§13.20).
func rakp1Message(bmcID uint32, rand []byte, role uint8, user string) []byte {
	msg := make([]byte, 8, 28+len(user))
	binary.LittleEndian.PutUint32(msg[4:], bmcID)
	msg = append(msg, rand...)
	msg = append(msg, role, 0, 0, byte(len(user)))
	return append(msg, user...)
}

// rakp2 is what RAKP message 2 carries.
type rakp2 struct{ rand, guid, code []byte }

// parseRAKP2 reads RAKP message 2 (§13.21).
func parseRAKP2(msg []byte, su suite) (rakp2, error) {
	if err := rakpStatus(msg[1]); err != nil {
		return rakp2{}, err
	}
	n := crypto.RAKP2AuthCodeLen(su.auth)
	if len(msg) < 40+n {
		return rakp2{}, fmt.Errorf("RAKP message 2 of %d bytes is too short", len(msg))
	}
	msg = append([]byte(nil), msg...) // it outlives the packet
	return rakp2{rand: msg[8:24], guid: msg[24:40], code: msg[40 : 40+n]}, nil
}

// rakp3Message is RAKP message 3 (§13.22).
func rakp3Message(bmcID uint32, proof []byte) []byte {
	msg := make([]byte, 8, 8+len(proof))
	binary.LittleEndian.PutUint32(msg[4:], bmcID)
	return append(msg, proof...)
}

// rakpStatus tells a refusal of the credential from a passing trouble.
func rakpStatus(code byte) error {
	switch status := types.RmcpStatusCode(code); status {
	case types.RmcpStatusCodeNoErrors:
		return nil
	case types.RmcpStatusCodeUnauthorizedName, types.RmcpStatusCodeInvalidIntegrityCheckValue, types.RmcpStatusCodeInvalidNameLength:
		return &refusal{reason: "wrong user name or password"}
	case types.RmcpStatusCodeInvalidRole, types.RmcpStatusCodeUnauthorizedRoleOfPriLevel:
		return &refusal{"the user may not act as operator over LAN", true}
	case types.RmcpStatusCodeInvalidSessionID, types.RmcpStatusCodeInactiveSessionID:
		return errRestart // the BMC dropped the half-open session
	default:
		return fmt.Errorf("login: %s", status)
	}
}

// secrets are what the key exchange is computed with.
type secrets struct {
	user     string
	role     uint8  // of RAKP message 1
	password []byte // padded to 20 bytes
	kg       []byte // the BMC's key, padded; the password where it has none (§13.31)
	rand     []byte // of the console
}

// knowsPassword says whether the sender of m knows the password.
func (s *secrets) knowsPassword(k *keys, m rakp2) bool {
	full, err := crypto.RAKP2AuthCode(k.suite.auth, k.consoleID, k.bmcID, s.rand, m.rand, m.guid, s.role, s.user, s.password)
	if err != nil {
		return false
	}
	want, err := crypto.TruncateRAKP2AuthCode(k.suite.auth, full)
	return err == nil && crypto.Equal(want, m.code)
}

// derive sets k's session keys, and returns the proof that goes into RAKP message
// 3 and the check value that message 4 must carry.
func (s *secrets) derive(k *keys, m rakp2) (proof, want []byte, err error) {
	sik, k1, k2, err := crypto.DeriveSessionKeys(k.suite.auth, s.rand, m.rand, s.role, s.user, s.kg)
	if err != nil {
		return nil, nil, err
	}
	k.k1, k.k2 = k1, k2
	if proof, err = crypto.RAKP3AuthCode(k.suite.auth, m.rand, k.consoleID, s.role, s.user, s.password); err != nil {
		return nil, nil, err
	}
	want, err = crypto.RAKP4ICV(k.suite.auth, s.rand, k.bmcID, m.guid, sik)
	return proof, want, err
}

// A probe is Get Channel Authentication Capabilities (§22.13): every BMC answers
// it to everybody, in a packet of IPMI 1.5.
const (
	probeTagMask  = 0x3f // a message has six bits for its number
	v15PayloadAt  = 14
	probeReplyLen = v15PayloadAt + 8
)

func probePacket(tag uint8) []byte {
	const thisChannel, extended = 0x0e, 0x80
	msg := message(request{command: types.CommandGetChannelAuthCapabilities,
		data: []byte{thisChannel | extended, byte(types.PrivilegeLevelOperator)}}, tag&probeTagMask)
	return append([]byte{0x06, 0, 0xff, 0x07, byte(types.AuthTypeNone), 0, 0, 0, 0, 0, 0, 0, 0, byte(len(msg))}, msg...)
}

// isProbeReply says whether pkt answers some probe.
func isProbeReply(pkt []byte) bool {
	if len(pkt) < probeReplyLen || pkt[0] != 0x06 || pkt[3] != 0x07 || pkt[4] != byte(types.AuthTypeNone) ||
		len(pkt) < v15PayloadAt+int(pkt[13]) || int(pkt[13]) < probeReplyLen-v15PayloadAt {
		return false
	}
	msg := pkt[v15PayloadAt : v15PayloadAt+int(pkt[13])]
	_, _, err := parseReply(msg, request{command: types.CommandGetChannelAuthCapabilities}, msg[4]>>2)
	return err == nil
}

// probeTag is the tag of a probe's reply.
func probeTag(reply []byte) uint8 { return reply[v15PayloadAt+4] >> 2 }
