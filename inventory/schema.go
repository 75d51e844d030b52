package inventory

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// kind is what an attribute's value must be.
type kind string

// The kinds; the text is what the reader of a diagnostic or of
// docs/inventory.md sees.
const (
	kindString    kind = "string"
	kindBool      kind = "bool"
	kindInt       kind = "whole number"
	kindNumber    kind = "number"
	kindStrings   kind = "list of strings"
	kindSize      kind = "size"
	kindDuration  kind = "duration"
	kindBandwidth kind = "bandwidth"
	kindPower     kind = "power"
	kindRate      kind = "link rate"
	kindAddr      kind = "address"
	kindPrefix    kind = "network"
	kindMAC       kind = "MAC address"
	kindPCI       kind = "PCI id"
	kindPath      kind = "path"
	kindRef       kind = "reference"
	kindDeadlines kind = "map of durations"
	kindCables    kind = "list of cables"
	kindGUID      kind = "GUID"
	kindRefs      kind = "list of references"
	kindNames     kind = "name pattern"
	kindPCIAddr   kind = "PCI address"
	kindPKey      kind = "partition key"
)

// attrSchema is one attribute of a block.
type attrSchema struct {
	name      string
	kind      kind
	required  bool
	def       string   // the default, as it would be written
	ref       string   // kindRef, kindRefs: the type of block referred to
	oneOf     []string // the only values allowed
	min, max  int      // kindInt, kindNumber: bounds; a kindNumber is more than min
	sensitive bool     // takes, and hides, a sensitive value
	doc       string
}

// blockSchema is one type of block. The same table decodes, diagnoses and documents.
type blockSchema struct {
	name    string
	label   string // what the label is called; "" for none
	single  bool   // at most one
	need    string // at least one, for this reason; "" for optional
	forEach bool
	attrs   []attrSchema
	blocks  []*blockSchema
	doc     string
}

// lifecycleStates are the states that have a deadline to enter. The
// lifecycle table in package provision holds their meaning.
var lifecycleStates = []string{"reachable", "enrolled", "matched", "provisioned", "validated", "burned-in", "ready"}

// LifecycleStates lists the states that `deadlines` takes, in the order in which
// they are entered. It is a copy.
func LifecycleStates() []string { return slices.Clone(lifecycleStates) }

// rungs are what `ladder` takes. Package provision holds their meaning.
var rungs = []string{"once", "persistent", "other-protocol", "bmc-reset", "outlet"}

// gpuFaults are the ways a GPU that the reference engine plays can be faulty.
var gpuFaults = []string{"bit-flip", "nan", "stuck-sm", "slow", "hang", "crash", "hot", "memory"}

// machineFaults are the ways a lab machine can play faulty metal.
var machineFaults = []string{"ignore-boot-override", "revert-boot-override", "dead-bmc"}

// topBlocks are the blocks of a configuration, in the order they are documented.
// Blocks variable and locals are handled apart: see variables.go.
var topBlocks = []*blockSchema{
	{
		name: "cluster", label: "name", single: true,
		doc: "Names the configuration. Without it the directory's name is used.",
		attrs: []attrSchema{
			{name: "domain", kind: kindString, doc: "DNS domain of the nodes."},
		},
	},
	{
		name: "controller", single: true, doc: "Limits of the controller.",
		attrs: []attrSchema{
			{name: "concurrency", kind: kindInt, def: "64", min: 1, max: 100000, doc: "Nodes being brought up at once."},
			{name: "bmc_concurrency", kind: kindInt, def: "128", min: 1, max: 100000, doc: "BMC conversations at once, at most. Over IPMI each network on which BMCs are is asked for fewer while it loses packets by it."},
			{name: "attempts", kind: kindInt, min: 1, max: 100, doc: "Tries of one transition before the node is failed. Default: 3, and for a boot that its BMC stands in the way of as many as its ladder has rungs."},
			{name: "ladder", kind: kindStrings, oneOf: rungs, doc: "What is tried, in this order, until a node boots over the network: an override for one boot, or for every boot; the BMC's other protocol; a restart of the BMC; the node's PDU outlets off and on. What a node has no means for is left out. Default: the recipe of its make, by its hardware's vendor."},
			{name: "bmc_restart", kind: kindDuration, def: "45s", doc: "How long a BMC that restarts is left alone before it is asked whether it is back."},
			{name: "backoff", kind: kindDuration, def: "10s", doc: "Pause before a retry; doubles each time, up to 16 times this."},
			{name: "deadlines", kind: kindDeadlines, doc: "Time allowed to enter a lifecycle state, by its name. A state not named keeps the lifecycle table's default."},
			{name: "power_on_rate", kind: kindNumber, max: 100000, doc: "Nodes switched on per second, at most; 0.5 is one every two seconds. Without it, no such limit."},
			{name: "power_on_settle", kind: kindDuration, doc: "How long a node that was switched on counts against power-on budgets where its agent does not call home sooner. Default: the longer of the deadlines of `enrolled` and `provisioned`."},
			{name: "power_basis", kind: kindString, def: "nameplate", oneOf: []string{"nameplate", "measured"}, doc: "What a node that starts counts against power-on budgets: `nameplate`, the `power` of its hardware; or `measured`, the most that its BMC has measured from a power-on to the agent's call, never less than half the nameplate, and the nameplate until a start of the node was watched."},
			{name: "http_port", kind: kindInt, def: "8080", min: 1, max: 65535, doc: "TCP port of the boot and agent service."},
		},
	},
	{
		name: "credential", label: "name", forEach: true, doc: "A user name and a secret, for BMCs. The secret comes from exactly one of `password`, `password_file` and `password_command`. A file is read, and a command run, when a BMC is first spoken to, once: `validate` and `plan` do neither.",
		attrs: []attrSchema{
			{name: "username", kind: kindString, required: true, doc: "User name."},
			{name: "password", kind: kindString, sensitive: true, doc: "Password. A sensitive variable without a value is allowed for `validate` and `plan`; `apply` refuses it."},
			{name: "password_file", kind: kindPath, doc: "A file whose one line is the password; relative to the configuration directory. Only its owner may read it: firstlight refuses one that group or others can."},
			{name: "password_command", kind: kindStrings, doc: "A program and its arguments, which prints the password: `[\"vault\", \"kv\", \"get\", \"-field=password\", \"secret/bmc\"]`. No shell is between. The user name is in its environment as FIRSTLIGHT_USERNAME, the label as FIRSTLIGHT_CREDENTIAL; it runs in the configuration directory, reads nothing and has 30 seconds."},
		},
	},
	{
		name: "network", label: "name", forEach: true, doc: "One IPv4 network.",
		attrs: []attrSchema{
			{name: "cidr", kind: kindPrefix, required: true, doc: "The network and its prefix length."},
			{name: "gateway", kind: kindAddr, doc: "The router that nodes are told of."},
			{name: "dhcp", kind: kindString, oneOf: []string{"full", "proxy", "relay"}, doc: "What firstlight serves here: this version serves `full` only. Without it, nothing."},
			{name: "interface", kind: kindString, doc: "The controller's interface on this network."},
			{name: "address", kind: kindAddr, doc: "The controller's own address here. Default where it has an interface or serves DHCP: in a lab the gateway, else the first host address that is not the gateway."},
		},
	},
	{
		name: "image", label: "name", forEach: true, doc: "An operating system image that nodes boot.",
		attrs: []attrSchema{
			{name: "source", kind: kindPath, required: true, doc: "Directory with an image.hcl, or a manifest; relative to the configuration directory."},
			{name: "method", kind: kindString, def: "netboot", oneOf: []string{"netboot", "disk"}, doc: "How the image gets onto the node: this version has `netboot` only."},
			{name: "digest", kind: kindString, doc: "Pins the image: \"sha256:\" and 64 hexadecimal digits."},
		},
	},
	hardwareBlock,
	acceptanceBlock,
	feedBlock,
	{
		name: "rack", label: "name", forEach: true, doc: "A rack.",
		attrs: []attrSchema{
			{name: "name", kind: kindString, doc: "Default: each.key, or the label."},
			{name: "height", kind: kindInt, def: "42", min: 1, max: 100, doc: "Rack units."},
			{name: "power_budget", kind: kindPower, doc: "What all nodes and switches of the rack may draw together."},
			{name: "power_on_budget", kind: kindPower, doc: "What its nodes that are starting may draw together, each by its nameplate: from being switched on until the agent calls home. `apply` switches on no more at once, and `plan` shows the waves."},
			{name: "feeds", kind: kindRefs, ref: "feed", doc: "Where its power comes from. Of an A and a B feed each must be able to carry all: a node counts on every one."},
			{name: "row", kind: kindString, doc: "The row it stands in."},
			{name: "position", kind: kindInt, min: 1, max: 10000, doc: "Its place in the row, counted from one end: what cable lengths are estimated from."},
		},
	},
	pduBlock,
	nodeBlock,
	switchModelBlock,
	switchBlock,
	fabricBlock,
	labBlock,
}

var hardwareBlock = &blockSchema{
	name: "hardware", label: "name", forEach: true,
	doc: "What a healthy node of this class is. What is not declared is not checked.",
	attrs: []attrSchema{
		{name: "vendor", kind: kindString, doc: "SMBIOS system manufacturer."},
		{name: "product", kind: kindString, doc: "SMBIOS product name."},
		{name: "units", kind: kindInt, def: "1", min: 1, max: 100, doc: "Rack units that a node takes, from its lowest up."},
		{name: "power", kind: kindPower, doc: "What a node may draw, by its nameplate."},
	},
	blocks: []*blockSchema{
		{name: "cpu", single: true, doc: "Processors.", attrs: []attrSchema{
			{name: "sockets", kind: kindInt, min: 1, max: 1024, doc: "Sockets."},
			{name: "cores", kind: kindInt, min: 1, max: 1 << 20, doc: "Physical cores over all sockets."},
		}},
		{name: "memory", single: true, doc: "Installed memory.", attrs: []attrSchema{
			{name: "total", kind: kindSize, doc: "All of it."},
			{name: "dimms", kind: kindInt, min: 1, max: 4096, doc: "Modules."},
		}},
		{name: "gpu", single: true, doc: "All GPUs.", attrs: []attrSchema{
			{name: "model", kind: kindString, doc: "Model name, as the driver reports it."},
			{name: "pci_id", kind: kindPCI, required: true, doc: "Vendor and device, as \"10de:2335\"."},
			{name: "count", kind: kindInt, required: true, min: 1, max: 1024, doc: "GPUs in the node."},
			{name: "memory", kind: kindSize, doc: "Of one GPU."},
			{name: "nvlinks", kind: kindInt, min: 0, max: 1024, doc: "Of one GPU."},
		}},
		{name: "hca", label: "name", doc: "One InfiniBand or RoCE adapter port.", attrs: []attrSchema{
			{name: "rail", kind: kindInt, min: 0, max: 1024, doc: "The rail it is cabled to."},
			{name: "rate", kind: kindRate, doc: "Link rate."},
			{name: "near_gpu", kind: kindInt, def: "-1", min: -1, max: 1023, doc: "Index of the GPU on the same PCIe switch; -1 is not declared."},
			{name: "device", kind: kindString, doc: "RDMA device name, as \"mlx5_3\". Default: the label."},
			{name: "pci", kind: kindPCIAddr, doc: "Where it sits on PCIe, as \"18:00.0\"."},
		}},
		{name: "disk", label: "name", doc: "A group of like disks.", attrs: []attrSchema{
			{name: "count", kind: kindInt, def: "1", min: 1, max: 4096, doc: "Disks in the group."},
			{name: "size", kind: kindSize, doc: "Of one disk."},
			{name: "transport", kind: kindString, oneOf: []string{"nvme", "sata", "sas", "virtio"}, doc: "Transport."},
		}},
	},
}

var acceptanceBlock = &blockSchema{
	name: "acceptance", label: "name", forEach: true,
	doc: "The evidence a node needs before it is `ready`. A stage that is absent is not asked for.",
	blocks: []*blockSchema{
		{name: "node", single: true, doc: "Burn-in of one node.", attrs: []attrSchema{
			{name: "gemm", kind: kindDuration, doc: "Matrix multiplication with checked results on every GPU, this long."},
			{name: "hbm_sweep", kind: kindBool, def: "false", doc: "Write and verify all GPU memory."},
		}},
		{name: "rack", single: true, doc: "Burn-in of a whole rack.", attrs: []attrSchema{
			{name: "soak", kind: kindDuration, doc: "All nodes under load together, this long."},
		}},
		{name: "fabric", single: true, doc: "Validation of the compute fabric.", attrs: []attrSchema{
			{name: "pairwise", kind: kindBool, def: "false", doc: "Bandwidth between pairs of nodes over every cable."},
			{name: "min_bandwidth", kind: kindBandwidth, doc: "Least bandwidth of a pair, per rail."},
			{name: "window", kind: kindDuration, def: "1m", doc: "How long the error counters of a node's links are watched before it is `validated`; limits of the fabric that need longer are held against what was counted by then. It comes on top of the deadline of `validated`."},
		}},
	},
}

// cannotBringUp is why a node needs a BMC and a NIC.
const cannotBringUp = "firstlight cannot bring it up without"

var nodeBlock = &blockSchema{
	name: "node", label: "name", forEach: true, doc: "A node: the usable host.",
	attrs: []attrSchema{
		{name: "name", kind: kindString, doc: "Host name. Default: each.key, or the label."},
		{name: "rack", kind: kindRef, ref: "rack", doc: "Where it stands."},
		{name: "unit", kind: kindInt, min: 1, max: 100, doc: "Its lowest rack unit."},
		{name: "serial", kind: kindString, doc: "SMBIOS system serial number."},
		{name: "hardware", kind: kindRef, ref: "hardware", doc: "What it must be."},
		{name: "image", kind: kindRef, ref: "image", doc: "What it runs."},
		{name: "acceptance", kind: kindRef, ref: "acceptance", doc: "What it must prove."},
	},
	blocks: []*blockSchema{
		{name: "bmc", single: true, need: cannotBringUp, doc: "Its baseboard controller.", attrs: []attrSchema{
			{name: "address", kind: kindAddr, required: true, doc: "Address on the out-of-band network."},
			{name: "port", kind: kindInt, min: 1, max: 65535, doc: "Default: UDP 623 for ipmi, TCP 443 for redfish."},
			{name: "protocol", kind: kindString, def: "ipmi", oneOf: []string{"ipmi", "redfish"}, doc: "Protocol that power and boot are asked by."},
			{name: "credential", kind: kindRef, ref: "credential", required: true, doc: "Who firstlight logs in as."},
		}, blocks: []*blockSchema{otherProtocol("redfish", "Redfish", "443"), otherProtocol("ipmi", "IPMI", "623")}},
		{name: "nic", label: "name", need: cannotBringUp, doc: "An Ethernet interface. The one labelled \"boot\", else the first, is what the node boots from.", attrs: []attrSchema{
			{name: "mac", kind: kindMAC, required: true, doc: "MAC address."},
			{name: "network", kind: kindRef, ref: "network", doc: "The network it is cabled to."},
			{name: "address", kind: kindAddr, doc: "Its address there; the boot NIC needs one where firstlight serves DHCP."},
		}},
		{name: "hca", label: "name", doc: "What is known of this node's own adapter of that name in its hardware.", attrs: []attrSchema{
			{name: "guid", kind: kindGUID, required: true, doc: "Its node GUID."},
		}},
		outletBlock,
	},
}

// otherProtocol is the block that declares a BMC by a second protocol.
func otherProtocol(name, what, port string) *blockSchema {
	return &blockSchema{name: name, single: true,
		doc: "The controller answers " + what + " as well, beside its `protocol`: it is asked so what it does not answer by that, and what only " + what + " has.",
		attrs: []attrSchema{
			{name: "address", kind: kindAddr, doc: "Address on the out-of-band network. Default: that of the bmc block."},
			{name: "port", kind: kindInt, min: 1, max: 65535, def: port, doc: "Port."},
			{name: "credential", kind: kindRef, ref: "credential", doc: "Who firstlight logs in as. Default: that of the bmc block."},
		}}
}

var labBlock = &blockSchema{
	name: "lab", label: "name", single: true, doc: "The declared nodes exist as virtual machines on this host.",
	attrs: []attrSchema{
		{name: "cpus", kind: kindInt, min: 1, max: 1024, doc: "Virtual CPUs of a machine. Default: the node's declared cores."},
		{name: "memory", kind: kindSize, doc: "Memory of a machine. Default: the node's declared memory."},
	},
	blocks: []*blockSchema{
		{name: "machine", label: "node", doc: "Makes one machine differ from its declaration: a lab plays faulty metal this way.", attrs: []attrSchema{
			{name: "serial", kind: kindString, doc: "SMBIOS serial it really has."},
			{name: "mac", kind: kindMAC, doc: "MAC address its boot NIC really has."},
			{name: "disks", kind: kindInt, min: 0, max: 16, doc: "Disks it really has."},
			{name: "memory", kind: kindSize, doc: "Memory it really has."},
			{name: "bmc_password", kind: kindString, sensitive: true, doc: "Password its BMC really wants."},
			{name: "faults", kind: kindStrings, oneOf: machineFaults, doc: "Faults it plays."},
			{name: "gpu_fault", kind: kindString, oneOf: gpuFaults, doc: "What is wrong with its GPU 0 when it is burned in by the reference engine."},
		}},
	},
}

// hclSchema is what HCL itself checks: names of attributes and blocks.
func (b *blockSchema) hclSchema() *hcl.BodySchema {
	s := &hcl.BodySchema{}
	for _, a := range b.attrs {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: a.name, Required: a.required})
	}
	if b.forEach {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: "for_each"}, hcl.AttributeSchema{Name: "count"})
	}
	for _, n := range b.blocks {
		s.Blocks = append(s.Blocks, n.header())
	}
	return s
}

// names are those of all attributes and nested blocks.
func (b *blockSchema) names() []string {
	var out []string
	for _, a := range b.attrs {
		out = append(out, a.name)
	}
	if b.forEach {
		out = append(out, "for_each", "count")
	}
	for _, n := range b.blocks {
		out = append(out, n.name)
	}
	return out
}

// index is the place of an attribute among the block's, or -1.
func (b *blockSchema) index(attr string) int {
	for i := range b.attrs {
		if b.attrs[i].name == attr {
			return i
		}
	}
	return -1
}

func (b *blockSchema) header() hcl.BlockHeaderSchema {
	h := hcl.BlockHeaderSchema{Type: b.name}
	if b.label != "" {
		h.LabelNames = []string{b.label}
	}
	return h
}

// topSchema returns the schema of that type, or nil.
func topSchema(name string) *blockSchema {
	for _, b := range topBlocks {
		if b.name == name {
			return b
		}
	}
	return nil
}

// nested returns the schema of a nested block type, or nil.
func (b *blockSchema) nested(name string) *blockSchema {
	for _, n := range b.blocks {
		if n.name == name {
			return n
		}
	}
	return nil
}

// referable reports whether other blocks can refer to blocks of this type.
func referable(name string) bool {
	switch name {
	case "credential", "network", "image", "hardware", "acceptance", "feed", "rack", "pdu", "switch_model", "switch":
		return true
	}
	return false
}
