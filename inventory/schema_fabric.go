package inventory

var switchModelBlock = &blockSchema{
	name: "switch_model", label: "name", forEach: true,
	doc: "What switches of a model have. The models of the table below need no declaration.",
	attrs: []attrSchema{
		{name: "ports", kind: kindInt, required: true, min: 1, max: 4096, doc: "Ports, none of them split."},
		{name: "rate", kind: kindRate, required: true, doc: "Rate of a port."},
		{name: "split", kind: kindInt, def: "1", min: 1, max: 8, doc: "Ports that one port can be split into; 1: it cannot be."},
		{name: "split_rate", kind: kindRate, doc: "Rate of each of those."},
		{name: "cage_ports", kind: kindInt, def: "1", min: 1, max: 8, doc: "Ports in one cage: 2 for a twin-port OSFP. The label of a port is its cage, its place in it, and its lane where it is split."},
		{name: "units", kind: kindInt, def: "1", min: 1, max: 100, doc: "Rack units that a switch takes."},
		{name: "power", kind: kindPower, doc: "What a switch may draw, by its nameplate."},
	},
}

var switchBlock = &blockSchema{
	name: "switch", label: "name", forEach: true,
	doc: "A switch that the cables name. The switches of a topology are not declared: it makes them.",
	attrs: []attrSchema{
		{name: "name", kind: kindString, doc: "Default: each.key, or the label."},
		{name: "model", kind: kindRef, ref: "switch_model", required: true, doc: "Its model."},
		{name: "split", kind: kindBool, def: "false", doc: "All its ports are split; they are numbered through, from 1 to ports × split."},
		{name: "role", kind: kindString, oneOf: []string{"leaf", "spine", "core"}, doc: "Its place in the fabric."},
		{name: "rail", kind: kindInt, min: 0, max: 1024, doc: "The rail whose adapters a leaf takes; 0 is any."},
		{name: "rack", kind: kindRef, ref: "rack", doc: "Where it stands."},
		{name: "unit", kind: kindInt, min: 1, max: 100, doc: "Its lowest rack unit."},
		{name: "guid", kind: kindGUID, doc: "Its node GUID."},
	},
}

var fabricBlock = &blockSchema{
	name: "fabric", label: "name", forEach: true, doc: "A declared compute or storage fabric: its cables as a list, or the topology they follow from.",
	attrs: []attrSchema{
		{name: "link_layer", kind: kindString, required: true, oneOf: []string{"infiniband", "ethernet"}, doc: "Link layer."},
		{name: "rate", kind: kindRate, doc: "Rate of the links between switches, and of those to nodes whose adapters declare none."},
		{name: "cables", kind: kindCables, doc: "Objects with a_device, a_port, b_device and b_port; usually csvdecode(file(\"cables.csv\"))."},
		{name: "others", kind: kindStrings, doc: "Names in the cables that are neither nodes nor switches, as a subnet manager's host."},
		{name: "read_through", kind: kindStrings, doc: "Ports of the controller that the fabric is read through, as \"mlx5_0\" or \"mlx5_0/2\"; \"ibsim:NAME\" is a fabric that ibsim or firstlight's lab simulates under that socket name, and \"ibsim:NAME/ADAPTER\" says where to attach. Default: every InfiniBand port of the controller that has a link."},
	},
	blocks: []*blockSchema{
		{name: "topology", label: "kind", single: true,
			doc: "Makes the switches and cables. Kind `rail_optimized` gives every rail of every scalable unit a leaf of its own; `fat_tree` fills leaves node by node.",
			attrs: []attrSchema{
				{name: "nodes", kind: kindStrings, doc: "Names, in the order in which they are cabled. Default: every node whose hardware has an hca with a rail."},
				{name: "unit_nodes", kind: kindInt, min: 1, max: 4096, doc: "Node places of a scalable unit. Default: half the ports of a leaf; in a fat tree every leaf is a unit."},
				{name: "pod_units", kind: kindInt, min: 1, max: 4096, doc: "With a core: scalable units of a pod. Default: as many as the ports of a spine allow."},
				{name: "reserved", kind: kindInt, def: "0", min: 0, max: 4096, doc: "Node places of the last unit that no node takes: those of appliances, or free."},
			},
			blocks: []*blockSchema{
				tierBlock("leaf", "it is what nodes are cabled to"), tierBlock("spine", ""), tierBlock("core", ""),
				{name: "appliance", label: "name", doc: "A device that is cabled to the leaves of the last unit, after its nodes: a fabric manager. Its ports are numbered from 1.", attrs: []attrSchema{
					{name: "ports", kind: kindInt, required: true, min: 1, max: 64, doc: "Its ports; each goes to the next leaf of the unit."},
					{name: "rack", kind: kindRef, ref: "rack", doc: "Where it stands."},
					{name: "unit", kind: kindInt, min: 1, max: 100, doc: "Its rack unit; it takes one."},
				}},
			},
		},
		partitionBlock,
		limitsBlock,
	},
}

// limitsBlock overrides what a link may count. Package fabric has the table that
// these are held to, with the source of each default.
var limitsBlock = &blockSchema{
	name: "limits", single: true,
	doc: "What a healthy link may count. What is not declared keeps its default.",
	attrs: []attrSchema{
		{name: "symbol_errors_12m", kind: kindInt, def: "2", max: mostCounted, doc: "Symbol errors that an end may receive in 12 minutes under traffic, for a bit error rate of 1e-14. The time is an NDR link's; at half the rate it is twice as long."},
		{name: "symbol_errors_125m", kind: kindInt, def: "3", max: mostCounted, doc: "The same in 125 minutes, for 1e-15."},
		{name: "link_downed", kind: kindInt, def: "0", max: mostCounted, doc: "Times that both ends may lose the link, in an hour."},
		{name: "flaps", kind: kindInt, def: "5", max: mostCounted, doc: "Times that either end may lose it, in 24 hours."},
		{name: "link_recoveries", kind: kindInt, def: "0", max: mostCounted, doc: "Successful retrainings, in an hour."},
		{name: "receive_errors", kind: kindInt, def: "0", max: mostCounted, doc: "Packets received with an error, in an hour."},
		{name: "local_integrity_errors", kind: kindInt, def: "0", max: mostCounted, doc: "Times that errors passed the port's own threshold, in an hour."},
		{name: "buffer_overruns", kind: kindInt, def: "0", max: mostCounted, doc: "Times that the input buffer overran, in an hour."},
		{name: "transmit_discards", kind: kindInt, def: "100", max: mostCounted, doc: "Packets that an end may throw away instead of sending, in an hour."},
		{name: "transmit_wait", kind: kindInt, max: mostCounted, doc: "Ticks that an end may wait to send, in a second. Without it, waiting is not judged: a tick differs from device to device."},
		{name: "temperature", kind: kindInt, def: "70", min: 1, max: 127, doc: "°C that a module may have, where it tells."},
		{name: "traffic", kind: kindInt, def: "1", min: 1, max: 100, doc: "Per cent of its rate that an end must receive for the time to count as under traffic."},
	},
}

// mostCounted bounds a limit: more than that counts nothing.
const mostCounted = 1<<31 - 1

// tierBlock is one tier of a topology.
func tierBlock(name, need string) *blockSchema {
	b := &blockSchema{name: name, single: true, need: need, doc: "The " + name + " switches.", attrs: []attrSchema{
		{name: "model", kind: kindRef, ref: "switch_model", required: true, doc: "Their model."},
		{name: "split", kind: kindBool, def: "false", doc: "All their ports are split."},
		{name: "count", kind: kindInt, min: 1, max: 100000, doc: "How many, in the whole fabric. Default: as many as carry what comes from below."},
		{name: "name", kind: kindNames, def: name + "-%02d", doc: "Their names: %d is the number, from 1."},
		{name: "racks", kind: kindRefs, ref: "rack", doc: "Racks they stand in, filled one after the other."},
		{name: "unit", kind: kindInt, def: "1", min: 1, max: 100, doc: "The lowest rack unit used in each."},
		{name: "per_rack", kind: kindInt, min: 1, max: 100, doc: "Switches in each. Default: as many as stand above `unit`."},
	}}
	if name != "core" {
		b.attrs = append(b.attrs, attrSchema{name: "uplinks", kind: kindInt, min: 1, max: 4095, doc: "Ports of each that go to the tier above. Default: as many as a full switch has below, so that nothing blocks."})
	}
	return b
}
