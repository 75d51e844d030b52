package simrack

import (
	"context"
	"io"
	"slices"
	"sync"
)

// serial is a machine's serial line. It has no memory: what is written while
// nobody is attached is gone.
type serial struct {
	mu   sync.Mutex
	ends []*serialEnd
}

// serialEnd is where a BMC is attached.
type serialEnd struct {
	line   *serial
	texts  chan []byte
	rest   []byte
	closed chan struct{}
	once   sync.Once
}

// attach implements refbmc.BMC's Console.
func (s *serial) attach(context.Context) (io.ReadWriteCloser, error) {
	e := &serialEnd{line: s, texts: make(chan []byte, 64), closed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = append(s.ends, e)
	return e, nil
}

// print is what the machine writes, a line. It does not wait for readers.
func (s *serial) print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.ends {
		select {
		case e.texts <- []byte(line + "\r\n"):
		default: // a line without flow control loses what nobody reads
		}
	}
}

// Read implements io.Reader.
func (e *serialEnd) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		select {
		case e.rest = <-e.texts:
		case <-e.closed:
			return 0, io.EOF
		}
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// Write implements io.Writer: nobody on the machine reads.
func (e *serialEnd) Write(p []byte) (int, error) { return len(p), nil }

// Close implements io.Closer.
func (e *serialEnd) Close() error {
	e.once.Do(func() { close(e.closed) })
	e.line.mu.Lock()
	defer e.line.mu.Unlock()
	e.line.ends = slices.DeleteFunc(e.line.ends, func(other *serialEnd) bool { return other == e })
	return nil
}
