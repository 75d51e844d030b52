package importer

import (
	"fmt"
	"strconv"
	"strings"
)

// assetsTable is the asset list as the inventory reads it: the columns that say
// something, under the names of this package.
func (s *site) assetsTable() *table {
	t := &table{header: []string{"hostname", "rack", "unit", "serial", "hardware", "bmc", "bmc_mac", "mac", "ip"}}
	labels := s.guidLabels()
	for _, l := range labels {
		t.header = append(t.header, "guid_"+l)
	}
	for _, n := range s.nodes {
		unit, ip := "", ""
		if n.Unit > 0 {
			unit = strconv.Itoa(n.Unit)
		}
		if n.Address.IsValid() {
			ip = n.Address.String()
		}
		class := ""
		if len(s.classes) > 1 {
			class = n.class.label
		}
		row := []string{n.Hostname, n.Rack, unit, n.Serial, class, n.BMC.String(), n.BMCMAC.String(), n.MAC.String(), ip}
		for _, l := range labels {
			guid := ""
			if g := n.guids[l]; g != 0 {
				guid = g.String()
			}
			row = append(row, guid)
		}
		t.rows = append(t.rows, row)
	}
	t.drop()
	return t
}

// drop takes out the columns that are empty.
func (t *table) drop() {
	for i := len(t.header) - 1; i >= 0; i-- {
		if _, all := t.gaps(t.header[i]); !all {
			continue
		}
		t.header = append(t.header[:i:i], t.header[i+1:]...)
		for j, r := range t.rows {
			t.rows[j] = append(r[:i:i], r[i+1:]...)
		}
	}
}

func (t *table) has(column string) bool {
	for _, h := range t.header {
		if h == column {
			return true
		}
	}
	return false
}

// guidLabels are the adapters of all classes, in the order of the classes.
func (s *site) guidLabels() []string {
	var out []string
	seen := map[string]bool{}
	for _, c := range s.classes {
		for _, h := range c.hcas {
			for _, n := range c.nodes {
				if n.guids[h.label] != 0 && !seen[h.label] {
					seen[h.label] = true
					out = append(out, h.label)
				}
			}
		}
	}
	return out
}

func (s *site) writeNodes() {
	t := s.assetsTable()
	s.out.Files[assetsFile] = t.bytes()
	s.out.Found.Nodes = len(s.nodes)
	f := newFile(fmt.Sprintf("A row of %s each.", assetsFile))
	f.block("locals").attr("assets", fmt.Sprintf("{ for row in csvdecode(file(%q)) : row.hostname => row }", assetsFile))
	f.blank()
	n := f.block("node", "node")
	n.attr("for_each", "local.assets")
	n.attr("name", "each.key")
	if t.has("rack") {
		expr := "rack[each.value.rack]"
		if some, _ := t.gaps("rack"); some {
			expr = `each.value.rack == "" ? null : rack[each.value.rack]`
		}
		n.attr("rack", expr)
	}
	for _, col := range []string{"unit", "serial"} {
		if t.has(col) {
			n.attr(col, t.cell(col))
		}
	}
	if len(s.classes) > 1 {
		n.attr("hardware", "hardware[each.value.hardware]")
	} else {
		n.attr("hardware", reference("hardware", s.classes[0].label))
	}
	n.attr("image", "image.compute")
	s.writeAcceptance(n)
	n.blank()
	b := n.block("bmc")
	b.attr("address", "each.value.bmc")
	b.text("protocol", "ipmi", s.guess(nodesFile, "the BMCs speak IPMI over LAN"))
	b.attr("credential", "credential.bmc")
	nic := n.block("nic", "boot")
	nic.attr("mac", "each.value.mac")
	if t.has("ip") {
		nic.attr("network", "network.provision")
		nic.attr("address", t.cell("ip"))
	}
	s.writeGUIDs(n, t)
	s.out.Files[nodesFile] = f.bytes(nodesFile)
}

func (s *site) writeAcceptance(n hclBody) {
	if s.src.Classes != nil && len(s.src.Classes.Acceptance) == 1 {
		n.attr("acceptance", reference("acceptance", s.src.Classes.Acceptance[0]))
		return
	}
	s.todo("%s: acceptance, what a node must prove to be ready", nodesFile)
}

// writeGUIDs gives nodes the GUIDs of their adapters, which then are known by
// them whatever they call themselves.
func (s *site) writeGUIDs(n hclBody, t *table) {
	var labels []string
	some := false
	for _, h := range t.header {
		if l, ok := strings.CutPrefix(h, "guid_"); ok {
			gaps, _ := t.gaps(h)
			labels, some = append(labels, quote(l)), some || gaps
		}
	}
	if len(labels) == 0 {
		return
	}
	list := "[" + strings.Join(labels, ", ") + "]"
	if some {
		list = "[for h in " + list + " : h if each.value[\"guid_${h}\"] != \"\"]"
	}
	d := n.block("dynamic", "hca")
	d.attr("for_each", list)
	d.attr("labels", "[hca.value]")
	d.block("content").attr("guid", `each.value["guid_${hca.value}"]`)
}

// writeTodo writes the hosts of a fabric as an asset list to fill in: a node
// needs a BMC and a boot NIC, and a fabric knows neither.
func (s *site) writeTodo() {
	seen := map[string]bool{}
	var labels []string
	for _, h := range s.wires.hosts {
		for _, a := range h.adapters {
			if l := a.portName(); !seen[l] {
				seen[l] = true
				labels = append(labels, l)
			}
		}
	}
	if len(s.wires.hosts) == 0 {
		return
	}
	t := &table{header: []string{"hostname", "rack", "unit", "serial", "model", "bmc", "mac", "ip"}}
	for _, l := range labels {
		t.header = append(t.header, "guid_"+l)
	}
	for _, h := range s.wires.hosts {
		row := []string{h.name, "", "", "", "", "", "", ""}
		for _, l := range labels {
			guid := ""
			for _, a := range h.adapters {
				if a.portName() == l && a.GUID != 0 {
					guid = fmt.Sprintf("0x%016x", a.GUID)
				}
			}
			row = append(row, guid)
		}
		t.rows = append(t.rows, row)
	}
	s.out.Files[todoCSV] = t.bytes()
	s.todo("%s: BMC, boot MAC and the rest of each node (rows that are no nodes go out); then import it with the fabric into a new directory: -assets %[1]s -fabric %s",
		todoCSV, s.src.Fabric.Name)
}
