package inventory

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// declared is one top-level block as it stands in a file: with for_each it
// becomes any number of instances.
type declared struct {
	block   *hcl.Block
	schema  *blockSchema
	label   string
	forEach hcl.Expression // nil for none
	content *hcl.BodyContent
	dynamic bool
	done    bool
	insts   []*inst
}

// inst is one decoded block.
type inst struct {
	schema *blockSchema
	name   string // of a top-level block: what references call it; of a nested one: its label
	each   *each
	rng    hcl.Range
	vals   map[string]val
	subs   []*inst
	obj    any // the *Rack, *Hardware, … made of it
	ref    cty.Value
}

// val is one decoded attribute.
type val struct {
	cty cty.Value
	x   any // as the kind says: string, int, Size, netip.Addr, *inst, …
	rng hcl.Range
}

// get returns a decoded attribute, or the zero value where it is absent or wrong.
func get[T any](in *inst, name string) T {
	x, _ := in.vals[name].x.(T)
	return x
}

// has reports whether the attribute is there and right.
func (in *inst) has(name string) bool { return in.vals[name].x != nil }

// wrong reports whether the attribute is there, and its value could not be used.
func (in *inst) wrong(name string) bool {
	v, there := in.vals[name]
	return there && v.x == nil
}

// at is the range of an attribute, or of the block where it is absent.
func (in *inst) at(name string) hcl.Range {
	if v, ok := in.vals[name]; ok && !v.rng.Empty() {
		return v.rng
	}
	return in.rng
}

// all returns the nested blocks of a type.
func (in *inst) all(block string) []*inst {
	var out []*inst
	for _, s := range in.subs {
		if s.schema.name == block {
			out = append(out, s)
		}
	}
	return out
}

// one returns the nested block of a type, or nil.
func (in *inst) one(block string) *inst {
	for _, s := range in.subs {
		if s.schema.name == block {
			return s
		}
	}
	return nil
}

// value is what a reference to the block gives: its attributes and itself.
func (in *inst) value() cty.Value {
	if in.ref != cty.NilVal {
		return in.ref
	}
	attrs := map[string]cty.Value{"name": cty.StringVal(in.name), refAttr: cty.CapsuleVal(refType, in)}
	for _, a := range in.schema.attrs {
		v, ok := in.vals[a.name]
		switch {
		case a.name == "name":
		case !ok || v.cty == cty.NilVal:
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

// declareBlock notes a top-level block and what is wrong with its names.
func (ev *evaluator) declareBlock(b *hcl.Block) {
	d := &declared{block: b, schema: topSchema(b.Type)}
	if len(b.Labels) > 0 {
		d.label = b.Labels[0]
	}
	others := ev.blocks[b.Type]
	if d.schema.single && len(others) > 0 {
		ev.errorAt(b.DefRange, nil, "Duplicate "+b.Type+" block", "A configuration has one %s block; another is at %s.", b.Type, ev.place(others[0].block.DefRange))
		return
	}
	body := b.Body
	_, _, diags := body.PartialContent(&hcl.BodySchema{})
	probe, _, _ := body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "dynamic", LabelNames: []string{"type"}}}})
	d.dynamic = !diags.HasErrors() && len(probe.Blocks) > 0
	if d.dynamic {
		probe, _, _ = body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "for_each"}}})
		d.content = probe
	} else {
		d.content, diags = body.Content(d.schema.hclSchema())
		ev.contentDiags(diags, d.schema, d.block, nil)
	}
	if a := d.content.Attributes["for_each"]; a != nil && d.schema.forEach {
		d.forEach = a.Expr
	}
	ev.blocks[b.Type] = append(others, d)
}

// ensureAll evaluates every local value and every block.
func (ev *evaluator) ensureAll() {
	for _, name := range ev.order {
		ev.local(name, ev.locals[name].attr.Range)
	}
	for _, s := range topBlocks {
		for _, d := range ev.blocks[s.name] {
			ev.expand(d, d.block.DefRange)
		}
	}
}

// instance finds a block by type and name. busy is true when it is being
// worked out right now, which is a cycle and already reported.
func (ev *evaluator) instance(typ, name string, from hcl.Range) (in *inst, busy bool) {
	if in := ev.named[typ][name]; in != nil {
		return in, false
	}
	before := len(ev.diags)
	for _, d := range ev.blocks[typ] {
		if d.forEach == nil && d.label == name && !d.done {
			if !ev.expand(d, from) {
				return nil, len(ev.diags) > before
			}
		}
	}
	if in := ev.named[typ][name]; in != nil {
		return in, false
	}
	for _, d := range ev.blocks[typ] {
		if d.forEach != nil && !d.done && !ev.expand(d, from) {
			busy = true
		}
	}
	in = ev.named[typ][name]
	return in, in == nil && busy
}

func (ev *evaluator) instanceNames(typ string) []string {
	for _, d := range ev.blocks[typ] {
		if !d.done && !slices.Contains(ev.busy, d.what()) {
			ev.expand(d, d.block.DefRange)
		}
	}
	return keys(ev.named[typ])
}

// wholeType is the object of all blocks of a type, for hardware[each.value.class].
func (ev *evaluator) wholeType(typ string) cty.Value {
	if v, ok := ev.whole[typ]; ok {
		return v
	}
	vals := map[string]cty.Value{}
	for _, name := range ev.instanceNames(typ) {
		vals[name] = ev.named[typ][name].value()
	}
	ev.whole[typ] = cty.ObjectVal(vals)
	return ev.whole[typ]
}

func (d *declared) what() string { return fmt.Sprintf("%s %q", d.schema.name, d.label) }

// expand decodes a block into its instances; false when it is being expanded
// already, which is a cycle and reported.
func (ev *evaluator) expand(d *declared, from hcl.Range) bool {
	if d.done {
		return true
	}
	leave, ok := ev.enter(d.what(), from)
	if !ok {
		return false
	}
	defer leave()
	if d.forEach == nil {
		ev.instantiate(d, nil)
	} else {
		for _, ea := range ev.eaches(d) {
			ev.instantiate(d, ea)
		}
	}
	d.done = true
	return true
}

// instantiate decodes one instance and registers its name.
func (ev *evaluator) instantiate(d *declared, ea *each) {
	in := &inst{schema: d.schema, name: d.label, each: ea, rng: d.block.DefRange, vals: map[string]val{}}
	if ea != nil {
		in.name = ea.key
	}
	content := d.content
	if d.dynamic {
		content = ev.dynamicContent(d, ea)
	}
	ev.decode(in, content)
	if n := get[string](in, "name"); n != "" {
		in.name = n
	}
	d.insts = append(d.insts, in)
	byName := ev.named[d.schema.name]
	if byName == nil {
		byName = map[string]*inst{}
		ev.named[d.schema.name] = byName
	}
	if old := byName[in.name]; old != nil {
		ev.errorAt(in.at("name"), ea, "Duplicate "+d.schema.name, "%s %q is also declared at %s.", capital(d.schema.name), in.name, ev.origin(old, "name"))
		return
	}
	byName[in.name] = in
}

// origin says where an instance comes from: the CSV row if there is one, else
// the line of the attribute.
func (ev *evaluator) origin(in *inst, attr string) string {
	if in.each != nil && in.each.at != "" {
		return in.each.at
	}
	return ev.place(in.at(attr))
}

// eaches evaluates for_each: a map or object gives key and value, a list or
// set of strings gives each string as both.
func (ev *evaluator) eaches(d *declared) []*each {
	rng := d.forEach.Range()
	v, ok := ev.value(d.forEach, nil)
	switch {
	case !ok:
		return nil
	case v.ContainsMarked():
		ev.errorAt(rng, nil, "Sensitive for_each", "for_each must not depend on a sensitive value: its keys become names.")
		return nil
	case !v.IsKnown():
		return nil // reported where the value is missing
	case v.IsNull() || !v.CanIterateElements():
		ev.errorAt(rng, nil, "Wrong type", "for_each must be a map, an object, or a list of strings; this is %s.", friendly(v))
		return nil
	}
	keyed := v.Type().IsObjectType() || v.Type().IsMapType()
	var out []*each
	for it := v.ElementIterator(); it.Next(); {
		key, val := it.Element()
		if !keyed {
			key = val
			if val.Type() != cty.String {
				ev.errorAt(rng, nil, "Wrong type", "for_each over a list takes strings; this has %s. Make a map: { for x in LIST : x.name => x }.", friendly(val))
				return nil
			}
		}
		if key.IsNull() || !key.IsKnown() {
			continue
		}
		ea := &each{block: d.what(), key: key.AsString(), value: val, at: rowOf(val)}
		out = append(out, ea)
	}
	return out
}

// rowOf is where csvdecode found a row, or "".
func rowOf(v cty.Value) string {
	if v.IsKnown() && !v.IsNull() && v.Type().IsObjectType() && v.Type().HasAttribute(atAttr) {
		at := v.GetAttr(atAttr)
		if at.Type() == cty.String && at.IsKnown() && !at.IsNull() && !at.IsMarked() {
			return at.AsString()
		}
	}
	return ""
}

// dynamicContent expands the dynamic blocks of one instance.
func (ev *evaluator) dynamicContent(d *declared, ea *each) *hcl.BodyContent {
	vars, _ := dynblock.WalkExpandVariables(d.block.Body).Visit(d.schema.hclSchema())
	ctx, _, ok := ev.context(traversals{d.block.DefRange, vars}, ea)
	if !ok {
		return &hcl.BodyContent{}
	}
	content, diags := dynblock.Expand(d.block.Body, ctx).Content(d.schema.hclSchema())
	ev.contentDiags(diags, d.schema, d.block, ea)
	return content
}

// traversals lets context look up names that belong to no single expression.
type traversals struct {
	rng  hcl.Range
	vars []hcl.Traversal
}

func (t traversals) Value(*hcl.EvalContext) (cty.Value, hcl.Diagnostics) { return cty.DynamicVal, nil }
func (t traversals) Variables() []hcl.Traversal                          { return t.vars }
func (t traversals) Range() hcl.Range                                    { return t.rng }
func (t traversals) StartRange() hcl.Range                               { return t.rng }

// decode fills an instance from a body's content, and says all that is wrong with it.
func (ev *evaluator) decode(in *inst, content *hcl.BodyContent) {
	for i := range in.schema.attrs {
		a := &in.schema.attrs[i]
		if attr := content.Attributes[a.name]; attr != nil {
			ev.decodeAttr(in, a, attr)
		}
		if !in.has(a.name) && a.def != "" && in.vals[a.name].cty == cty.NilVal {
			v := cty.StringVal(a.def)
			x, _ := ev.convert(a, v, in.rng, nil)
			in.vals[a.name] = val{cty: v, x: x}
		}
	}
	seen := map[string]*hcl.Block{}
	for _, b := range content.Blocks {
		s := in.schema.nested(b.Type)
		if s == nil {
			continue
		}
		sub := &inst{schema: s, each: in.each, rng: b.DefRange, vals: map[string]val{}}
		key := b.Type
		if len(b.Labels) > 0 {
			sub.name = b.Labels[0]
			key += fmt.Sprintf(" %q", sub.name)
		}
		if old := seen[key]; old != nil && (s.single || s.label != "") {
			ev.errorAt(b.DefRange, in.each, "Duplicate "+b.Type+" block", "Block %s is also declared at %s.", key, ev.place(old.DefRange))
			continue
		}
		seen[key] = b
		c, diags := b.Body.Content(s.hclSchema())
		ev.contentDiags(diags, s, b, nil)
		ev.decode(sub, c)
		in.subs = append(in.subs, sub)
	}
	for _, s := range in.schema.blocks {
		if s.need != "" && in.one(s.name) == nil {
			ev.errorAt(in.rng, in.each, "Missing "+s.name+" block", "A %s needs a %s block: %s.", in.schema.name, s.name, s.need)
		}
	}
}

// unknownName finds the name in HCL's messages about unknown arguments and blocks.
var unknownName = regexp.MustCompile(`(?:named|of type|is named) "([^"]+)"`)

// contentDiags records what HCL says of a body, with a better idea of what
// was meant: HCL does not suggest names that the body has already.
func (ev *evaluator) contentDiags(diags hcl.Diagnostics, s *blockSchema, b *hcl.Block, ea *each) {
	for _, d := range diags {
		rng, detail := b.DefRange, d.Detail
		if d.Subject != nil {
			rng = *d.Subject
		}
		m := unknownName.FindStringSubmatch(detail)
		switch d.Summary {
		case "Unsupported argument", "Unsupported block type", "Extraneous JSON object property":
			if m != nil && !strings.Contains(detail, "Did you mean to") {
				names := s.names()
				detail = fmt.Sprintf("A %s block has no %q: %s%s", s.name, m[1], listed(names), didYouMean(m[1], names))
			}
		}
		ev.add(d.Severity, rng, ea, d.Summary, detail)
	}
}

// decodeAttr evaluates and converts one attribute.
func (ev *evaluator) decodeAttr(in *inst, a *attrSchema, attr *hcl.Attribute) {
	rng := attr.Expr.Range()
	v, ok := ev.value(attr.Expr, in.each)
	in.vals[a.name] = val{cty: cty.DynamicVal, rng: rng}
	if !ok {
		return
	}
	if a.kind == kindRefs || a.kind == kindRef && refOf(v) != nil {
		x, _ := ev.convert(a, v, rng, in.each)
		in.vals[a.name] = val{cty: v, x: x, rng: rng}
		return
	}
	plain, marks := v.UnmarkDeep()
	if len(marks) > 0 && !a.sensitive {
		ev.errorAt(rng, in.each, "Sensitive value shown", "%s is shown in plans and reports, and this value is sensitive.", a.name)
		return
	}
	if !plain.IsWhollyKnown() {
		if a.sensitive && len(marks) > 0 {
			ev.add(hcl.DiagWarning, rng, in.each, "No value for "+a.name,
				fmt.Sprintf("The %s of %s comes from a sensitive variable that has no value. `validate` and `plan` do without; `apply` needs it: set %s, or use -var-file.",
					a.name, in.label(), strings.Join(ev.unsetSecrets(), ", ")))
		}
		return // else reported where the value is missing
	}
	if a.sensitive {
		ev.hideStrings(plain)
	}
	if missing(a, plain) {
		in.vals[a.name] = val{cty: cty.NilVal, rng: rng}
		if a.required && !a.sensitive {
			in.vals[a.name] = val{cty: cty.DynamicVal, rng: rng}
			ev.errorAt(rng, in.each, "Missing value", "%s is required, and this is empty.", a.name)
		}
		return
	}
	x, ok := ev.convert(a, plain, rng, in.each)
	if !ok {
		x = nil
	}
	in.vals[a.name] = val{cty: plain, x: x, rng: rng}
}

// unsetSecrets are the environment variables that would give the sensitive
// variables their values.
func (ev *evaluator) unsetSecrets() []string {
	var names []string
	for _, name := range keys(ev.vars) {
		if v := ev.vars[name]; v.unset && v.sensitive {
			names = append(names, "FIRSTLIGHT_VAR_"+name)
		}
	}
	return names
}

// missing reports a value that is as good as absent: null, or the empty cell
// of a CSV where a number or an address is wanted.
func missing(a *attrSchema, v cty.Value) bool {
	if v.IsNull() {
		return true
	}
	if v.Type() != cty.String || v.AsString() != "" {
		return false
	}
	return a.kind != kindString || a.required
}

// friendly names a value's type for a person.
func friendly(v cty.Value) string {
	switch t := v.Type(); {
	case v.IsNull():
		return "null"
	case refOf(v) != nil:
		in := refOf(v)
		return fmt.Sprintf("a reference to %s %q", in.schema.name, in.name)
	case t == cty.String:
		if v.IsMarked() || !v.IsKnown() {
			return "text"
		}
		return fmt.Sprintf("the text %q", v.AsString())
	case t == cty.Number:
		if s, err := convert.Convert(v, cty.String); err == nil && s.IsKnown() && !s.IsMarked() {
			return "the number " + s.AsString()
		}
		return "a number"
	case t == cty.Bool:
		return "true or false"
	case t.IsObjectType() || t.IsMapType():
		return "an object"
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		return "a list"
	}
	return v.Type().FriendlyName()
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
