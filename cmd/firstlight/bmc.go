package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

func (a *app) bmcCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bmc",
		Short: "Work with the BMCs: their logs, sensors, firmware, security, passwords and restart",
		Example: `  firstlight bmc sel hnode017 racks/a
  firstlight bmc sensors racks/a
  firstlight bmc firmware -target rack=a01 racks/a
  firstlight bmc audit racks/a
  firstlight bmc rotate racks/a
  firstlight bmc reset hnode017 racks/a`,
	}
	c.AddCommand(a.bmcSELCommand(), a.bmcSensorsCommand(), a.bmcFirmwareCommand(), a.bmcAuditCommand())
	c.AddCommand(a.bmcRotateCommand(), a.bmcResetCommand())
	return c
}

// bmcFlags are those of every verb that asks BMCs, with its arguments: nodes, and
// then the directory.
func (a *app) bmcFlags(c *cobra.Command) {
	c.ValidArgsFunction = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		nodes, _ := a.namesIn(".")
		dirs, _ := completeDirs(c, nil, typed)
		return append(nodes, dirs...), cobra.ShellCompDirectiveDefault
	}
	a.inventoryFlags(c)
	a.targetFlag(c)
}

// nodesAndDir tells the nodes of a verb's arguments from the inventory's
// directory, which comes last: where a last argument is a directory, it is that.
func (a *app) nodesAndDir(args []string) (dir string) {
	dir = "."
	if n := len(args); n > 0 {
		if info, err := os.Stat(args[n-1]); err == nil && info.IsDir() {
			dir, args = args[n-1], args[:n-1]
		}
	}
	a.targets = append(a.targets, args...)
	return dir
}

// openBoards reads the inventory of a verb that asks BMCs and makes their clients.
func (a *app) openBoards(ctx context.Context, args []string) (*boards, []*inventory.Node, error) {
	s, err := a.load(a.nodesAndDir(args))
	if err != nil {
		return nil, nil, err
	}
	nodes, err := a.chosenNodes(s)
	if err != nil {
		return nil, nil, err
	}
	if !a.entered {
		if err := a.labIsUp(ctx, s); err != nil {
			return nil, nil, err
		}
	}
	if err := a.enterLab(s); err != nil {
		return nil, nil, err
	}
	b, err := s.newBoards(nil)
	return b, nodes, err
}

// rich asks a node's BMC in one conversation: by Redfish where both protocols are
// declared, and by IPMI where that does not answer.
func (b *boards) rich(ctx context.Context, n *inventory.Node, overIPMI func(*bmc.Session) error, overRedfish func(*redfish.Session) error) error {
	first, second := n.BMC, (*inventory.BMC)(nil)
	if n.BMC.Other != nil {
		first, second = n.BMC.By("redfish"), n.BMC.By("ipmi")
	}
	err := b.over(ctx, n, first, overIPMI, overRedfish)
	if second != nil && notReached(err) && ctx.Err() == nil {
		if other := b.over(ctx, n, second, overIPMI, overRedfish); other != nil {
			return fmt.Errorf("%w; and by %s: %w", err, second.Protocol, other)
		}
		return nil
	}
	return err
}

// over asks a node's BMC in one conversation by the protocol of declared.
func (b *boards) over(ctx context.Context, n *inventory.Node, declared *inventory.BMC, overIPMI func(*bmc.Session) error, overRedfish func(*redfish.Session) error) error {
	d, err := b.by(n, declared)
	if err != nil {
		return err
	}
	switch d := d.(type) {
	case boardOf[bmc.Endpoint, *bmc.Session]:
		return d.client.With(ctx, d.ep, overIPMI)
	case boardOf[redfish.Endpoint, *redfish.Session]:
		return d.client.With(ctx, d.ep, overRedfish)
	}
	return fmt.Errorf("node %s: nothing is known of the protocol %s", n.Name, declared.Protocol)
}

// answer is what one node's BMC said.
type answer[T any] struct {
	node    *inventory.Node
	value   T
	err     error
	elapsed time.Duration
}

// failure is the error's text, with the node's name once; "" without one.
func (r *answer[T]) failure() string {
	switch {
	case r.err == nil:
		return ""
	case bmc.NamesBMC(r.err):
		return r.err.Error()
	}
	return fmt.Sprintf("node %s: %v", r.node.Name, r.err)
}

// askBMCs asks the BMCs of nodes, some at a time, and shows on a terminal how far
// it is. Answers come in the order of nodes.
func askBMCs[T any](ctx context.Context, a *app, b *boards, nodes []*inventory.Node, ask func(context.Context, *inventory.Node) (T, error)) []answer[T] {
	out := make([]answer[T], len(nodes))
	slots := make(chan struct{}, max(b.cluster.Settings.BMCConcurrency, 1))
	shown := a.newCounter(len(nodes))
	defer shown.clear()
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r := answer[T]{node: n}
			start := time.Now()
			if n.BMC == nil {
				r.err = fmt.Errorf("no bmc is declared")
			} else {
				defer b.leave(n)
				r.value, r.err = ask(ctx, n)
			}
			r.elapsed = time.Since(start)
			out[i] = r
			shown.answered(map[bool]string{true: "answered", false: "failed"}[r.err == nil])
		})
	}
	wg.Wait()
	return out
}

// failures prints why BMCs did not answer, and is the verb's end: 1 when there
// were any.
func failures[T any](a *app, answers []answer[T]) error {
	bad := false
	for i := range answers {
		if text := answers[i].failure(); text != "" {
			bad = true
			if !a.json {
				fmt.Fprintln(a.stderr, "firstlight:", text)
			}
		}
	}
	if bad {
		return &exit{code: 1}
	}
	return nil
}
