package inventory

import (
	"fmt"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// each is where something was found besides its file and line: the for_each
// or count instance, the instance of a module, or both.
type each struct {
	block string // `node "hnode"`; "" without for_each and count
	key   string
	count bool
	value cty.Value // each.value; NilVal for count
	at    string    // the CSV line it came from, "assets.csv:18", or ""
	in    *scope    // nil: not in a module
	vars  map[string]cty.Value
}

// variables are `each` or `count` for expressions.
func (ea *each) variables() map[string]cty.Value {
	switch {
	case ea.vars != nil:
	case ea.count:
		i, _ := strconv.ParseInt(ea.key, 10, 64) // written by repeats
		ea.vars = map[string]cty.Value{"count": cty.ObjectVal(map[string]cty.Value{"index": cty.NumberIntVal(i)})}
	default:
		ea.vars = map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(ea.key), "value": ea.value})}
	}
	return ea.vars
}

// cell is each.key, each.value or each.value.COLUMN, where it is there and
// nothing about it is special: most attributes of most instances are one.
func (ea *each) cell(column []string) (cty.Value, bool) {
	if len(column) == 0 || ea == nil || ea.block == "" || ea.count {
		return cty.NilVal, false
	}
	switch {
	case column[0] == "key" && len(column) == 1:
		return cty.StringVal(ea.key), true
	case column[0] != "value":
		return cty.NilVal, false
	}
	val := ea.value
	for _, name := range column[1:] {
		t := val.Type()
		if !t.IsObjectType() || !t.HasAttribute(name) || val.IsMarked() || !val.IsKnown() || val.IsNull() {
			return cty.NilVal, false
		}
		val = val.GetAttr(name)
	}
	return val, true
}

// maxCount bounds count, so that a slip of the finger does not fill the memory.
const maxCount = 100000

// repeat is for_each or count of a block; the zero value is neither.
type repeat struct {
	forEach, count hcl.Expression
}

func (r repeat) any() bool { return r.forEach != nil || r.count != nil }

// repeatOf takes for_each and count from a block's attributes.
func (sc *scope) repeatOf(attrs hcl.Attributes) (r repeat) {
	f, c := attrs["for_each"], attrs["count"]
	if f != nil {
		r.forEach = f.Expr
	}
	switch {
	case c != nil && f != nil:
		sc.errorAt(c.NameRange, "Both for_each and count", "A block has for_each, one instance for each key, or count, so many instances in order: keep one of the two.")
	case c != nil:
		r.count = c.Expr
	}
	return r
}

// repeats evaluates for_each or count. Without either there is one instance, nil.
// ok is false when it could not be evaluated, which is then already reported.
func (sc *scope) repeats(r repeat, block string) (eas []*each, ok bool) {
	switch {
	case r.forEach != nil:
		return sc.eaches(r.forEach, block)
	case r.count != nil:
		return sc.counts(r.count, block)
	}
	return []*each{nil}, true
}

// eaches evaluates for_each: a map or object gives key and value, a list or
// set of strings gives each string as both.
func (sc *scope) eaches(expr hcl.Expression, block string) ([]*each, bool) {
	rng := expr.Range()
	v, ok := sc.value(expr, nil)
	switch {
	case !ok:
		return nil, false
	case v.IsMarked():
		sc.errorAt(rng, "Sensitive for_each", "for_each must not depend on a sensitive value: its keys become names.")
		return nil, false
	case !v.IsKnown():
		return nil, false // reported where the value is missing
	case v.IsNull() || !v.CanIterateElements():
		sc.errorAt(rng, "Wrong type", "for_each must be a map, an object, or a list of strings; this is %s.", friendly(v))
		return nil, false
	}
	out := make([]*each, 0, v.LengthInt())
	if t := v.Type(); t.IsObjectType() {
		for _, key := range keys(t.AttributeTypes()) {
			if key != refAttr && key != atAttr {
				val := v.GetAttr(key)
				out = append(out, &each{block: block, key: key, value: val, at: rowOf(val), in: sc.inside()})
			}
		}
		return out, true
	}
	for it := v.ElementIterator(); it.Next(); {
		key, val := it.Element()
		if !v.Type().IsMapType() {
			key = val
			if val.Type() != cty.String {
				sc.errorAt(rng, "Wrong type", "for_each over a list takes strings; this has %s. Make a map: { for x in LIST : x.name => x }.", friendly(val))
				return nil, false
			}
		}
		if key.IsMarked() {
			sc.errorAt(rng, "Sensitive for_each", "for_each must not depend on a sensitive value: its keys become names.")
			return nil, false
		}
		if key.IsNull() || !key.IsKnown() {
			continue
		}
		out = append(out, &each{block: block, key: key.AsString(), value: val, at: rowOf(val), in: sc.inside()})
	}
	return out, true
}

// inside is what an each holds of its scope: nothing, for the configuration.
func (sc *scope) inside() *scope {
	if sc.from == nil {
		return nil
	}
	return sc
}

// counts evaluates count.
func (sc *scope) counts(expr hcl.Expression, block string) ([]*each, bool) {
	rng := expr.Range()
	v, ok := sc.value(expr, nil)
	switch {
	case !ok:
		return nil, false
	case v.IsMarked():
		sc.errorAt(rng, "Sensitive count", "count must not depend on a sensitive value: anyone can count the instances.")
		return nil, false
	case !v.IsKnown():
		return nil, false // reported where the value is missing
	}
	n, err := convert.Convert(v, cty.Number)
	if err != nil || n.IsNull() || refOf(v) != nil {
		sc.errorAt(rng, "Wrong type", "count must be a whole number; this is %s.", friendly(v))
		return nil, false
	}
	f := n.AsBigFloat()
	i, _ := f.Int64()
	switch {
	case !f.IsInt() || i < 0 || f.Sign() < 0:
		sc.errorAt(rng, "Out of range", "count must be a whole number from 0 to %d; this is %s.", maxCount, f.Text('g', 10))
		return nil, false
	case f.Cmp(cty.NumberIntVal(maxCount).AsBigFloat()) > 0:
		sc.errorAt(rng, "Out of range", "count is at most %d; this is %s.", maxCount, f.Text('g', 10))
		return nil, false
	}
	out := make([]*each, i)
	for k := range out {
		out[k] = &each{block: block, key: strconv.Itoa(k), count: true, in: sc.inside()}
	}
	return out, true
}

// rowOf is where csvdecode found a row, or "".
func rowOf(v cty.Value) string {
	if v.Type().IsObjectType() && v.Type().HasAttribute(atAttr) && v.IsKnown() && !v.IsNull() && !v.IsMarked() {
		at := v.GetAttr(atAttr)
		if at.Type() == cty.String && at.IsKnown() && !at.IsNull() && !at.IsMarked() {
			return at.AsString()
		}
	}
	return ""
}

// ownRefs checks each.key, each.value.COLUMN and count.index in an expression.
func (sc *scope) ownRefs(x *compiled, ea *each) bool {
	ok := true
	for _, tr := range x.own {
		name := ""
		if len(tr) > 1 {
			name = stepName(tr[1])
		}
		switch why := wrongOwn(tr.RootName(), name, ea); {
		case why[0] != "":
			sc.ev.errorAt(tr.SourceRange(), ea, why[0], "%s", why[1])
			ok = false
		case name == "value":
			ok = sc.follow(tr, 2, ea.value, x, ea) && ok
		}
	}
	return ok
}

// wrongOwn says what is wrong with each.NAME or count.NAME here: a summary
// and a sentence, empty for nothing.
func wrongOwn(root, name string, ea *each) [2]string {
	inEach, inCount := ea != nil && ea.block != "" && !ea.count, ea != nil && ea.count
	switch {
	case root == "each" && inCount:
		return [2]string{"each outside for_each", "each.key and each.value exist only in a block that has for_each; this one has count: use count.index."}
	case root == "each" && !inEach:
		return [2]string{"each outside for_each", "each.key and each.value exist only in a block that has for_each."}
	case root == "each" && name != "key" && name != "value":
		return [2]string{"Unknown name", "each has key and value only."}
	case root == "count" && inEach:
		return [2]string{"count outside count", "count.index exists only in a block that has count; this one has for_each: use each.key."}
	case root == "count" && !inCount:
		return [2]string{"count outside count", "count.index exists only in a block that has count."}
	case root == "count" && name != "index":
		return [2]string{"Unknown name", "count has index only."}
	}
	return [2]string{}
}

// pick finds the instance that the step after TYPE.LABEL or module.LABEL
// names, in the order of eas. picked is false when no single one is meant.
func (sc *scope) pick(tr hcl.Traversal, at int, r repeat, keys []string, x *compiled, ea *each) (i int, picked, ok bool) {
	if len(tr) <= at {
		return 0, false, true
	}
	what := written(tr[:at])
	if r.count != nil {
		n, number := stepNumber(tr[at])
		switch {
		case number && n >= 0 && n < len(keys):
			return n, true, true
		case x.tried(tr.SourceRange()):
			return 0, false, true
		case len(keys) == 0:
			sc.ev.errorAt(stepRange(tr[at]), ea, "Unknown instance", "%s has count = 0, so it has no instance.", what)
		case number && len(keys) == 1:
			sc.ev.errorAt(stepRange(tr[at]), ea, "Unknown instance", "%s has count = 1: its only instance is %s[0].", what, what)
		case number:
			sc.ev.errorAt(stepRange(tr[at]), ea, "Unknown instance", "%s has count = %d: its instances are %s[0] to %s[%d].", what, len(keys), what, what, len(keys)-1)
		case isSplat(tr[at]):
			return 0, false, true
		default:
			sc.ev.errorAt(stepRange(tr[at]), ea, "Which instance?", "%s has count, so it is a list of instances: write %s[0], or %s[*] for all.", what, what, what)
		}
		return 0, false, false
	}
	name := stepName(tr[at])
	for i, k := range keys {
		if k == name {
			return i, true, true
		}
	}
	_, index := tr[at].(hcl.TraverseIndex)
	switch {
	case isSplat(tr[at]) || x.tried(tr.SourceRange()):
		return 0, false, true
	case index && name != "":
		sc.ev.errorAt(stepRange(tr[at]), ea, "Unknown instance", "%s has no instance %q: %s%s", what, name, listed(keys), didYouMean(name, keys))
	case len(keys) == 0:
		sc.ev.errorAt(stepRange(tr[at]), ea, "Which instance?", "%s has for_each, so it is a map of instances, and an empty one.", what)
	default:
		sc.ev.errorAt(stepRange(tr[at]), ea, "Which instance?", "%s has for_each, so it is a map of instances: write %s[%q]%s.", what, what, keys[0], rest(tr, at))
	}
	return 0, false, false
}

func isSplat(step hcl.Traverser) bool {
	_, ok := step.(hcl.TraverseSplat)
	return ok
}

// rest is the attribute in rack.r.height, to show where it goes: rack.r["a"].height.
func rest(tr hcl.Traversal, at int) string {
	if a, ok := tr[at].(hcl.TraverseAttr); ok {
		return fmt.Sprintf(".%s", a.Name)
	}
	return ""
}
