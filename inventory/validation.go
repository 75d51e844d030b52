package inventory

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// rule is one validation block of a variable.
type rule struct {
	condition, message hcl.Expression
	rng                hcl.Range
}

var ruleSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{
	{Name: "condition", Required: true}, {Name: "error_message", Required: true},
}}

func (sc *scope) declareRule(v *variable, b *hcl.Block) {
	content, diags := b.Body.Content(ruleSchema)
	sc.report(diags)
	c, m := content.Attributes["condition"], content.Attributes["error_message"]
	if c != nil && m != nil {
		v.rules = append(v.rules, rule{condition: c.Expr, message: m.Expr, rng: b.DefRange})
	}
}

// checkRules holds a value against the variable's validation blocks. One that
// fails leaves the value unknown: what else is wrong with it is not worth saying.
func (sc *scope) checkRules(v *variable) {
	if len(v.rules) == 0 || v.unset {
		return
	}
	sc.ev.validating++
	good := true
	for _, r := range v.rules {
		good = sc.checkRule(v, r) && good
	}
	sc.ev.validating--
	if !good {
		v.value = cty.DynamicVal
		if v.sensitive {
			v.value = v.value.Mark(markSensitive)
		}
	}
}

func (sc *scope) checkRule(v *variable, r rule) bool {
	leave, ok := sc.enter("validation of var."+v.name, r.rng, sc.here)
	if !ok {
		return false
	}
	defer leave()
	val, ok := sc.value(r.condition, nil)
	if !ok {
		return false
	}
	val, _ = val.UnmarkDeep()
	if !val.IsWhollyKnown() {
		return true // for want of a value, which is reported where it is needed
	}
	met, err := convert.Convert(val, cty.Bool)
	if err != nil || met.IsNull() {
		sc.errorAt(r.condition.Range(), "Wrong type", "The condition of a validation is true or false; this is %s.", friendlyType(val))
		return false
	}
	if met.True() {
		return true
	}
	where := fmt.Sprintf("This is the rule at %s of variable %q", sc.ev.place(r.rng), v.name)
	if v.from != "" && sc.from == nil {
		where += ", whose value came from " + v.from
	}
	sc.ev.errorAt(v.at, v.caller, "Invalid value for variable", "%s\n\n%s.", sc.ruleMessage(v, r), where)
	return false
}

// ruleMessage is what the author of a rule says of a value that breaks it.
func (sc *scope) ruleMessage(v *variable, r rule) string {
	const withheld = "The value does not meet the variable's validation. Its error_message is made of a sensitive value, so it is withheld."
	val, ok := sc.value(r.message, nil)
	if !ok {
		return "The value does not meet the variable's validation."
	}
	if val.ContainsMarked() {
		return withheld
	}
	s, err := convert.Convert(val, cty.String)
	if err != nil || s.IsNull() || !s.IsKnown() || s.AsString() == "" {
		sc.errorAt(r.message.Range(), "Wrong type", "error_message is the sentence that the reader of the mistake sees; this is %s.", friendly(val))
		return "The value does not meet the variable's validation."
	}
	return s.AsString()
}

// friendlyType names the type of a value that may not be shown.
func friendlyType(v cty.Value) string {
	if v.IsNull() {
		return "null"
	}
	return v.Type().FriendlyName()
}
