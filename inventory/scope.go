package inventory

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// scope is where names are looked up: the configuration itself, or one
// instance of a module, which sees nothing of its caller but its inputs.
type scope struct {
	ev     *evaluator
	dir    string // as diagnostics name it
	abs    string
	path   string // module.pod["a"]; "" for the configuration
	prefix string // "pod.a.": what begins its names in the cluster
	from   *module
	up     *scope // that the module block stands in
	caller *each  // the instance of the module block; nil without for_each and count
	here   *each  // of what stands in it without for_each and count; nil for the configuration
	depth  int
	funcs  map[string]function.Function

	vars    map[string]*variable
	locals  map[string]*local
	outputs map[string]*output
	modules map[string]*module
	order   []string               // names of locals in order of declaration
	blocks  map[string][]*declared // by type, in order of declaration
	named   map[string]map[string]*inst
	whole   map[string]cty.Value // by type: all of them, for hardware[each.value.class]
	exprs   map[hcl.Expression]*compiled
}

// local is one name of a locals block.
type local struct {
	attr  *hcl.Attribute
	done  bool
	value cty.Value
}

func (ev *evaluator) newScope(dir, abs string) *scope {
	sc := &scope{
		ev: ev, dir: dir, abs: abs,
		vars: map[string]*variable{}, locals: map[string]*local{}, outputs: map[string]*output{}, modules: map[string]*module{},
		blocks: map[string][]*declared{}, named: map[string]map[string]*inst{}, whole: map[string]cty.Value{},
		exprs: map[hcl.Expression]*compiled{},
	}
	sc.funcs = sc.functions()
	return sc
}

// report records what HCL says of something in this scope.
func (sc *scope) report(diags hcl.Diagnostics) {
	for _, d := range diags {
		if sc.here != nil {
			c := *d
			c.Extra = sc.here
			d = &c
		}
		sc.ev.diags = append(sc.ev.diags, d)
	}
}

// errorAt is the evaluator's, for what stands in this scope without for_each and count.
func (sc *scope) errorAt(rng hcl.Range, summary, format string, args ...any) {
	sc.ev.errorAt(rng, sc.here, summary, format, args...)
}

func (sc *scope) declareLocals(b *hcl.Block) {
	attrs, diags := b.Body.JustAttributes()
	sc.report(diags)
	for _, name := range keys(attrs) {
		a := attrs[name]
		if old := sc.locals[name]; old != nil {
			sc.errorAt(a.NameRange, "Duplicate local value", "local.%s is also declared at %s.", name, sc.ev.place(old.attr.NameRange))
			continue
		}
		sc.locals[name] = &local{attr: a}
		sc.order = append(sc.order, name)
	}
}

// local is the value of local.name, worked out on first use.
func (sc *scope) local(name string, from hcl.Range, ea *each) cty.Value {
	l := sc.locals[name]
	if l.done {
		return l.value
	}
	leave, ok := sc.enter("local."+name, from, ea)
	if !ok {
		return cty.DynamicVal
	}
	defer leave()
	l.value, _ = sc.value(l.attr.Expr, nil)
	l.done = true
	return l.value
}

// ensureAll evaluates everything that is declared, down into the modules.
func (sc *scope) ensureAll() {
	for _, name := range keys(sc.vars) {
		sc.variable(sc.vars[name], sc.vars[name].rng, sc.here)
	}
	for _, name := range sc.order {
		sc.local(name, sc.locals[name].attr.Range, sc.here)
	}
	for _, name := range keys(sc.outputs) {
		sc.output(sc.outputs[name], sc.outputs[name].rng, sc.here)
	}
	for _, s := range topBlocks {
		for _, d := range sc.blocks[s.name] {
			sc.expand(d, d.block.DefRange, sc.here)
		}
	}
	for _, name := range keys(sc.modules) {
		m := sc.modules[name]
		if sc.expandModule(m, m.block.DefRange, sc.here) {
			for _, sub := range m.insts {
				sub.ensureAll()
			}
		}
	}
}

// lookup finds var.x, local.x, path.x, or a block by its type and label or
// name. at is the first step after what was found.
func (sc *scope) lookup(tr hcl.Traversal, root, name string, x *compiled, ea *each) (val cty.Value, at int, ok bool) {
	rng := tr.SourceRange()
	what, names := "", []string(nil)
	switch {
	case root == "var" && sc.vars[name] != nil:
		return sc.variable(sc.vars[name], rng, ea), 2, true
	case root == "var":
		what, names = "variable", keys(sc.vars)
	case root == "local" && sc.locals[name] != nil:
		return sc.local(name, rng, ea), 2, true
	case root == "local":
		what, names = "local value", keys(sc.locals)
	case root == "path" && name == "module":
		return cty.StringVal(filepath.ToSlash(sc.abs)), 2, true
	case root == "path" && name == "root":
		return cty.StringVal(filepath.ToSlash(sc.ev.abs)), 2, true
	case root == "path":
		what, names = "path", []string{"module", "root"}
	case referable(root):
		if val, at, found, said := sc.block(tr, root, name, x, ea); found || said {
			return val, at, found
		}
		what, names = root, sc.instanceNames(root)
	default:
		sc.unknownRoot(tr, root, ea)
		return cty.DynamicVal, 0, false
	}
	if name == "" {
		sc.ev.errorAt(rng, ea, "Name missing", "Write %s.NAME: %s.", root, listed(names))
		return cty.DynamicVal, 0, false
	}
	hint := didYouMean(name, names)
	if hint == "." {
		hint = ": " + listed(names) + "."
	}
	sc.ev.errorAt(rng, ea, "Unknown "+what, "No %s %q is declared%s%s", what, name, sc.inModule(), hint)
	return cty.DynamicVal, 0, false
}

// inModule says that names are those of a module, where a reader might look
// for them in the file that calls it.
func (sc *scope) inModule() string {
	if sc.from == nil {
		return ""
	}
	return " in this module"
}

func (sc *scope) unknownRoot(tr hcl.Traversal, root string, ea *each) {
	roots := []string{"var", "local", "each", "count", "module", "path"}
	for _, b := range topBlocks {
		if referable(b.name) {
			roots = append(roots, b.name)
		}
	}
	s := suggest(root, roots)
	switch {
	case len(tr) == 1 && s == "":
		sc.ev.errorAt(tr.SourceRange(), ea, "Unknown name", "%s is not a name firstlight knows. If it is text, put it in quotes: %q.", root, root)
	case s == "":
		sc.ev.errorAt(tr.SourceRange(), ea, "Unknown name", "%s is not a name firstlight knows: a reference begins with one of %s.", root, strings.Join(roots, ", "))
	default:
		sc.ev.errorAt(tr.SourceRange(), ea, "Unknown name", "%s is not a name firstlight knows. Did you mean %q?", root, s)
	}
}

// follow checks the attributes from step at on, because a wrong column name in
// each.value.unti deserves better than "unsupported attribute".
func (sc *scope) follow(tr hcl.Traversal, at int, val cty.Value, x *compiled, ea *each) bool {
	for i := at; i < len(tr); i++ {
		if val == cty.NilVal || val.IsMarked() || !val.IsKnown() || val.IsNull() || !val.Type().IsObjectType() {
			return true
		}
		name := stepName(tr[i])
		if name == "" {
			return true
		}
		if !val.Type().HasAttribute(name) {
			if x != nil && x.tried(tr.SourceRange()) {
				return true
			}
			var names []string
			for n := range val.Type().AttributeTypes() {
				if n != atAttr && n != refAttr {
					names = append(names, n)
				}
			}
			slices.Sort(names)
			sc.ev.errorAt(stepRange(tr[i]), ea, "Unknown attribute", "%s has no %q: %s%s",
				written(tr[:i]), name, listed(names), didYouMean(name, names))
			return false
		}
		val = val.GetAttr(name)
	}
	return true
}

// stepName is the name after the first dot: rack.a01 or rack["a01"].
func stepName(step hcl.Traverser) string {
	switch s := step.(type) {
	case hcl.TraverseAttr:
		return s.Name
	case hcl.TraverseIndex:
		if s.Key.Type() == cty.String && s.Key.IsKnown() && !s.Key.IsNull() {
			return s.Key.AsString()
		}
	}
	return ""
}

// stepNumber is the number in rack.r[0]; ok is false for any other step.
func stepNumber(step hcl.Traverser) (n int, ok bool) {
	s, is := step.(hcl.TraverseIndex)
	if !is || s.Key.Type() != cty.Number || !s.Key.IsKnown() || s.Key.IsNull() {
		return 0, false
	}
	f := s.Key.AsBigFloat()
	i, _ := f.Int64()
	return int(i), f.IsInt()
}

func stepRange(step hcl.Traverser) hcl.Range {
	return step.(interface{ SourceRange() hcl.Range }).SourceRange()
}

// written is a traversal as its author wrote it.
func written(tr hcl.Traversal) string {
	out := tr.RootName()
	for _, step := range tr[1:] {
		if i, ok := stepNumber(step); ok {
			out += fmt.Sprintf("[%d]", i)
		} else if n := stepName(step); hclsyntax.ValidIdentifier(n) {
			out += "." + n
		} else {
			out += fmt.Sprintf("[%q]", n)
		}
	}
	return out
}

// findTries notes the arguments of try and can in an expression. In JSON
// syntax they hide in strings, and all of the expression counts as one.
func (sc *scope) findTries(x *compiled) {
	node, native := x.expr.(hclsyntax.Node)
	if !native {
		rng := x.expr.Range()
		if f := sc.ev.src.files[rng.Filename]; f != nil && rng.CanSliceBytes(f.Bytes) {
			text := string(rng.SliceBytes(f.Bytes))
			x.whole = strings.Contains(text, "try(") || strings.Contains(text, "can(")
		}
		return
	}
	// The callback returns nothing, so neither does the walk.
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok && (call.Name == "try" || call.Name == "can") {
			for _, arg := range call.Args {
				x.tries = append(x.tries, arg.Range())
			}
		}
		return nil
	})
}

// tried reports whether a name stands where its absence is provided for.
func (x *compiled) tried(rng hcl.Range) bool {
	return x.whole || slices.ContainsFunc(x.tries, func(t hcl.Range) bool {
		return t.Start.Byte <= rng.Start.Byte && rng.End.Byte <= t.End.Byte
	})
}
