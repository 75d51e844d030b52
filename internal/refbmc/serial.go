package refbmc

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"

	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	solAuthentication = 2       // the parameter of SOL's privilege (§26.3, table 26-5)
	solRetry          = 4       // and of how often a packet is sent again, and after which multiple of 10 ms
	lineBuffer        = 1 << 20 // bytes that wait for the remote console; what is more is lost
)

// serialLine is the machine's serial line as the library wants it.
type serialLine struct {
	attach func(context.Context) (io.ReadWriteCloser, error)
}

// Open implements hal.ConsoleHAL.
func (s serialLine) Open(ctx context.Context) (hal.ConsoleConn, error) {
	line, err := s.attach(ctx)
	if err != nil {
		return nil, err
	}
	a := &attached{line: line}
	go a.read() // ends when the line is closed, by Close or by the machine
	return a, nil
}

// attached is an open line. The library wants reads that do not wait.
type attached struct {
	line io.ReadWriteCloser

	mu      sync.Mutex
	waiting []byte
	err     error // of the line
}

func (a *attached) read() {
	buf := make([]byte, 4096)
	for {
		n, err := a.line.Read(buf)
		a.mu.Lock()
		a.waiting = append(a.waiting, buf[:min(n, lineBuffer-len(a.waiting))]...)
		a.err = err
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// ReadAvailable implements hal.ConsoleConn.
func (a *attached) ReadAvailable(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := copy(p, a.waiting)
	a.waiting = a.waiting[n:]
	if n == 0 {
		return 0, a.err
	}
	return n, nil
}

// Write implements hal.ConsoleConn.
func (a *attached) Write(p []byte) (int, error) { return a.line.Write(p) }

// SendBreak implements hal.ConsoleConn where the line has breaks.
func (a *attached) SendBreak(context.Context) error {
	if b, ok := a.line.(interface{ SendBreak() error }); ok {
		return b.SendBreak()
	}
	return hal.ErrNotSupported
}

// Close implements hal.ConsoleConn.
func (a *attached) Close() error { return a.line.Close() }

// getSessionInfo is Get Session Info (§22.20), of the session with an ID too, which
// tells who has the console; the library knows only the asker's own.
func getSessionInfo(_ context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	const current, bySessionID, roomFor = 0x00, 0xff, 4
	s := h.Session
	switch {
	case len(req) < 1 || req[0] == bySessionID && len(req) < 5:
		return nil, types.CodeRequestDataTruncated, nil
	case req[0] == bySessionID:
		var err error
		if s, err = h.BMC.Sessions.Get(binary.LittleEndian.Uint32(req[1:])); err != nil {
			return nil, types.CodeRequestedDataNotPresent, nil
		}
	case req[0] != current:
		return nil, types.CodeRequestDataFieldInvalid, nil
	}
	if s == nil || s.User == nil {
		return nil, types.CodeRequestedDataNotPresent, nil
	}
	out := []byte{s.Handle, roomFor, uint8(h.BMC.Sessions.Count()), s.User.ID, uint8(s.PrivilegeLevel), 0x10 | s.Channel}
	var ip [4]byte
	if from, ok := s.GetAddr().(*net.UDPAddr); ok && from.IP.To4() != nil {
		ip = [4]byte(from.IP.To4())
	}
	return append(append(out, ip[:]...), make([]byte, 8)...), types.CodeOK, nil // the MAC and the port are not told
}
