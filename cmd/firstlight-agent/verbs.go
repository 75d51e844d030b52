package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"firstlight/provision/agent"
)

// inspect prints what hardware fs has.
func inspect(ctx context.Context, fs agent.FS, asJSON bool, stdout, stderr io.Writer) int {
	found := agent.Inspect(ctx, fs)
	if asJSON {
		return printJSON(found, stdout, stderr)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	row := func(part, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", part, fmt.Sprintf(format, args...))
	}
	row("system", "%s %s, serial %s, BIOS %s, %s", known(found.System.Vendor), known(found.System.Product), known(found.System.Serial), known(found.System.BIOSVersion), found.BootMode)
	row("kernel", "%s", known(found.Kernel))
	row("cpu", "%d sockets, %d cores, %d threads, %s", found.CPU.Sockets, found.CPU.Cores, found.CPU.Threads, known(found.CPU.Model))
	row("memory", "%d MiB, %d of %d slots filled with %d MiB", found.Memory.Total>>20, len(found.Memory.DIMMs), found.Memory.Slots, found.Memory.Installed()>>20)
	for _, n := range found.NICs {
		row("nic "+n.Name, "%s, %s, %s, link %s, %d Mb/s", n.MAC, known(n.PCI), known(n.Driver), upDown(n.Carrier), n.SpeedMbps)
	}
	for _, r := range found.RDMA {
		for _, p := range r.Ports {
			row("rdma "+r.Name, "port %d, %s, %s, %s, firmware %s", p.Number, known(p.State), known(p.Rate), known(p.LinkLayer), known(r.Firmware))
		}
	}
	for _, d := range found.Disks {
		row("disk "+d.Name, "%d MB, %s, %s, serial %s", d.Size/1_000_000, known(d.Transport), known(d.Model), known(d.Serial))
	}
	for _, g := range found.GPUs {
		row("gpu "+g.Address, "%s, %s x%d, NUMA node %d", g.ID, known(g.Speed), g.Width, g.NUMA)
	}
	if b := found.BMC; b != nil {
		row("bmc", "manufacturer %d, product %d, firmware %s, %s", b.ManufacturerID, b.ProductID, b.Firmware, known(b.Address))
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(stderr, "firstlight-agent:", err)
		return exitFail
	}
	for _, part := range slices.Sorted(maps.Keys(found.Errors)) {
		fmt.Fprintf(stderr, "firstlight-agent: %s could not be read: %s\n", part, found.Errors[part])
	}
	return exitOK
}

func known(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func printJSON(v any, stdout, stderr io.Writer) int {
	e := json.NewEncoder(stdout)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		fmt.Fprintln(stderr, "firstlight-agent:", err)
		return exitFail
	}
	return exitOK
}
