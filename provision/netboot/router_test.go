package netboot

import (
	"bytes"
	"encoding/hex"
	"net"
	"testing"
	"time"
)

// solicitation is iPXE's, as captured.
func solicitation(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString("6000000000103aff" + "fe80000000000000505400fffe0a0011" + "ff020000000000000000000000000002" +
		"8500" + "0000" + "00000000" + "01015254000a0011")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAdvertise(t *testing.T) {
	from := advertiser(net.HardwareAddr{2, 0, 0, 0, 0, 1})
	got, ok := advertise(solicitation(t), from)
	if !ok {
		t.Fatal("advertise refused iPXE's solicitation")
	}
	if want := "fe80::f125:200:0:1"; from.String() != want {
		t.Errorf("advertiser = %s; want %s", from, want)
	}
	if !bytes.Equal(got[24:40], solicitation(t)[8:24]) || got[7] != 255 || got[40] != 134 || !bytes.Equal(got[46:56], make([]byte, 10)) {
		t.Errorf("advertise = %x; want to the sender, hop limit 255, type 134, lifetime and timers 0", got)
	}
	if sum := sum16(16+58, got[8:]); sum != 0xffff {
		t.Errorf("checksum adds up to %#x; want 0xffff", sum)
	}
	for name, spoil := range map[string]func(b []byte) []byte{
		"short":              func(b []byte) []byte { return b[:47] },
		"hop limit 64":       func(b []byte) []byte { b[7] = 64; return b },
		"advertisement":      func(b []byte) []byte { b[40] = 134; return b },
		"code 1":             func(b []byte) []byte { b[41] = 1; return b },
		"from a global host": func(b []byte) []byte { b[8] = 0x20; return b },
		"IPv4":               func(b []byte) []byte { b[0] = 0x45; return b },
	} {
		if _, ok := advertise(spoil(solicitation(t)), from); ok {
			t.Errorf("%s: answered; want nothing", name)
		}
	}
}

func TestRunsIPXEOnlyAfterItsDHCP(t *testing.T) {
	s := &Server{Reservations: reserveNode}
	if _, ok := s.runsIPXE(nodeMAC, time.Now()); ok {
		t.Error("answered a node that has not spoken DHCP")
	}
	s.remember(Event{MAC: nodeMAC, Node: "n1", Address: nodeAddr, UserClass: "iPXE", Arch: ArchX64})
	if _, ok := s.runsIPXE(nodeMAC, time.Now()); !ok {
		t.Error("did not answer a node whose iPXE spoke DHCP just now")
	}
	if _, ok := s.runsIPXE(nodeMAC, time.Now().Add(2*time.Minute)); ok {
		t.Error("answered a node two minutes after its iPXE spoke DHCP")
	}
	if _, ok := s.runsIPXE(foreignMAC, time.Now()); ok {
		t.Error("answered a foreign MAC")
	}
}

func FuzzAdvertise(f *testing.F) {
	f.Add(solicitation(f))
	f.Add([]byte{0x60})
	from := advertiser(nodeMAC)
	f.Fuzz(func(t *testing.T, b []byte) { advertise(b, from) })
}
