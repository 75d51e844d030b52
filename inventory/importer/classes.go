package importer

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"firstlight/inventory"
)

// Classes are hardware classes that somebody has described already.
type Classes struct {
	Text       []byte // of the file, in canonical form
	Hardware   []*inventory.Hardware
	Acceptance []string // labels of the acceptance blocks beside them
}

// ReadClasses reads a file of hardware blocks, and of acceptance blocks if there are.
func ReadClasses(name string, text []byte) (*Classes, error) {
	text, diags := inventory.Format(text, name)
	if diags.HasErrors() {
		return nil, diags
	}
	dir, err := os.MkdirTemp("", "firstlight-import-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, hardwareFile), text, 0o600); err != nil {
		return nil, err
	}
	cluster, _, diags := inventory.Load(dir, inventory.Options{})
	if diags.HasErrors() {
		var lines []string
		for _, d := range diags.Errs() {
			lines = append(lines, strings.ReplaceAll(d.Error(), filepath.Join(dir, hardwareFile), name))
		}
		return nil, errors.New(strings.Join(lines, "\n"))
	}
	c := &Classes{Text: text, Acceptance: sortedKeys(cluster.Acceptance)}
	for _, label := range sortedKeys(cluster.Hardware) {
		c.Hardware = append(c.Hardware, cluster.Hardware[label])
	}
	if len(c.Hardware) == 0 {
		return nil, fmt.Errorf("%s: there is no hardware block in it", name)
	}
	return c, nil
}

// class is a class of hardware: what is known of like nodes.
type class struct {
	label string
	model string
	hcas  []hca
	units int
	nodes []*node
	given bool   // it is one of Classes
	odd   string // why it is not the model's own class
}

type hca struct {
	label, device string
	rail          int
	rate          string
}

var identifier = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// slug makes a label of a model's name: "HPE Cray XD670" is hpe-cray-xd670.
func slug(model string) string {
	s := strings.Trim(regexp.MustCompile(`[^a-z0-9_]+`).ReplaceAllString(strings.ToLower(model), "-"), "-")
	if !identifier.MatchString(s) {
		s = strings.Trim("node-"+s, "-")
	}
	return s
}

// classify gives every node its class.
func (s *site) classify() error {
	if s.src.Assets == nil {
		return nil
	}
	if s.src.Classes != nil {
		return s.chooseClasses()
	}
	byModel := map[string][]*node{}
	for _, n := range s.nodes {
		byModel[slug(n.Model)] = append(byModel[slug(n.Model)], n)
	}
	for _, model := range sortedKeys(byModel) {
		s.makeClasses(model, byModel[model])
	}
	s.takeGUIDs()
	return nil
}

// makeClasses makes the classes of one model: nodes with the same adapters are
// of one class, and the largest has the model's name.
func (s *site) makeClasses(label string, nodes []*node) {
	rates := s.usualRates(nodes)
	byShape := map[string]*class{}
	var list []*class
	for _, n := range nodes {
		hcas := s.hcasOf(n, nodes, rates)
		shape := fmt.Sprint(hcas)
		c := byShape[shape]
		if c == nil {
			c = &class{model: n.Model, hcas: hcas}
			byShape[shape] = c
			list = append(list, c)
		}
		n.class, c.nodes = c, append(c.nodes, n)
	}
	slices.SortStableFunc(list, func(a, b *class) int { return cmp.Compare(len(b.nodes), len(a.nodes)) })
	for i, c := range list {
		c.label = label
		if i > 0 {
			c.label = fmt.Sprintf("%s-%d", label, i+1)
			c.odd = difference(list[0], c)
		}
		c.units = spanOf(c.nodes)
		s.classes = append(s.classes, c)
	}
}

// spanOf is how many rack units every node of a class takes, 0 if the list does
// not say.
func spanOf(nodes []*node) int {
	span := nodes[0].Span
	for _, n := range nodes {
		if n.Span != span {
			return 0
		}
	}
	return span
}

// difference says what one class has that another has not.
func difference(usual, c *class) string {
	if len(c.hcas) == 0 {
		return "no adapter of theirs is in the fabric"
	}
	var parts []string
	for _, h := range usual.hcas {
		i := slices.IndexFunc(c.hcas, func(o hca) bool { return o.label == h.label })
		switch {
		case i < 0:
			parts = append(parts, h.label+" has no cable")
		case c.hcas[i].rail != h.rail:
			parts = append(parts, h.label+" is not on its rail")
		case c.hcas[i].rate != h.rate:
			parts = append(parts, fmt.Sprintf("%s runs at %s", h.label, c.hcas[i].rate))
		}
	}
	for _, h := range c.hcas {
		if !slices.ContainsFunc(usual.hcas, func(o hca) bool { return o.label == h.label }) {
			parts = append(parts, h.label+" has a cable")
		}
	}
	return strings.Join(parts, ", ")
}

// usualRates are the rates most adapters of a label run at.
func (s *site) usualRates(nodes []*node) map[string]string {
	count := map[string]map[string]int{}
	for _, n := range nodes {
		n.eachPort(func(_ *adapter, c *cable, e end) {
			if count[e.portName()] == nil {
				count[e.portName()] = map[string]int{}
			}
			count[e.portName()][c.rate]++
		})
	}
	out := map[string]string{}
	for label, c := range count {
		out[label] = commonest(c)
	}
	return out
}

// eachPort visits the cabled ports of a node, in order.
func (n *node) eachPort(visit func(*adapter, *cable, end)) {
	if n.host == nil {
		return
	}
	for _, a := range n.host.adapters {
		for _, c := range a.cables {
			visit(a, c, c.end(a))
		}
	}
}

// hcasOf are the adapters of a node: those in the fabric, or without one those
// that the asset list has GUIDs of. A link that runs slower than the others of
// its kind is declared as the others, and told of.
func (s *site) hcasOf(n *node, alike []*node, rates map[string]string) []hca {
	var out []hca
	if s.wires == nil {
		for _, label := range s.src.Assets.labels {
			if slices.ContainsFunc(alike, func(o *node) bool { return o.GUIDs[label] != 0 }) {
				h := hca{label: label}
				fmt.Sscanf(label, "rail%d", &h.rail)
				out = append(out, h)
			}
		}
		return out
	}
	n.eachPort(func(a *adapter, c *cable, e end) {
		h := hca{label: e.portName(), rate: rates[e.portName()]}
		if h.label == a.portName() { // not a second port
			if h.rail = a.rail; a.given {
				h.device = a.label
			}
		}
		if h.rate != c.rate && c.rate != "" {
			if sw := c.other(e).sw; sw != nil && bits(h.rate) > bits(s.wires.portRate(sw)) {
				h.rate = c.rate // its port has no more
			} else {
				s.wires.odd = append(s.wires.odd, fmt.Sprintf("%s %s runs at %s, and the others of its kind at %s: it is declared as they are", n.Hostname, h.label, c.rate, h.rate))
			}
		}
		out = append(out, h)
	})
	slices.SortStableFunc(out, func(a, b hca) int {
		return cmp.Or(cmp.Compare(min(a.rail, 1)*-1, min(b.rail, 1)*-1), cmp.Compare(a.rail, b.rail), inventory.CompareNames(a.label, b.label))
	})
	return out
}

// portRate is what a port of a switch runs at, at most.
func (w *wiring) portRate(s *device) string {
	for _, m := range builtIn {
		if m.label == s.model && s.split {
			return m.splitRate
		} else if m.label == s.model {
			return m.rate
		}
	}
	for _, m := range w.models {
		if m.label == s.model {
			return m.rate
		}
	}
	return ""
}

// takeGUIDs notes the GUIDs of the adapters that a node's class has, each once.
func (s *site) takeGUIDs() {
	seen := map[inventory.GUID]string{}
	take := func(n *node, label string, g inventory.GUID) {
		if _, err := inventory.ParseGUID(g.String()); err != nil || n.guids[label] != 0 {
			return
		}
		if old := seen[g]; old != "" {
			s.todo("%s %s and %s have the GUID %s: the second is left out", old, n.Hostname, label, g)
			return
		}
		seen[g] = n.Hostname
		n.guids[label] = g
	}
	for _, n := range s.nodes {
		n.eachPort(func(a *adapter, _ *cable, e end) {
			if e.portName() == a.portName() {
				take(n, e.portName(), inventory.GUID(a.GUID))
			}
		})
		for _, h := range n.class.hcas {
			if g := n.GUIDs[h.label]; g != 0 && n.guids[h.label] == 0 {
				take(n, h.label, g)
			}
		}
	}
}
