package importer

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"firstlight/inventory"
)

func (s *site) writeSwitches() {
	w := s.wires
	s.out.Found.Switches, s.out.Found.Hosts = len(w.switches), len(w.hosts)
	if len(w.switches) == 0 {
		return
	}
	t := &table{header: []string{"name", "model", "split", "role", "rail", "guid"}}
	seen := map[inventory.GUID]bool{}
	models, split, guess, unnamed := map[string]bool{}, false, false, 0
	for _, d := range w.switches {
		models[d.model] = true
		split, guess = split || d.split, guess || d.guess
		rail, guid := "", ""
		if d.rail > 0 {
			rail = strconv.Itoa(d.rail)
		}
		g := inventory.GUID(d.GUID)
		if _, err := inventory.ParseGUID(g.String()); err == nil && !seen[g] {
			seen[g], guid = true, g.String()
		}
		if !d.named {
			unnamed++
		}
		t.rows = append(t.rows, []string{d.name, d.model, strconv.FormatBool(d.split), d.role, rail, guid})
	}
	if unnamed > 0 {
		s.todo("%s: switches without a name of their own in the fabric (%d) are called unnamed-switch-GUID here and in %s: name them", switchesCSV, unnamed, cablesCSV)
	}
	f := newFile(fmt.Sprintf("A row of %s each. Racks and units are not in %s: add columns for them, and rack = and unit = here.", switchesCSV, s.src.Fabric.Name))
	for _, m := range w.models {
		f.blank()
		f.comment(s.guess(switchesFile, "%s is what was seen of switches that are of no known model", m.label))
		b := f.block("switch_model", m.label)
		b.number("ports", m.ports)
		b.text("rate", cmp.Or(m.rate, w.rate, "NDR")) // the tool may not have known the speed
	}
	f.blank()
	if guess {
		f.comment(s.guess(switchesFile, "models, by port count and device id"))
	}
	f.comment(s.guess(switchesFile, "roles, by distance from the hosts"))
	if w.rails > 0 {
		f.comment(s.guess(switchesFile, "rails, by the adapters that a leaf takes"))
	}
	s.writeSwitch(f.block("switch", "switch"), t, models, split)
	s.todo("%s: racks and units of the switches", switchesFile)
	s.out.Files[switchesCSV] = t.bytes()
	s.out.Files[switchesFile] = f.bytes(switchesFile)
}

func (s *site) writeSwitch(b hclBody, t *table, models map[string]bool, split bool) {
	b.attr("for_each", fmt.Sprintf("{ for row in csvdecode(file(%q)) : row.name => row }", switchesCSV))
	b.attr("name", "each.key")
	if len(models) > 1 {
		b.attr("model", "switch_model[each.value.model]")
	} else {
		b.attr("model", reference("switch_model", t.rows[0][1]))
	}
	if split {
		b.attr("split", "each.value.split")
	}
	for _, col := range []string{"role", "rail", "guid"} {
		if _, all := t.gaps(col); !all {
			b.attr(col, t.cell(col))
		}
	}
}

func (s *site) writeFabric() {
	w := s.wires
	s.out.Found.Cables = len(w.cables)
	if len(w.cables) == 0 {
		return
	}
	t := &table{header: []string{"a_device", "a_port", "b_device", "b_port", "rate"}}
	for _, c := range w.cables {
		t.rows = append(t.rows, []string{c.a.device(), c.a.portName(), c.b.device(), c.b.portName(), c.rate})
	}
	s.out.Files[cablesCSV] = t.bytes()
	f := newFile(fmt.Sprintf("The cables as they were found in %s; rate is what the link ran at.", s.src.Fabric.Name))
	b := f.block("fabric", "compute")
	b.text("link_layer", "infiniband")
	if w.rate != "" {
		b.text("rate", w.rate)
	}
	b.attr("cables", fmt.Sprintf("csvdecode(file(%q))", cablesCSV))
	var others, named []string
	for _, h := range w.hosts {
		if h.node != nil || len(h.adapters) == 0 {
			continue
		}
		others = append(others, h.name)
		if h.named {
			named = append(named, h.name)
		}
	}
	if len(others) > 0 {
		b.blank()
		b.comment("Hosts in the fabric that are not declared as nodes.")
		b.attr("others", names(others))
	}
	if s.src.Assets != nil && len(named) > 0 {
		s.todo("%s: %s: in the fabric, and no row of %s has their name or GUIDs", fabricFile, fold(named), s.src.Assets.base())
	}
	s.out.Files[fabricFile] = f.bytes(fabricFile)
}

// tellFabric tells what a person should know of the fabric.
func (s *site) tellFabric() {
	w := s.wires
	for _, o := range w.odd {
		s.todo("%s", o)
	}
	var unnamed []string
	for _, h := range w.hosts {
		if !h.named {
			unnamed = append(unnamed, h.name)
		}
	}
	if n := len(unnamed); n > 0 {
		list := strings.Join(unnamed[:min(n, 3)], ", ")
		if n > 3 {
			list += ", …"
		}
		s.todo("hosts without a name in the fabric (%d) are called by their adapter's system image GUID (%s): a GUID column in the asset list joins them", n, list)
	}
	if w.inner > 0 {
		s.out.Guessed = append(s.out.Guessed, fmt.Sprintf("%s: %d aggregation nodes are inside switches and left out", cablesCSV, w.inner))
	}
}
