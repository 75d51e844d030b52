package inventory

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Limits on modules: far above what a site has, far below what fills the memory.
const (
	maxModuleDepth = 16
	maxModules     = 20000
)

// module is one module block: with for_each or count, any number of instances.
type module struct {
	block  *hcl.Block
	label  string
	inputs hcl.Attributes
	dir    *moduleDir // nil when it could not be read, which is reported
	repeat repeat
	done   bool
	failed bool
	insts  []*scope
	keys   []string
}

// moduleDir is a directory that holds a module, read once.
type moduleDir struct {
	dir, abs string
	body     hcl.Body
	ok       bool // false: it could not be read or has syntax errors
}

// output is one output block of a module.
type output struct {
	value     hcl.Expression
	sensitive bool
	rng       hcl.Range
	done      bool
	val       cty.Value
}

// moduleArgs are what a module block has besides inputs; no variable of a
// module can have these names.
var moduleArgs = []string{"source", "for_each", "count"}

func (sc *scope) declareModule(b *hcl.Block) {
	label := b.Labels[0]
	if !hclsyntax.ValidIdentifier(label) {
		sc.errorAt(b.LabelRanges[0], "Bad module name", "%q cannot be written as module.NAME: use letters, digits, - and _.", label)
		return
	}
	if old := sc.modules[label]; old != nil {
		sc.errorAt(b.DefRange, "Duplicate module", "Module %q is also declared at %s.", label, sc.ev.place(old.block.DefRange))
		return
	}
	attrs, diags := b.Body.JustAttributes()
	for _, d := range diags {
		if strings.HasPrefix(d.Summary, "Unexpected ") && strings.HasSuffix(d.Summary, " block") {
			d.Detail = "A module block has attributes only: source, for_each, count, and its inputs as NAME = VALUE."
		}
	}
	sc.report(diags)
	m := &module{block: b, label: label, inputs: attrs, repeat: sc.repeatOf(attrs)}
	sc.modules[label] = m
	source := attrs["source"]
	for _, name := range moduleArgs {
		delete(attrs, name)
	}
	if source == nil {
		sc.errorAt(b.DefRange, "Module without a source", "Give module %q a source: the directory of its files, as \"./modules/%s\".", label, label)
		return
	}
	m.dir = sc.moduleDir(m, source.Expr)
}

// moduleDir reads the directory that a source names.
func (sc *scope) moduleDir(m *module, expr hcl.Expression) *moduleDir {
	rng := expr.Range()
	if len(expr.Variables()) > 0 {
		sc.errorAt(rng, "Bad module source", "The source of a module is text that is read before any value is known: write the directory itself.")
		return nil
	}
	v, ok := sc.value(expr, nil)
	if !ok {
		return nil
	}
	if v.Type() != cty.String || v.IsNull() || !v.IsKnown() {
		sc.errorAt(rng, "Bad module source", "source must be the directory of the module, as \"./modules/%s\"; this is %s.", m.label, friendly(v))
		return nil
	}
	source := v.AsString()
	if !strings.HasPrefix(source, "./") && !strings.HasPrefix(source, "../") {
		sc.errorAt(rng, "Module is not local", "Modules are directories beside the configuration: source begins with \"./\" or \"../\"; this is %q.", source)
		return nil
	}
	abs := filepath.Join(sc.abs, source)
	var chain []string
	for s := sc; s != nil; s = s.parent() {
		chain = append(chain, sc.ev.dirName(s.abs))
		if samePath(s.abs, abs) {
			slices.Reverse(chain)
			sc.errorAt(rng, "Module includes itself", "%s is a directory that leads here: %s.", source, strings.Join(append(chain, sc.ev.dirName(abs)), " -> "))
			return nil
		}
	}
	if sc.depth >= maxModuleDepth {
		sc.errorAt(rng, "Modules nested too deeply", "A module is inside %d others; the limit is %d.", sc.depth, maxModuleDepth)
		return nil
	}
	return sc.readModule(filepath.Join(sc.dir, source), abs, rng)
}

// dirName is how messages name a directory.
func (ev *evaluator) dirName(abs string) string {
	if n := ev.nameOf(abs); n != "." {
		return n
	}
	return "the configuration"
}

// samePath compares directories behind their links.
func samePath(a, b string) bool {
	if r, err := filepath.EvalSymlinks(a); err == nil {
		a = r
	}
	if r, err := filepath.EvalSymlinks(b); err == nil {
		b = r
	}
	return a == b
}

func (sc *scope) readModule(dir, abs string, rng hcl.Range) *moduleDir {
	ev := sc.ev
	if d := ev.dirs[abs]; d != nil {
		return d
	}
	d := &moduleDir{dir: dir, abs: abs, body: hcl.EmptyBody()}
	names, err := configFiles(dir)
	switch {
	case err != nil:
		sc.errorAt(rng, "Cannot read the module", "%v.", err)
		return nil
	case len(names) == 0:
		sc.errorAt(rng, "No module here", "The directory %s has no *.hcl or *.hcl.json file.", dir)
		return nil
	}
	ev.dirs[abs] = d
	d.body, d.ok = ev.readFiles(dir, names)
	return d
}

// parent is the scope that a module's block stands in, or nil.
func (sc *scope) parent() *scope {
	if sc.from == nil {
		return nil
	}
	return sc.up
}

// expandModule makes the scopes of a module's instances; false when that is
// under way already, which is a cycle and reported.
func (sc *scope) expandModule(m *module, from hcl.Range, ea *each) bool {
	if m.done {
		return true
	}
	what := "module." + m.label
	leave, ok := sc.enter(what, from, ea)
	if !ok {
		return false
	}
	defer leave()
	m.done = true
	eas, ok := sc.repeats(m.repeat, fmt.Sprintf("module %q", m.label))
	m.failed = !ok || m.dir == nil || !m.dir.ok
	if m.failed {
		return true
	}
	for _, ea := range eas {
		if sc.ev.modules++; sc.ev.modules > maxModules {
			sc.errorAt(m.block.DefRange, "Too many modules", "There are more than %d instances of modules.", maxModules)
			m.failed = true
			return true
		}
		sub := sc.ev.newScope(m.dir.dir, m.dir.abs)
		sub.from, sub.up, sub.caller, sub.depth = m, sc, ea, sc.depth+1
		sub.path, sub.prefix = what, sc.prefix+m.label+"."
		switch {
		case ea == nil:
			sub.caller = sc.here
		case ea.count:
			sub.path += "[" + ea.key + "]"
			sub.prefix += ea.key + "."
		default:
			sub.path += fmt.Sprintf("[%q]", ea.key)
			sub.prefix += ea.key + "."
		}
		if sc.path != "" {
			sub.path = sc.path + "." + sub.path
		}
		if ea != nil {
			m.keys = append(m.keys, ea.key)
		}
		sub.here = &each{in: sub}
		m.insts = append(m.insts, sub)
		sub.declare(m.dir.body)
		sub.checkInputs()
	}
	return true
}

// trail says which instance of a module this is, and through which blocks it
// was reached.
func (sc *scope) trail() string {
	text := sc.path + ", declared at " + sc.ev.place(sc.from.block.DefRange)
	for s := sc.up; s.from != nil; s = s.up {
		text += ", by " + s.ev.place(s.from.block.DefRange)
	}
	return text
}

// checkInputs compares what the module block gives with what the module asks for.
func (sc *scope) checkInputs() {
	ev, m := sc.ev, sc.from
	names := keys(sc.vars)
	for _, name := range keys(m.inputs) {
		if sc.vars[name] == nil {
			ev.errorAt(m.inputs[name].NameRange, sc.caller, "Unknown input", "Module %q (%s) has no variable %q: %s%s",
				m.label, ev.nameOf(sc.abs), name, listed(names), didYouMean(name, names))
		}
	}
	for _, name := range names {
		if v := sc.vars[name]; m.inputs[name] == nil && v.def == nil {
			hint := ""
			for _, given := range keys(m.inputs) {
				if sc.vars[given] == nil && suggest(given, []string{name}) != "" {
					hint = name // said already, as a misspelt input
				}
			}
			v.set, v.checked, v.value = true, true, cty.DynamicVal
			if hint == "" {
				ev.errorAt(m.block.DefRange, sc.caller, "Missing input", "Module %q needs %s: variable %q (%s) has no default.", m.label, name, name, ev.place(v.rng))
			}
		}
	}
}

var outputSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{
	{Name: "value", Required: true}, {Name: "description"}, {Name: "sensitive"},
}}

func (sc *scope) declareOutput(b *hcl.Block) {
	name := b.Labels[0]
	if !hclsyntax.ValidIdentifier(name) {
		sc.errorAt(b.LabelRanges[0], "Bad output name", "%q cannot be written as module.NAME.OUTPUT: use letters, digits, - and _.", name)
		return
	}
	if old := sc.outputs[name]; old != nil {
		sc.errorAt(b.DefRange, "Duplicate output", "Output %q is also declared at %s.", name, sc.ev.place(old.rng))
		return
	}
	content, diags := b.Body.Content(outputSchema)
	sc.report(diags)
	o := &output{rng: b.DefRange}
	sc.outputs[name] = o
	if a := content.Attributes["value"]; a != nil {
		o.value = a.Expr
	}
	o.sensitive = sc.flag(content.Attributes["sensitive"], false, true)
}

// output is the value of an output, worked out on first use.
func (sc *scope) output(o *output, from hcl.Range, ea *each) cty.Value {
	if o.done {
		return o.val
	}
	name := ""
	for n, other := range sc.outputs {
		if other == o {
			name = n
		}
	}
	leave, ok := sc.enter("output."+name, from, ea)
	if !ok {
		return cty.DynamicVal
	}
	defer leave()
	o.val, o.done = cty.DynamicVal, true
	if o.value != nil {
		o.val, _ = sc.value(o.value, nil)
	}
	if o.sensitive {
		sc.ev.hideStrings(o.val)
		o.val = o.val.Mark(markSensitive)
	}
	return o.val
}

// need is what an expression uses of one module block.
type need struct {
	m    *module
	all  bool
	outs map[int]map[string]bool // by instance: names of outputs; "" is all of them
}

// needModule notes what one name uses of a module, so that only that is
// worked out.
func (sc *scope) needModule(tr hcl.Traversal, label string, needs map[string]*need, x *compiled, ea *each) bool {
	ev, rng := sc.ev, tr.SourceRange()
	m := sc.modules[label]
	if m == nil {
		names := keys(sc.modules)
		if label == "" {
			ev.errorAt(rng, ea, "Name missing", "Write module.NAME.OUTPUT: %s.", listed(names))
			return false
		}
		ev.errorAt(rng, ea, "Unknown module", "No module %q is declared%s: %s%s", label, sc.inModule(), listed(names), didYouMean(label, names))
		return false
	}
	if !sc.expandModule(m, rng, ea) {
		return false
	}
	n := needs[label]
	if n == nil {
		n = &need{m: m, outs: map[int]map[string]bool{}}
		needs[label] = n
	}
	if m.failed {
		return true
	}
	i, at := 0, 2
	if m.repeat.any() {
		k, picked, ok := sc.pick(tr, 2, m.repeat, m.keys, x, ea)
		if !ok {
			return false
		}
		if !picked {
			n.all = true
			return true
		}
		i, at = k, 3
	}
	if n.outs[i] == nil {
		n.outs[i] = map[string]bool{}
	}
	name := ""
	if len(tr) > at {
		name = stepName(tr[at])
	}
	sub := m.insts[i]
	o := sub.outputs[name]
	if name != "" && o == nil && !x.tried(rng) {
		names := keys(sub.outputs)
		ev.errorAt(stepRange(tr[at]), ea, "Unknown output", "%s has no output %q: %s%s", written(tr[:at]), name, listed(names), didYouMean(name, names))
		return false
	}
	if o == nil && name != "" {
		return true
	}
	n.outs[i][name] = true
	return o == nil || sc.follow(tr, at+1, sub.output(o, rng, ea), x, ea)
}

// moduleValues is the variable `module`, with what is needed of each.
func (sc *scope) moduleValues(needs map[string]*need) cty.Value {
	vals := map[string]cty.Value{}
	for label, n := range needs {
		if n.m.failed {
			vals[label] = cty.DynamicVal
			continue
		}
		insts := make([]cty.Value, len(n.m.insts))
		byKey := map[string]cty.Value{}
		for i, sub := range n.m.insts {
			outs := map[string]cty.Value{}
			for _, name := range keys(sub.outputs) {
				if o := sub.outputs[name]; n.all || n.outs[i][name] || n.outs[i][""] {
					outs[name] = sub.output(o, o.rng, sub.here)
				}
			}
			insts[i] = cty.ObjectVal(outs)
			if n.m.repeat.forEach != nil {
				byKey[n.m.keys[i]] = insts[i]
			}
		}
		switch {
		case n.m.repeat.forEach != nil:
			vals[label] = cty.ObjectVal(byKey)
		case n.m.repeat.count != nil:
			vals[label] = cty.TupleVal(insts)
		default:
			vals[label] = insts[0]
		}
	}
	return cty.ObjectVal(vals)
}
