package inventory

import (
	"errors"
	"fmt"
	"slices"
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
	defaults  *typeexpr.Defaults // of optional attributes in typ; nil for none
	sensitive bool
	nullable  bool
	def       *hcl.Attribute
	rules     []rule
	rng       hcl.Range

	set     bool      // value is known
	checked bool      // by its rules, too
	value   cty.Value // marked when sensitive; unknown when there is none
	unset   bool
	from    string    // what gave the value: "-var", "site.auto.flvars:3"; "" for the default
	at      hcl.Range // where a bad value is reported
	caller  *each     // and in which instance
}

var variableSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{{Name: "type"}, {Name: "default"}, {Name: "sensitive"}, {Name: "nullable"}, {Name: "description"}},
	Blocks:     []hcl.BlockHeaderSchema{{Type: "validation"}},
}

func (sc *scope) declareVariable(b *hcl.Block) {
	name := b.Labels[0]
	switch old := sc.vars[name]; {
	case !hclsyntax.ValidIdentifier(name):
		sc.errorAt(b.LabelRanges[0], "Bad variable name", "%q cannot be written as var.NAME: use letters, digits, - and _.", name)
		return
	case sc.from != nil && slices.Contains(moduleArgs, name):
		sc.errorAt(b.LabelRanges[0], "Bad variable name", "A module block has its own %s, so a module's variable needs another name.", name)
		return
	case old != nil:
		sc.errorAt(b.DefRange, "Duplicate variable", "Variable %q is also declared at %s.", name, sc.ev.place(old.rng))
		return
	}
	content, diags := b.Body.Content(variableSchema)
	sc.report(diags)
	v := &variable{name: name, typ: cty.DynamicPseudoType, rng: b.DefRange, at: b.DefRange, caller: sc.here, value: cty.DynamicVal}
	sc.vars[name] = v
	v.sensitive = sc.flag(content.Attributes["sensitive"], false, true)
	v.nullable = sc.flag(content.Attributes["nullable"], true, true)
	if a := content.Attributes["type"]; a != nil {
		typ, defaults, diags := typeexpr.TypeConstraintWithDefaults(a.Expr)
		sc.report(diags)
		if !diags.HasErrors() {
			v.typ, v.defaults = typ, defaults
		}
	}
	v.def = content.Attributes["default"]
	for _, b := range content.Blocks {
		sc.declareRule(v, b)
	}
}

// flag is an attribute that is true or false, and needs no other name.
func (sc *scope) flag(a *hcl.Attribute, absent, wrong bool) bool {
	if a == nil {
		return absent
	}
	val, ok := sc.value(a.Expr, nil)
	if !ok {
		return wrong
	}
	val, _ = val.Unmark()
	b, err := convert.Convert(val, cty.Bool)
	if err != nil || b.IsNull() || !b.IsKnown() {
		sc.errorAt(a.Expr.Range(), "Wrong type", "%s is true or false.", a.Name)
		return wrong
	}
	return b.True()
}

// given is a value of a variable from outside the configuration.
type given struct {
	from  string
	at    hcl.Range // of a variable file; empty for others
	value func(*variable) (cty.Value, error)
}

// setVariables gives every variable of the configuration its value: -var, then
// -var-file, then the directory's *.auto.flvars, then the environment, then
// the default.
func (ev *evaluator) setVariables() {
	vars := ev.root.vars
	values := map[string]given{}
	for name := range vars {
		if text, ok := ev.env("FIRSTLIGHT_VAR_" + name); ok {
			values[name] = given{from: "FIRSTLIGHT_VAR_" + name, value: func(v *variable) (cty.Value, error) { return fromText(v, text) }}
		}
	}
	for _, file := range ev.autoFiles() {
		ev.readVarFile(file, "", values)
	}
	for _, file := range ev.opt.VarFiles {
		ev.readVarFile(file, "-var-file: ", values)
	}
	for _, name := range keys(ev.opt.Vars) {
		text := ev.opt.Vars[name]
		if vars[name] == nil {
			ev.plain("Unknown variable", fmt.Sprintf("-var %s: no variable of that name is declared%s", name, didYouMean(name, keys(vars))))
			continue
		}
		values[name] = given{from: "-var", value: func(v *variable) (cty.Value, error) { return fromText(v, text) }}
	}
	for _, name := range keys(vars) {
		g, ok := values[name]
		v := vars[name]
		switch {
		case ok:
			v.from = g.from
			if !g.at.Empty() {
				v.at = g.at
			}
			val, err := g.value(v)
			ev.root.accept(v, val, err)
		case v.def != nil:
			ev.root.useDefault(v)
		default:
			v.unset = true
			if !v.sensitive {
				ev.errorAt(v.rng, nil, "Variable without a value",
					"Variable %q has no default: set FIRSTLIGHT_VAR_%s, or use -var '%s=…' or -var-file.", v.name, v.name, v.name)
			}
			v.finish(cty.UnknownVal(v.typ))
		}
	}
}

// variable is the value of var.name, worked out on first use and held against
// its rules. A condition that is being checked sees values as they are.
func (sc *scope) variable(v *variable, from hcl.Range, ea *each) cty.Value {
	if !v.set {
		leave, ok := sc.enter("var."+v.name, from, ea)
		if !ok {
			return cty.DynamicVal
		}
		sc.input(v)
		leave()
	}
	if !v.checked && sc.ev.validating == 0 {
		v.checked = true
		sc.checkRules(v)
	}
	return v.value
}

// input gives a module's variable what its block has for it, or the default.
func (sc *scope) input(v *variable) {
	a := sc.from.inputs[v.name]
	if a == nil {
		sc.useDefault(v)
		return
	}
	v.from, v.at, v.caller = "the module block", a.Expr.Range(), sc.caller
	val, ok := sc.up.value(a.Expr, sc.caller)
	if !ok {
		v.finish(cty.DynamicVal)
		return
	}
	sc.accept(v, val, nil)
}

func (sc *scope) useDefault(v *variable) {
	if sc.from != nil {
		v.caller = sc.here
	}
	v.at = v.def.Expr.Range()
	if refs := v.def.Expr.Variables(); len(refs) > 0 {
		sc.errorAt(refs[0].SourceRange(), "Reference in a default", "The default of variable %q is a value, not a reference: use a local value for what depends on others.", v.name)
		v.finish(cty.DynamicVal)
		return
	}
	val, ok := sc.value(v.def.Expr, nil)
	if !ok {
		v.finish(cty.DynamicVal)
		return
	}
	sc.accept(v, val, nil)
}

// accept makes a value that was given to a variable its value.
func (sc *scope) accept(v *variable, val cty.Value, err error) {
	ev := sc.ev
	if err == nil && !v.nullable && val.IsNull() {
		if v.def != nil && v.from != "" {
			v.from = ""
			sc.useDefault(v)
			return
		}
		err = errors.New("null is not allowed")
	}
	if err == nil {
		ev.hide(v, val)
		val, err = v.convert(val)
	}
	if err != nil {
		why := err.Error()
		if v.sensitive || val != cty.NilVal && val.ContainsMarked() {
			why = "the value is withheld because it is sensitive"
		}
		if v.at == v.rng && v.from != "" {
			why += "; the value came from " + v.from
		}
		ev.errorAt(v.at, v.caller, "Bad value for variable", "Variable %q must be %s: %s.", v.name, v.wants(), why)
		v.finish(cty.DynamicVal)
		return
	}
	ev.hide(v, val)
	if sc.from == nil {
		ev.recordVariable(v, val)
	}
	v.finish(val)
}

// wants is the type that a value must have, for messages.
func (v *variable) wants() string {
	if v.typ == cty.DynamicPseudoType {
		return "given a value"
	}
	return v.typ.FriendlyName()
}

// convert makes a value fit the variable's type, with what optional
// attributes default to.
func (v *variable) convert(val cty.Value) (cty.Value, error) {
	if v.defaults != nil && !val.IsNull() {
		val = v.defaults.Apply(val)
	}
	out, err := convert.Convert(val, v.typ)
	if pe := (cty.PathError{}); errors.As(err, &pe) && len(pe.Path) > 0 {
		return val, fmt.Errorf("%s: %w", pathText(pe.Path), err)
	}
	if err != nil {
		return val, err
	}
	return out, nil
}

// pathText writes a path inside a value: .racks[0].name.
func pathText(p cty.Path) string {
	out := ""
	for _, step := range p {
		switch s := step.(type) {
		case cty.GetAttrStep:
			out += "." + s.Name
		case cty.IndexStep:
			if s.Key.Type() == cty.String && s.Key.IsKnown() && !s.Key.IsNull() {
				out += fmt.Sprintf("[%q]", s.Key.AsString())
			} else if s.Key.Type() == cty.Number && s.Key.IsKnown() && !s.Key.IsNull() {
				out += fmt.Sprintf("[%s]", s.Key.AsBigFloat().Text('f', 0))
			}
		}
	}
	return out
}

// finish stores the value, marked when it is sensitive.
func (v *variable) finish(val cty.Value) {
	if v.sensitive {
		val = val.Mark(markSensitive)
	}
	v.value, v.set = val, true
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
	return val, nil
}

func guardTokensOf(text string) *hcl.Diagnostic {
	tokens, _ := hclsyntax.LexExpression([]byte(text), "value", hcl.InitialPos)
	return guardTokens(tokens)
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
