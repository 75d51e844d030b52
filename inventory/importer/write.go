package importer

import (
	"fmt"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"firstlight/inventory"
)

// The files that are written.
const (
	clusterFile  = "cluster.hcl"
	racksFile    = "racks.hcl"
	hardwareFile = "hardware.hcl"
	nodesFile    = "nodes.hcl"
	assetsFile   = "assets.csv"
	switchesFile = "switches.hcl"
	switchesCSV  = "switches.csv"
	fabricFile   = "fabric.hcl"
	cablesCSV    = "cables.csv"
	todoCSV      = "nodes.todo.csv"
	imageFile    = "images/compute/image.hcl"
)

func stringVal(s string) cty.Value { return cty.StringVal(s) }

// write makes the files.
func (s *site) write() {
	s.writeCluster()
	if s.src.Assets != nil {
		s.writeRacks()
		s.writeHardware()
		s.writeNodes()
	}
	if s.wires != nil {
		s.writeSwitches()
		s.writeFabric()
		s.tellFabric()
	}
	if s.src.Assets == nil {
		s.writeTodo()
	}
}

func (s *site) sources() string {
	var from []string
	if s.src.Assets != nil {
		from = append(from, s.src.Assets.base())
	}
	if s.src.Fabric != nil {
		from = append(from, s.src.Fabric.Name)
	}
	return strings.Join(from, " and ")
}

func (s *site) writeCluster() {
	f := newFile("Imported from " + s.sources() + ". What is marked guessed stands in neither: look at it.")
	f.blank()
	cluster := f.block("cluster", s.src.Cluster)
	if s.src.Assets == nil {
		s.out.Files[clusterFile] = f.bytes(clusterFile)
		return
	}
	if d := s.src.Assets.Domain; d != "" {
		cluster.text("domain", d)
	}
	f.blank()
	f.comment("The password is not written down: export FIRSTLIGHT_VAR_bmc_password=… before `apply`.")
	v := f.block("variable", "bmc_password")
	v.attr("type", "string")
	v.attr("sensitive", "true")
	v.text("description", "Password of the BMCs.")
	f.blank()
	c := f.block("credential", "bmc")
	c.text("username", "admin", s.guess(clusterFile, "the BMCs' user is called admin"))
	c.attr("password", "var.bmc_password")
	s.todo("%s: the BMCs' user name, and its password in FIRSTLIGHT_VAR_bmc_password", clusterFile)
	s.writeNetworks(f)
	s.writeImage(f)
	s.out.Files[clusterFile] = f.bytes(clusterFile)
}

func (s *site) writeNetworks(f *hclFile) {
	n := &s.net
	bound := func(what string, known bool) string {
		if known {
			return ""
		}
		return s.guess(clusterFile, "the smallest network, from /24 up, that holds %s", what)
	}
	if !n.shared {
		f.blank()
		f.comment("Out of band: the BMCs.")
		f.block("network", "oob").text("cidr", n.oob.String(), bound("all BMC addresses", n.known[0]))
	}
	if !n.provision.IsValid() {
		s.todo("%s: a network that nodes boot from, with dhcp = \"full\", and their addresses in %s; the list has none", clusterFile, assetsFile)
		return
	}
	f.blank()
	what, comment := "all node addresses", "What nodes boot from. firstlight serves DHCP, TFTP and HTTP here and nowhere else."
	if n.shared {
		what, comment = "all addresses", comment+" The BMCs are in it too."
	}
	f.comment(comment + "\ngateway and interface (the controller's, as \"eth1\") are not known: add them.")
	p := f.block("network", "provision")
	p.text("cidr", n.provision.String(), bound(what, n.known[1]))
	s.todo("%s: gateway, and the controller's interface and address, of network \"provision\"", clusterFile)
	if !n.serves {
		s.todo("%s: dhcp = \"full\" of network \"provision\", once every node has an address and the controller too", clusterFile)
		return
	}
	p.text("dhcp", "full", s.guess(clusterFile, "no other server answers nodes that boot"))
	if n.address.IsValid() {
		p.text("address", n.address.String(), s.guess(clusterFile, "the first address that is in no row"))
	}
}

func (s *site) writeImage(f *hclFile) {
	f.blank()
	i := f.block("image", "compute")
	source := s.src.Image
	if source == "" {
		source = "./" + strings.TrimSuffix(imageFile, "/image.hcl")
		s.out.Files[imageFile] = inventory.Starter(s.src.Cluster)[imageFile]
		s.out.Guessed = append(s.out.Guessed, imageFile+": a small image to begin with")
		s.todo("%s: what the nodes' image is made of (or -image DIR, one you have)", imageFile)
		i.text("source", source, "# guessed: a small image to begin with")
	} else {
		i.text("source", source)
	}
	i.text("method", "netboot")
}

func (s *site) writeRacks() {
	seen := map[string]bool{}
	without := 0
	for _, n := range s.nodes {
		if n.Rack == "" {
			without++
			continue
		}
		seen[n.Rack] = true
	}
	s.out.Found.Racks = len(seen)
	if len(seen) == 0 {
		s.todo("%s says no racks: where the nodes stand is not known", s.src.Assets.base())
		return
	}
	f := newFile("Height and power budget are not in " + s.src.Assets.base() + ": add them, as height = 42 and power_budget = \"40kW\".")
	if len(seen) <= 4 {
		for _, r := range sortedKeys(seen) {
			f.blank()
			f.block("rack", r)
		}
	} else {
		f.blank()
		where := ""
		if without > 0 {
			where = ` if row.rack != ""`
		}
		f.block("rack", "rack").attr("for_each", "toset([for row in local.assets : row.rack"+where+"])")
	}
	s.todo("%s: height and power_budget of the racks", racksFile)
	s.out.Files[racksFile] = f.bytes(racksFile)
}

func (s *site) writeHardware() {
	if s.src.Classes != nil {
		s.out.Files[hardwareFile] = s.src.Classes.Text
		return
	}
	f := newFile("What a healthy node of each class is. What is not declared is not checked: add cpu, memory, gpu and disk.")
	for _, c := range s.classes {
		f.blank()
		switch {
		case c.odd != "":
			f.comment(fmt.Sprintf("Of this class because %s: %s. Once that is put right, it is %s in %s.", c.odd, folded(c.nodes), s.mainClass(c), assetsFile))
			s.todo("%s: %s: of class %s because %s", hardwareFile, folded(c.nodes), c.label, c.odd)
		case c.model != "":
			f.comment(fmt.Sprintf("%q in %s. As product = it would be held against what SMBIOS calls the machine.", c.model, s.src.Assets.base()))
		default:
			f.comment(s.guess(hardwareFile, "all nodes are alike: %s has no model", s.src.Assets.base()))
		}
		s.writeClass(f.block("hardware", c.label), c)
	}
	s.todo("%s: cpu, memory, gpu and disks of a healthy node (or -hardware FILE with classes you have)", hardwareFile)
	s.out.Files[hardwareFile] = f.bytes(hardwareFile)
}

// mainClass is the largest class of the same model.
func (s *site) mainClass(of *class) string {
	for _, c := range s.classes {
		if c.model == of.model && c.odd == "" {
			return c.label
		}
	}
	return of.label
}

// fold names a few of many.
func fold(list []string) string {
	text := inventory.Fold(list)
	if parts := strings.Split(text, ","); len(parts) > 8 && !strings.Contains(text, "[") {
		return fmt.Sprintf("%s and %d more", strings.Join(parts[:8], ", "), len(parts)-8)
	}
	return text
}

func folded(nodes []*node) string {
	var list []string
	for _, n := range nodes {
		list = append(list, n.Hostname)
	}
	return fold(list)
}

func (s *site) writeClass(b hclBody, c *class) {
	if c.units > 1 {
		b.number("units", c.units)
	}
	rails := false
	for _, h := range c.hcas {
		rails = rails || h.rail > 0
	}
	if rails && s.wires != nil {
		b.comment(s.guess(hardwareFile, "rails of %s: adapters of one name are on leaves of their own", c.label))
	}
	for _, h := range c.hcas {
		hca := b.block("hca", h.label)
		if h.rail > 0 {
			hca.number("rail", h.rail)
		}
		if h.rate != "" {
			hca.text("rate", h.rate)
		}
		if h.device != "" && h.device != h.label {
			hca.text("device", h.device)
		}
	}
}
