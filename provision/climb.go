package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"firstlight/inventory"
)

// Recovery is what the engine needs beside the Baseboard to get a BMC to obey. It
// is called for the rungs of a node's ladder only, each journalled before.
type Recovery interface {
	// ResetBMC restarts the BMC, not the node, and returns when it answers again.
	ResetBMC(ctx context.Context, n *inventory.Node) error
	// CycleOutlets switches every outlet of the node off and on, reads each back, and
	// returns when the BMC answers again. takeUp says that it had begun: an outlet
	// that is on is then left on, for it may have been off already.
	CycleOutlets(ctx context.Context, n *inventory.Node, takeUp bool) error
}

// climbWithin bounds what is done before a boot is tried again: a BMC takes up to
// five minutes to start. It does not count against the boot's own deadline.
const climbWithin = 10 * time.Minute

// obstacle is the failure of a boot that did not get past the node's BMC or its
// firmware: the next rung of the ladder may.
type obstacle struct{ error }

func (o obstacle) Unwrap() error { return o.error }

func isObstacle(err error) bool {
	var o obstacle
	return errors.As(err, &o)
}

// climb does what the node's rung asks for before its boot, once: it is
// journalled before it is begun and when it is done. What a stopped controller
// had begun is taken up.
func (e *Engine) climb(ctx context.Context, n *inventory.Node, act Action) error {
	known := e.node(n.Name)
	rung := known.rung()
	boots := act.Do == Boot || act.Do == BootImage
	ordered := !known.Started.IsZero() && known.Attempts[act.Proof] == act.Attempt
	if !boots || ordered || !rung.prepared() || known.Climb.ended(rung) {
		return nil
	}
	load := e.loadFor(n)
	if rung == RungOutlet {
		// Many machines turn on by themselves once they have power again, so that
		// it is their turn to be switched on that is waited for.
		err := e.turns.due(load)
		if wait := (*notYet)(nil); errors.As(err, &wait) {
			err = e.awaitTurn(ctx, load)
		}
		if err != nil {
			return err
		}
	}
	begun := known.Climb.begun(rung)
	if !begun {
		if err := e.recordOne(ctx, n.Name, EventClimb, ClimbData{Rung: rung}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, climbWithin)
	defer cancel()
	var err error
	if rung == RungOutlet {
		err = e.turns.send(ctx, load, func() error { return e.Recovery.CycleOutlets(ctx, n, begun) })
	} else {
		err = e.Recovery.ResetBMC(ctx, n)
	}
	if err != nil {
		return obstacle{fmt.Errorf("%s: %w", rung.Does(), err)}
	}
	return e.recordOne(ctx, n.Name, EventClimbed, ClimbData{Rung: rung})
}

// board is the node's BMC by the protocol that its rung names.
func (e *Engine) board(n *inventory.Node) Baseboard {
	known := e.node(n.Name)
	if known.rung() == RungOther && e.Other != nil {
		return e.Other
	}
	return e.Baseboard
}
