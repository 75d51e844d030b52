package netboot

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// tftpClient is a lock-step client as in firmware, that loses packets: what
// lost says of the n-th packet to arrive is dropped unread.
func tftpClient(t *testing.T, server net.Addr, name string, lost func(n int) bool) ([]byte, error) {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo(fmt.Appendf(nil, "\x00\x01%s\x00octet\x00blksize\x001432\x00tsize\x000\x00", name), server); err != nil {
		return nil, err
	}
	var got []byte
	buf := make([]byte, 2048)
	next := uint16(0) // 0 is the acknowledgement of the options
	for n := 0; ; n++ {
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		l, from, err := c.ReadFrom(buf)
		if err != nil {
			return got, err
		}
		if lost(n) {
			continue
		}
		switch op := binary.BigEndian.Uint16(buf); op {
		case 3:
			if block := binary.BigEndian.Uint16(buf[2:]); block == next {
				got = append(got, buf[4:l]...)
				next++
			}
		case 5:
			return got, fmt.Errorf("server: %s", buf[4:l-1])
		case 6:
			next = 1
		}
		if _, err := c.WriteTo(binary.BigEndian.AppendUint16([]byte{0, 4}, next-1), from); err != nil {
			return got, err
		}
		if next > 1 && l < 1436 {
			return got, nil
		}
	}
}

// startTFTP serves loaders on loopback.
func startTFTP(t *testing.T, s *Server, loaders map[string][]byte) net.Addr {
	t.Helper()
	lc := net.ListenConfig{Control: packetInfo}
	conn, err := lc.ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv, done := s.newTFTP(ctx, loaders), make(chan struct{})
	go func() { srv.Serve(conn); close(done) }()
	t.Cleanup(func() { cancel(); conn.Close(); srv.Shutdown(); <-done })
	return conn.LocalAddr()
}

// Every tenth packet is lost: the time-out must be short and the tries many,
// or the loader takes minutes or never arrives (the library's defaults).
func TestTFTPUnderLoss(t *testing.T) {
	loader := bytes.Repeat([]byte("firstlight"), 17_379) // the size of snponly.efi
	events := make(chan Event, 10)
	s := &Server{Observe: func(e Event) { events <- e }}
	addr := startTFTP(t, s, map[string][]byte{"snponly.efi": loader})
	start := time.Now()
	got, err := tftpClient(t, addr, "snponly.efi", func(n int) bool { return n%10 == 9 || (n >= 30 && n < 33) })
	if err != nil || !bytes.Equal(got, loader) {
		t.Fatalf("got %d bytes, %v; want the loader's %d", len(got), err, len(loader))
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v with 10 %% loss; want at most 10 s", took)
	}
	if e := <-events; e.Kind != KindTFTPRead || e.Bytes != int64(len(loader)) || e.Duration <= 0 {
		t.Errorf("event = %+v; want tftp-read of %d bytes", e, len(loader))
	}
}

func TestTFTPRefusesAllElse(t *testing.T) {
	events := make(chan Event, 10)
	s := &Server{Observe: func(e Event) { events <- e }}
	addr := startTFTP(t, s, map[string][]byte{"snponly.efi": []byte("MZ")})
	never := func(int) bool { return false }
	for _, name := range []string{"/etc/passwd", "../snponly.efi", "pxelinux.0", "x\x1b[2J"} {
		_, err := tftpClient(t, addr, name, never)
		if err == nil || !strings.Contains(err.Error(), "no such boot loader") || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v; want the server's \"no such boot loader\"", name, err)
		}
		if e := <-events; e.Kind != KindTFTPRefused {
			t.Errorf("%q: event = %+v; want tftp-refused", name, e)
		}
	}
	for _, name := range []string{"snponly.efi", "/snponly.efi", "./snponly.efi"} {
		if got, err := tftpClient(t, addr, name, never); err != nil || string(got) != "MZ" {
			t.Errorf("%q = %q, %v; want the loader", name, got, err)
		}
	}
}

// A client that goes away must be seen and must not be waited for for ever.
func TestTFTPClientGone(t *testing.T) {
	events := make(chan Event, 10)
	s := &Server{Observe: func(e Event) { events <- e }}
	addr := startTFTP(t, s, map[string][]byte{"snponly.efi": bytes.Repeat([]byte("x"), 100_000)})
	seen := 0
	tftpClient(t, addr, "snponly.efi", func(n int) bool { seen = n; return n >= 5 })
	select {
	case e := <-events:
		if e.Kind != KindTFTPFailed || !strings.Contains(e.Detail, "of 100000 bytes") {
			t.Errorf("event = %+v; want tftp-failed with how far it came", e)
		}
	case <-time.After(15 * time.Second):
		t.Errorf("no event 15 s after packet %d was the last one acknowledged", seen)
	}
}
