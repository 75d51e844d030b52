package inventory

// feedBlock is where racks have their power from.
var feedBlock = &blockSchema{
	name: "feed", label: "name", forEach: true,
	doc: "A power feed that racks share: a busway, or a panel, behind one breaker.",
	attrs: []attrSchema{
		{name: "name", kind: kindString, doc: "Default: each.key, or the label."},
		{name: "power_budget", kind: kindPower, doc: "What all nodes and switches of the racks on it may draw together."},
		{name: "power_on_budget", kind: kindPower, doc: "What the nodes on it that are starting may draw together: as a rack's."},
	},
}
