package importer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"firstlight/inventory"
)

// chooseClasses gives every node one of the given classes, and its adapters the
// names that they have there.
func (s *site) chooseClasses() error {
	byLabel := map[string]*class{}
	unknown := map[string][]string{}
	for _, n := range s.nodes {
		hw := s.classOf(n.Model)
		if hw == nil {
			unknown[n.Model] = append(unknown[n.Model], n.Hostname)
			continue
		}
		c := byLabel[hw.Name]
		if c == nil {
			c = &class{label: hw.Name, model: n.Model, given: true}
			for _, h := range hw.HCAs {
				c.hcas = append(c.hcas, hca{label: h.Name, device: h.Device, rail: h.Rail, rate: h.Rate.Text})
			}
			byLabel[hw.Name] = c
			s.classes = append(s.classes, c)
		}
		n.class, c.nodes = c, append(c.nodes, n)
	}
	if len(unknown) > 0 {
		var lines []string
		for _, m := range sortedKeys(unknown) {
			lines = append(lines, fmt.Sprintf("%s: model %q is none of the hardware classes given (%s): call one of them %q, or give it product = %q",
				inventory.Fold(unknown[m]), m, strings.Join(s.givenLabels(), ", "), slug(m), m))
		}
		return fmt.Errorf("%s", strings.Join(lines, "\n"))
	}
	if err := s.renameAdapters(); err != nil {
		return err
	}
	s.takeGUIDs()
	return nil
}

func (s *site) givenLabels() []string {
	var out []string
	for _, h := range s.src.Classes.Hardware {
		out = append(out, h.Name)
	}
	return out
}

// classOf finds the class of a model: the only one there is, or by its label or
// product.
func (s *site) classOf(model string) *inventory.Hardware {
	all := s.src.Classes.Hardware
	if len(all) == 1 {
		return all[0]
	}
	for _, h := range all {
		if h.Name == model || h.Name == slug(model) || model != "" && strings.EqualFold(h.Product, model) {
			return h
		}
	}
	return nil
}

// renameAdapters calls adapters as the given classes do: by the RDMA device's
// name, else by the rail. The leaves' rails follow.
func (s *site) renameAdapters() error {
	missing := map[string][]string{}
	rails := map[int]map[string]int{}
	for _, n := range s.nodes {
		if n.host == nil {
			continue
		}
		for _, a := range n.host.adapters {
			h := n.class.find(a)
			if h == nil {
				key := fmt.Sprintf("hardware %q has no hca with the name or device %q", n.class.label, a.label)
				if a.rail > 0 {
					key += fmt.Sprintf(", and none on rail %d", a.rail)
				}
				missing[key] = append(missing[key], n.Hostname)
				continue
			}
			if a.rail > 0 && h.rail > 0 {
				if rails[a.rail] == nil {
					rails[a.rail] = map[string]int{}
				}
				rails[a.rail][strconv.Itoa(h.rail)]++
			}
			a.label = h.label
		}
	}
	if len(missing) > 0 {
		var lines []string
		for _, k := range sortedKeys(missing) {
			lines = append(lines, fmt.Sprintf("%s, which has a cable at %s: add it to the file given", k, inventory.Fold(missing[k])))
		}
		return fmt.Errorf("%s", strings.Join(lines, "\n"))
	}
	for _, sw := range s.wires.all() {
		if to := commonest(rails[sw.rail]); sw.rail > 0 && to != "" {
			sw.rail, _ = strconv.Atoi(to)
		}
	}
	if s.wires != nil {
		s.wires.sort()
	}
	return nil
}

func (w *wiring) all() []*device {
	if w == nil {
		return nil
	}
	return w.switches
}

// find is the hca of a class that an adapter is.
func (c *class) find(a *adapter) *hca {
	for _, is := range []func(h hca) bool{
		func(h hca) bool { return h.device != "" && h.device == a.label },
		func(h hca) bool { return h.label == a.label },
		func(h hca) bool { return h.rail > 0 && h.rail == a.rail },
	} {
		if i := slices.IndexFunc(c.hcas, is); i >= 0 {
			return &c.hcas[i]
		}
	}
	return nil
}
