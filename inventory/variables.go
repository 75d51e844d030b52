package inventory

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// mark is what a cty value carries to say where it came from.
type mark string

const markSensitive mark = "sensitive"

// variable is one variable block.
type variable struct {
	name      string
	typ       cty.Type
	sensitive bool
	def       *hcl.Attribute
	value     cty.Value // marked when sensitive; unknown when there is none
	unset     bool
	rng       hcl.Range
}

var variableSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{
	{Name: "type"}, {Name: "default"}, {Name: "sensitive"}, {Name: "description"},
}}

func (ev *evaluator) declareVariable(b *hcl.Block) {
	name := b.Labels[0]
	if !hclsyntax.ValidIdentifier(name) {
		ev.errorAt(b.LabelRanges[0], nil, "Bad variable name", "%q cannot be written as var.NAME: use letters, digits, - and _.", name)
		return
	}
	content, diags := b.Body.Content(variableSchema)
	ev.diags = append(ev.diags, diags...)
	v := &variable{name: name, typ: cty.DynamicPseudoType, rng: b.DefRange, value: cty.DynamicVal}
	if old := ev.vars[name]; old != nil {
		ev.errorAt(b.DefRange, nil, "Duplicate variable", "Variable %q is also declared at %s.", name, ev.place(old.rng))
		return
	}
	ev.vars[name] = v
	if a := content.Attributes["sensitive"]; a != nil {
		val, ok := ev.value(a.Expr, nil)
		if b, err := convert.Convert(val, cty.Bool); ok && (err != nil || b.IsNull() || !b.IsKnown()) {
			ev.errorAt(a.Expr.Range(), nil, "Wrong type", "sensitive is true or false.")
			v.sensitive = true
		} else {
			v.sensitive = !ok || b.True()
		}
	}
	if a := content.Attributes["type"]; a != nil {
		typ, diags := typeexpr.TypeConstraint(a.Expr)
		ev.diags = append(ev.diags, diags...)
		if !diags.HasErrors() {
			v.typ = typ
		}
	}
	v.def = content.Attributes["default"]
}

// setVariables gives every variable its value: -var, then -var-file, then the
// environment, then the default.
func (ev *evaluator) setVariables() {
	given := map[string]func(*variable) (cty.Value, error){}
	for name := range ev.vars {
		if text, ok := ev.env("FIRSTLIGHT_VAR_" + name); ok {
			given[name] = func(v *variable) (cty.Value, error) { return fromText(v, text) }
		}
	}
	for _, file := range ev.opt.VarFiles {
		ev.readVarFile(file, given)
	}
	for _, name := range keys(ev.opt.Vars) {
		text := ev.opt.Vars[name]
		if ev.vars[name] == nil {
			ev.plain("Unknown variable", fmt.Sprintf("-var %s: no variable of that name is declared%s", name, didYouMean(name, keys(ev.vars))))
			continue
		}
		given[name] = func(v *variable) (cty.Value, error) { return fromText(v, text) }
	}
	for _, name := range keys(ev.vars) {
		ev.setVariable(ev.vars[name], given[name])
	}
}

func (ev *evaluator) setVariable(v *variable, given func(*variable) (cty.Value, error)) {
	val, err := cty.NilVal, error(nil)
	rng := v.rng
	switch {
	case given != nil:
		val, err = given(v)
	case v.def != nil:
		rng = v.def.Expr.Range()
		ok := false
		if refs := v.def.Expr.Variables(); len(refs) > 0 {
			ev.errorAt(refs[0].SourceRange(), nil, "Reference in a default", "The default of variable %q is a value, not a reference: use a local value for what depends on others.", v.name)
		} else {
			val, ok = ev.value(v.def.Expr, nil)
		}
		if !ok {
			v.finish(cty.DynamicVal)
			return
		}
		ev.hide(v, val)
		val, err = convert.Convert(val, v.typ)
	default:
		v.unset = true
		if !v.sensitive {
			ev.errorAt(v.rng, nil, "Variable without a value",
				"Variable %q has no default: set FIRSTLIGHT_VAR_%s, or use -var '%s=…' or -var-file.", v.name, v.name, v.name)
		}
		v.finish(cty.UnknownVal(v.typ))
		return
	}
	if err != nil {
		why := err.Error()
		if v.sensitive {
			why = "the value is withheld because the variable is sensitive"
		}
		ev.errorAt(rng, nil, "Bad value for variable", "Variable %q must be %s: %s.", v.name, v.typ.FriendlyName(), why)
		v.finish(cty.DynamicVal)
		return
	}
	ev.hide(v, val)
	ev.recordVariable(v, val)
	v.finish(val)
}

// finish stores the value, marked when it is sensitive.
func (v *variable) finish(val cty.Value) {
	if v.sensitive {
		val = val.Mark(markSensitive)
	}
	v.value = val
}

// hide remembers every string inside a sensitive value, so that no message shows it.
func (ev *evaluator) hide(v *variable, val cty.Value) {
	if v.sensitive {
		ev.hideStrings(val)
	}
}

func (ev *evaluator) hideStrings(val cty.Value) {
	val, _ = val.UnmarkDeep()
	// The callback returns no error, so neither does the walk.
	_ = cty.Walk(val, func(_ cty.Path, v cty.Value) (bool, error) {
		if !v.IsKnown() || v.IsNull() || !v.Type().IsPrimitiveType() {
			return true, nil
		}
		if s, err := convert.Convert(v, cty.String); err == nil && s.AsString() != "" && v.Type() != cty.Bool {
			ev.secrets = append(ev.secrets, s.AsString())
		}
		return true, nil
	})
}

func (ev *evaluator) recordVariable(v *variable, val cty.Value) {
	val, _ = val.UnmarkDeep()
	if !val.IsWhollyKnown() {
		return
	}
	text, err := ctyjson.Marshal(val, cty.DynamicPseudoType)
	if err != nil {
		return // a reference to a block, whose text is in a file already
	}
	if v.sensitive {
		ev.inputs.secret("variable", v.name, string(text))
	} else {
		ev.inputs.variable(v.name, string(text))
	}
}

// fromText reads a value given outside HCL. Strings are taken as they are;
// numbers and booleans are converted; anything else is an HCL expression.
func fromText(v *variable, text string) (cty.Value, error) {
	if v.typ == cty.DynamicPseudoType {
		return cty.StringVal(text), nil
	}
	if v.typ.IsPrimitiveType() {
		return convert.Convert(cty.StringVal(text), v.typ)
	}
	if d := guardTokensOf(text); d != nil {
		return cty.NilVal, errors.New(strings.ToLower(d.Summary))
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "value", hcl.InitialPos)
	if diags.HasErrors() {
		return cty.NilVal, fmt.Errorf("not an HCL value: %s", diags[0].Summary)
	}
	val, diags := expr.Value(nil)
	if diags.HasErrors() {
		return cty.NilVal, fmt.Errorf("not an HCL value: %s", diags[0].Summary)
	}
	return convert.Convert(val, v.typ)
}

func guardTokensOf(text string) *hcl.Diagnostic {
	tokens, _ := hclsyntax.LexExpression([]byte(text), "value", hcl.InitialPos)
	return guardTokens(tokens)
}

// readVarFile reads name = value lines. The file's text is never shown in a
// snippet: it is where secrets are kept.
func (ev *evaluator) readVarFile(path string, given map[string]func(*variable) (cty.Value, error)) {
	text, err := readRegular(path)
	if err != nil {
		ev.plain("Cannot read the variable file", fmt.Sprintf("-var-file: %v.", err))
		return
	}
	f, diags := parseConfig(text, path)
	if diags.HasErrors() {
		d := diags[0]
		ev.errorAt(*d.Subject, nil, "Bad variable file", "%s. The line is not shown here, because variable files hold secrets.", strings.TrimSuffix(d.Summary, "."))
		return
	}
	attrs, diags := f.Body.JustAttributes()
	for _, d := range diags {
		ev.errorAt(*d.Subject, nil, "Bad variable file", "%s: a variable file holds NAME = VALUE lines only.", d.Summary)
	}
	names := keys(attrs)
	sort.Slice(names, func(i, j int) bool { return attrs[names[i]].Range.Start.Byte < attrs[names[j]].Range.Start.Byte })
	for _, name := range names {
		a := attrs[name]
		if ev.vars[name] == nil {
			ev.errorAt(a.NameRange, nil, "Unknown variable", "No variable %q is declared%s", name, didYouMean(name, keys(ev.vars)))
			continue
		}
		given[name] = func(v *variable) (cty.Value, error) {
			val, diags := a.Expr.Value(nil)
			if diags.HasErrors() {
				return cty.NilVal, fmt.Errorf("at %s:%d: only a literal value can stand in a variable file", path, a.Range.Start.Line)
			}
			ev.hide(v, val)
			return convert.Convert(val, v.typ)
		}
	}
}

// collectSecrets finds literal secrets in a configuration that does not
// parse, so that the snippets of its syntax errors do not show them.
func (ev *evaluator) collectSecrets(body hcl.Body) {
	content, _, _ := body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "variable", LabelNames: []string{"name"}}, {Type: "credential", LabelNames: []string{"name"}},
	}})
	if content == nil {
		return
	}
	for _, b := range content.Blocks {
		attrs, _ := b.Body.JustAttributes()
		for name, a := range attrs {
			if (b.Type == "variable" && name == "default" && attrs["sensitive"] != nil) || name == "password" {
				if val, diags := a.Expr.Value(nil); !diags.HasErrors() {
					ev.hideStrings(val)
				}
			}
		}
	}
}

// keys are the sorted keys of a map.
func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
