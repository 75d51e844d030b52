package inventory

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// evaluator turns parsed files into block instances. Values are worked out on
// first use, so declarations may stand in any order. Names live in scopes, one
// for the configuration and one for each instance of a module; what stands
// here is shared by all of them.
type evaluator struct {
	dir     string // as given
	abs     string
	opt     Options
	src     *Source
	diags   hcl.Diagnostics
	secrets []string
	inputs  *inputs
	texts   map[string]string // text of a file read -> its name, for the decoders
	lines   map[string][]int  // where the lines of a CSV file begin

	root     *scope
	blocks   map[string][]*declared          // of every scope, by type
	named    map[string]map[string]*inst     // by type and name in the cluster
	dirs     map[string]*moduleDir           // module directories that were read, by absolute path
	modules  int                             // instances of modules so far
	contents map[*hcl.Block]*hcl.BodyContent // of nested blocks
	builtin  map[string]bool                 // labels of the built-in blocks
	busy     []string                        // what is being worked out now, outermost first

	validating int // conditions of variables being checked now, inside one another
}

func newEvaluator(dir string, opt Options, src *Source) *evaluator {
	ev := &evaluator{
		dir: dir, abs: dir, opt: opt, src: src,
		inputs: &inputs{lines: map[string]struct{}{}},
		texts:  map[string]string{},
		lines:  map[string][]int{},
		blocks: map[string][]*declared{}, named: map[string]map[string]*inst{},
		dirs: map[string]*moduleDir{}, builtin: map[string]bool{},
		contents: map[*hcl.Block]*hcl.BodyContent{},
	}
	if abs, err := filepath.Abs(dir); err == nil {
		ev.abs = abs
	}
	ev.root = ev.newScope(dir, ev.abs)
	return ev
}

func (ev *evaluator) env(name string) (string, bool) {
	if ev.opt.Env != nil {
		return ev.opt.Env(name)
	}
	return os.LookupEnv(name)
}

// compiled is an expression with what is the same for every instance that
// evaluates it.
type compiled struct {
	expr  hcl.Expression
	refs  []hcl.Traversal // names outside the instance
	own   []hcl.Traversal // each and count
	tries []hcl.Range     // arguments of try and can, where a missing attribute is no mistake
	whole bool            // all of it is one such argument, as far as can be seen

	ctx    *hcl.EvalContext // with the values of refs; nil until they are known
	used   []cty.Value      // those values
	column []string         // of an expression that is each.value.COLUMN, or each.key: the names after each
	done   bool             // val is the value, for all instances
	val    cty.Value
}

// compile finds the names in an expression, once.
func (sc *scope) compile(expr hcl.Expression) *compiled {
	keep := reflect.TypeOf(expr).Kind() == reflect.Pointer
	if keep {
		if x := sc.exprs[expr]; x != nil {
			return x
		}
	}
	x := &compiled{expr: expr}
	for _, tr := range expr.Variables() {
		if root := tr.RootName(); root == "each" || root == "count" {
			x.own = append(x.own, tr)
		} else {
			x.refs = append(x.refs, tr)
		}
	}
	sc.findTries(x)
	if only, ok := expr.(*hclsyntax.ScopeTraversalExpr); ok && only.Traversal.RootName() == "each" {
		for _, step := range only.Traversal[1:] {
			x.column = append(x.column, stepName(step))
		}
	}
	if keep {
		sc.exprs[expr] = x
	}
	return x
}

// value evaluates an expression. ok is false when it failed, which is then
// already reported.
func (sc *scope) value(expr hcl.Expression, ea *each) (val cty.Value, ok bool) {
	if ea == nil {
		ea = sc.here
	}
	x := sc.compile(expr)
	if x.done {
		return x.val, true
	}
	if val, ok := ea.cell(x.column); ok {
		return val, true
	}
	if x.ctx == nil {
		vars, used, ok := sc.statics(x.refs, x, ea)
		if !ok {
			sc.ownRefs(x, ea) // for what they have wrong
			return cty.DynamicVal, false
		}
		x.ctx, x.used = &hcl.EvalContext{Functions: sc.funcs, Variables: vars}, used
	}
	ctx := x.ctx
	if len(x.own) > 0 {
		if !sc.ownRefs(x, ea) {
			return cty.DynamicVal, false
		}
		ctx = ctx.NewChild()
		ctx.Variables = ea.variables()
	}
	val, diags := expr.Value(ctx)
	if len(diags) > 0 {
		sc.valueDiags(x, diags, ea)
		if diags.HasErrors() {
			return cty.DynamicVal, false
		}
	} else if len(x.own) == 0 {
		x.done, x.val = true, val
	}
	return val, true
}

// valueDiags records what HCL says of an expression.
func (sc *scope) valueDiags(x *compiled, diags hcl.Diagnostics, ea *each) {
	tainted := slices.ContainsFunc(x.used, cty.Value.ContainsMarked) || len(x.own) > 0 && ea.value != cty.NilVal && ea.value.ContainsMarked()
	for _, d := range diags {
		rng := x.expr.Range()
		if d.Subject != nil {
			rng = *d.Subject
		}
		detail := d.Detail
		if tainted {
			// The message may quote the value, or something made of it.
			detail = "This is made of a sensitive value, so the details are withheld."
		}
		sc.ev.add(d.Severity, rng, ea, d.Summary, detail)
	}
}

// statics makes the variables that names outside the instance need, and
// returns their values beside them.
func (sc *scope) statics(refs []hcl.Traversal, x *compiled, ea *each) (vars map[string]cty.Value, used []cty.Value, ok bool) {
	ok = true
	roots := map[string]map[string]cty.Value{}
	vars = map[string]cty.Value{}
	needs := map[string]*need{}
	for _, tr := range refs {
		root, name := tr.RootName(), ""
		if len(tr) > 1 {
			name = stepName(tr[1])
		}
		if root == "module" {
			ok = sc.needModule(tr, name, needs, x, ea) && ok
			continue
		}
		if referable(root) && name == "" {
			vars[root] = sc.wholeType(root)
			used = append(used, vars[root])
			continue
		}
		val, at, found := sc.lookup(tr, root, name, x, ea)
		if !found || !sc.follow(tr, at, val, x, ea) {
			ok = false
			continue
		}
		used = append(used, val)
		if roots[root] == nil {
			roots[root] = map[string]cty.Value{}
		}
		roots[root][name] = val
	}
	for root, vals := range roots {
		if _, dup := vars[root]; !dup {
			vars[root] = cty.ObjectVal(vals)
		}
	}
	if len(needs) > 0 && ok {
		vars["module"] = sc.moduleValues(needs)
		used = append(used, vars["module"])
	}
	return vars, used, ok
}

// enter notes that something is being worked out; ok is false, and the cycle
// is reported, when it already is.
func (sc *scope) enter(what string, from hcl.Range, ea *each) (leave func(), ok bool) {
	ev := sc.ev
	if sc.path != "" {
		what = sc.path + "." + what
	}
	if i := slices.Index(ev.busy, what); i >= 0 {
		path := append(slices.Clone(ev.busy[i:]), what)
		ev.errorAt(from, ea, "Cycle", "This needs its own value: %s.", strings.Join(path, " -> "))
		return nil, false
	}
	if len(ev.busy) >= maxChain {
		ev.errorAt(from, ea, "Chain too long", "%s is reached through more than %d references.", what, maxChain)
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
