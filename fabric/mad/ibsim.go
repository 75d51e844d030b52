package mad

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"time"
)

// IBSim is a port of a fabric that ibsim simulates, of linux-rdma's ibsim-utils.
// One goroutine may send while another receives. The simulator's answers wait in
// a queue of ten; until they are received it does nothing else, so that a
// program that sends and does not receive stands still.
type IBSim struct {
	ctl, data *net.UnixConn
	client    uint32
	out       [simRequest]byte // only Send uses it
	in        [simRequest]byte // only Receive uses it
}

// The messages of ibsim, in the byte order of the machine but for what is
// marked as big endian.
const (
	simMagic      = 0xdeadbeef
	simCtl        = 80 // magic, client, type, length, 64 bytes of data
	simCtlData    = 16
	simConnect    = 1
	simDisconnect = 2
	simError      = 0
	simNodeID     = 12 // in the data of connect: after id, qp, issm
	simNodeIDLen  = 32

	simRequest = 288 // dlid, slid, dqp, sqp, status, padding, length, MAD
	simDLID    = 0   // 16 bits, big endian
	simSLID    = 4   // 16 bits, big endian
	simDQP     = 8   // big endian
	simSQP     = 12  // big endian
	simStatus  = 16  // big endian
	simLength  = 24  // 64 bits, big endian
	simMAD     = 32
)

// simWait is how long the simulator is given to answer on its control socket.
const simWait = 5 * time.Second

// DialIBSim connects to the simulator of that socket name (its IBSIM_SOCKNAME;
// "" is the default, sim) at the node of that name or description; "" is the
// first adapter of its file.
func DialIBSim(socket, node string) (*IBSim, error) {
	if socket == "" {
		socket = "sim"
	}
	if len(node) >= simNodeIDLen {
		return nil, fmt.Errorf("ibsim %s: node %q: ibsim takes at most %d bytes of a name", socket, node, simNodeIDLen-1)
	}
	s := &IBSim{}
	// The simulator tells clients apart by the number of their process. One of
	// ours can have several connections, so each draws a number that no process has.
	if err := s.dial(socket, node, 1<<30|rand.Uint32N(1<<30)); err != nil {
		s.Close()
		return nil, fmt.Errorf("ibsim %s: %w", socket, err)
	}
	return s, nil
}

// simName is one of ibsim's abstract socket names, which end with a zero byte.
func simName(socket, what string) *net.UnixAddr {
	return &net.UnixAddr{Name: "@" + socket + ":" + what + "\x00", Net: "unixgram"}
}

func (s *IBSim) dial(socket, node string, id uint32) error {
	var err error
	s.ctl, err = net.DialUnix("unixgram", simName(socket, fmt.Sprintf("ctl%d", id)), simName(socket, "ctl"))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errors.New("nothing listens on that socket name: is ibsim running, with the same IBSIM_SOCKNAME?")
	}
	if err != nil {
		return err
	}
	s.data, err = net.ListenUnixgram("unixgram", simName(socket, fmt.Sprintf("in%d", id)))
	if err != nil {
		return err
	}
	info := make([]byte, 64)
	binary.NativeEndian.PutUint32(info, id)
	copy(info[simNodeID:], node)
	if err := s.control(simConnect, info); err != nil {
		return fmt.Errorf("attach at node %q: %w: is there a node of that name, and fewer than 10 clients?", node, err)
	}
	s.client = binary.NativeEndian.Uint32(info)
	return connectTo(s.data, simName(socket, fmt.Sprintf("out%d", s.client)).Name)
}

// connectTo gives a bound socket its peer, which the net package cannot.
func connectTo(c *net.UnixConn, name string) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Connect(int(fd), &syscall.SockaddrUnix{Name: name}) }); err != nil {
		return err
	}
	return failed
}

// control is one exchange on the control socket; data is replaced by the reply's.
func (s *IBSim) control(kind uint32, data []byte) error {
	m := make([]byte, simCtl)
	binary.NativeEndian.PutUint32(m, simMagic)
	binary.NativeEndian.PutUint32(m[4:], s.client)
	binary.NativeEndian.PutUint32(m[8:], kind)
	binary.NativeEndian.PutUint32(m[12:], uint32(len(data)))
	copy(m[simCtlData:], data)
	if err := s.ctl.SetDeadline(time.Now().Add(simWait)); err != nil {
		return err
	}
	if _, err := s.ctl.Write(m); err != nil {
		return err
	}
	n, err := s.ctl.Read(m)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer within %v", simWait)
	case err != nil:
		return err
	case n != simCtl || binary.NativeEndian.Uint32(m) != simMagic:
		return fmt.Errorf("answer of %d bytes is none of ibsim's", n)
	case binary.NativeEndian.Uint32(m[8:]) == simError:
		return errors.New("refused")
	}
	copy(data, m[simCtlData:])
	return nil
}

// Send hands a request to the simulator.
func (s *IBSim) Send(p *Packet) error {
	clear(s.out[:simMAD])
	binary.BigEndian.PutUint16(s.out[simDLID:], p.LID)
	if p.LID == PermissiveLID {
		binary.BigEndian.PutUint16(s.out[simSLID:], PermissiveLID) // else the simulator fills in the port's
	}
	binary.BigEndian.PutUint32(s.out[simDQP:], p.QP)
	binary.BigEndian.PutUint32(s.out[simSQP:], p.QP)
	binary.BigEndian.PutUint64(s.out[simLength:], Size)
	copy(s.out[simMAD:], p.MAD[:])
	_, err := s.data.Write(s.out[:])
	return err
}

// Receive waits for a reply, or for a request that the simulator dropped: it
// does so at once, and not after the time-out.
func (s *IBSim) Receive(p *Packet) error {
	n, err := s.data.Read(s.in[:])
	if err != nil {
		return err
	}
	return parseIBSim(s.in[:n], p)
}

// parseIBSim reads the simulator's form of a packet.
func parseIBSim(b []byte, p *Packet) error {
	if len(b) != simRequest {
		return fmt.Errorf("%w: %d bytes from ibsim", ErrForeign, len(b))
	}
	*p = Packet{
		LID:      binary.BigEndian.Uint16(b[simSLID:]),
		QP:       binary.BigEndian.Uint32(b[simSQP:]),
		TimedOut: binary.BigEndian.Uint32(b[simStatus:]) != 0,
	}
	copy(p.MAD[:], b[simMAD:])
	return nil
}

// SetDeadline ends Sends and Receives that wait, with os.ErrDeadlineExceeded.
func (s *IBSim) SetDeadline(t time.Time) error { return s.data.SetDeadline(t) }

// Close detaches from the simulator.
func (s *IBSim) Close() error {
	if s.data != nil {
		// It frees the simulator's place for a client; there are ten.
		_ = s.control(simDisconnect, nil)
		s.data.Close()
	}
	if s.ctl != nil {
		s.ctl.Close()
	}
	return nil
}

func (s *IBSim) String() string { return fmt.Sprintf("ibsim client %d", s.client) }
