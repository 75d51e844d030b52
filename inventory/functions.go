package inventory

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are those of the language. Those that read files do so from the
// scope's directory.
func (sc *scope) functions() map[string]function.Function {
	all := make(map[string]function.Function, len(functionTable))
	for _, f := range functionTable {
		if f.make != nil {
			all[f.name] = f.make(sc)
		} else {
			all[f.name] = f.fn
		}
	}
	return all
}

func stringParam(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.String}
}

// read reads a file named in the configuration and records it.
func (sc *scope) read(name string) ([]byte, error) {
	ev := sc.ev
	path, abs := name, name
	if !filepath.IsAbs(path) {
		path, abs = filepath.Join(sc.dir, path), filepath.Join(sc.abs, path)
	}
	text, err := readRegular(path)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%s is not UTF-8 text", path)
	}
	known := ev.nameOf(abs)
	ev.inputs.file(known, text)
	switch filepath.Ext(path) {
	case ".csv":
		ev.keepLines(filepath.Join(ev.dir, known), text)
		ev.texts[string(text)] = known
	case ".json", ".yaml", ".yml":
		ev.texts[string(text)] = known
	}
	return text, nil
}

// keepLines remembers where lines begin, so that a row of a CSV can be shown.
func (ev *evaluator) keepLines(path string, text []byte) {
	starts := []int{0}
	for i, c := range text {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	if starts[len(starts)-1] != len(text) {
		starts = append(starts, len(text)+1)
	}
	ev.lines[path] = starts
	ev.src.files[path] = &hcl.File{Bytes: text}
}

func (sc *scope) fileFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("path")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, err := sc.read(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(string(text)), nil
		},
	})
}

func (sc *scope) templateFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("path"), {Name: "variables", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if !args[1].Type().IsObjectType() && !args[1].Type().IsMapType() || args[1].IsNull() {
				return cty.NilVal, function.NewArgErrorf(1, "an object of variables is needed")
			}
			name := args[0].AsString()
			text, err := sc.read(name)
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			if d := guardTemplate(text, name); d != nil {
				return cty.NilVal, function.NewArgErrorf(0, "%s:%d: %s", name, d.Subject.Start.Line, d.Summary)
			}
			expr, diags := hclsyntax.ParseTemplate(text, name, hcl.InitialPos)
			if diags.HasErrors() {
				return cty.NilVal, function.NewArgErrorf(0, "%s", templateError(diags[0]))
			}
			funcs := maps.Clone(sc.funcs)
			delete(funcs, "templatefile") // a template that includes itself would never end
			val, diags := expr.Value(&hcl.EvalContext{Functions: funcs, Variables: args[1].AsValueMap()})
			if diags.HasErrors() {
				return cty.NilVal, function.NewArgErrorf(0, "%s", templateError(diags[0]))
			}
			if s := val; s.Type() == cty.String {
				return s, nil
			}
			return stdlib.MakeToFunc(cty.String).Call([]cty.Value{val})
		},
	})
}

func templateError(d *hcl.Diagnostic) string {
	return fmt.Sprintf("%s:%d: %s: %s", d.Subject.Filename, d.Subject.Start.Line, d.Summary, strings.TrimSuffix(d.Detail, "."))
}

func (sc *scope) fileExistsFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("path")},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path := args[0].AsString()
			if !filepath.IsAbs(path) {
				path = filepath.Join(sc.dir, path)
			}
			info, err := os.Stat(path)
			return cty.BoolVal(err == nil && info.Mode().IsRegular()), nil
		},
	})
}

func (sc *scope) envFunc() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{stringParam("name")},
		VarParam: &function.Parameter{Name: "default", Type: cty.String, AllowNull: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			if text, ok := sc.ev.env(name); ok {
				sc.ev.inputs.secret("env", name, text)
				return cty.StringVal(text), nil
			}
			if len(args) > 1 {
				return args[1], nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "environment variable %s is not set; env(%q, \"…\") gives a default", name, name)
		},
	})
}
