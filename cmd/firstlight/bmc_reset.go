package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"firstlight/inventory"
)

func (a *app) bmcResetCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "reset NODE... [DIR]",
		Short: "Restart BMCs, not the nodes",
		Long: `Restart the BMCs of the nodes that are named: by IPMI's Cold Reset or Redfish's
Manager.Reset, and by the other protocol where one does not do it. The power of
the nodes is not touched. Each BMC is left alone for the controller's bmc_restart
and must then let firstlight in again; one that says yes and goes on as before is
found out. A last argument that is a directory is the inventory. Exits 1 when a
BMC did not restart, or is not back after five minutes.`,
		Example: `  firstlight bmc reset hnode017 racks/a
  firstlight bmc reset -target 'hnode[001-004]' racks/a`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.bmcReset(c.Context(), args)
		},
	}
	a.bmcFlags(c)
	return c
}

func (a *app) bmcReset(ctx context.Context, args []string) error {
	dir := a.nodesAndDir(args)
	if len(a.targets) == 0 {
		return errors.New("bmc reset needs nodes: name them, as n17 or -target 'n[1-8]' or -target rack=a01")
	}
	boards, nodes, err := a.openBoards(ctx, []string{dir})
	if err != nil {
		return err
	}
	defer boards.Close()
	answers := askBMCs(ctx, a, boards, nodes, func(ctx context.Context, n *inventory.Node) (struct{}, error) {
		return struct{}{}, boards.ResetBMC(ctx, n)
	})
	if a.json {
		type row struct {
			Name      string `json:"name"`
			Restarted bool   `json:"restarted"`
			Error     string `json:"error"`
			ElapsedMS int64  `json:"elapsed_ms"`
		}
		rows := make([]row, len(answers))
		for i, r := range answers {
			rows[i] = row{r.node.Name, r.err == nil, r.failure(), r.elapsed.Milliseconds()}
		}
		if err := printJSON(a.stdout, map[string]any{"nodes": rows}); err != nil {
			return err
		}
		return failures(a, answers)
	}
	var done []string
	for _, r := range answers {
		if r.err == nil {
			done = append(done, r.node.Name)
		}
	}
	if len(done) > 0 {
		fmt.Fprintf(a.stdout, "restarted: %s\n", inventory.Fold(done))
	}
	return failures(a, answers)
}
