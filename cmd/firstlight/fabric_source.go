package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"firstlight/fabric"
	"firstlight/inventory"
	"firstlight/provision"
)

// or is the source that flags name, or else what the inventory declares for the
// fabrics; for all of them where none is given. Where they have partitions, the
// tables are read that tell of those.
func (from fabricSource) or(c *inventory.Cluster, fabrics ...*inventory.Fabric) (fabricSource, error) {
	for _, f := range fabrics {
		from.pkeys = from.pkeys || len(f.Partitions) > 0
	}
	if len(from.devices)+len(from.nodes) > 0 || from.ibsim != "" || from.observed != "" {
		return from, nil
	}
	if fabrics == nil {
		for _, name := range slices.Sorted(maps.Keys(c.Fabrics)) {
			fabrics = append(fabrics, c.Fabrics[name])
		}
	}
	var first *inventory.Fabric
	for _, f := range fabrics {
		for _, text := range f.ReadThrough {
			port := inventory.ParseFabricPort(text)
			if first != nil && (port.Simulated != (from.ibsim != "") || port.Socket != from.ibsim) {
				return from, fmt.Errorf("fabrics %s (%s) and %s (%s) are read through different places: name one with -fabric, or read one at a time",
					first.Name, c.DeclaredAt(first.Range), f.Name, c.DeclaredAt(f.Range))
			}
			first = f
			from.ibsim = port.Socket
			switch {
			case !port.Simulated:
				from.devices = append(from.devices, port.Port)
			case port.Port != "":
				from.nodes = append(from.nodes, port.Port)
			}
		}
	}
	return from, nil
}

// learned are the node GUIDs that inspection found, for verbs that do without
// where the journal cannot be read.
func (a *app) learned(ctx context.Context, s *site) map[uint64]fabric.Adapter {
	known, err := s.known(ctx)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			fmt.Fprintf(a.stderr, "firstlight: GUIDs that inspection found are not used: %v\n", err)
		}
		return nil
	}
	return learnedGUIDs(known)
}

// learnedGUIDs are the adapters of inspected nodes by GUID. One that two nodes
// have says nothing.
func learnedGUIDs(known provision.Known) map[uint64]fabric.Adapter {
	out, twice := map[uint64]fabric.Adapter{}, map[uint64]bool{}
	for name, n := range known.Nodes {
		for _, a := range n.Adapters {
			guid := uint64(a.GUID)
			if _, ok := out[guid]; ok {
				twice[guid] = true
			}
			out[guid] = fabric.Adapter{Node: name, HCA: a.HCA}
		}
	}
	for guid := range twice {
		delete(out, guid)
	}
	return out
}
