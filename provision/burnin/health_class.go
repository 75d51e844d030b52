package burnin

import "slices"

// Class is what a healthy GPU of one kind is, and how many a node has.
type Class struct {
	ID        string // PCI vendor:device, 10de:2335
	Name      string
	Boards    []int // how many a baseboard carries
	Memory    int64 // bytes, at least
	NVLinks   int
	LinkSpeed int64 // MB/s of one NVLink, at least
	PCIeGen   int
	PCIeWidth int
	Power     int64 // W, the default limit
	Source    string

	Declared Declared // goes before the rest
}

// source is where the number comes from that a reading is held against.
func (c Class) source(q Quantity) string {
	if d := c.Declared; q == GPUMemory && d.Memory > 0 || q == NVLinks && d.NVLinks > 0 || q == GPUName && c.model() != "" {
		return d.Source
	}
	return c.Source
}

// model is the declared name, where no PCI id says it better: names are spelled
// in many ways.
func (c Class) model() string {
	if c.Declared.ID != "" {
		return ""
	}
	return c.Declared.Model
}

// classes are the GPUs whose numbers are known. NVLink speeds are those that
// NVML tells of one link: 26.562 GB/s at NVLink 4.
var classes = []Class{
	{ID: "10de:2335", Name: "H200 SXM", Boards: []int{4, 8}, Memory: 141e9, NVLinks: 18, LinkSpeed: 26562, PCIeGen: 5, PCIeWidth: 16, Power: 700,
		Source: "NVIDIA H200 Tensor Core GPU datasheet"},
	{ID: "10de:2330", Name: "H100 SXM", Boards: []int{4, 8}, Memory: 80e9, NVLinks: 18, LinkSpeed: 26562, PCIeGen: 5, PCIeWidth: 16, Power: 700,
		Source: "NVIDIA H100 Tensor Core GPU datasheet"},
}

// Declared is what an inventory says of a node's GPUs. Zeros are not declared.
type Declared struct {
	Count   int
	ID      string // PCI vendor:device
	Model   string // as NVML has it: "NVIDIA H200"
	Memory  int64  // bytes
	NVLinks int
	Source  string // "hardware.hcl:11"
}

// ClassOf is what the GPUs of a node should be: what is declared, and what is
// known of the kind that is declared or, without, found.
func ClassOf(d Declared, h Health) Class {
	id := d.ID
	for _, g := range h.GPUs {
		if v := g.first(GPUID); id == "" && v.read() {
			id = v.Text
		}
	}
	c := Class{ID: id}
	if i := slices.IndexFunc(classes, func(c Class) bool { return c.ID == id }); i >= 0 && id != "" {
		c = classes[i]
	}
	c.Declared = d
	if d.Memory > 0 {
		c.Memory = d.Memory
	}
	if d.NVLinks > 0 {
		c.NVLinks = d.NVLinks
	}
	return c
}
