package provision

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"

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
}

// Facets are the declared values of a node, flat, as the journal keeps them
// beside the proof that rests on them. Keys start with the prefixes of Chain.
func (w Want) Facets(n *inventory.Node) map[string]string {
	f := map[string]string{}
	set := func(key, value string) {
		if value != "" && value != "0" {
			f[key] = value
		}
	}
	set("node.serial", n.Serial)
	w.bmcFacets(n, set)
	if nic := n.BootNIC(); nic != nil {
		set("nic.mac", nic.MAC.String())
		if nic.Address.IsValid() {
			set("nic.address", nic.Address.String())
		}
	}
	if n.Hardware != nil {
		hardwareFacets(n.Hardware, set)
	}
	if n.Image != nil {
		set("image.name", n.Image.Name)
		set("image.method", n.Image.Method)
		set("image.digest", w.Images[n.Image.Name])
	}
	for _, s := range burnInStages(n) {
		set("burnin."+s.Name, s.Want)
	}
	if n.Acceptance != nil && n.Acceptance.Fabric != nil {
		set("fabric.pairwise", fmt.Sprint(n.Acceptance.Fabric.Pairwise))
		set("fabric.min_bandwidth", n.Acceptance.Fabric.MinBandwidth.Text)
	}
	return f
}

func (w Want) bmcFacets(n *inventory.Node, set func(key, value string)) {
	b := n.BMC
	if b == nil {
		return
	}
	set("bmc.address", b.Address.String())
	set("bmc.protocol", b.Protocol)
	if b.Credential == nil {
		return
	}
	set("bmc.username", b.Credential.Username)
	if w.Key != nil {
		mac := hmac.New(sha256.New, w.Key)
		fmt.Fprintf(mac, "credential\x00%s\x00%s", b.Credential.Username, b.Credential.Password.Reveal())
		set("bmc.credential", "fingerprint "+hex.EncodeToString(mac.Sum(nil))[:12])
	}
}

func hardwareFacets(h *inventory.Hardware, set func(key, value string)) {
	num := func(key string, n int) { set("hardware."+key, fmt.Sprint(n)) }
	set("hardware.vendor", h.Vendor)
	set("hardware.product", h.Product)
	if h.CPU != nil {
		num("cpu.sockets", h.CPU.Sockets)
		num("cpu.cores", h.CPU.Cores)
	}
	if h.Memory != nil {
		set("hardware.memory.total", h.Memory.Total.Text)
		num("memory.dimms", h.Memory.DIMMs)
	}
	if g := h.GPU; g != nil {
		set("hardware.gpu.pci_id", g.PCIID)
		num("gpu.count", g.Count)
		set("hardware.gpu.model", g.Model)
		set("hardware.gpu.memory", g.Memory.Text)
		num("gpu.nvlinks", g.NVLinks)
	}
	for _, c := range h.HCAs {
		set("hardware.hca."+c.Name, fmt.Sprintf("rail %d %s", c.Rail, c.Rate))
	}
	for _, d := range h.Disks {
		set("hardware.disk."+d.Name, strings.TrimSpace(fmt.Sprintf("%d x %s %s", d.Count, d.Size, d.Transport)))
	}
}

// only keeps the facets under some prefixes.
func only(facets map[string]string, prefixes []string) map[string]string {
	out := map[string]string{}
	for k, v := range facets {
		for _, p := range prefixes {
			if strings.HasPrefix(k, p) {
				out[k] = v
			}
		}
	}
	return out
}

// differences names what changed between two sets of facets, sorted by key.
func differences(was, is map[string]string) []string {
	keys := map[string]bool{}
	for k := range was {
		keys[k] = true
	}
	for k := range is {
		keys[k] = true
	}
	var out []string
	for k := range keys {
		a, b := was[k], is[k]
		switch {
		case a == b:
		case a == "":
			out = append(out, fmt.Sprintf("%s is now declared: %s", k, short(b)))
		case b == "":
			out = append(out, fmt.Sprintf("%s %s is no longer declared", k, short(a)))
		default:
			out = append(out, fmt.Sprintf("%s: %s -> %s", k, short(a), short(b)))
		}
	}
	sort.Strings(out)
	return out
}

// short cuts a digest to what a person compares.
func short(v string) string {
	if rest, ok := strings.CutPrefix(v, "sha256:"); ok && len(rest) > 12 {
		return "sha256:" + rest[:12]
	}
	return v
}

// burnInStage is one burn-in stage that the inventory declares.
type burnInStage struct {
	Name, Want, Source string
}

// burnInStages lists what a node's acceptance asks for, in order.
func burnInStages(n *inventory.Node) []burnInStage {
	a := n.Acceptance
	if a == nil {
		return nil
	}
	var out []burnInStage
	add := func(name, want string) {
		out = append(out, burnInStage{name, want, where(a.Range)})
	}
	if a.Node != nil && a.Node.GEMM.Duration > 0 {
		add("gemm", a.Node.GEMM.Text)
	}
	if a.Node != nil && a.Node.HBMSweep {
		add("hbm_sweep", "whole memory")
	}
	if a.Rack != nil && a.Rack.Soak.Duration > 0 {
		add("soak", a.Rack.Soak.Text)
	}
	return out
}
