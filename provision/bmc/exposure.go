package bmc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	exposureTries = 3 // of each question
	exposureWait  = time.Second
)

// Exposure is what a BMC shows to anybody on its network, without a password. It
// is not authenticated: good for an audit, and for nothing else.
type Exposure struct {
	Auth15    []string // what IPMI 1.5 logins are accepted, as "none" and "md5"; none: it has no 1.5
	Anonymous bool     // a login without a name and a password is enabled
	NoName    bool     // a login without a name is enabled
	KG        bool     // a key K_g is set
	Suites    []int    // RMCP+ cipher suites that it offers; nil: it does not tell
	// SuiteZero says that a session was opened without any password; nil: it could
	// not be tried, because of Untried.
	SuiteZero *bool
	Untried   string
}

// Expose asks ep's BMC, by IPMI, what it shows to anybody. Its user's name is sent
// and no password, nor anything that is made of it, so that no account counts a
// failed login. The session that cipher suite 0 may open is closed. It has a socket of its
// own: the engine never speaks a suite that protects nothing.
func (c *Client) Expose(ctx context.Context, ep Endpoint) (Exposure, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", ep.Address.String())
	if err != nil {
		return Exposure{}, fmt.Errorf("%s: %w", ep, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
	wait := min(exposureWait, c.timeout()/exposureTries)
	a := &asker{conn: conn, wait: wait}
	out, err := a.expose(ep.Username)
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return Exposure{}, fmt.Errorf("%s: %w", ep, ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Exposure{}, &NoAnswerError{Named: describe(ep), After: exposureTries * wait, Doing: "Get Channel Authentication Capabilities"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Exposure{}, &NoAnswerError{Named: describe(ep), PortClosed: true, Doing: "Get Channel Authentication Capabilities"}
	}
	return Exposure{}, fmt.Errorf("%s: %w", ep, err)
}

// asker puts questions outside of sessions to one BMC.
type asker struct {
	conn net.Conn
	wait time.Duration
	tag  uint8
}

// ask sends pkt until a reply comes that take accepts.
func (a *asker) ask(pkt []byte, take func(reply []byte) bool) error {
	buf := make([]byte, packetSize)
	for try := 1; ; try++ {
		if _, err := a.conn.Write(pkt); err != nil {
			return err
		}
		end := time.Now().Add(a.wait)
		for {
			if err := a.conn.SetReadDeadline(end); err != nil {
				return err
			}
			n, err := a.conn.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) && try < exposureTries {
				break
			}
			if err != nil {
				return err
			}
			if take(buf[:n]) {
				return nil
			}
		}
	}
}

// plainMessage frames a request outside of sessions, as IPMI 1.5.
func plainMessage(req request, tag uint8) []byte {
	msg := message(req, tag&probeTagMask)
	return append([]byte{0x06, 0, 0xff, 0x07, byte(types.AuthTypeNone), 0, 0, 0, 0, 0, 0, 0, 0, byte(len(msg))}, msg...)
}

// command asks outside of a session and returns the reply's data.
func (a *asker) command(req request) (cc types.CompletionCode, data []byte, err error) {
	a.tag++
	err = a.ask(plainMessage(req, a.tag), func(pkt []byte) bool {
		msg, ok := plainPayload(pkt)
		if !ok {
			return false
		}
		var err error
		cc, data, err = parseReply(msg, req, a.tag&probeTagMask)
		data = slices.Clone(data)
		return err == nil
	})
	return cc, data, err
}

// plainPayload is the message of a packet outside of sessions, of IPMI 1.5 or 2.0.
func plainPayload(pkt []byte) (msg []byte, ok bool) {
	if kind, flags, id, _, payload, ok := parseHeader(pkt); ok {
		return payload, kind == types.PayloadTypeIPMI && flags == 0 && id == 0
	}
	if len(pkt) < v15PayloadAt || pkt[0] != 0x06 || pkt[3] != 0x07 || pkt[4] != byte(types.AuthTypeNone) || len(pkt) < v15PayloadAt+int(pkt[13]) {
		return nil, false
	}
	return pkt[v15PayloadAt : v15PayloadAt+int(pkt[13])], true
}

func (a *asker) expose(user string) (Exposure, error) {
	const thisChannel, extended = 0x0e, 0x80
	cc, data, err := a.command(request{command: types.CommandGetChannelAuthCapabilities,
		data: []byte{thisChannel | extended, byte(types.PrivilegeLevelAdministrator)}})
	if err != nil {
		return Exposure{}, err
	}
	out, err := parseAuthCapabilities(cc, data)
	if err != nil {
		return Exposure{}, err
	}
	if out.Suites, err = a.offered(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return Exposure{}, err
	}
	accepted, err := a.suiteZero(user)
	switch {
	case err == nil:
		out.SuiteZero = &accepted
	case errors.Is(err, os.ErrDeadlineExceeded):
		out.Untried = "it did not answer to Open Session"
	default:
		out.Untried = err.Error()
	}
	return out, nil
}

// parseAuthCapabilities reads the reply to Get Channel Authentication Capabilities
// (§22.13).
func parseAuthCapabilities(cc types.CompletionCode, data []byte) (out Exposure, err error) {
	if cc != types.CodeOK {
		return out, &commandError{command: types.CommandGetChannelAuthCapabilities, code: cc}
	}
	if len(data) < 4 {
		return out, fmt.Errorf("get channel authentication capabilities: reply of %d bytes is too short", len(data))
	}
	for bit, name := range []string{"none", "md2", "md5", "", "password", "oem"} {
		if name != "" && data[1]>>bit&1 != 0 {
			out.Auth15 = append(out.Auth15, name)
		}
	}
	const has20, has15 = 0x02, 0x01
	if data[1]&0x80 != 0 && data[3]&has20 != 0 && data[3]&has15 == 0 {
		out.Auth15 = nil // it lists types for 1.5 and accepts only 2.0
	}
	out.KG = data[2]&0x20 != 0
	out.NoName, out.Anonymous = data[2]&0x02 != 0, data[2]&0x01 != 0
	return out, nil
}

// offered is Get Channel Cipher Suites (§22.15), which comes 16 bytes at a time.
// nil: the BMC does not tell.
func (a *asker) offered() ([]int, error) {
	const thisChannel, bySuite, most, piece = 0x0e, 0x80, 64, 16
	var list []byte
	for i := range byte(most) {
		cc, data, err := a.command(request{command: types.CommandGetChannelCipherSuites, data: []byte{thisChannel, 0, bySuite | i}})
		if err != nil || cc != types.CodeOK || len(data) < 1 {
			return nil, err
		}
		list = append(list, data[1:]...)
		if len(data)-1 < piece {
			break
		}
	}
	return parseSuites(list), nil
}

// parseSuites reads cipher suite records (§22.15.1): a start, an ID, in OEM
// records three bytes more, then algorithms, whose upper two bits are never both
// set.
func parseSuites(list []byte) []int {
	const standard, oem = 0xc0, 0xc1
	out := []int{}
	for i := 0; i < len(list); i++ {
		if (list[i] == standard || list[i] == oem) && i+1 < len(list) {
			i++
			out = append(out, int(list[i]))
			if list[i-1] == oem {
				i += 3
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// suiteZero opens a session with cipher suite 0, which checks no password, and
// closes it.
func (a *asker) suiteZero(user string) (accepted bool, err error) {
	none := suite{}
	consoleID := binary.LittleEndian.Uint32(crypto.RandomBytes(4)) | 1
	open := openMessage(none, consoleID)
	reply, err := a.setup(types.PayloadTypeRmcpOpenSessionRequest, open, consoleID)
	if err != nil || reply[1] != 0 {
		return false, err
	}
	bmcID, err := parseOpen(reply, none)
	if err != nil {
		return false, err
	}
	reply, err = a.setup(types.PayloadTypeRAKPMessage1, rakp1Message(bmcID, crypto.RandomBytes(16), uint8(types.PrivilegeLevelOperator)|nameOnly, user), consoleID)
	if err != nil || reply[1] != 0 {
		return false, err
	}
	reply, err = a.setup(types.PayloadTypeRAKPMessage3, rakp3Message(bmcID, nil), consoleID)
	if err != nil || reply[1] != 0 {
		return false, err
	}
	// It is open. One packet closes it; if that is lost, the BMC's time-out does.
	msg := message(request{command: types.CommandCloseSession, data: binary.LittleEndian.AppendUint32(nil, bmcID)}, 1)
	_, err = a.conn.Write(protocol.BuildRMCPPlusPacket(uint8(types.PayloadTypeIPMI), 0, bmcID, 1, msg))
	return true, err
}

// setup sends a message of the key exchange and returns the reply.
func (a *asker) setup(kind types.PayloadType, msg []byte, consoleID uint32) (reply []byte, err error) {
	a.tag++
	msg[0] = a.tag
	err = a.ask(setupPacket(kind, msg), func(pkt []byte) bool {
		got, flags, id, _, payload, ok := parseHeader(pkt)
		if !ok || got != kind+1 || flags != 0 || id != 0 || len(payload) < 2 || payload[0] != a.tag {
			return false
		}
		// Errors may end after the status (ipmi_sim).
		if payload[1] == 0 && (len(payload) < 8 || binary.LittleEndian.Uint32(payload[4:]) != consoleID) {
			return false
		}
		reply = slices.Clone(payload)
		return true
	})
	return reply, err
}

// suiteList is as "1, 2, 6-12".
func suiteList(ids []int) string {
	var out string
	for i := 0; i < len(ids); i++ {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		if out != "" {
			out += ", "
		}
		out += strconv.Itoa(ids[i])
		if j > i {
			out += "-" + strconv.Itoa(ids[j])
		}
		i = j
	}
	return out
}
