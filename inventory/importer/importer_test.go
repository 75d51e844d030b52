package importer

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"firstlight/inventory"
)

// checkFormatted holds that every file is in canonical form.
func checkFormatted(t *testing.T, made *Result) {
	t.Helper()
	for name, text := range made.Files {
		if filepath.Ext(name) != ".hcl" {
			continue
		}
		out, diags := inventory.Format(text, name)
		if diags.HasErrors() || !bytes.Equal(out, text) {
			t.Errorf("%s is not in canonical form: %v\n%s", name, diags, text)
		}
	}
}

// load writes what was made into a directory and loads it.
func load(t *testing.T, made *Result) *inventory.Cluster {
	t.Helper()
	dir := t.TempDir()
	for name, text := range made.Files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, src, diags := inventory.Load(dir, inventory.Options{})
	if diags.HasErrors() {
		src.WriteText(os.Stderr, diags, false, 100)
		t.Fatal("what was made does not load")
	}
	return c
}

// plant is a fabric of hosts with adapters on a leaf for each rail of a unit,
// spines over the leaves of each pair of units, and cores over the spines.
type plant struct {
	*Fabric
	index map[string]int
}

func newPlant(hosts, rails, perUnit int) *plant {
	p := &plant{&Fabric{Name: "fabric.txt"}, map[string]int{}}
	units := (hosts + perUnit - 1) / perUnit
	for h := range hosts {
		for r := range rails {
			p.link(p.hca(h, r), 1, p.sw("leaf", h/perUnit*rails+r, 129), h%perUnit+1, "NDR200")
		}
	}
	for l := range units * rails {
		for s := range 2 {
			p.link(p.sw("leaf", l, 129), 65+s, p.sw("spine", l/(rails*2)*2+s, 129), l%(rails*2)+1, "NDR200")
		}
	}
	for s := range (units + 1) / 2 * 2 {
		p.link(p.sw("spine", s, 129), 65, p.sw("core", 0, 129), s+1, "NDR200")
	}
	return p
}

func (p *plant) device(key string, d Device) int {
	i, ok := p.index[key]
	if !ok {
		i = len(p.Devices)
		p.index[key] = i
		d.GUID = 0xa088c20300000000 + uint64(i)<<4
		d.PortGUID = d.GUID + 1
		d.SystemGUID = d.GUID
		p.Devices = append(p.Devices, d)
	}
	return i
}

func (p *plant) hca(h, r int) int {
	name := fmt.Sprintf("hnode%03d mlx5_%d", h+1, r)
	return p.device(name, Device{Description: name, Ports: 1})
}

func (p *plant) sw(kind string, n, ports int) int {
	name := fmt.Sprintf("%s-%02d", kind, n+1)
	return p.device(name, Device{Switch: true, Description: "MF0;" + name + ":MQM9700/U1", Ports: ports, DeviceID: 0xd2f2})
}

func (p *plant) link(a, aPort, b, bPort int, rate string) {
	p.Links = append(p.Links, Link{A: a, APort: aPort, B: b, BPort: bPort, Rate: rate})
}

// at is the link of an adapter.
func (p *plant) at(h, r int) *Link {
	i := slices.IndexFunc(p.Links, func(l Link) bool { return l.A == p.index[fmt.Sprintf("hnode%03d mlx5_%d", h+1, r)] })
	return &p.Links[i]
}

// assetsOf is an asset list of so many nodes.
func assetsOf(t *testing.T, hosts int, guids func(h int) string) *Assets {
	t.Helper()
	text := "hostname,rack,unit,serial,model,bmc,mac,ip,mlx5_0 GUID\n"
	for h := range hosts {
		guid := ""
		if guids != nil {
			guid = guids(h)
		}
		text += fmt.Sprintf("hnode%03d,r%02d,%d-%d,S%d,HPE XD670,10.20.%d.%d,52:54:00:00:%02x:%02x,10.10.%d.%d,%s\n",
			h+1, h/4+1, h%4*10+1, h%4*10+5, h, h/200, h%200+11, h/200, h%200, h/200, h%200+11, guid)
	}
	a, err := ReadAssets("assets.csv", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustMake(t *testing.T, src Sources) *Result {
	t.Helper()
	src.Cluster = "test"
	made, err := Make(src)
	if err != nil {
		t.Fatal(err)
	}
	checkFormatted(t, made)
	return made
}

// TestThreeTiers: roles, rails, split switches, racks and units of a whole site.
func TestThreeTiers(t *testing.T) {
	p := newPlant(96, 4, 32)
	c := load(t, mustMake(t, Sources{Assets: assetsOf(t, 96, nil), Fabric: p.Fabric}))
	count := map[string]int{}
	for _, s := range c.Switches {
		count[s.Role]++
		if s.Model.Name != "qm9700" || !s.Split || s.GUID == 0 || (s.Role == "leaf") != (s.Rail > 0) {
			t.Errorf("switch %s: model %s, split %v, role %q, rail %d, GUID %s", s.Name, s.Model.Name, s.Split, s.Role, s.Rail, s.GUID)
		}
		var n int
		if _, err := fmt.Sscanf(s.Name, "leaf-%d", &n); err == nil && s.Rail != (n-1)%4+1 {
			t.Errorf("%s is of rail %d; want %d", s.Name, s.Rail, (n-1)%4+1)
		}
	}
	if count["leaf"] != 12 || count["spine"] != 4 || count["core"] != 1 {
		t.Errorf("roles %v; want 12 leaves, 4 spines, 1 core", count)
	}
	if len(c.Nodes) != 96 || len(c.Racks) != 24 || len(c.Hardware) != 1 || len(c.Fabrics["compute"].Cables) != 96*4+24+4 {
		t.Errorf("%d nodes, %d racks, %d classes, %d cables", len(c.Nodes), len(c.Racks), len(c.Hardware), len(c.Fabrics["compute"].Cables))
	}
	hw := c.Hardware["hpe-xd670"]
	if hw == nil || hw.Units != 5 || len(hw.HCAs) != 4 || hw.HCAs[3].Name != "mlx5_3" || hw.HCAs[3].Rail != 4 || hw.HCAs[3].Rate.Text != "NDR200" {
		t.Errorf("hardware %+v; want 5 units and mlx5_0 to mlx5_3 at NDR200", hw)
	}
	if n := c.Node("hnode006"); n.Rack.Name != "r02" || n.Unit != 11 || len(n.HCAs) != 4 {
		t.Errorf("hnode006 in rack %s unit %d with %d GUIDs; want r02, 11, 4", n.Rack.Name, n.Unit, len(n.HCAs))
	}
}

// TestOddities: what is not as the rest is imported validly, and told.
func TestOddities(t *testing.T) {
	tests := []struct {
		name   string
		spoil  func(*plant)
		class  map[string]string // node -> hardware
		others int
		todo   string
	}{
		{name: "a missing cable", spoil: func(p *plant) {
			l := p.at(5, 2)
			p.Links = slices.DeleteFunc(p.Links, func(k Link) bool { return k == *l })
		}, class: map[string]string{"hnode006": "hpe-xd670-2", "hnode007": "hpe-xd670"}, todo: "hnode006: of class hpe-xd670-2 because mlx5_2 has no cable"},
		{name: "a node that is off", spoil: func(p *plant) {
			p.Links = slices.DeleteFunc(p.Links, func(k Link) bool {
				return strings.HasPrefix(p.Devices[k.A].Description, "hnode006 ")
			})
			p.Devices[p.index["hnode006 mlx5_0"]].Description = "other mlx5_0"
		}, class: map[string]string{"hnode006": "hpe-xd670-2"}, others: 1, todo: "hnode006: of class hpe-xd670-2 because"},
		{name: "miswired", spoil: func(p *plant) { p.at(5, 2).B, p.at(5, 3).B = p.at(5, 3).B, p.at(5, 2).B },
			class: map[string]string{"hnode006": "hpe-xd670-2", "hnode005": "hpe-xd670"},
			todo:  "hnode006 mlx5_2 is cabled to leaf-04 port 6, a leaf of rail 4, and mlx5_2 of the other hosts is on rail 3: look whether the cable is where it should be"},
		{name: "a slow link", spoil: func(p *plant) { p.at(5, 2).Rate = "100Gb/s" }, class: map[string]string{"hnode006": "hpe-xd670"},
			todo: "hnode006 mlx5_2 runs at 100Gb/s, and the others of its kind at NDR200: it is declared as they are"},
		{name: "another host", spoil: func(p *plant) {
			p.link(p.device("ufm1 mlx5_0", Device{Description: "ufm1 mlx5_0", Ports: 1}), 1, p.sw("spine", 0, 129), 70, "NDR200")
		}, others: 1, todo: "ufm1: in the fabric, and no row of assets.csv has their name or GUIDs"},
		{name: "a host without a name", spoil: func(p *plant) {
			p.link(p.device("x", Device{Description: "MT4129 ConnectX7   Mellanox Technologies", Ports: 1}), 1, p.sw("leaf", 0, 129), 60, "NDR200")
		}, others: 1, todo: "hosts without a name in the fabric (1)"},
		{name: "named by GUID", spoil: func(p *plant) { p.Devices[p.index["hnode006 mlx5_0"]].Description = "localhost mlx5_0" }, class: map[string]string{"hnode006": "hpe-xd670"}},
		{name: "an aggregation node", spoil: func(p *plant) {
			p.link(p.device("sharp", Device{Description: "Mellanox Technologies Aggregation Node", Ports: 1}), 1, p.sw("leaf", 0, 129), 129, "HDR")
		}},
		{name: "switch without a name", spoil: func(p *plant) {
			p.Devices[p.index["leaf-02"]].Description = "Quantum Mellanox Technologies"
		}, todo: "switches without a name of their own in the fabric (1)"},
		{name: "two switches of one name", spoil: func(p *plant) {
			p.Devices[p.index["leaf-02"]].Description = "MF0;leaf-01:MQM9700/U1"
		}, todo: "switches without a name of their own in the fabric (2)"},
		{name: "an unknown switch", spoil: func(p *plant) {
			d := &p.Devices[p.index["core-01"]]
			d.Description, d.DeviceID, d.Ports = "core-01", 7, 36
		}},
		{name: "an adapter with two ports", spoil: func(p *plant) {
			p.Devices[p.index["hnode006 mlx5_0"]].Ports = 2
			p.link(p.index["hnode006 mlx5_0"], 2, p.sw("leaf", 0, 129), 50, "NDR200")
		}, class: map[string]string{"hnode006": "hpe-xd670-2"}, todo: "mlx5_0_p2 has a cable"},
		{name: "speeds the tool did not know", spoil: func(p *plant) {
			for i := range p.Links {
				p.Links[i].Rate = ""
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlant(32, 4, 16)
			guid := func(h int) string {
				return fmt.Sprintf("0x%x", p.Devices[p.index[fmt.Sprintf("hnode%03d mlx5_0", h+1)]].GUID)
			}
			assets := assetsOf(t, 32, nil)
			if tt.name == "named by GUID" {
				assets = assetsOf(t, 32, guid)
			}
			tt.spoil(p)
			made := mustMake(t, Sources{Assets: assets, Fabric: p.Fabric})
			c := load(t, made)
			for node, class := range tt.class {
				if got := c.Node(node).Hardware.Name; got != class {
					t.Errorf("%s is of class %s; want %s", node, got, class)
				}
			}
			if got := c.Fabrics["compute"].Others; len(got) != tt.others {
				t.Errorf("others %q; want %d", got, tt.others)
			}
			if todo := strings.Join(made.Todo, "\n"); !strings.Contains(todo, tt.todo) {
				t.Errorf("left to do:\n%s\nwant %q", todo, tt.todo)
			}
			load(t, mustMake(t, Sources{Fabric: p.Fabric})) // alone it is valid too
		})
	}
}

// TestNoRails: leaves that take what comes are of no rail.
func TestNoRails(t *testing.T) {
	p := newPlant(32, 4, 16)
	for i := range p.Links[:128] {
		l := &p.Links[i]
		l.B, l.BPort = p.sw("leaf", i/16, 129), i%16+1 // node by node
	}
	c := load(t, mustMake(t, Sources{Assets: assetsOf(t, 32, nil), Fabric: p.Fabric}))
	for _, s := range c.Switches {
		if s.Rail != 0 {
			t.Errorf("%s is of rail %d; want none", s.Name, s.Rail)
		}
	}
	for _, h := range c.Hardware {
		for _, a := range h.HCAs {
			if a.Rail != 0 {
				t.Errorf("%s of %s is on rail %d; want none", a.Name, h.Name, a.Rail)
			}
		}
	}
}

func TestHostOf(t *testing.T) {
	for description, want := range map[string][2]string{
		"hnode001 mlx5_0": {"hnode001", "mlx5_0"}, "hnode001 mlx5_ibn1": {"hnode001", "mlx5_ibn1"}, "hnode001 HCA-2": {"hnode001", "hca2"}, "hnode001": {"hnode001", ""},
		"n1.a.example mlx5_10": {"n1.a.example", "mlx5_10"}, "localhost mlx5_0": {"", "mlx5_0"}, "localhost": {"", ""}, "MT4129 ConnectX7   Mellanox Technologies": {"", ""},
		"Mellanox Technologies": {"", ""}, "": {"", ""}, "(none) mlx5_0": {"", "mlx5_0"},
	} {
		if name, device := hostOf(description); name != want[0] || device != want[1] {
			t.Errorf("hostOf(%q) = %q, %q; want %q", description, name, device, want)
		}
	}
}

func TestNetworks(t *testing.T) {
	at := func(bmc, host string) *node {
		a := &Asset{BMC: netip.MustParseAddr(bmc)}
		if host != "" {
			a.Address = netip.MustParseAddr(host)
		}
		return &node{Asset: a}
	}
	tests := []struct {
		name           string
		nodes          []*node
		bits           [2]int
		oob, provision string
		shared, serves bool
		address        string
		fails          string
	}{
		{name: "two of /24", nodes: []*node{at("10.20.0.11", "10.10.0.11"), at("10.20.0.12", "10.10.0.12")}, oob: "10.20.0.0/24", provision: "10.10.0.0/24", serves: true},
		{name: "wider", nodes: []*node{at("10.20.0.11", "10.10.0.11"), at("10.20.3.12", "10.10.1.12")}, oob: "10.20.0.0/22", provision: "10.10.0.0/23", serves: true},
		{name: "not a first or last address", nodes: []*node{at("10.20.0.255", "10.10.1.0")}, oob: "10.20.0.0/23", provision: "10.10.0.0/23", serves: true},
		{name: "known", nodes: []*node{at("10.20.0.11", "10.10.0.11")}, bits: [2]int{16, 20}, oob: "10.20.0.0/16", provision: "10.10.0.0/20", serves: true},
		{name: "known and wrong", nodes: []*node{at("10.20.0.11", "10.10.0.11"), at("10.21.0.11", "10.10.0.12")}, bits: [2]int{24, 0}, fails: "not hosts of one /24"},
		{name: "nowhere together", nodes: []*node{at("10.20.0.11", ""), at("192.168.0.11", "")}, fails: "not in one network"},
		{name: "shared", nodes: []*node{at("10.0.0.11", "10.0.0.111")}, oob: "10.0.0.0/24", provision: "10.0.0.0/24", shared: true, serves: true},
		{name: "no addresses", nodes: []*node{at("10.0.0.11", "")}, oob: "10.0.0.0/24"},
		{name: "some addresses", nodes: []*node{at("10.0.0.11", ""), at("10.0.0.12", "10.1.0.12")}, oob: "10.0.0.0/24", provision: "10.1.0.0/24"},
		{name: "first one taken", nodes: []*node{at("10.0.0.11", "10.1.0.1"), at("10.0.0.12", "10.1.0.2")}, oob: "10.0.0.0/24", provision: "10.1.0.0/24", serves: true, address: "10.1.0.3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var n networks
			err := n.infer(tt.nodes, tt.bits)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("infer = %v; want %q", err, tt.fails)
				}
				return
			}
			text := func(valid bool, s string) string {
				if valid {
					return s
				}
				return ""
			}
			if err != nil || text(n.oob.IsValid(), n.oob.String()) != tt.oob || text(n.provision.IsValid(), n.provision.String()) != tt.provision ||
				n.shared != tt.shared || n.serves != tt.serves || text(n.address.IsValid(), n.address.String()) != tt.address {
				t.Errorf("infer: %v, %+v; want %+v", err, n, tt)
			}
		})
	}
}

func TestSlug(t *testing.T) {
	for model, want := range map[string]string{"HPE Cray XD670": "hpe-cray-xd670", "": "node", "8800": "node-8800", "DGX H200": "dgx-h200", "日本": "node", "--": "node", "a_b": "a_b"} {
		if got := slug(model); got != want {
			t.Errorf("slug(%q) = %q; want %q", model, got, want)
		}
	}
}

// TestGivenClasses: adapters are called as the classes given call them.
func TestGivenClasses(t *testing.T) {
	const text = `hardware "big" {
  product = "HPE XD670"
  hca "ib0" {
    rail   = 2
    device = "mlx5_0"
    rate = "NDR200"
  }
  hca "ib1" {
    rail   = 1
    device = "mlx5_1"
    rate = "NDR200"
  }
}
hardware "small" {}
acceptance "all" {
  node {}
}
`
	classes, err := ReadClasses("classes.hcl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlant(32, 2, 16)
	made := mustMake(t, Sources{Assets: assetsOf(t, 32, nil), Fabric: p.Fabric, Classes: classes})
	c := load(t, made)
	if n := c.Node("hnode001"); n.Hardware.Name != "big" || n.Acceptance == nil || len(n.HCAs) != 2 {
		t.Errorf("hnode001: %+v", n)
	}
	for _, s := range c.Switches {
		var leaf int
		if _, err := fmt.Sscanf(s.Name, "leaf-%d", &leaf); err == nil && s.Rail != leaf%2+1 {
			t.Errorf("%s is of rail %d; want %d, as the class has the rails", s.Name, s.Rail, leaf%2+1)
		}
	}
	if cable := c.Fabrics["compute"].Cables[0]; cable.ADevice != "hnode001" || cable.APort != "ib0" || cable.BDevice != "leaf-01" {
		t.Errorf("the first cable is %+v; want hnode001 ib0 to leaf-01", cable)
	}
	for name, want := range map[string]string{"no class": "", "no adapter": ""} {
		src := Sources{Assets: assetsOf(t, 32, nil), Fabric: p.Fabric, Classes: classes}
		if name == "no class" {
			src.Assets.Rows[7].Model, want = "Other 9", `hnode008: model "Other 9" is none of the hardware classes given (big, small)`
		} else {
			src.Fabric, want = newPlant(32, 3, 16).Fabric, `hardware "big" has no hca with the name or device "mlx5_2", and none on rail 3, which has a cable at hnode[001-032]`
		}
		if _, err := Make(src); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: Make = %v; want %q", name, err, want)
		}
	}
	for text, want := range map[string]string{"hardware \"a\" {\n": "c.hcl:", "hardware \"a\" {\n  cpus = 4\n}\n": "c.hcl:2,3", "rack \"a\" {}\n": "c.hcl: there is no hardware block in it"} {
		if _, err := ReadClasses("c.hcl", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadClasses(%q) = %v; want %q", text, err, want)
		}
	}
}
