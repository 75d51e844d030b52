package fabricsim

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"firstlight/fabric/mad"
	"firstlight/internal/ibsimtest"
)

// dial is a client of ours at a node.
func dial(t testing.TB, socket, node string) *mad.IBSim {
	t.Helper()
	c, err := mad.DialIBSim(socket, node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// exchange asks for NodeInfo by a path, and how long it took.
func exchange(c *mad.IBSim, tid uint64, path ...byte) (mad.Packet, time.Duration, error) {
	var p mad.Packet
	q := mad.Packet{LID: mad.PermissiveLID, QP: mad.QPSubnet}
	mad.PutDirectedGet(&q.MAD, tid, path, 0, mad.AttrNodeInfo, 0)
	begin := time.Now()
	if err := c.Send(&q); err != nil {
		return p, 0, err
	}
	err := c.Receive(&p)
	return p, time.Since(begin), err
}

// TestManyClients: more clients than ibsim takes ask at once, each from a node of
// its own, while cables are pulled and plugged; each gets its own answers.
func TestManyClients(t *testing.T) {
	net := pods(1, 8, 4, 2, false)
	f := build(t, net, Options{Managed: true})
	socket := serve(t, &Server{Fabric: f})
	var wait sync.WaitGroup
	for i, n := range net.Nodes {
		if n.Switch {
			continue
		}
		c := dial(t, socket, n.Name)
		guid := n.defaults(i).GUID
		wait.Add(1)
		go func() { // ends after its questions
			defer wait.Done()
			for tid := range uint64(200) {
				p, _, err := exchange(c, tid)
				info, err2 := mad.ParseNodeInfo(mad.SubnData(&p.MAD))
				if err = errors.Join(err, err2); err != nil || p.TimedOut || info.NodeGUID != guid || p.MAD[15] != byte(tid) {
					t.Errorf("client at %s: %v, timed out %v, answer %d of 0x%x", n.Name, err, p.TimedOut, p.MAD[15], info.NodeGUID)
					return
				}
				if _, _, err := exchange(c, tid, 1, 33); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for range 50 {
		if err := f.Inject(Fault{Kind: Unlink, At: End{"leaf-01", 33}}, Fault{Kind: Plug, At: End{"leaf-01", 33}, To: End{"spine-01", 1}}); err != nil {
			t.Error(err)
		}
	}
	wait.Wait()
}

// TestLatency: a packet takes its hops' time out and back.
func TestLatency(t *testing.T) {
	const hop = 300 * time.Microsecond
	c := dial(t, serve(t, &Server{Fabric: build(t, small(), Options{Hop: hop})}), "hnode001 mlx5_0")
	for _, path := range [][]byte{nil, {1}, {1, 33, 2, 1}} {
		best := time.Hour
		for range 5 {
			p, took, err := exchange(c, 1, path...)
			if err != nil || p.TimedOut {
				t.Fatalf("by %v: %v, timed out %v", path, err, p.TimedOut)
			}
			best = min(best, took)
		}
		if least := time.Duration(2*len(path)) * hop; best < least || best > least+50*time.Millisecond {
			t.Errorf("by %v: %v; want %v and little more", path, best, least)
		}
	}
}

// TestVL15Overflow: of a burst that a queue of 4 has no room for, the rest is
// lost, told as lost, and counted. At a pace that it keeps up with nothing is.
func TestVL15Overflow(t *testing.T) {
	f := build(t, small(), Options{Managed: true, VL15: VL15{Depth: 4, Service: 50 * time.Millisecond}})
	c := dial(t, serve(t, &Server{Fabric: f}), "hnode001 mlx5_0")
	const burst = 20
	for tid := range uint64(burst) {
		q := mad.Packet{LID: mad.PermissiveLID}
		mad.PutDirectedGet(&q.MAD, tid, []byte{1}, 0, mad.AttrNodeInfo, 0)
		if err := c.Send(&q); err != nil {
			t.Fatal(err)
		}
	}
	good := 0
	for range burst {
		var p mad.Packet
		if err := c.Receive(&p); err != nil {
			t.Fatal(err)
		}
		if !p.TimedOut {
			good++
		} else if mad.Method(p.MAD[3]) != mad.MethodGet {
			t.Errorf("what was lost comes back with method 0x%02x", p.MAD[3])
		}
	}
	if good < 4 || good > burst/2 {
		t.Errorf("%d of %d were answered through a queue of 4", good, burst)
	}
	f.mu.Lock()
	dropped := f.portOf(&f.nodes[f.byName["leaf-01"]], 1).snapshot(time.Now())[vl15Dropped]
	f.mu.Unlock()
	if int(dropped) != burst-good {
		t.Errorf("leaf-01 port 1 counts %d dropped; %d were lost", dropped, burst-good)
	}
	for range 3 {
		if p, _, err := exchange(c, 99, 1); err != nil || p.TimedOut {
			t.Errorf("one at a time: %v, timed out %v", err, p.TimedOut)
		}
	}
}

// TestTimeout: a lost packet is told of after the server's time-out.
func TestTimeout(t *testing.T) {
	f := build(t, small(), Options{Faults: []Fault{{Kind: Mute, Node: "leaf-01"}}})
	c := dial(t, serve(t, &Server{Fabric: f, Timeout: 80 * time.Millisecond}), "hnode001 mlx5_0")
	p, took, err := exchange(c, 1, 1)
	if err != nil || !p.TimedOut || took < 80*time.Millisecond {
		t.Errorf("a question to a mute node: %v, timed out %v, after %v", err, p.TimedOut, took)
	}
	if p, _, err := exchange(c, 2); err != nil || p.TimedOut {
		t.Errorf("the next question: %v, timed out %v", err, p.TimedOut)
	}
}

// TestRefused: what cannot be attached is refused, and the server goes on.
func TestRefused(t *testing.T) {
	socket := serve(t, &Server{Fabric: build(t, small(), Options{})})
	if _, err := mad.DialIBSim(socket, "nobody"); err == nil {
		t.Error("a client was attached to a node that is not there")
	}
	for _, node := range []string{"", "leaf-02", "spine-01", "0xb83fd20300a00040"} {
		if p, _, err := exchange(dial(t, socket, node), 1); err != nil || p.TimedOut {
			t.Errorf("at %q: %v, timed out %v", node, err, p.TimedOut)
		}
	}
	if err := (&Server{Fabric: build(t, small(), Options{}), Socket: socket}).Serve(context.Background()); err == nil {
		t.Error("two simulators share a socket name")
	}
}

// startManager runs opensm at hnode001 mlx5_0 until it is killed. It sweeps when
// it is told of a change, and only then.
func startManager(t *testing.T, socket string) *exec.Cmd {
	t.Helper()
	sim := ibsimtest.Attach(t, socket, "hnode001 mlx5_0", "opensm")
	dir := t.TempDir()
	cmd := exec.Command("opensm", "-s", "0", "-f", filepath.Join(dir, "log"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), sim.Env()...)
	cmd.Env = append(cmd.Env, "OSM_TMP_DIR="+dir, "OSM_CACHE_DIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // or it was
		_ = cmd.Wait()
	})
	return cmd
}

// TestInteropTrap: a switch tells opensm that a cable was plugged, and opensm
// brings the link up.
func TestInteropTrap(t *testing.T) {
	f := build(t, small(), Options{Faults: []Fault{{Kind: Unlink, At: End{"leaf-02", 2}}}})
	startManager(t, serve(t, &Server{Fabric: f}))
	p := at(t, f, "spine-01")
	wait := func(what string, done func() bool) {
		t.Helper()
		for begin := time.Now(); !done(); time.Sleep(10 * time.Millisecond) {
			if time.Since(begin) > 20*time.Second {
				t.Fatalf("opensm: %s is still to come", what)
			}
		}
	}
	active := func(path ...byte) func() bool {
		return func() bool { return p.portInfo(0, path...).State == mad.PortActive }
	}
	wait("hnode001 mlx5_1", active(2, 1))
	wait("the end of the first sweep", func() bool {
		info, _ := mad.ParseSwitchInfo(p.get([]byte{2}, mad.AttrSwitchInfo, 0))
		return !info.PortStateChange
	})
	if err := f.Inject(Fault{Kind: Plug, At: End{"leaf-02", 2}, To: End{"hnode002 mlx5_1", 1}}); err != nil {
		t.Fatal(err)
	}
	wait("hnode002 mlx5_1", active(2, 2))
}

// TestKilledClient: the place of a client that was killed is free again, and its
// subnet manager is no longer announced.
func TestKilledClient(t *testing.T) {
	f := build(t, small(), Options{})
	socket := serve(t, &Server{Fabric: f})
	cmd := startManager(t, socket)
	manager := func() bool { return at(t, f, "leaf-01").portInfo(0, 1).CapabilityMask&capabilitySM != 0 }
	for begin := time.Now(); !manager(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatal("opensm does not say that it is there")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for begin := time.Now(); manager(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatal("a killed opensm is still announced")
		}
		exchange(dial(t, socket, "hnode002 mlx5_0"), 1) // whoever comes next finds it out
	}
}
