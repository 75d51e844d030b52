package refbmc

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/protocol"
)

// openSession asks the BMC at addr for a session and returns its reply, or an
// error when none comes.
func openSession(addr netip.AddrPort) ([]byte, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	msg := []byte{7, 0, 0, 0, 1, 2, 3, 4,
		0, 0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 8, 4, 0, 0, 0, 2, 0, 0, 8, 1, 0, 0, 0}
	if _, err := conn.Write(protocol.BuildRMCPPlusPacket(0x10, 0, 0, 0, msg)); err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 256)
	n, err := conn.Read(buf)
	return buf[:n], err
}

// TestThousand serves as many BMCs in one process as a simulated site has.
func TestThousand(t *testing.T) {
	const count = 1000
	ctx, cancel := context.WithCancel(t.Context())
	addrs := make(chan netip.AddrPort, count)
	var wg sync.WaitGroup
	for i := range count {
		b := &BMC{
			Listen: fmt.Sprintf("127.0.%d.%d:0", 70+i/250, 1+i%250), Username: testUser, Password: testPassword,
			Serial: fmt.Sprint("SN", i), Machine: &testMachine{}, Ready: func(a netip.AddrPort) { addrs <- a },
		}
		wg.Go(func() {
			if err := b.Serve(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for range count {
		select {
		case a := <-addrs:
			reply, err := openSession(a)
			if err != nil || len(reply) < 18 || reply[17] != 0 {
				t.Errorf("%s: open session: % x, %v", a, reply, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("not all were bound in 20 s")
		}
	}
	cancel()
	wg.Wait()
}

func TestServeErrors(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name string
		bmc  *BMC
		want string
	}{
		{"no machine", &BMC{Listen: "127.0.0.1:0"}, "no machine"},
		{"port taken", &BMC{Listen: taken.LocalAddr().String(), Machine: &testMachine{}}, "address already in use"},
		{"long password", &BMC{Listen: "127.0.0.1:0", Machine: &testMachine{}, Password: strings.Repeat("p", 21)}, "over 20 bytes"},
		{"weak suite", &BMC{Listen: "127.0.0.1:0", Machine: &testMachine{}, Username: testUser, Suites: []int{0}}, "cipher suite 0 is not served"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.bmc.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Serve = %v; want %q", err, tt.want)
			}
		})
	}
}

// TestMalformed sends packets that would end the process if the library saw them.
func TestMalformed(t *testing.T) {
	addr := serve(t, &BMC{Machine: &testMachine{}})
	reply, err := openSession(addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rakp1 := make([]byte, 28+16)
	copy(rakp1[4:8], reply[16+8:]) // the BMC's session ID
	for _, n := range []byte{17, 228, 255} {
		rakp1[27] = n
		conn.Write(protocol.BuildRMCPPlusPacket(0x12, 0, 0, 0, rakp1))
	}
	if _, err := openSession(addr); err != nil {
		t.Errorf("the BMC is gone: %v", err)
	}
}

// FuzzPackets sends anything to a BMC that has a half-open session: a panic ends
// the process.
func FuzzPackets(f *testing.F) {
	f.Add([]byte{6, 0, 255, 7, 6, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for kind := range byte(0x16) {
		f.Add(protocol.BuildRMCPPlusPacket(kind, 0, 0, 0, make([]byte, 40)))
	}
	f.Add([]byte{6, 0, 255, 6, 0, 0, 17, 190, 128, 1, 0, 0})
	f.Add([]byte{6, 0, 255, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x20, 0x18, 0xc8, 0x81, 0x04, 0x38, 0x0e, 0x04, 0x31})
	addrs := make(chan netip.AddrPort, 1)
	b := &BMC{Listen: "127.0.0.1:0", Username: testUser, Password: testPassword, Machine: &testMachine{}, Ready: func(a netip.AddrPort) { addrs <- a }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	f.Cleanup(func() {
		cancel()
		<-done
	})
	addr := <-addrs
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	f.Fuzz(func(t *testing.T, pkt []byte) {
		reply, err := openSession(addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(pkt)
		// The same in a RAKP message of the session.
		if len(pkt) >= 24 && len(reply) >= 28 {
			binary.LittleEndian.PutUint32(pkt[20:], binary.LittleEndian.Uint32(reply[24:]))
			conn.Write(pkt)
		}
	})
}
