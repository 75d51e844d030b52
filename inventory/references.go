package inventory

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// value is what a reference to the block gives: its attributes and itself.
func (in *inst) value() cty.Value {
	if in.ref != cty.NilVal {
		return in.ref
	}
	attrs := map[string]cty.Value{"name": cty.StringVal(in.name), refAttr: cty.CapsuleVal(refType, in)}
	for _, a := range in.schema.attrs {
		v := in.val(a.name)
		switch {
		case a.name == "name":
		case !v.there || v.cty == cty.NilVal:
			attrs[a.name] = cty.NullVal(cty.DynamicPseudoType)
		case a.sensitive:
			attrs[a.name] = v.cty.Mark(markSensitive)
		default:
			attrs[a.name] = v.cty
		}
	}
	in.ref = cty.ObjectVal(attrs)
	return in.ref
}

// block finds a block by its type and label, or else by its name. said is
// true when there is none and that is already reported.
func (sc *scope) block(tr hcl.Traversal, typ, name string, x *compiled, ea *each) (val cty.Value, at int, found, said bool) {
	rng := tr.SourceRange()
	if _, own := sc.labelled(typ, name); !own && sc.from != nil && typ == "switch_model" && sc.ev.builtin[name] {
		return sc.ev.root.block(tr, typ, name, x, ea) // what firstlight brings along is everywhere
	}
	d, ok := sc.labelled(typ, name)
	if d != nil {
		if !sc.expand(d, rng, ea) {
			return cty.DynamicVal, 0, false, true
		}
		if d.repeat.any() {
			if d.failed {
				return cty.DynamicVal, len(tr), true, false
			}
			_, picked, ok := sc.pick(tr, 2, d.repeat, d.keys, x, ea)
			if !ok {
				return cty.DynamicVal, 0, false, true
			}
			at = len(tr)
			if picked {
				at = 2
			}
			return d.all(), at, true, false
		}
		return d.insts[0].value(), 2, true, false
	}
	in, busy := sc.instance(typ, name, rng, ea)
	switch {
	case in != nil:
		return in.value(), 2, true, false
	case busy:
		return cty.DynamicVal, 0, false, true
	case ok:
		var places []string
		for _, d := range sc.blocks[typ] {
			if d.label == name {
				places = append(places, sc.ev.place(d.block.DefRange))
			}
		}
		sc.ev.errorAt(rng, ea, "Which "+typ+"?", "%d %s blocks have the label %q (%s): give them labels of their own, or refer to one by its name.",
			len(places), typ, name, strings.Join(places, ", "))
		return cty.DynamicVal, 0, false, true
	}
	return cty.DynamicVal, 0, false, false
}

// labelled is the one block of that type and label, and whether there is any.
func (sc *scope) labelled(typ, label string) (only *declared, some bool) {
	for _, d := range sc.blocks[typ] {
		if d.label != label || label == "" {
			continue
		}
		if some {
			return nil, true
		}
		only, some = d, true
	}
	return only, some
}

// all is TYPE.LABEL with for_each or count: an object, or a tuple, of its instances.
func (d *declared) all() cty.Value {
	switch {
	case d.value != cty.NilVal:
	case d.repeat.count != nil:
		vals := make([]cty.Value, len(d.insts))
		for i, in := range d.insts {
			vals[i] = in.value()
		}
		d.value = cty.TupleVal(vals)
	default:
		vals := map[string]cty.Value{}
		for i, in := range d.insts {
			vals[d.keys[i]] = in.value()
		}
		d.value = cty.ObjectVal(vals)
	}
	return d.value
}

// instance finds a block by type and name. busy is true when it is being
// worked out right now, which is a cycle and already reported.
func (sc *scope) instance(typ, name string, from hcl.Range, ea *each) (in *inst, busy bool) {
	if in := sc.named[typ][name]; in != nil {
		return in, false
	}
	before := len(sc.ev.diags)
	for _, d := range sc.blocks[typ] {
		if !d.repeat.any() && d.label == name && !d.done {
			if !sc.expand(d, from, ea) {
				return nil, len(sc.ev.diags) > before
			}
		}
	}
	if in := sc.named[typ][name]; in != nil {
		return in, false
	}
	for _, d := range sc.blocks[typ] {
		if !d.done && !sc.expand(d, from, ea) {
			busy = true
		}
	}
	in = sc.named[typ][name]
	return in, in == nil && busy
}

// instanceNames are the names and labels that references of a type can have.
func (sc *scope) instanceNames(typ string) []string {
	for _, d := range sc.blocks[typ] {
		if !d.done && !slices.Contains(sc.ev.busy, d.busyName()) {
			sc.expand(d, d.block.DefRange, sc.here)
		}
	}
	return keys(sc.named[typ])
}

// wholeType is the object of all blocks of a type, for hardware[each.value.class].
func (sc *scope) wholeType(typ string) cty.Value {
	if v, ok := sc.whole[typ]; ok {
		return v
	}
	vals := map[string]cty.Value{}
	for _, name := range sc.instanceNames(typ) {
		vals[name] = sc.named[typ][name].value()
	}
	for _, d := range sc.blocks[typ] {
		if _, taken := vals[d.label]; !taken && d.done && !d.repeat.any() {
			vals[d.label] = d.insts[0].value()
		}
	}
	if typ == "switch_model" && sc.from != nil {
		for label := range sc.ev.builtin {
			if in := sc.ev.root.named[typ][label]; in != nil && vals[label] == cty.NilVal {
				vals[label] = in.value()
			}
		}
	}
	sc.whole[typ] = cty.ObjectVal(vals)
	return sc.whole[typ]
}

// refOf returns the block a value refers to, or nil.
func refOf(v cty.Value) *inst {
	if v.IsKnown() && !v.IsNull() && !v.IsMarked() && v.Type().IsObjectType() && v.Type().HasAttribute(refAttr) {
		if r := v.GetAttr(refAttr); r.Type() == refType && r.IsKnown() && !r.IsNull() && !r.IsMarked() {
			return r.EncapsulatedValue().(*inst)
		}
	}
	return nil
}
