//go:build bench

// The measurements of `make bench-fabric`: how long a fabric takes to read,
// against ibnetdiscover at its best option, on ibsim.

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"firstlight/fabric"
	"firstlight/fabric/mad"
	"firstlight/internal/ibsimtest"
)

// fabricRounds is how often each run is repeated; figures are medians.
const fabricRounds = 5

// TestFabricFigures reads fabrics as processes, ours and the peer in turn,
// and prints the figures. It fails when one is short.
func TestFabricFigures(t *testing.T) {
	program := benchProgram(t)
	fmt.Printf("load %s\n", load())
	of := readInTurn(t, program, 766)
	atMost(t, "fabric_discover_766_one_port_vs_ibnetdiscover", middle(of.one, wallOf)/middle(of.peer, wallOf), "ratio", 0.6)
	atMost(t, "fabric_discover_766_eight_rails_vs_ibnetdiscover", middle(of.ours, wallOf)/middle(of.peer, wallOf), "ratio", 0.6)
	atMost(t, "fabric_discover_766_rss", slices.MaxFunc(append(of.ours, of.one...), func(a, b timed) int { return int(a.rss - b.rss) }).rss, "MB", 64)
	atMost(t, "fabric_discover_766_links_different", float64(of.different), "links", 0)
	of = readInTurn(t, program, 2048)
	atMost(t, "fabric_discover_2048_one_port_vs_ibnetdiscover", middle(of.one, wallOf)/middle(of.peer, wallOf), "ratio", 0.5)
	atMost(t, "fabric_discover_2048_eight_rails_vs_ibnetdiscover", middle(of.ours, wallOf)/middle(of.peer, wallOf), "ratio", 0.5)
	atMost(t, "fabric_discover_2048_links_different", float64(of.different), "links", 0)
}

// TestFabricDelayed reads the fabric of 766 nodes over a wire with a round trip,
// and the counters of all its ports.
func TestFabricDelayed(t *testing.T) {
	program := benchProgram(t)
	fmt.Printf("load %s\n", load())
	net, _ := ibsimtest.FatTree(766, 8)
	direct := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	direct.Run("ibnetdiscover", "-o", "128")
	direct.Manage(ibsimtest.Adapter(2, 0))
	sim := direct.Delay(200 * time.Microsecond)
	fmt.Printf("a question and its answer take %v through the relay, %v without\n", roundTrip(t, sim), roundTrip(t, direct))
	var ours, peer, oursCounters, peerCounters []timed
	for range fabricRounds {
		peer = append(peer, timeTo(t, sim.Command("ibnetdiscover", "-o", "128"), os.DevNull))
		ours = append(ours, timeTo(t, exec.Command(program, "fabric", "discover", "-ibsim", sim.Socket, "-ibsim-node", ibsimtest.Adapter(1, 0)), os.DevNull))
	}
	for range 3 {
		peerCounters = append(peerCounters, timeTo(t, sim.Command("ibqueryerrors", "--skip-sl", "-o", "128"), os.DevNull))
		oursCounters = append(oursCounters, sweepCounters(t, sim))
	}
	fmt.Printf("ibnetdiscover -o 128 %.2f s, ours %.2f s; ibqueryerrors --skip-sl -o 128 %.2f s, ours %.2f s\n",
		middle(peer, wallOf), middle(ours, wallOf), middle(peerCounters, wallOf), middle(oursCounters, wallOf))
	atMost(t, "fabric_discover_766_delayed_vs_ibnetdiscover", middle(ours, wallOf)/middle(peer, wallOf), "ratio", 1)
	atMost(t, "fabric_counters_766_delayed_vs_ibqueryerrors", middle(oursCounters, wallOf)/middle(peerCounters, wallOf), "ratio", 0.25)
}

// sweepCounters reads topology and counters in this process.
func sweepCounters(t *testing.T, sim *ibsimtest.Sim) timed {
	port, err := mad.DialIBSim(sim.Socket, ibsimtest.Adapter(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	begin := time.Now()
	found, err := fabric.Sweep{Transports: []fabric.Transport{port}, Counters: true}.Run(t.Context())
	if err != nil || len(found.Unanswered) > 0 {
		t.Fatalf("%v, %d questions unanswered", err, len(found.Unanswered))
	}
	ports := 0
	for _, l := range found.Links() {
		for _, p := range []*fabric.Port{l.A, l.B} {
			if p.Counters != nil && p.Counters.Extended != nil {
				ports++
			}
		}
	}
	if ports != 2*18416 {
		t.Fatalf("counters of %d ports; want %d", ports, 2*18416)
	}
	return timed{wall: time.Since(begin).Seconds()}
}

// roundTrip is the median of some questions, one at a time.
func roundTrip(t *testing.T, sim *ibsimtest.Sim) time.Duration {
	port, err := mad.DialIBSim(sim.Socket, ibsimtest.Adapter(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	var took []time.Duration
	for range 201 {
		p := mad.Packet{LID: mad.PermissiveLID}
		mad.PutDirectedGet(&p.MAD, 1, nil, 0, mad.AttrNodeInfo, 0)
		begin := time.Now()
		if err := port.Send(&p); err != nil {
			t.Fatal(err)
		}
		if err := port.Receive(&p); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// reads are the runs on one fabric.
type reads struct {
	ours, one, peer []timed // through eight rails' ports, through one, and ibnetdiscover through one
	different       int     // links that one has and not the other
}

func readInTurn(t *testing.T, program string, nodes int) reads {
	net, want := ibsimtest.FatTree(nodes, 8)
	sim := ibsimtest.Start(t, net, ibsimtest.Adapter(1, 0))
	sim.Run("ibnetdiscover", "-o", "128") // waits until it has read its file
	one := []string{"fabric", "discover", "-ibsim", sim.Socket, "-ibsim-node", ibsimtest.Adapter(1, 0)}
	rails := slices.Clone(one)
	for r := 1; r < 8; r++ {
		rails = append(rails, "-ibsim-node", ibsimtest.Adapter(1, r))
	}
	var of reads
	for range fabricRounds {
		of.peer = append(of.peer, timeTo(t, sim.Command("ibnetdiscover", "-o", "128"), os.DevNull))
		of.one = append(of.one, timeTo(t, exec.Command(program, one...), os.DevNull))
		of.ours = append(of.ours, timeTo(t, exec.Command(program, rails...), os.DevNull))
	}
	fmt.Printf("%d nodes, %d links: ibnetdiscover -o 128 %.2f s, one port %.2f s, eight rails %.2f s\n", nodes, len(want),
		middle(of.peer, wallOf), middle(of.one, wallOf), middle(of.ours, wallOf))
	of.different = linkDifference(t, program, append(one, "-json"), sim)
	return of
}

// linkDifference counts the links that our program finds and ibnetdiscover does not, or
// the other way round. Our own reader takes the peer's text.
func linkDifference(t *testing.T, program string, args []string, sim *ibsimtest.Sim) int {
	dump := filepath.Join(t.TempDir(), "dump")
	timeTo(t, sim.Command("ibnetdiscover"), dump)
	links := func(args ...string) map[string]int {
		out, err := exec.Command(program, args...).Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		var d discoverOutput
		if err := json.Unmarshal(out, &d); err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for _, l := range d.Links {
			ends := []string{fmt.Sprintf("%s[%d]", l.A.GUID, l.A.Port), fmt.Sprintf("%s[%d]", l.B.GUID, l.B.Port)}
			slices.Sort(ends)
			seen[strings.Join(ends, " ")+l.Rate]++
		}
		return seen
	}
	different := 0
	theirs := links("fabric", "discover", "-json", "-observed", dump)
	for l, n := range links(args...) {
		different += max(n-theirs[l], theirs[l]-n)
		delete(theirs, l)
	}
	return different + len(theirs)
}

// timeTo runs a process with its output in a file.
func timeTo(t *testing.T, cmd *exec.Cmd, file string) timed {
	t.Helper()
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = out
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return timed{wall: time.Since(begin).Seconds(), rss: float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) * 1024 / 1e6}
}
