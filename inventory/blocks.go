package inventory

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// declared is one top-level block as it stands in a file: with for_each it
// becomes any number of instances.
type declared struct {
	block   *hcl.Block
	sc      *scope
	schema  *blockSchema
	label   string
	repeat  repeat
	content *hcl.BodyContent
	dynamic []hcl.Traversal // names in its dynamic blocks
	dynamo  bool            // it has dynamic blocks
	done    bool
	failed  bool // its for_each or count is wrong, which is reported
	insts   []*inst
	keys    []string  // of insts, with for_each and count
	value   cty.Value // of TYPE.LABEL, with for_each and count
}

// inst is one decoded block.
type inst struct {
	schema *blockSchema
	sc     *scope // nil for a block that nobody wrote
	name   string // of a top-level block: what the cluster calls it; of a nested one: its label
	each   *each
	rng    hcl.Range
	vals   []val // in the order of the schema's attributes; nil for none
	subs   []*inst
	fresh  bool // its blocks were made for it alone, by dynamic
	obj    any  // the *Rack, *Hardware, … made of it
	ref    cty.Value
}

// val is one decoded attribute.
type val struct {
	there bool
	cty   cty.Value
	x     any // as the kind says: string, int, Size, netip.Addr, *inst, …
	rng   hcl.Range
}

// val is a decoded attribute; there is false where it is absent.
func (in *inst) val(name string) val {
	if i := in.schema.index(name); i >= 0 && i < len(in.vals) {
		return in.vals[i]
	}
	return val{}
}

// set keeps the value of the attribute at index i of the schema.
func (in *inst) set(i int, v val) {
	if in.vals == nil {
		in.vals = make([]val, len(in.schema.attrs))
	}
	v.there = true
	in.vals[i] = v
}

// get returns a decoded attribute, or the zero value where it is absent or wrong.
func get[T any](in *inst, name string) T {
	x, _ := in.val(name).x.(T)
	return x
}

// has reports whether the attribute is there and right.
func (in *inst) has(name string) bool { return in.val(name).x != nil }

// wrong reports whether the attribute is there, and its value could not be used.
func (in *inst) wrong(name string) bool {
	v := in.val(name)
	return v.there && v.x == nil
}

// at is the range of an attribute, or of the block where it is absent.
func (in *inst) at(name string) hcl.Range {
	if v := in.val(name); v.there && !v.rng.Empty() {
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

// physical reports a type whose blocks are things that can be touched: one
// name over all modules.
func physical(typ string) bool {
	return typ == "node" || typ == "rack" || typ == "pdu" || typ == "feed" || typ == "switch"
}

// declareBlock notes a top-level block and what is wrong with its names.
func (sc *scope) declareBlock(b *hcl.Block) {
	ev := sc.ev
	d := &declared{block: b, sc: sc, schema: topSchema(b.Type)}
	if len(b.Labels) > 0 {
		d.label = b.Labels[0]
	}
	others := sc.blocks[b.Type]
	switch {
	case d.schema.single && sc.from != nil:
		sc.errorAt(b.DefRange, "Block outside the configuration", "A %s block stands only in the configuration itself, not in a module.", b.Type)
		return
	case d.schema.single && len(others) > 0:
		sc.errorAt(b.DefRange, "Duplicate "+b.Type+" block", "A configuration has one %s block; another is at %s.", b.Type, ev.place(others[0].block.DefRange))
		return
	}
	body := b.Body
	_, _, diags := body.PartialContent(&hcl.BodySchema{})
	probe, _, _ := body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "dynamic", LabelNames: []string{"type"}}}})
	d.dynamo = !diags.HasErrors() && len(probe.Blocks) > 0
	if d.dynamo {
		d.content, _, _ = body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "for_each"}, {Name: "count"}}})
		d.dynamic, _ = dynblock.WalkExpandVariables(body).Visit(d.schema.hclSchema())
	} else {
		d.content, diags = body.Content(d.schema.hclSchema())
		ev.contentDiags(diags, d.schema, d.block, sc.here)
	}
	if d.schema.forEach {
		d.repeat = sc.repeatOf(d.content.Attributes)
	}
	sc.blocks[b.Type] = append(others, d)
	ev.blocks[b.Type] = append(ev.blocks[b.Type], d)
}

func (d *declared) what() string { return fmt.Sprintf("%s %q", d.schema.name, d.label) }

func (d *declared) busyName() string {
	if d.sc.path == "" {
		return d.what()
	}
	return d.sc.path + "." + d.what()
}

// expand decodes a block into its instances; false when it is being expanded
// already, which is a cycle and reported.
func (sc *scope) expand(d *declared, from hcl.Range, ea *each) bool {
	if d.done {
		return true
	}
	leave, ok := sc.enter(d.what(), from, ea)
	if !ok {
		return false
	}
	defer leave()
	eas, ok := sc.repeats(d.repeat, d.what())
	d.failed = !ok
	for _, ea := range eas {
		sc.instantiate(d, ea)
	}
	d.done = true
	return true
}

// instantiate decodes one instance and registers its name.
func (sc *scope) instantiate(d *declared, ea *each) {
	ev := sc.ev
	in := &inst{schema: d.schema, sc: sc, each: ea, rng: d.block.DefRange}
	local := d.label
	switch {
	case ea == nil:
		in.each = sc.here
	case ea.count:
		local = d.label + "-" + ea.key
		d.keys = append(d.keys, ea.key)
	default:
		local = ea.key
		d.keys = append(d.keys, ea.key)
	}
	in.name = local
	content := d.content
	if d.dynamo {
		content, in.fresh = sc.dynamicContent(d, in.each), true
	}
	ev.decode(in, content)
	if n := get[string](in, "name"); n != "" {
		local = n
	}
	in.name = local
	if !physical(d.schema.name) {
		in.name = sc.prefix + local
	}
	d.insts = append(d.insts, in)
	byName := ev.named[d.schema.name]
	if byName == nil {
		byName = map[string]*inst{}
		ev.named[d.schema.name] = byName
	}
	if old := byName[in.name]; old != nil {
		hint := ""
		if old.sc != sc {
			hint = " Names are of the whole cluster, its modules included."
		}
		ev.errorAt(in.at("name"), in.each, "Duplicate "+d.schema.name, "%s %q is also declared at %s.%s", capital(d.schema.name), in.name, ev.origin(old, "name"), hint)
	} else {
		byName[in.name] = in
	}
	if sc.named[d.schema.name] == nil {
		sc.named[d.schema.name] = map[string]*inst{}
	}
	if sc.named[d.schema.name][local] == nil {
		sc.named[d.schema.name][local] = in
	}
}

// origin says where an instance comes from: the CSV row if there is one, else
// the line of the attribute, and the instance of a module.
func (ev *evaluator) origin(in *inst, attr string) string {
	at := ""
	if in.each != nil {
		at = in.each.at
	}
	if at == "" {
		at = ev.place(in.at(attr))
	}
	if in.each != nil && in.each.in != nil {
		at += " in " + in.each.in.path
	}
	return at
}

// dynamicContent expands the dynamic blocks of one instance.
func (sc *scope) dynamicContent(d *declared, ea *each) *hcl.BodyContent {
	x := &compiled{}
	for _, tr := range d.dynamic {
		if root := tr.RootName(); root == "each" || root == "count" {
			x.own = append(x.own, tr)
		} else {
			x.refs = append(x.refs, tr)
		}
	}
	vars, _, ok := sc.statics(x.refs, x, ea)
	if !sc.ownRefs(x, ea) || !ok {
		return &hcl.BodyContent{}
	}
	ctx := &hcl.EvalContext{Functions: sc.funcs, Variables: vars}
	if len(x.own) > 0 {
		ctx = ctx.NewChild()
		ctx.Variables = ea.variables()
	}
	content, diags := dynblock.Expand(d.block.Body, ctx).Content(d.schema.hclSchema())
	sc.ev.contentDiags(diags, d.schema, d.block, ea)
	return content
}

// decode fills an instance from a body's content, and says all that is wrong with it.
func (ev *evaluator) decode(in *inst, content *hcl.BodyContent) {
	for i := range in.schema.attrs {
		a := &in.schema.attrs[i]
		if attr := content.Attributes[a.name]; attr != nil {
			ev.decodeAttr(in, i, attr)
		}
		if a.def != "" && !in.has(a.name) && in.val(a.name).cty == cty.NilVal {
			v := cty.StringVal(a.def)
			x, _ := ev.convert(a, v, in.rng, nil)
			in.set(i, val{cty: v, x: x})
		}
	}
	seen := map[string]*hcl.Block{}
	for _, b := range content.Blocks {
		s := in.schema.nested(b.Type)
		if s == nil {
			continue
		}
		sub := &inst{schema: s, sc: in.sc, fresh: in.fresh, each: in.each, rng: b.DefRange}
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
		ev.decode(sub, ev.content(b, sub))
		in.subs = append(in.subs, sub)
	}
	for _, s := range in.schema.blocks {
		if s.need != "" && in.one(s.name) == nil {
			ev.errorAt(in.rng, in.each, "Missing "+s.name+" block", "A %s needs a %s block: %s.", in.schema.name, s.name, s.need)
		}
	}
}

// content is what HCL makes of a nested block, the same for every instance.
func (ev *evaluator) content(b *hcl.Block, in *inst) *hcl.BodyContent {
	if c := ev.contents[b]; c != nil {
		return c
	}
	c, diags := b.Body.Content(in.schema.hclSchema())
	ev.contentDiags(diags, in.schema, b, in.each)
	if len(diags) == 0 && !in.fresh {
		ev.contents[b] = c
	}
	return c
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
func (ev *evaluator) decodeAttr(in *inst, i int, attr *hcl.Attribute) {
	a, rng := &in.schema.attrs[i], attr.Expr.Range()
	if a.kind == kindCables {
		if cables, ok := in.sc.cables(attr.Expr, in.each); ok {
			in.set(i, val{cty: cty.DynamicVal, x: cables, rng: rng})
			return
		}
	}
	v, ok := in.sc.value(attr.Expr, in.each)
	in.set(i, val{cty: cty.DynamicVal, rng: rng})
	if !ok {
		return
	}
	if a.kind == kindRefs || a.kind == kindRef && refOf(v) != nil {
		x, _ := ev.convert(a, v, rng, in.each)
		in.set(i, val{cty: v, x: x, rng: rng})
		return
	}
	plain, marks := unmark(v)
	if len(marks) > 0 && !a.sensitive {
		ev.errorAt(rng, in.each, "Sensitive value shown", "%s is shown in plans and reports, and this value is sensitive.", a.name)
		return
	}
	if !plain.IsWhollyKnown() {
		if unset := ev.unsetSecrets(); a.sensitive && len(marks) > 0 && len(unset) > 0 {
			ev.add(hcl.DiagWarning, rng, in.each, "No value for "+a.name,
				fmt.Sprintf("The %s of %s comes from a sensitive variable that has no value. `validate` and `plan` do without; `apply` needs it: set %s, or use -var-file.",
					a.name, in.label(), strings.Join(unset, ", ")))
		}
		return // else reported where the value is missing
	}
	if a.sensitive {
		ev.hideStrings(plain)
	}
	if missing(a, plain) {
		in.set(i, val{cty: cty.NilVal, rng: rng})
		if a.required && !a.sensitive {
			in.set(i, val{cty: cty.DynamicVal, rng: rng})
			ev.errorAt(rng, in.each, "Missing value", "%s is required, and this is empty.", a.name)
		}
		return
	}
	x, ok := ev.convert(a, plain, rng, in.each)
	if !ok {
		x = nil
	}
	in.set(i, val{cty: plain, x: x, rng: rng})
}

// unmark is UnmarkDeep, without the walk where there is nothing to walk.
func unmark(v cty.Value) (cty.Value, cty.ValueMarks) {
	if v.Type().IsPrimitiveType() {
		return v.Unmark()
	}
	return v.UnmarkDeep()
}

// cables are those of csvdecode(TEXT), written so, where nothing is wrong with them.
func (sc *scope) cables(expr hcl.Expression, ea *each) ([]Cable, bool) {
	call, ok := expr.(*hclsyntax.FunctionCallExpr)
	if !ok || call.Name != "csvdecode" || len(call.Args) != 1 || call.ExpandFinal {
		return nil, false
	}
	before := len(sc.ev.diags)
	v, ok := sc.value(call.Args[0], ea)
	if !ok || v.Type() != cty.String || v.IsMarked() || !v.IsKnown() || v.IsNull() {
		sc.ev.diags = sc.ev.diags[:before] // they come again with the whole expression
		return nil, false
	}
	return sc.ev.csvCables(v.AsString(), sc.ev.texts[v.AsString()])
}

// unsetSecrets are the environment variables that would give the sensitive
// variables their values.
func (ev *evaluator) unsetSecrets() []string {
	var names []string
	for _, name := range keys(ev.root.vars) {
		if v := ev.root.vars[name]; v.unset && v.sensitive {
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
