package inventory

import (
	"fmt"
	"strings"
)

// Select returns the nodes that targets name, in the cluster's order and each
// once: names, host lists ("hnode[001-064]") and "rack=a01". No target is
// every node. A target that names nothing is an error.
func (c *Cluster) Select(targets []string) ([]*Node, error) {
	if len(targets) == 0 {
		return c.Nodes, nil
	}
	byName := make(map[string]*Node, len(c.Nodes))
	names := make([]string, 0, len(c.Nodes))
	for _, n := range c.Nodes {
		byName[n.Name] = n
		names = append(names, n.Name)
	}
	chosen := map[*Node]bool{}
	for _, t := range targets {
		if field, value, ok := strings.Cut(t, "="); ok {
			if err := c.selectField(field, value, chosen); err != nil {
				return nil, fmt.Errorf("target %q: %w", t, err)
			}
			continue
		}
		list, err := Hostlist(t)
		if err != nil {
			return nil, fmt.Errorf("target: %w", err)
		}
		var unknown []string
		for _, name := range list {
			if n := byName[name]; n != nil {
				chosen[n] = true
			} else {
				unknown = append(unknown, name)
			}
		}
		if len(unknown) > 0 {
			meant := hint(unknown[0], names)
			if c.Racks[unknown[0]] != nil {
				meant = fmt.Sprintf("; did you mean \"rack=%s\"?", unknown[0])
			}
			return nil, fmt.Errorf("target %q: no node %s is declared%s", t, Fold(unknown), meant)
		}
	}
	var out []*Node
	for _, n := range c.Nodes {
		if chosen[n] {
			out = append(out, n)
		}
	}
	return out, nil
}

func (c *Cluster) selectField(field, value string, chosen map[*Node]bool) error {
	if field != "rack" {
		return fmt.Errorf("nodes are selected by rack=NAME, not by %q", field)
	}
	racks, err := Hostlist(value)
	if err != nil {
		return err
	}
	for _, r := range racks {
		if c.Racks[r] == nil {
			return fmt.Errorf("no rack %q is declared%s", r, hint(r, keys(c.Racks)))
		}
		for _, n := range c.Nodes {
			if n.Rack != nil && n.Rack.Name == r {
				chosen[n] = true
			}
		}
	}
	return nil
}

// hint ends an error about an unknown name.
func hint(given string, names []string) string {
	if s := suggest(given, names); s != "" {
		return fmt.Sprintf("; did you mean %q?", s)
	}
	return ""
}
