package bmc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Sizes of an RMCP+ packet (§13.6): RMCP header, session header, then the payload.
const (
	rmcpSize    = 4
	payloadAt   = 16
	nextHeader  = 0x07
	aesBlock    = 16
	bmcAddress  = 0x20
	consoleSWID = 0x81
)

// Why a packet is not believed.
var (
	errForeign     = errors.New("not a packet of this session")
	errUnprotected = errors.New("a packet that is not signed and encrypted")
	errForged      = errors.New("a packet with a wrong check value")
)

// suite is a cipher suite that we are willing to use (§22.15.2).
type suite struct {
	id        int
	auth      types.AuthAlg
	integrity types.IntegrityAlg
	crypt     types.CryptAlg
}

// suites in order of preference. Nothing lower: all others lack encryption,
// integrity, or a hash that is worth it.
func suites() []suite {
	return []suite{
		{17, types.AuthAlg_HMAC_SHA256, types.IntegrityAlg_HMAC_SHA256_128, types.CryptAlg_AES_CBC_128},
		{3, types.AuthAlg_HMAC_SHA1, types.IntegrityAlg_HMAC_SHA1_96, types.CryptAlg_AES_CBC_128},
	}
}

// keys protect the packets of an open session.
type keys struct {
	suite     suite
	bmcID     uint32 // the BMC's session ID: on what we send
	consoleID uint32 // ours: on what we receive
	k1, k2    []byte
}

// seal encrypts and signs one message.
func (k *keys) seal(seq uint32, msg []byte) ([]byte, error) {
	return k.sealAs(types.PayloadTypeIPMI, seq, msg)
}

// sealAs encrypts and signs one payload.
func (k *keys) sealAs(kind types.PayloadType, seq uint32, payload []byte) ([]byte, error) {
	sealed, err := crypto.EncryptAESPayload(payload, k.k2, crypto.RandomBytes(aesBlock))
	if err != nil {
		return nil, err
	}
	pkt := protocol.BuildRMCPPlusPacket(uint8(kind),
		types.PayloadFlagEncrypted|types.PayloadFlagAuthenticated, k.bmcID, seq, sealed)
	pad := types.IntegrityPadLen(payloadAt-rmcpSize, len(sealed))
	for range pad {
		pkt = append(pkt, 0xff)
	}
	pkt = append(pkt, byte(pad), nextHeader)
	code, err := crypto.SessionIntegrityAuthCode(k.suite.integrity, pkt[rmcpSize:], k.k1, "")
	if err != nil {
		return nil, err
	}
	return append(pkt, code...), nil
}

// unseal verifies and decrypts one packet of one kind; whatever is not signed with
// our key is an error, so that nobody else can answer for the BMC.
func (k *keys) unseal(pkt []byte, as types.PayloadType) (seq uint32, payload []byte, err error) {
	kind, flags, id, seq, body, ok := parseHeader(pkt)
	if !ok || kind != as || id != k.consoleID {
		return 0, nil, errForeign
	}
	if flags != types.PayloadFlagEncrypted|types.PayloadFlagAuthenticated {
		return 0, nil, errUnprotected
	}
	size, ok := crypto.IntegrityAuthCodeLen(k.suite.integrity)
	// The trailer is at least pad length, next header and code.
	if !ok || len(pkt) < payloadAt+len(body)+2+size {
		return 0, nil, errForeign
	}
	signed, code := pkt[rmcpSize:len(pkt)-size], pkt[len(pkt)-size:]
	want, err := crypto.SessionIntegrityAuthCode(k.suite.integrity, signed, k.k1, "")
	if err != nil || !crypto.Equal(want, code) {
		return 0, nil, errForged
	}
	if len(body) < 2*aesBlock || len(body)%aesBlock != 0 {
		return 0, nil, fmt.Errorf("encrypted payload of %d bytes: %w", len(body), errForeign)
	}
	payload, err = crypto.DecryptAESPayload(body, k.k2)
	return seq, payload, err
}

// parseHeader splits an RMCP+ packet. Packets of IPMI 1.5 are not ok: a 2.0
// session has none, and they would need no key.
func parseHeader(pkt []byte) (kind types.PayloadType, flags uint8, id, seq uint32, payload []byte, ok bool) {
	if len(pkt) < payloadAt || pkt[0] != 0x06 || pkt[3] != 0x07 || pkt[4] != byte(types.AuthTypeRMCPPlus) {
		return 0, 0, 0, 0, nil, false
	}
	n := int(binary.LittleEndian.Uint16(pkt[14:]))
	if len(pkt) < payloadAt+n {
		return 0, 0, 0, 0, nil, false
	}
	return types.PayloadType(pkt[5] & 0x3f), pkt[5] & 0xc0, binary.LittleEndian.Uint32(pkt[6:]),
		binary.LittleEndian.Uint32(pkt[10:]), pkt[payloadAt : payloadAt+n], true
}

// request is one IPMI command.
type request struct {
	command types.Command
	data    []byte
	// once: the command must not be sent a second time, for a BMC that got both
	// would do it twice.
	once bool
}

// message frames a request for the BMC (§13.8).
func message(req request, seq uint8) []byte {
	msg := []byte{bmcAddress, byte(req.command.NetFn) << 2, 0, consoleSWID, seq << 2, req.command.ID}
	msg[2] = protocol.Checksum(msg[:2])
	msg = append(msg, req.data...)
	return append(msg, protocol.Checksum(msg[3:]))
}

// parseReply returns completion code and data of the reply to req with seq.
func parseReply(msg []byte, req request, seq uint8) (cc types.CompletionCode, data []byte, err error) {
	switch {
	case len(msg) < 8,
		protocol.Checksum(msg[:2]) != msg[2],
		protocol.Checksum(msg[3:len(msg)-1]) != msg[len(msg)-1],
		msg[1]>>2 != byte(req.command.NetFn)|1,
		msg[4]>>2 != seq,
		msg[5] != req.command.ID:
		return 0, nil, errForeign
	}
	return types.CompletionCode(msg[6]), msg[7 : len(msg)-1], nil
}
