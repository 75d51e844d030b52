package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// evaluator turns parsed files into block instances. Values are worked out on
// first use, so declarations may stand in any order.
type evaluator struct {
	dir     string // as given
	abs     string
	opt     Options
	src     *Source
	diags   hcl.Diagnostics
	secrets []string
	inputs  *inputs
	funcs   map[string]function.Function
	csv     map[string]string // text of a file read -> its name, for csvdecode
	lines   map[string][]int  // where the lines of a CSV file begin

	vars   map[string]*variable
	locals map[string]*local
	blocks map[string][]*declared      // by type, in order of declaration
	named  map[string]map[string]*inst // by type and name: what references find
	whole  map[string]cty.Value        // by type: all of them, for hardware[each.value.class]
	order  []string                    // names of locals in order of declaration
	busy   []string                    // what is being worked out now, outermost first
}

// local is one name of a locals block.
type local struct {
	attr  *hcl.Attribute
	done  bool
	value cty.Value
}

// each is one for_each instance.
type each struct {
	block string // `node "hnode"`
	key   string
	value cty.Value
	at    string // the CSV line it came from, "assets.csv:18", or ""
}

func newEvaluator(dir string, opt Options, src *Source) *evaluator {
	ev := &evaluator{
		dir: dir, abs: dir, opt: opt, src: src,
		inputs: &inputs{lines: map[string]struct{}{}},
		csv:    map[string]string{},
		lines:  map[string][]int{},
		vars:   map[string]*variable{}, locals: map[string]*local{},
		blocks: map[string][]*declared{}, named: map[string]map[string]*inst{}, whole: map[string]cty.Value{},
	}
	if abs, err := filepath.Abs(dir); err == nil {
		ev.abs = abs
	}
	ev.funcs = ev.functions()
	return ev
}

func (ev *evaluator) env(name string) (string, bool) {
	if ev.opt.Env != nil {
		return ev.opt.Env(name)
	}
	return os.LookupEnv(name)
}

func (ev *evaluator) declareLocals(b *hcl.Block) {
	attrs, diags := b.Body.JustAttributes()
	ev.diags = append(ev.diags, diags...)
	for _, name := range keys(attrs) {
		a := attrs[name]
		if old := ev.locals[name]; old != nil {
			ev.errorAt(a.NameRange, nil, "Duplicate local value", "local.%s is also declared at %s.", name, ev.place(old.attr.NameRange))
			continue
		}
		ev.locals[name] = &local{attr: a}
		ev.order = append(ev.order, name)
	}
}

// value evaluates an expression. ok is false when it failed, which is then
// already reported.
func (ev *evaluator) value(expr hcl.Expression, ea *each) (val cty.Value, ok bool) {
	ctx, used, ok := ev.context(expr, ea)
	if !ok {
		return cty.DynamicVal, false
	}
	val, diags := expr.Value(ctx)
	tainted := len(diags) > 0 && slices.ContainsFunc(used, cty.Value.ContainsMarked)
	for _, d := range diags {
		rng := expr.Range()
		if d.Subject != nil {
			rng = *d.Subject
		}
		detail := d.Detail
		if tainted {
			// The message may quote the value, or something made of it.
			detail = "This is made of a sensitive value, so the details are withheld."
		}
		ev.add(d.Severity, rng, ea, d.Summary, detail)
	}
	if diags.HasErrors() {
		return cty.DynamicVal, false
	}
	return val, true
}

// context makes what an expression needs to be evaluated: the values of the
// names in it, which are also returned, and the functions.
func (ev *evaluator) context(expr hcl.Expression, ea *each) (ctx *hcl.EvalContext, used []cty.Value, ok bool) {
	ok = true
	roots := map[string]map[string]cty.Value{}
	all := map[string]cty.Value{}
	for _, tr := range expr.Variables() {
		root, name := tr.RootName(), ""
		if len(tr) > 1 {
			name = stepName(tr[1])
		}
		var val cty.Value
		found := false
		switch {
		case root == "each":
			val, found = ev.eachValue(tr, name, ea)
		case name == "" && len(tr) > 1 && referable(root), len(tr) == 1 && referable(root):
			all[root] = ev.wholeType(root)
			used = append(used, all[root])
			continue
		default:
			val, found = ev.lookup(tr, root, name, ea)
		}
		if !found || !ev.follow(tr, val, ea) {
			ok = false
			continue
		}
		used = append(used, val)
		if roots[root] == nil {
			roots[root] = map[string]cty.Value{}
		}
		roots[root][name] = val
	}
	ctx = &hcl.EvalContext{Functions: ev.funcs, Variables: all}
	for root, vals := range roots {
		if _, dup := all[root]; !dup {
			all[root] = cty.ObjectVal(vals)
		}
	}
	return ctx, used, ok
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

func (ev *evaluator) eachValue(tr hcl.Traversal, name string, ea *each) (cty.Value, bool) {
	switch {
	case ea == nil:
		ev.errorAt(tr.SourceRange(), nil, "each outside for_each", "each.key and each.value exist only in a block that has for_each.")
	case name == "key":
		return cty.StringVal(ea.key), true
	case name == "value":
		return ea.value, true
	default:
		ev.errorAt(tr.SourceRange(), ea, "Unknown name", "each has key and value only.")
	}
	return cty.DynamicVal, false
}

// lookup finds var.x, local.x or a block by its type and name.
func (ev *evaluator) lookup(tr hcl.Traversal, root, name string, ea *each) (cty.Value, bool) {
	rng := tr.SourceRange()
	what, names := "", []string(nil)
	switch {
	case root == "var" && ev.vars[name] != nil:
		return ev.vars[name].value, true
	case root == "var":
		what, names = "variable", keys(ev.vars)
	case root == "local" && ev.locals[name] != nil:
		return ev.local(name, rng), true
	case root == "local":
		what, names = "local value", keys(ev.locals)
	case referable(root):
		if in, busy := ev.instance(root, name, rng); in != nil {
			return in.value(), true
		} else if busy {
			return cty.DynamicVal, false
		}
		what, names = root, ev.instanceNames(root)
	default:
		ev.unknownRoot(tr, root, ea)
		return cty.DynamicVal, false
	}
	if name == "" {
		ev.errorAt(rng, ea, "Name missing", "Write %s.NAME: %s.", root, listed(names))
		return cty.DynamicVal, false
	}
	hint := didYouMean(name, names)
	if hint == "." {
		hint = ": " + listed(names) + "."
	}
	ev.errorAt(rng, ea, "Unknown "+what, "No %s %q is declared%s", what, name, hint)
	return cty.DynamicVal, false
}

func (ev *evaluator) unknownRoot(tr hcl.Traversal, root string, ea *each) {
	roots := []string{"var", "local", "each"}
	for _, b := range topBlocks {
		if referable(b.name) {
			roots = append(roots, b.name)
		}
	}
	s := suggest(root, roots)
	switch {
	case len(tr) == 1 && s == "":
		ev.errorAt(tr.SourceRange(), ea, "Unknown name", "%s is not a name firstlight knows. If it is text, put it in quotes: %q.", root, root)
	case s == "":
		ev.errorAt(tr.SourceRange(), ea, "Unknown name", "%s is not a name firstlight knows: a reference begins with one of %s.", root, strings.Join(roots, ", "))
	default:
		ev.errorAt(tr.SourceRange(), ea, "Unknown name", "%s is not a name firstlight knows. Did you mean %q?", root, s)
	}
}

// follow checks the attributes after the name, because a wrong column name in
// each.value.unti deserves better than "unsupported attribute".
func (ev *evaluator) follow(tr hcl.Traversal, val cty.Value, ea *each) bool {
	for i := 2; i < len(tr); i++ {
		if val == cty.NilVal || val.IsMarked() || !val.IsKnown() || val.IsNull() || !val.Type().IsObjectType() {
			return true
		}
		name := stepName(tr[i])
		if name == "" {
			return true
		}
		if !val.Type().HasAttribute(name) {
			var names []string
			for n := range val.Type().AttributeTypes() {
				if n != atAttr && n != refAttr {
					names = append(names, n)
				}
			}
			slices.Sort(names)
			ev.errorAt(tr[i].(interface{ SourceRange() hcl.Range }).SourceRange(), ea, "Unknown attribute", "%s has no %q: %s%s",
				written(tr[:i]), name, listed(names), didYouMean(name, names))
			return false
		}
		val = val.GetAttr(name)
	}
	return true
}

// written is a traversal as its author wrote it.
func written(tr hcl.Traversal) string {
	out := tr.RootName()
	for _, step := range tr[1:] {
		if n := stepName(step); hclsyntax.ValidIdentifier(n) {
			out += "." + n
		} else {
			out += fmt.Sprintf("[%q]", n)
		}
	}
	return out
}

// local is the value of local.name, worked out on first use.
func (ev *evaluator) local(name string, from hcl.Range) cty.Value {
	l := ev.locals[name]
	if l.done {
		return l.value
	}
	leave, ok := ev.enter("local."+name, from)
	if !ok {
		return cty.DynamicVal
	}
	defer leave()
	l.value, _ = ev.value(l.attr.Expr, nil)
	l.done = true
	return l.value
}

// enter notes that something is being worked out; ok is false, and the cycle
// is reported, when it already is.
func (ev *evaluator) enter(what string, from hcl.Range) (leave func(), ok bool) {
	if i := slices.Index(ev.busy, what); i >= 0 {
		path := append(slices.Clone(ev.busy[i:]), what)
		ev.errorAt(from, nil, "Cycle", "This needs its own value: %s.", strings.Join(path, " -> "))
		return nil, false
	}
	if len(ev.busy) >= maxChain {
		ev.errorAt(from, nil, "Chain too long", "%s is reached through more than %d references.", what, maxChain)
		return nil, false
	}
	ev.busy = append(ev.busy, what)
	return func() { ev.busy = ev.busy[:len(ev.busy)-1] }, true
}

// maxChain bounds how many names may wait for one another.
const maxChain = 1000

// Attributes that ride along in values and have no name an expression can write.
const (
	atAttr  = "@at"  // of a CSV row: "assets.csv:18"
	refAttr = "@ref" // of a block: its *inst
)

var refType = cty.Capsule("reference", reflect.TypeFor[inst]())
