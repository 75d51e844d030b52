package inventory

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"
)

// PKey is the number of a partition, without the bit that a port's table says in
// what kind of member it is (IBTA volume 1, 10.9.2). Zero is none.
type PKey uint16

// FullMember is the bit of an entry of a P_Key table whose port is a full member.
const FullMember = 0x8000

func (k PKey) String() string { return fmt.Sprintf("0x%04x", uint16(k)) }

var pkeyRE = regexp.MustCompile(`^0x[0-9a-fA-F]{1,4}$`)

func parsePKey(text string) (PKey, error) {
	if !pkeyRE.MatchString(text) {
		return 0, fmt.Errorf("%q is not a partition key: write four hexadecimal digits, as \"0x7fff\"", text)
	}
	n, err := strconv.ParseUint(text[2:], 16, 16)
	switch {
	case err != nil:
		return 0, err
	case n&^FullMember == 0:
		return 0, errors.New("no partition has the key 0: keys are 0x0001 to 0x7fff")
	case n&FullMember != 0:
		return 0, fmt.Errorf("%s has the bit of full members set: the partition is %s, and membership says what its nodes are in it", text, PKey(n&^FullMember))
	}
	return PKey(n), nil
}

// Partition is one that adapters of a fabric are to be in.
type Partition struct {
	Name  string
	Key   PKey
	Full  bool     // else limited: such members reach full ones only
	Nodes []string // nil: every node of the fabric
	Range hcl.Range
}

// Has reports that a node is in the partition.
func (p *Partition) Has(node string) bool { return p.Nodes == nil || slices.Contains(p.Nodes, node) }

var partitionBlock = &blockSchema{
	name: "partition", label: "name",
	doc: "A partition that the adapters of nodes on this fabric are to be in. Without any, partitions are not judged. What a port has beside its declared ones is a warning, but for the default partition, 0x7fff, which subnet managers put everywhere.",
	attrs: []attrSchema{
		{name: "pkey", kind: kindPKey, required: true, doc: "Its key, without the bit of full members."},
		{name: "membership", kind: kindString, def: "full", oneOf: []string{"full", "limited"}, doc: "What its nodes are in it. Limited members reach full ones only."},
		{name: "nodes", kind: kindStrings, doc: "Names of its nodes. Default: every node of the fabric."},
	},
}

// partitions reads those of a fabric, and holds them against its nodes.
func (ev *evaluator) partitions(in *inst, f *Fabric) {
	for _, b := range in.all("partition") {
		if f.LinkLayer == "ethernet" {
			ev.errorAt(b.rng, in.each, "Partition of another link layer", "The link layer of %s is ethernet, and only InfiniBand has partitions: leave it out.", in.label())
			return
		}
		p := Partition{Name: b.name, Key: get[PKey](b, "pkey"), Full: get[string](b, "membership") != "limited", Range: b.rng}
		if b.has("nodes") {
			p.Nodes = append([]string{}, get[[]string](b, "nodes")...)
		}
		if ev.members(in, b, &p) && p.Key != 0 && !ev.claimed(in, b, f, &p) {
			f.Partitions = append(f.Partitions, p)
		}
	}
}

// members holds the nodes of a partition against those that are declared.
func (ev *evaluator) members(fabric, in *inst, p *Partition) bool {
	var unknown, twice []string
	seen := map[string]bool{}
	for _, name := range p.Nodes {
		switch {
		case ev.named["node"][name] == nil:
			unknown = append(unknown, name)
		case seen[name]:
			twice = append(twice, name)
		}
		seen[name] = true
	}
	if len(unknown) > 0 {
		meant := "."
		if len(unknown) == 1 {
			meant = didYouMean(unknown[0], keys(ev.named["node"]))
		}
		ev.errorAt(in.at("nodes"), fabric.each, "Unknown node", "%s is listed, and no node of that name is declared%s", Fold(unknown), meant)
	}
	if len(twice) > 0 {
		ev.errorAt(in.at("nodes"), fabric.each, "Node listed twice", "%s is listed more than once.", Fold(twice))
	}
	return len(unknown)+len(twice) == 0
}

// claimed reports a node that another partition of this fabric has with the same
// key: its port has that key once, as one kind of member.
func (ev *evaluator) claimed(fabric, in *inst, f *Fabric, p *Partition) bool {
	for i := range f.Partitions {
		old := &f.Partitions[i]
		if who := p.shared(old); old.Key == p.Key && who != "" {
			ev.errorAt(in.at("pkey"), fabric.each, "Duplicate partition key", "Partition key %s of %s is also declared at %s (partition %q), for %s: a port has a key once. Say with nodes who is in which.",
				p.Key, in.label(), ev.place(old.Range), old.Name, who)
			return true
		}
	}
	return false
}

// shared are the nodes that are in both, folded; "" is none.
func (p *Partition) shared(q *Partition) string {
	switch {
	case p.Nodes == nil && q.Nodes == nil:
		return "every node"
	case p.Nodes == nil:
		return Fold(q.Nodes)
	}
	return Fold(slices.DeleteFunc(slices.Clone(p.Nodes), func(name string) bool { return !q.Has(name) }))
}
