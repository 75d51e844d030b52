package bmc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/protocol"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	// firstWait is the pause before the first retransmission; it doubles. A
	// reply to any transmission counts, so a BMC slower than this only costs
	// packets.
	firstWait = time.Second
	// closeWait is how long the reply to Close Session is waited for, twice.
	closeWait = 500 * time.Millisecond
	// busyWait is the pause after "node busy".
	busyWait = 250 * time.Millisecond
	// The role of RAKP message 1: operator, the least that powers a node, found
	// by name only (§13.20).
	role = uint8(types.PrivilegeLevelOperator) | 0x10
)

// ipmiSession is an RMCP+ session: one socket, one request at a time.
type ipmiSession struct {
	keys
	conn     net.Conn
	limit    time.Duration // of silence
	seq      uint32        // of the last packet sent
	lastSeen uint32        // of the last packet accepted
	rqSeq    uint8         // of the last request, 6 bits
	tag      uint8         // of the last message of the key exchange
	doubled  bool          // the network brought RAKP message 1 to the BMC twice
	elevated bool          // Set Session Privilege Level was done
}

// openSession logs in with suite 17, or with suite 3 where the BMC says that it
// does not have 17. Exactly one credential is proven, once: a refusal of one
// suite's password is never tried with the other.
func openSession(ctx context.Context, ep Endpoint, limit time.Duration) (*ipmiSession, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", ep.Address.String())
	if err != nil {
		return nil, err
	}
	err = errNotOffered
	for _, su := range suites() {
		s := &ipmiSession{conn: conn, limit: limit, tag: crypto.RandomBytes(1)[0]}
		s.suite = su
		if err = s.login(ctx, ep); err == nil {
			return s, nil
		}
		if !errors.Is(err, errNotOffered) {
			break
		}
	}
	conn.Close()
	return nil, err
}

var errNotOffered = errors.New("the bmc offers neither cipher suite 17 nor 3, and nothing weaker is used: enable one of them on the bmc")

// errRestart says that a message of the key exchange was lost. The exchange
// cannot be resumed, because the BMC draws a new random number for each message
// 1, and it may be started again, because the password has not been refused.
var errRestart = errors.New("key exchange interrupted")

// login runs the key exchange until it succeeds, is refused, or the BMC has been
// silent for the limit.
func (s *ipmiSession) login(ctx context.Context, ep Endpoint) error {
	began := time.Now()
	for wait := firstWait; ; wait *= 2 {
		err := s.keyExchange(ctx, ep, wait)
		if !errors.Is(err, errRestart) {
			return err
		}
		if time.Since(began) > s.limit {
			return &silence{doing: "login", after: time.Since(began)}
		}
	}
}

// keyExchange is Open Session and the four RAKP messages (§13.17 to §13.23).
func (s *ipmiSession) keyExchange(ctx context.Context, ep Endpoint, wait time.Duration) error {
	s.consoleID = binary.LittleEndian.Uint32(crypto.RandomBytes(4)) | 1 // zero means no session
	s.doubled = false
	began := time.Now()
	if err := s.openRequest(ctx); err != nil {
		return err
	}
	// A slow BMC is not a lossy network: give each message thrice what the first took.
	wait = max(wait, 3*time.Since(began))

	kuid := crypto.PadPassword20([]byte(ep.Password.Reveal()))
	rc := crypto.RandomBytes(16)
	m2, err := s.rakp1(ctx, ep.Username, rc, wait)
	if err != nil {
		return err
	}
	full, err := crypto.RAKP2AuthCode(s.suite.auth, s.consoleID, s.bmcID, rc, m2.rand, m2.guid, role, ep.Username, kuid)
	if err != nil {
		return err
	}
	if want, err := crypto.TruncateRAKP2AuthCode(s.suite.auth, full); err != nil {
		return err
	} else if !crypto.Equal(want, m2.code) {
		// Tell the BMC, so that it frees the slot; this carries no proof and is no login attempt.
		m3 := make([]byte, 8)
		m3[1] = byte(types.RmcpStatusCodeInvalidIntegrityCheckValue)
		binary.LittleEndian.PutUint32(m3[4:], s.bmcID)
		s.conn.Write(protocol.BuildRMCPPlusPacket(uint8(types.PayloadTypeRAKPMessage3), 0, 0, 0, m3))
		return &refusal{"wrong user name or password"}
	}
	sik, k1, k2, err := crypto.DeriveSessionKeys(s.suite.auth, rc, m2.rand, role, ep.Username, kuid)
	if err != nil {
		return err
	}
	s.k1, s.k2 = k1, k2
	proof, err := crypto.RAKP3AuthCode(s.suite.auth, m2.rand, s.consoleID, role, ep.Username, kuid)
	if err != nil {
		return err
	}
	want, err := crypto.RAKP4ICV(s.suite.auth, rc, s.bmcID, m2.guid, sik)
	if err != nil {
		return err
	}
	return s.rakp3(ctx, proof, want, wait)
}

// openRequest asks for a session with exactly our suite.
func (s *ipmiSession) openRequest(ctx context.Context) error {
	msg := make([]byte, 8, 32) // the highest privilege of the suite
	binary.LittleEndian.PutUint32(msg[4:], s.consoleID)
	want := []byte{
		0, 0, 0, 8, byte(s.suite.auth), 0, 0, 0,
		1, 0, 0, 8, byte(s.suite.integrity), 0, 0, 0,
		2, 0, 0, 8, byte(s.suite.crypt), 0, 0, 0,
	}
	msg = append(msg, want...)
	reply, err := s.setup(ctx, "Open Session", types.PayloadTypeRmcpOpenSessionRequest, msg, types.PayloadTypeRmcpOpenSessionResponse, 0)
	if err != nil {
		return err
	}
	switch status := types.RmcpStatusCode(reply[1]); status {
	case types.RmcpStatusCodeNoErrors:
	case types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg, types.RmcpStatusCodeInvalidConfidentAlg,
		types.RmcpStatusCodeNoMatchingAuthPayload, types.RmcpStatusCodeNoMatchingIntegrityPayload, types.RmcpStatusCodeNoCipherSuiteMatch:
		return errNotOffered
	case types.RmcpStatusCodeNoResToCreateSess:
		return errors.New("all its session slots are taken: close other consoles, or wait 60 s for stale ones to expire")
	default:
		return fmt.Errorf("open session: %s", status)
	}
	if len(reply) < 36 {
		return fmt.Errorf("open session: reply of %d bytes is too short", len(reply))
	}
	for i, a := range []byte{byte(s.suite.auth), byte(s.suite.integrity), byte(s.suite.crypt)} {
		if reply[12+8*i+4]&0x3f != a {
			return fmt.Errorf("cipher suite %d was asked for and something else granted: refused, someone may be interfering on the out-of-band network", s.suite.id)
		}
	}
	s.bmcID = binary.LittleEndian.Uint32(reply[8:])
	return nil
}

// rakp2 is what RAKP message 2 carries.
type rakp2 struct{ rand, guid, code []byte }

func (s *ipmiSession) rakp1(ctx context.Context, user string, rc []byte, wait time.Duration) (rakp2, error) {
	msg := make([]byte, 8, 28+len(user))
	binary.LittleEndian.PutUint32(msg[4:], s.bmcID)
	msg = append(msg, rc...)
	msg = append(msg, role, 0, 0, byte(len(user)))
	msg = append(msg, user...)
	reply, err := s.setup(ctx, "RAKP message 1", types.PayloadTypeRAKPMessage1, msg, types.PayloadTypeRAKPMessage2, wait)
	if err != nil {
		return rakp2{}, err
	}
	if err := rakpStatus(reply[1]); err != nil {
		return rakp2{}, err
	}
	n := crypto.RAKP2AuthCodeLen(s.suite.auth)
	if len(reply) < 40+n {
		return rakp2{}, fmt.Errorf("RAKP message 2 of %d bytes is too short", len(reply))
	}
	return rakp2{rand: reply[8:24], guid: reply[24:40], code: reply[40 : 40+n]}, nil
}

// rakp3 proves the password to the BMC and checks that the BMC knows it too.
func (s *ipmiSession) rakp3(ctx context.Context, proof, want []byte, wait time.Duration) error {
	msg := make([]byte, 8, 8+len(proof))
	binary.LittleEndian.PutUint32(msg[4:], s.bmcID)
	msg = append(msg, proof...)
	reply, err := s.setup(ctx, "RAKP message 3", types.PayloadTypeRAKPMessage3, msg, types.PayloadTypeRAKPMessage4, wait)
	if err != nil {
		return err
	}
	if err := rakpStatus(reply[1]); err != nil {
		// For a doubled message 1 the BMC drew a second random number, which our
		// proof cannot fit. The password is right: message 2 has shown it.
		var refused *refusal
		switch {
		case !errors.As(err, &refused):
			return err
		case s.doubled:
			return errRestart
		}
		return &refusal{fmt.Sprintf("the password is right and the bmc says %q: enable the user for LAN access as operator", types.RmcpStatusCode(reply[1]))}
	}
	if !crypto.Equal(want, reply[8:]) {
		return errors.New("RAKP message 4 has a wrong check value: refused, someone may be interfering on the out-of-band network")
	}
	return nil
}

// rakpStatus tells a refusal of the credential from a passing trouble.
func rakpStatus(code byte) error {
	switch status := types.RmcpStatusCode(code); status {
	case types.RmcpStatusCodeNoErrors:
		return nil
	case types.RmcpStatusCodeUnauthorizedName, types.RmcpStatusCodeInvalidIntegrityCheckValue, types.RmcpStatusCodeInvalidNameLength:
		return &refusal{"wrong user name or password"}
	case types.RmcpStatusCodeInvalidRole, types.RmcpStatusCodeUnauthorizedRoleOfPriLevel:
		return &refusal{"the user may not act as operator over LAN"}
	case types.RmcpStatusCodeInvalidSessionID, types.RmcpStatusCodeInactiveSessionID:
		return errRestart // the BMC dropped the half-open session
	default:
		return fmt.Errorf("login: %s", status)
	}
}

// setup exchanges one message of the key exchange. Zero wait: the message may be
// sent again until the limit; else it is sent once, and silence is errRestart.
func (s *ipmiSession) setup(ctx context.Context, name string, kind types.PayloadType, msg []byte, reply types.PayloadType, wait time.Duration) ([]byte, error) {
	s.tag++ // the reply echoes it
	msg[0] = s.tag
	pkt := protocol.BuildRMCPPlusPacket(uint8(kind), 0, 0, 0, msg)
	var got []byte
	x := exchange{
		doing: name,
		limit: s.limit,
		send:  func() ([]byte, error) { return pkt, nil },
		take: func(pkt []byte) bool {
			k, flags, id, _, payload, ok := parseHeader(pkt)
			if ok && k == types.PayloadTypeRAKPMessage2 && reply == types.PayloadTypeRAKPMessage4 {
				s.doubled = true
			}
			if !ok || k != reply || flags != 0 || id != 0 || len(payload) < 2 || payload[0] != s.tag {
				return false
			}
			got = payload
			if len(payload) < 8 { // ipmi_sim ends an error after the status
				return payload[1] != 0
			}
			// An error comes without our session ID when the BMC lost the session.
			echo := binary.LittleEndian.Uint32(payload[4:])
			return echo == s.consoleID || echo == 0 && payload[1] != 0
		},
	}
	if wait > 0 {
		x.limit, x.once = min(wait, s.limit), true
	}
	err := s.exchange(ctx, x)
	var silent *silence
	if wait > 0 && errors.As(err, &silent) && !silent.portClosed {
		return nil, errRestart
	}
	return got, err
}

// call sends one command and returns the reply's data.
func (s *ipmiSession) call(ctx context.Context, req request) ([]byte, error) {
	if !s.elevated && req.command.NetFn == types.NetFnChassisRequest && req.command.ID != types.CommandGetChassisStatus.ID {
		// A session starts as user (§22.18).
		s.elevated = true
		if _, err := s.call(ctx, request{command: types.CommandSetSessionPrivilegeLevel, data: []byte{byte(types.PrivilegeLevelOperator)}}); err != nil {
			s.elevated = false
			return nil, err
		}
	}
	for began := time.Now(); ; {
		cc, data, err := s.command(ctx, req)
		switch {
		case err != nil:
			return nil, err
		case cc == types.CodeOK:
			return data, nil
		case cc == types.CodeNodeBusy && time.Since(began) < s.limit:
			if err := sleep(ctx, busyWait); err != nil {
				return nil, err
			}
		default:
			return nil, &commandError{command: req.command, code: cc}
		}
	}
}

// commandError is a completion code other than OK.
type commandError struct {
	command types.Command
	code    types.CompletionCode
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: the bmc refuses with completion code %#02x, %s",
		e.command.Name, uint8(e.code), types.StrCC(e.command, uint8(e.code)))
}

func (s *ipmiSession) command(ctx context.Context, req request) (cc types.CompletionCode, data []byte, err error) {
	s.rqSeq = (s.rqSeq + 1) & 0x3f
	msg := message(req, s.rqSeq)
	err = s.exchange(ctx, exchange{
		doing: req.command.Name,
		limit: s.limit,
		once:  req.once,
		send: func() ([]byte, error) {
			s.seq++
			return s.seal(s.seq, msg)
		},
		take: func(pkt []byte) bool {
			seq, payload, err := s.unseal(pkt)
			if err != nil || seq <= s.lastSeen { // foreign, damaged or replayed
				return false
			}
			s.lastSeen = seq
			cc, data, err = parseReply(payload, req, s.rqSeq)
			return err == nil
		},
	})
	var silent *silence
	if req.once && errors.As(err, &silent) {
		silent.mayBeDone = true
	}
	return cc, data, err
}

// close ends the session even when ctx is over, and the socket in any case.
func (s *ipmiSession) close(ctx context.Context) {
	defer s.conn.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*closeWait)
	defer cancel()
	s.limit = closeWait
	req := request{command: types.CommandCloseSession, data: binary.LittleEndian.AppendUint32(nil, s.bmcID)}
	for range 2 {
		_, _, err := s.command(ctx, req)
		var silent *silence
		if !errors.As(err, &silent) || silent.portClosed {
			return
		}
	}
}

// exchange is one request and the wait for its reply.
type exchange struct {
	doing string
	limit time.Duration
	once  bool
	send  func() ([]byte, error)
	take  func(pkt []byte) bool // false: not the reply, wait on
}

// exchange sends, and sends again at doubling intervals unless once, until take
// accepts a packet or the limit is over.
func (s *ipmiSession) exchange(ctx context.Context, x exchange) error {
	stop := context.AfterFunc(ctx, func() { s.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	began := time.Now()
	end := began.Add(x.limit)
	buf := make([]byte, 2048)
	for wait := firstWait; ; wait *= 2 {
		pkt, err := x.send()
		if err != nil {
			return err
		}
		if _, err := s.conn.Write(pkt); err != nil {
			return netError(x.doing, began, err)
		}
		again := end
		if t := time.Now().Add(wait); !x.once && t.Before(end) {
			again = t
		}
		for {
			s.conn.SetReadDeadline(again)
			if err := ctx.Err(); err != nil { // before the deadline was set
				return endedBy(err, x.doing, began)
			}
			n, err := s.conn.Read(buf)
			if err == nil && x.take(append([]byte(nil), buf[:n]...)) {
				return nil
			}
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return netError(x.doing, began, err)
			}
			if err := ctx.Err(); err != nil {
				return endedBy(err, x.doing, began)
			}
			if !time.Now().Before(again) {
				break
			}
		}
		if again.Equal(end) {
			return &silence{doing: x.doing, after: time.Since(began)}
		}
	}
}

// netError turns the ICMP answer of a host without that port into silence, and
// so the kernel's word that nobody has the address (no answer to ARP).
func netError(doing string, began time.Time, err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &silence{doing: doing, after: time.Since(began), portClosed: true}
	case errors.Is(err, syscall.EHOSTUNREACH):
		return &silence{doing: doing, after: time.Since(began)}
	}
	return err
}

// endedBy is the error of an exchange whose context ended: where the caller's
// time ran out while the BMC had been asked and said nothing, its silence.
func endedBy(err error, doing string, began time.Time) error {
	if errors.Is(err, context.DeadlineExceeded) && time.Since(began) >= firstWait {
		return &silence{doing: doing, after: time.Since(began)}
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
