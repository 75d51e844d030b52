package fabricsim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"firstlight/fabric/mad"
)

// Server answers for a Fabric on the sockets of ibsim. Fabric and Socket are
// needed.
type Server struct {
	Fabric *Fabric
	// Socket is what clients have as IBSIM_SOCKNAME. Names are those of the
	// network namespace; simulators of different names do not meet.
	Socket string
	// Timeout is when a client hears of a packet that was lost, as the kernel
	// tells it when nobody has answered; 0: at once, as ibsim does.
	Timeout time.Duration
	Ready   func()       // called once clients can connect; nil: nobody waits
	Log     *slog.Logger // nil: silent

	agenda agenda
	mu     sync.Mutex
	open   map[uint16]*connection // by client
	wait   sync.WaitGroup         // for their goroutines
}

// Messages of ibsim are in the byte order of the machine, but for what is marked.
const (
	ctlMagic = 0xdeadbeef
	ctlSize  = 80 // magic, client, type, length, 64 bytes of data
	ctlType  = 8
	ctlData  = 16

	requestSize   = 288 // dlid, slid, dqp, sqp, status, padding, length, MAD
	requestSLID   = 4   // LIDs: 16 bits, big endian
	requestDQP    = 8   // big endian
	requestSQP    = 12  // big endian
	requestStatus = 16  // big endian
	requestLength = 24  // 64 bits, big endian
	requestMAD    = 32
)

// The types of messages on the control socket.
const (
	ctlError       = 0
	ctlConnect     = 1
	ctlDisconnect  = 2
	ctlPort        = 3
	ctlVendor      = 4
	ctlGID         = 5
	ctlGUID        = 6
	ctlNodeInfo    = 7
	ctlPortInfo    = 8
	ctlSetManager  = 9
	ctlPartitions  = 10
	connectName    = 12 // in the data of connect: id, qp, issm, name
	connectNameLen = 32
)

// sockName is an abstract socket name as ibsim's clients make it, with a zero
// byte behind.
func (s *Server) sockName(what string, id uint32) *net.UnixAddr {
	name := "@" + s.Socket + ":" + what
	if what != "ctl" || id != 0 {
		name += fmt.Sprint(id)
	}
	return &net.UnixAddr{Name: name + "\x00", Net: "unixgram"}
}

// Serve serves clients until ctx ends, and returns once nothing of it runs.
func (s *Server) Serve(ctx context.Context) error {
	if s.Fabric == nil || s.Socket == "" {
		return errors.New("fabric simulator: needs a fabric and the name of its sockets")
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	ctl, err := net.ListenUnixgram("unixgram", s.sockName("ctl", 0))
	if err != nil {
		return fmt.Errorf("fabric simulator %s: %w", s.Socket, err)
	}
	s.open = map[uint16]*connection{}
	s.agenda.wake = make(chan struct{}, 1)
	ended := make(chan struct{})
	s.wait.Add(1)
	go func() { // ends with ended
		defer s.wait.Done()
		s.agenda.run(ended, s.fly)
	}()
	stop := context.AfterFunc(ctx, func() { ctl.Close() })
	defer stop()
	if s.Ready != nil {
		s.Ready()
	}
	err = s.control(ctl)
	ctl.Close()
	close(ended)
	s.mu.Lock()
	for _, c := range s.open {
		c.conn.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("fabric simulator %s: %w", s.Socket, err)
}

// control answers on the control socket until that is closed.
func (s *Server) control(ctl *net.UnixConn) error {
	m := make([]byte, ctlSize+1)
	for {
		n, from, err := ctl.ReadFromUnix(m)
		if err != nil {
			return err
		}
		if n != ctlSize || binary.NativeEndian.Uint32(m) != ctlMagic || from == nil {
			s.Log.Debug("a message that is none of ibsim's", "bytes", n)
			continue
		}
		kind := binary.NativeEndian.Uint32(m[ctlType:])
		if err := s.command(kind, binary.NativeEndian.Uint32(m[4:]), m[ctlData:ctlSize]); err != nil {
			s.Log.Warn("client refused", "type", kind, "error", err)
			binary.NativeEndian.PutUint32(m[ctlType:], ctlError)
		}
		// Reading has cut the zero byte off its name.
		if _, err := ctl.WriteToUnix(m[:ctlSize], &net.UnixAddr{Name: from.Name + "\x00", Net: "unixgram"}); err != nil {
			s.Log.Debug("client gone before it was answered", "error", err)
		}
	}
}

// command carries out one message of the control socket; its data becomes that
// of the answer.
func (s *Server) command(kind, id uint32, data []byte) error {
	if kind == ctlConnect {
		return s.connect(data)
	}
	s.mu.Lock()
	c := s.open[uint16(id)]
	s.mu.Unlock()
	if c == nil || id > 0xffff {
		return fmt.Errorf("there is no client %d", id)
	}
	num := 0
	if kind == ctlPortInfo {
		num = int(data[0])
	}
	nodeInfo, portInfo, keys := s.Fabric.localInfo(c.client, num)
	switch kind {
	case ctlDisconnect:
		c.conn.Close()
	case ctlPort:
		binary.NativeEndian.PutUint16(data, binary.BigEndian.Uint16(portInfo[piLID:]))
		data[2] = portInfo[piState] & 0x0f
	case ctlVendor:
		binary.NativeEndian.PutUint32(data, vendor)
		binary.NativeEndian.PutUint32(data[4:], uint32(binary.BigEndian.Uint16(nodeInfo[30:])))
		binary.NativeEndian.PutUint32(data[8:], 0)
		binary.NativeEndian.PutUint64(data[16:], 1)
	case ctlGID:
		copy(data, portInfo[8:16])
		copy(data[8:], nodeInfo[12:20])
	case ctlGUID:
		copy(data, nodeInfo[12:20])
	case ctlNodeInfo:
		copy(data, nodeInfo[:])
	case ctlPortInfo:
		copy(data, portInfo[:])
	case ctlSetManager:
		s.Fabric.setManager(c.client, binary.NativeEndian.Uint32(data) != 0)
	case ctlPartitions:
		copy(data, keys[:])
	default:
		return errors.New("there is no such type of message")
	}
	return nil
}

// connect makes the connection that a client asks for.
func (s *Server) connect(data []byte) error {
	s.sweep()
	process := binary.NativeEndian.Uint32(data)
	name := data[connectName:][:connectNameLen]
	text := string(name)
	for i, b := range name {
		if b == 0 {
			text = string(name[:i])
			break
		}
	}
	client, found, ok := s.Fabric.attach(text, process)
	if !ok {
		return fmt.Errorf("there is no node %q", text)
	}
	c, err := s.dial(client)
	if err != nil {
		s.Fabric.detach(client)
		return err
	}
	s.Fabric.serve(client, c)
	s.Fabric.setManager(client, binary.NativeEndian.Uint32(data[8:]) != 0)
	s.mu.Lock()
	s.open[client.id] = c
	s.mu.Unlock()
	s.wait.Add(2)
	go c.read() // ends when conn is closed
	go c.write()
	binary.NativeEndian.PutUint32(data, uint32(client.id))
	clear(name)
	copy(name[:connectNameLen-1], found)
	s.Log.Debug("client", "id", client.id, "process", process, "node", found)
	return nil
}

// dial makes the data socket of a client and points it at the client's.
func (s *Server) dial(client *client) (*connection, error) {
	conn, err := net.ListenUnixgram("unixgram", s.sockName("out", uint32(client.id)))
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		failed := error(nil)
		peer := &syscall.SockaddrUnix{Name: s.sockName("in", client.process).Name}
		if err = raw.Control(func(fd uintptr) { failed = syscall.Connect(int(fd), peer) }); err == nil {
			err = failed
		}
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("the client's socket: %w", err)
	}
	return &connection{server: s, client: client, conn: conn, queue: make(chan *flight, queued), closed: make(chan struct{})}, nil
}

// sweep ends the connections of clients that ended without a word, as those do
// that are killed.
func (s *Server) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		probe, err := net.DialUnix("unixgram", nil, s.sockName("in", c.client.process))
		if errors.Is(err, syscall.ECONNREFUSED) {
			c.conn.Close()
		}
		if err == nil {
			probe.Close()
		}
	}
}

// drop forgets a connection that has ended.
func (s *Server) drop(c *connection) {
	s.Fabric.detach(c.client)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c.client.id)
}

// fly takes a flight from the agenda one step on.
func (s *Server) fly(fl *flight) {
	if fl.fate != lost {
		fl.fate = s.Fabric.advance(fl, fl.due)
		if fl.fate == lost && s.Timeout > 0 {
			fl.due = fl.due.Add(s.Timeout)
			s.agenda.add(fl)
			return
		}
	}
	if fl.fate == flying {
		s.agenda.add(fl)
		return
	}
	s.land(fl)
}

// land hands a flight to the client that it ended at.
func (s *Server) land(fl *flight) {
	if fl.fate == gone || fl.fate == lost && !fl.answerable() {
		return
	}
	s.mu.Lock()
	c := s.open[fl.client]
	s.mu.Unlock()
	if c != nil {
		c.push(fl)
	}
}

// answerable reports that a client waits for an answer: it asked something.
func (fl *flight) answerable() bool { return fl.sent[offMethod]&methodResponse == 0 }

// request writes a flight as ibsim's clients read it.
func (fl *flight) request(b *[requestSize]byte) {
	clear(b[:requestMAD])
	m := &fl.mad
	if fl.fate == lost {
		m = &fl.sent
		binary.BigEndian.PutUint32(b[requestStatus:], uint32(syscall.ETIMEDOUT))
	}
	binary.BigEndian.PutUint16(b[:], fl.dlid)
	binary.BigEndian.PutUint16(b[requestSLID:], fl.slid)
	binary.BigEndian.PutUint32(b[requestDQP:], fl.dqp)
	binary.BigEndian.PutUint32(b[requestSQP:], fl.sqp)
	binary.BigEndian.PutUint64(b[requestLength:], mad.Size)
	copy(b[requestMAD:], m[:])
}
