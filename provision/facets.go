package provision

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"firstlight/inventory"
)

// Want is what a plan aims at: the declaration, and what the catalogue holds
// for each declared image.
type Want struct {
	Cluster *inventory.Cluster
	// Images gives the manifest digest by image name. A name that is absent
	// has not been built yet.
	Images map[string]string
	// Key makes fingerprints of secrets, so that a changed password is noticed
	// and never stored. Nil: secrets are not compared.
	Key []byte
	// Replace names nodes that are to be proven anew from the BMC up although
	// nothing of them has changed.
	Replace map[string]bool
	// Burn names nodes that are to be burned in anew.
	Burn map[string]bool

	cables *cabling // made once for an engine's many questions; nil: made when it is asked for
}

// facet is one declared value of a node, and where it is declared.
type facet struct {
	key, value string
	at         hcl.Range
}

// Facets are the declared values of a node, flat, as the journal keeps them
// beside the proof that rests on them. Keys start with the prefixes of Chain.
// What no proof rests on is not among them: where a node stands (rack, unit),
// what it draws, and the labels by which blocks of the inventory name each
// other.
func (w Want) Facets(n *inventory.Node) map[string]string {
	f := map[string]string{}
	for _, d := range w.reader().facets(n) {
		f[d.key] = d.value
	}
	return f
}

// facetReader makes facets, those of a hardware class and of a credential
// once for all their nodes.
type facetReader struct {
	want     Want
	cabling  *cabling
	hardware map[*inventory.Hardware][]facet
	prints   map[*inventory.Credential]string
}

func (w Want) reader() *facetReader {
	cables := w.cables
	if cables == nil {
		cables = newCabling(w.Cluster)
	}
	return &facetReader{want: w, cabling: cables, hardware: map[*inventory.Hardware][]facet{}, prints: map[*inventory.Credential]string{}}
}

// facetList gathers facets. What is not declared is left out.
type facetList []facet

func (l *facetList) set(key, value string, at hcl.Range) {
	if value != "" && value != "0" {
		*l = append(*l, facet{key, value, at})
	}
}

func (l *facetList) num(key string, n int, at hcl.Range) { l.set(key, strconv.Itoa(n), at) }

func (r *facetReader) facets(n *inventory.Node) []facet {
	f := make(facetList, 0, 40)
	f.set("node.serial", n.Serial, n.Range)
	r.bmc(n, &f)
	if nic := n.BootNIC(); nic != nil {
		f.set("nic.mac", nic.MAC.String(), nic.Range)
		if nic.Address.IsValid() {
			f.set("nic.address", nic.Address.String(), nic.Range)
		}
	}
	if h := n.Hardware; h != nil {
		if _, ok := r.hardware[h]; !ok {
			r.hardware[h] = hardwareFacets(h)
		}
		f = append(f, r.hardware[h]...)
	}
	if n.Image != nil {
		f.set("image.name", n.Image.Name, n.Image.Range)
		f.set("image.method", n.Image.Method, n.Image.Range)
		f.set("image.digest", r.want.Images[n.Image.Name], n.Image.Range)
	}
	if a := n.Acceptance; a != nil {
		for _, s := range burnInStages(n) {
			f.set("burnin."+s.Name, s.Want, a.Range)
		}
		if a.Fabric != nil {
			f.set("fabric.pairwise", strconv.FormatBool(a.Fabric.Pairwise), a.Range)
			f.set("fabric.min_bandwidth", a.Fabric.MinBandwidth.Text, a.Range)
			f.set("fabric.window", a.Fabric.Window.Text, a.Range)
		}
	}
	for _, c := range n.HCAs {
		// The fabric's own answers name ports by it; the node's inspection does not.
		f.set("fabric.guid."+deviceOf(n.Hardware, c.Name), c.GUID.String(), c.Range)
	}
	r.cabling.facets(n, &f)
	return f
}

func (r *facetReader) bmc(n *inventory.Node, f *facetList) {
	b := n.BMC
	if b == nil {
		return
	}
	f.set("bmc.address", b.Address.String(), b.Range)
	f.set("bmc.protocol", b.Protocol, b.Range)
	r.credential("bmc.", b.Credential, f)
	if o := b.Other; o != nil {
		f.set("bmc.other."+o.Protocol, o.Address.String(), o.Range)
		if o.Credential != b.Credential {
			r.credential("bmc.other.", o.Credential, f)
		}
	}
}

func (r *facetReader) credential(prefix string, c *inventory.Credential, f *facetList) {
	if c == nil {
		return
	}
	f.set(prefix+"username", c.Username, c.Range)
	if r.want.Key == nil {
		return
	}
	if _, ok := r.prints[c]; !ok {
		mac := hmac.New(sha256.New, r.want.Key)
		fmt.Fprintf(mac, "credential\x00%s\x00%s", c.Username, c.Password.Reveal())
		// A file is not read and a command not run to plan: another one is a change,
		// and what they hold is not.
		if from := c.Source(); from != "" {
			fmt.Fprintf(mac, "\x00%s", from)
		}
		r.prints[c] = "fingerprint " + hex.EncodeToString(mac.Sum(nil))[:12]
	}
	f.set(prefix+"credential", r.prints[c], c.Range)
}

func hardwareFacets(h *inventory.Hardware) []facet {
	var f facetList
	f.set("hardware.vendor", h.Vendor, h.Range)
	f.set("hardware.product", h.Product, h.Range)
	if c := h.CPU; c != nil {
		f.num("hardware.cpu.sockets", c.Sockets, c.Range)
		f.num("hardware.cpu.cores", c.Cores, c.Range)
	}
	if m := h.Memory; m != nil {
		f.set("hardware.memory.total", m.Total.Text, m.Range)
		f.num("hardware.memory.dimms", m.DIMMs, m.Range)
	}
	if g := h.GPU; g != nil {
		f.set("hardware.gpu.pci_id", g.PCIID, g.Range)
		f.num("hardware.gpu.count", g.Count, g.Range)
		f.set("hardware.gpu.model", g.Model, g.Range)
		f.set("hardware.gpu.memory", g.Memory.Text, g.Range)
		f.num("hardware.gpu.nvlinks", g.NVLinks, g.Range)
	}
	for _, c := range h.HCAs {
		value := fmt.Sprintf("rail %d %s", c.Rail, c.Rate)
		if c.PCI != "" {
			value += atPCI + c.PCI
		}
		f.set("hardware.hca."+device(c), value, c.Range)
	}
	for _, d := range h.Disks {
		f.set(diskPrefix+d.Name, strings.TrimSpace(fmt.Sprintf("%d%s%s %s", d.Count, times, d.Size, d.Transport)), d.Range)
	}
	return f
}

// device is the RDMA device of an HCA: what the node calls it, whatever the
// inventory labels it.
func device(c inventory.HCA) string {
	if c.Device != "" {
		return c.Device
	}
	return c.Name
}

// deviceOf is the RDMA device of the HCA of that label.
func deviceOf(h *inventory.Hardware, label string) string {
	if h != nil {
		for _, c := range h.HCAs {
			if c.Name == label {
				return device(c)
			}
		}
	}
	return label
}

// only keeps the facets under some prefixes.
func only(facets map[string]string, prefixes []string) map[string]string {
	out := map[string]string{}
	for k, v := range facets {
		if under(k, prefixes) {
			out[k] = v
		}
	}
	return out
}

func under(key string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}
