package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision/bmc"
)

// powerRow is a row of power status -json.
type powerRow struct {
	Name      string `json:"name"`
	Power     string `json:"power"`
	Error     string `json:"error"`
	ElapsedMS int64  `json:"elapsed_ms"`
	Detour    string `json:"detour,omitempty"` // by which protocol it was asked instead of the declared one, and why

	err   error
	shown *counter
}

func (a *app) powerCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "power on|off|soft|cycle|reset|status [DIR]",
		Short: "Read or change power through the BMCs",
		Long: `Read or change the power of nodes through their BMCs. Every change is read
back. All but status need -target: no node is disrupted that was not named.
Where the inventory declares power-on budgets or a power_on_rate, on and cycle
keep them: each node waits for its turn, and what it waits for is said.
A BMC that is declared by two protocols is asked by the second what it does not
answer by the first, and that is said.
Exits 1 when a BMC did not answer or did not do as told, and 130 when it was
interrupted before all nodes had their turn.`,
		Example: `  firstlight power status racks/a
  firstlight power cycle -target hnode017 racks/a
  firstlight power off -target 'hnode[001-064]' racks/a`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completePower,
		RunE: func(c *cobra.Command, args []string) error {
			return a.power(c.Context(), args[0], dirArg(args, 1))
		},
	}
	a.inventoryFlags(c)
	a.targetFlag(c)
	return c
}

func (a *app) power(ctx context.Context, op, dir string) error {
	switch op {
	case "status":
	case "on", "off", "soft", "cycle", "reset":
		if len(a.targets) == 0 {
			return fmt.Errorf("power %s needs -target: name the nodes, as -target 'n[1-8]' or -target rack=a01", op)
		}
	default:
		return fmt.Errorf("power %q: one of on, off, soft, cycle, reset, status", op)
	}
	s, err := a.load(dir)
	if err != nil {
		return err
	}
	nodes, err := a.chosenNodes(s)
	if err != nil {
		return err
	}
	if !a.entered {
		if err := a.labIsUp(ctx, s); err != nil {
			return err
		}
	}
	if err := a.enterLab(s); err != nil {
		return err
	}
	boards, err := s.newBoards(nil)
	if err != nil {
		return err
	}
	defer boards.Close()
	starts, err := s.startsOf(ctx, op)
	if err != nil {
		return err
	}
	atOnce, shown := s.Cluster.Settings.BMCConcurrency, a.newCounter(len(nodes))
	var rows []powerRow
	if starts != nil {
		if rows, err = s.powerInTurn(ctx, boards, starts, nodes, op, atOnce, shown); err != nil {
			return err
		}
	} else {
		rows = powerAll(ctx, boards, nodes, op, atOnce, shown)
	}
	shown.clear()
	return a.printPower(rows)
}

// powerAll talks to all BMCs, some at a time. A status over IPMI is one call for
// all of them; a change keeps a slot until it is confirmed. shown may be nil.
func powerAll(ctx context.Context, boards *boards, nodes []*inventory.Node, op string, concurrency int, shown *counter) []powerRow {
	rows := make([]powerRow, len(nodes))
	slots := make(chan struct{}, max(concurrency, 1))
	var wg sync.WaitGroup
	var eps []bmc.Endpoint
	var of []int // row of each endpoint
	ask := func(i int, b board, before time.Duration) {
		slots <- struct{}{}
		defer func() { <-slots }()
		defer boards.leave(nodes[i])
		start := time.Now()
		power, err := powerOne(ctx, b, op)
		rows[i].set(power, before+time.Since(start), err)
		if p, ok := b.(pair); ok && err == nil {
			rows[i].Detour = p.detour()
		}
	}
	for i, n := range nodes {
		rows[i].Name, rows[i].shown = n.Name, shown
		if n.BMC == nil {
			rows[i].set("", 0, errors.New("no bmc is declared"))
			continue
		}
		b, err := boards.of(n)
		if err != nil {
			rows[i].set("", 0, err)
			continue
		}
		if ep, ok := firstByIPMI(b); ok && op == "status" {
			eps, of = append(eps, ep), append(of, i)
			continue
		}
		wg.Go(func() { ask(i, b, 0) })
	}
	boards.ipmi.PowerAll(ctx, eps, func(i int, r bmc.PowerReading) {
		row := of[i]
		if p := boards.second(nodes[row], r.Err); p != nil && ctx.Err() == nil {
			wg.Go(func() { ask(row, p, r.Elapsed) })
			return
		}
		rows[row].set(string(r.State), r.Elapsed, r.Err)
	})
	wg.Wait()
	return rows
}

func (r *powerRow) set(power string, elapsed time.Duration, err error) {
	r.Power, r.ElapsedMS = power, elapsed.Milliseconds()
	if err != nil {
		r.err, r.Error = err, err.Error()
	}
	if r.shown != nil {
		r.shown.answered(r.group().kind)
	}
}

func powerOne(ctx context.Context, b board, op string) (string, error) {
	if op != "status" {
		if err := b.SetPower(ctx, op); err != nil {
			return "", err
		}
	}
	return b.Power(ctx)
}
