package simrack

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"firstlight/internal/refbmc"
	"firstlight/inventory"
)

// of says whether the fault is of a BMC by that protocol.
func (f Fault) of(b *inventory.BMC) bool { return f.Protocol == "" || f.Protocol == b.Protocol }

// twin is a BMC that answers two protocols. What it is told by one, the machine
// does, whichever is used to start it.
type twin struct {
	boards [2]board
	ready  func() // blocks until both listen
}

// Serve implements board.
func (t *twin) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var errs [2]error
	var both sync.WaitGroup
	for i, b := range t.boards {
		both.Go(func() { // ends with ctx
			errs[i] = b.Serve(ctx)
			cancel()
		})
	}
	go t.ready() // ends when both listen; abandoned if one never does
	both.Wait()
	return errors.Join(errs[0], errs[1])
}

// TakeBoot implements board.
func (t *twin) TakeBoot() refbmc.Boot {
	first, second := t.boards[0].TakeBoot(), t.boards[1].TakeBoot()
	if first.Device == "" {
		return second
	}
	return first
}

func (t *twin) freeze() {
	for _, b := range t.boards {
		b.freeze()
	}
}

func (t *twin) thaw() {
	for _, b := range t.boards {
		b.thaw()
	}
}

// side is the machine as the BMC drives it by one protocol. The boot override is
// the BMC's, whichever protocol it was set by.
type side struct {
	*machine
	twin  *twin
	other int
}

// PowerOn implements refbmc.Machine.
func (s side) PowerOn(ctx context.Context, boot refbmc.Boot) error {
	second := s.twin.boards[s.other].TakeBoot()
	if boot.Device == "" {
		boot = second
	}
	return s.machine.PowerOn(ctx, boot)
}

// deaf is a protocol that the BMC does not answer.
type deaf struct {
	board
	ready func(netip.AddrPort)
}

// Serve implements board.
func (d deaf) Serve(ctx context.Context) error {
	d.ready(netip.AddrPort{})
	<-ctx.Done()
	return nil
}

// freeze has the BMC never answer by a protocol again.
func (m *machine) freeze(by *inventory.BMC) {
	if t, ok := m.bmc.(*twin); ok {
		i := 0
		if by == m.node.BMC.Other {
			i = 1
		}
		t.boards[i].freeze()
		return
	}
	m.bmc.freeze()
}
