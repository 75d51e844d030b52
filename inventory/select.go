package inventory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Select returns the nodes that targets name, in the cluster's order and each
// once: names, host lists ("hnode[001-064]"), and all nodes of a rack, a
// hardware class or an image ("rack=a[01-04]", "hardware=h200x8",
// "image=compute"). No target is every node. A target that names nothing is an
// error.
func (c *Cluster) Select(targets []string) ([]*Node, error) {
	if len(targets) == 0 {
		return c.Nodes, nil
	}
	chosen, err := c.named("target", targets)
	if err != nil {
		return nil, err
	}
	var out []*Node
	for _, n := range c.Nodes {
		if chosen[n] {
			out = append(out, n)
		}
	}
	return out, nil
}

// ErrNoneLeft says that the exclusions name every target.
var ErrNoneLeft = errors.New("no node is left: the exclusions name every target")

// Without returns those of some nodes that the exclusions, written as for
// Select, do not name. That none is left is ErrNoneLeft.
func (c *Cluster) Without(nodes []*Node, exclude []string) ([]*Node, error) {
	if len(exclude) == 0 {
		return nodes, nil
	}
	dropped, err := c.named("exclude", exclude)
	if err != nil {
		return nil, err
	}
	out := make([]*Node, 0, len(nodes))
	for _, n := range nodes {
		if !dropped[n] {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil, ErrNoneLeft
	}
	return out, nil
}

// named are the nodes that expressions name; flag is for errors.
func (c *Cluster) named(flag string, exprs []string) (map[*Node]bool, error) {
	byName := make(map[string]*Node, len(c.Nodes))
	names := make([]string, 0, len(c.Nodes))
	for _, n := range c.Nodes {
		byName[n.Name] = n
		names = append(names, n.Name)
	}
	chosen := map[*Node]bool{}
	for _, t := range exprs {
		if field, value, ok := strings.Cut(t, "="); ok {
			if err := c.selectField(field, value, chosen); err != nil {
				return nil, fmt.Errorf("%s %q: %w", flag, t, err)
			}
			continue
		}
		list, err := Hostlist(t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
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
			return nil, fmt.Errorf("%s %q: no node %s is declared%s", flag, t, Fold(unknown), c.meant(unknown[0], names))
		}
	}
	return chosen, nil
}

// meant ends an error about a node that is not declared.
func (c *Cluster) meant(given string, nodes []string) string {
	switch {
	case c.Racks[given] != nil:
		return fmt.Sprintf("; did you mean \"rack=%s\"?", given)
	case c.Hardware[given] != nil:
		return fmt.Sprintf("; did you mean \"hardware=%s\"?", given)
	case c.Images[given] != nil:
		return fmt.Sprintf("; did you mean \"image=%s\"?", given)
	}
	return hint(given, nodes)
}

// selection is a block of the inventory by which nodes are selected.
type selection struct {
	name   string
	labels func(*Cluster) []string
	of     func(*Node) string // label of the node's; "" for none
}

var selections = []selection{
	{"rack", func(c *Cluster) []string { return slices.Collect(maps.Keys(c.Racks)) }, func(n *Node) string {
		if n.Rack == nil {
			return ""
		}
		return n.Rack.Name
	}},
	{"hardware", func(c *Cluster) []string { return slices.Collect(maps.Keys(c.Hardware)) }, func(n *Node) string {
		if n.Hardware == nil {
			return ""
		}
		return n.Hardware.Name
	}},
	{"image", func(c *Cluster) []string { return slices.Collect(maps.Keys(c.Images)) }, func(n *Node) string {
		if n.Image == nil {
			return ""
		}
		return n.Image.Name
	}},
}

// Selectors lists all that Select takes besides node names, as "rack=a01",
// sorted.
func (c *Cluster) Selectors() []string {
	var out []string
	for _, s := range selections {
		for _, label := range s.labels(c) {
			out = append(out, s.name+"="+label)
		}
	}
	slices.Sort(out)
	return out
}

func (c *Cluster) selectField(field, value string, chosen map[*Node]bool) error {
	i := slices.IndexFunc(selections, func(s selection) bool { return s.name == field })
	if i < 0 {
		return fmt.Errorf("nodes are selected by rack=NAME, hardware=NAME or image=NAME, not by %q", field)
	}
	list, err := Hostlist(value)
	if err != nil {
		return err
	}
	labels := selections[i].labels(c)
	slices.Sort(labels)
	wanted := map[string]bool{}
	for _, label := range list {
		if _, ok := slices.BinarySearch(labels, label); !ok {
			return fmt.Errorf("no %s %q is declared%s", field, label, hint(label, labels))
		}
		wanted[label] = true
	}
	for _, n := range c.Nodes {
		if label := selections[i].of(n); label != "" && wanted[label] {
			chosen[n] = true
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
