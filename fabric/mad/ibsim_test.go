package mad

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"firstlight/internal/ibsimtest"
)

func TestIBSimRefused(t *testing.T) {
	socket := fmt.Sprintf("firstlight-none-%d", os.Getpid())
	for node, want := range map[string]string{
		"":                      "ibsim " + socket + ": nothing listens on that socket name: is ibsim running, with the same IBSIM_SOCKNAME?",
		strings.Repeat("n", 32): "ibsim takes at most 31 bytes of a name",
	} {
		if _, err := DialIBSim(socket, node); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("DialIBSim at %q = %v; want %q", node, err, want)
		}
	}
}

// dial waits for a simulator that is still starting.
func dial(t *testing.T, socket, node string) *IBSim {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		s, err := DialIBSim(socket, node)
		if err == nil {
			t.Cleanup(func() { s.Close() })
			return s
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
	}
}

// get puts one question by directed route.
func get(t *testing.T, s *IBSim, tid uint64, path []byte, attr Attribute, modifier uint32) Packet {
	t.Helper()
	p := Packet{LID: PermissiveLID}
	PutDirectedGet(&p.MAD, tid, path, 0, attr, modifier)
	if err := s.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&p); err != nil {
		t.Fatal(err)
	}
	if err := s.Receive(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestInteropIBSim(t *testing.T) {
	net, _ := ibsimtest.FatTree(32, 2)
	sim := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	s := dial(t, sim.Socket, ibsimtest.Adapter(1, 0))

	p := get(t, s, 0x1_0000_0007, []byte{1}, AttrNodeInfo, 0)
	smp, err := ParseSMP(p.MAD[:])
	if err != nil || p.TimedOut || smp.TID&TIDMask != 7 || !smp.Returning {
		t.Fatalf("NodeInfo of the leaf: %+v, %v, timed out %v", smp, err, p.TimedOut)
	}
	if info, err := ParseNodeInfo(SubnData(&p.MAD)); err != nil || info.Type != NodeSwitch || info.NumPorts != 64 || info.LocalPort != 1 {
		t.Errorf("NodeInfo of the leaf = %+v, %v; want a switch with 64 ports, reached by port 1", info, err)
	}
	p = get(t, s, 8, []byte{1}, AttrNodeDescription, 0)
	if text, err := ParseNodeDescription(SubnData(&p.MAD)); err != nil || text != "leaf-001" {
		t.Errorf("NodeDescription = %q, %v; want leaf-001", text, err)
	}
	if p = get(t, s, 9, []byte{1, 2, 9}, AttrNodeInfo, 0); !p.TimedOut || p.MAD[3] != byte(MethodGet) {
		t.Errorf("a question that goes nowhere came back as %x, timed out %v; want the request, timed out", p.MAD[:8], p.TimedOut)
	}

	// A receiver that waits is ended by a deadline, and goes on after it.
	if err := s.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Receive(&p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Receive after the deadline = %v; want os.ErrDeadlineExceeded", err)
	}
	get(t, s, 10, nil, AttrNodeInfo, 0)

	if _, err := DialIBSim(sim.Socket, "nobody"); err == nil || !strings.Contains(err.Error(), `attach at node "nobody": refused`) {
		t.Errorf("attached at a node that is not there: %v", err)
	}
	// A client that closes makes room: there are ten places.
	for range 12 {
		again, err := DialIBSim(sim.Socket, ibsimtest.Adapter(2, 0))
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	}
}
