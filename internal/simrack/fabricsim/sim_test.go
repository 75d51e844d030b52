package fabricsim

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
)

var sockets atomic.Int64

// serve serves a fabric until the test ends and returns its socket name.
func serve(t testing.TB, s *Server) string {
	t.Helper()
	s.Socket = fmt.Sprintf("fabricsim-%d-%d", os.Getpid(), sockets.Add(1))
	ready, ended := make(chan struct{}), make(chan error, 1)
	s.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- s.Serve(ctx) }() // ends with ctx
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("Serve: %v", err)
	}
	return s.Socket
}

// pods is a fabric of units of nodes: a leaf for each rail of a unit, spines
// that every leaf has one cable to. Switch ports from 33 on lead up.
func pods(units, nodes, rails, spines int, split bool) *Net {
	net := &Net{}
	width, ports := 4, 65
	if split {
		width, ports = 2, 129
	}
	for s := range spines {
		net.Nodes = append(net.Nodes, Node{Name: fmt.Sprintf("spine-%02d", s+1), Description: fmt.Sprintf("spine-%02d", s+1), Switch: true, Ports: ports, Width: width})
	}
	for u := range units {
		for r := range rails {
			leaf := fmt.Sprintf("leaf-%02d", u*rails+r+1)
			net.Nodes = append(net.Nodes, Node{Name: leaf, Description: leaf, Switch: true, Ports: ports, Width: width})
			for s := range spines {
				net.Links = append(net.Links, Link{End{leaf, 33 + s}, End{fmt.Sprintf("spine-%02d", s+1), u*rails + r + 1}})
			}
		}
	}
	for n := range units * nodes {
		for r := range rails {
			hca := fmt.Sprintf("hnode%03d mlx5_%d", n+1, r)
			net.Nodes = append(net.Nodes, Node{Name: hca, Description: hca, Width: 2})
			net.Links = append(net.Links, Link{End{hca, 1}, End{fmt.Sprintf("leaf-%02d", n/nodes*rails+r+1), n%nodes + 1}})
		}
	}
	return net
}
