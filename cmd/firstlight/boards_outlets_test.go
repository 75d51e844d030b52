package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/internal/simrack"
	"firstlight/inventory"
)

// outletSite is a node, i1, with two outlets of one PDU.
type outletSite struct {
	*redfishSite
	boards *boards
	node   *inventory.Node

	mu       sync.Mutex
	switched []string
	first    func() // called when the first outlet was switched off
}

func newOutletSite(t *testing.T) *outletSite {
	t.Helper()
	s := &outletSite{redfishSite: newRedfishSite(t)}
	ready, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	pdu := &simrack.Redfish{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Outlets: []string{"7", "8"},
		Ready: func(at netip.AddrPort) { ready <- at }, Switched: s.saw}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- pdu.Serve(ctx) }() // ends with ctx
	t.Cleanup(func() {
		cancel()
		<-done
	})
	var port uint16
	select {
	case at := <-ready:
		port = at.Port()
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	text := redfishNode("o1", "ipmi", s.serve(1, &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Serial: "S-o1", Machine: lamp{t, true}}))
	for _, id := range []string{"7", "8"} {
		text = strings.Replace(text, "  nic \"boot\"", fmt.Sprintf("  outlet {\n    pdu = pdu.left\n    id  = %q\n  }\n  nic \"boot\"", id), 1)
	}
	s.write("outlets.hcl", text+fmt.Sprintf("\npdu \"left\" {\n  address = \"127.0.0.1\"\n  port = %d\n  credential = credential.bmc\n}\n", port))
	site := loadSite(t, s.dir)
	var err error
	if s.boards, err = site.newBoards(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.boards.Close)
	s.node = site.Cluster.Node("o1")
	site.Cluster.Settings.BMCRestart = 10 * time.Millisecond
	return s
}

func (s *outletSite) saw(outlet string, on bool) {
	s.mu.Lock()
	s.switched = append(s.switched, fmt.Sprint(outlet, " ", on))
	first := len(s.switched) == 1
	s.mu.Unlock()
	if first && !on && s.first != nil {
		s.first()
	}
}

func (s *outletSite) want(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.switched, want) {
		s.t.Errorf("the PDU switched %q; want %q", s.switched, want)
	}
	s.switched = nil
}

func TestCycleOutlets(t *testing.T) {
	s := newOutletSite(t)
	if err := s.boards.CycleOutlets(t.Context(), s.node, false); err != nil {
		t.Fatal(err)
	}
	s.want("7 false", "8 false", "7 true", "8 true")

	// A controller was killed while outlet 8 was off, or after both were on again.
	ep, err := s.boards.pdu(s.node, s.node.Outlets[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.boards.redfish.SetOutlet(t.Context(), ep, "8", false); err != nil {
		t.Fatal(err)
	}
	s.want("8 false")
	if err := s.boards.CycleOutlets(t.Context(), s.node, true); err != nil {
		t.Fatal(err)
	}
	s.want("8 true")
	if err := s.boards.CycleOutlets(t.Context(), s.node, true); err != nil {
		t.Fatal(err)
	}
	s.want()
}

// TestCycleOutletsInterrupted: Ctrl-C leaves no outlet off.
func TestCycleOutletsInterrupted(t *testing.T) {
	s := newOutletSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.first = cancel
	if err := s.boards.CycleOutlets(ctx, s.node, false); !errors.Is(err, context.Canceled) {
		t.Errorf("CycleOutlets = %v; want it cancelled", err)
	}
	s.mu.Lock()
	last := map[string]string{}
	for _, sw := range s.switched {
		name, state, _ := strings.Cut(sw, " ")
		last[name] = state
	}
	s.mu.Unlock()
	if last["7"] != "true" || last["8"] == "false" {
		t.Errorf("after Ctrl-C the PDU has switched %q; want outlets 7 and 8 on", s.switched)
	}
	s.noSecret()
}
