package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// firmwareRow is one part's firmware.
type firmwareRow struct {
	Part    string `json:"part"`
	Name    string `json:"name"`
	Version string `json:"version"`
}

// machineRow says whose firmware it is. What a BMC does not know is "".
type machineRow struct {
	Manufacturer  string `json:"manufacturer"`
	Product       string `json:"product"`
	Part          string `json:"part"`
	Serial        string `json:"serial"`
	ChassisSerial string `json:"chassis_serial"`
	BoardSerial   string `json:"board_serial"`
	BoardPart     string `json:"board_part"`
}

// unreadRow is a part that the BMC lists and does not give now.
type unreadRow struct {
	Part   string `json:"part"`
	Reason string `json:"reason"`
}

// nodeFirmware is one node's.
type nodeFirmware struct {
	Machine  machineRow    `json:"machine"`
	Firmware []firmwareRow `json:"firmware"`
	Unread   []unreadRow   `json:"unread"`
}

func (a *app) bmcFirmwareCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "firmware [NODE...] [DIR]",
		Short: "Print which firmware the nodes' parts have, and where they differ",
		Long: `Print the firmware of the nodes' parts, nodes with the same version together: all
parts that Redfish lists, and the BMC's own by IPMI, which knows no other. A last
argument that is a directory is the inventory. Exits 1 when a BMC did not answer.`,
		Example: `  firstlight bmc firmware racks/a
  firstlight bmc firmware -target rack=a01 racks/a
  firstlight bmc firmware -json hnode017 racks/a`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.bmcFirmware(c.Context(), args)
		},
	}
	a.bmcFlags(c)
	return c
}

func (a *app) bmcFirmware(ctx context.Context, args []string) error {
	boards, nodes, err := a.openBoards(ctx, args)
	if err != nil {
		return err
	}
	defer boards.Close()
	answers := askBMCs(ctx, a, boards, nodes, boards.firmware)
	if a.json {
		type row struct {
			Name string `json:"name"`
			nodeFirmware
			Error string `json:"error"`
		}
		rows := make([]row, len(answers))
		for i := range answers {
			v := answers[i].value
			rows[i] = row{answers[i].node.Name, nodeFirmware{v.Machine, append([]firmwareRow{}, v.Firmware...), append([]unreadRow{}, v.Unread...)}, answers[i].failure()}
		}
		if err := printJSON(a.stdout, map[string]any{"nodes": rows}); err != nil {
			return err
		}
		return failures(a, answers)
	}
	a.printFirmware(answers)
	return failures(a, answers)
}

// firmware reads one node's.
func (b *boards) firmware(ctx context.Context, n *inventory.Node) (out nodeFirmware, err error) {
	err = b.rich(ctx, n, func(s *bmc.Session) error {
		id, err := s.Identity(ctx)
		out.Machine = machineRow{id.Manufacturer, id.Product, id.Part, id.Serial, id.ChassisSerial, id.BoardSerial, id.BoardPart}
		out.Firmware = []firmwareRow{{Part: "BMC", Name: "Baseboard controller", Version: id.Firmware}}
		return err
	}, func(s *redfish.Session) error {
		id, err := s.Identity(ctx)
		if err != nil {
			return err
		}
		out.Machine = machineRow{Manufacturer: id.Manufacturer, Product: id.Model, Serial: id.Serial}
		parts, unread, err := s.Firmware(ctx)
		for _, p := range parts {
			out.Firmware = append(out.Firmware, firmwareRow{p.ID, p.Name, p.Version})
		}
		for _, u := range unread {
			out.Unread = append(out.Unread, unreadRow{u.URI, u.Reason})
		}
		return err
	})
	return out, err
}

// printFirmware prints a line for each version of each part. A part with several
// is marked: nodes of a class should not differ.
func (a *app) printFirmware(answers []answer[nodeFirmware]) {
	type key struct{ part, version string }
	nodes := map[key][]string{}
	versions := map[string]int{}
	unread := map[key][]string{}
	for i := range answers {
		name := answers[i].node.Name
		for _, f := range answers[i].value.Firmware {
			k := key{f.Part, dash(f.Version)}
			if nodes[k] == nil {
				versions[f.Part]++
			}
			nodes[k] = append(nodes[k], name)
		}
		for _, u := range answers[i].value.Unread {
			unread[key{u.Part, u.Reason}] = append(unread[key{u.Part, u.Reason}], name)
		}
	}
	order := func(a, b key) int { return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.version, b.version)) }
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "PART\tVERSION\tNODES")
	for _, k := range slices.SortedFunc(maps.Keys(nodes), order) {
		mark := ""
		if versions[k.part] > 1 {
			mark = "  (differs)"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s%s\n", k.part, k.version, inventory.Fold(nodes[k]), mark)
	}
	tw.Flush()
	for _, k := range slices.SortedFunc(maps.Keys(unread), order) {
		fmt.Fprintf(a.stderr, "%s: %s cannot be read now (%s)\n", inventory.Fold(unread[k]), k.part, k.version)
	}
}
