package inventory

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/apparentlymart/go-cidr/cidr"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// standard are cty's own functions, under the names Terraform gave them.
var standard = map[string]function.Function{
	"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "chomp": stdlib.ChompFunc, "chunklist": stdlib.ChunklistFunc,
	"coalesce": stdlib.CoalesceFunc, "coalescelist": stdlib.CoalesceListFunc, "compact": stdlib.CompactFunc,
	"concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc, "distinct": stdlib.DistinctFunc, "element": stdlib.ElementFunc,
	"flatten": stdlib.FlattenFunc, "floor": stdlib.FloorFunc, "indent": stdlib.IndentFunc, "index": stdlib.IndexFunc,
	"join": stdlib.JoinFunc, "jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc, "keys": stdlib.KeysFunc,
	"length": stdlib.LengthFunc, "log": stdlib.LogFunc, "lookup": stdlib.LookupFunc, "lower": stdlib.LowerFunc,
	"max": stdlib.MaxFunc, "merge": stdlib.MergeFunc, "min": stdlib.MinFunc, "parseint": stdlib.ParseIntFunc, "pow": stdlib.PowFunc,
	"regex": stdlib.RegexFunc, "regexall": stdlib.RegexAllFunc, "regexreplace": stdlib.RegexReplaceFunc, "replace": stdlib.ReplaceFunc,
	"reverse": stdlib.ReverseListFunc, "setintersection": stdlib.SetIntersectionFunc, "setsubtract": stdlib.SetSubtractFunc,
	"setunion": stdlib.SetUnionFunc, "signum": stdlib.SignumFunc, "slice": stdlib.SliceFunc, "sort": stdlib.SortFunc,
	"split": stdlib.SplitFunc, "strlen": stdlib.StrlenFunc, "strrev": stdlib.ReverseFunc, "substr": stdlib.SubstrFunc,
	"title": stdlib.TitleFunc, "trim": stdlib.TrimFunc, "trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc,
	"trimsuffix": stdlib.TrimSuffixFunc, "upper": stdlib.UpperFunc, "values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,
	"tobool": stdlib.MakeToFunc(cty.Bool), "tonumber": stdlib.MakeToFunc(cty.Number), "tostring": stdlib.MakeToFunc(cty.String),
	"tolist": stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)), "tomap": stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
	"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
}

// ownFunction is a function of firstlight's, with its line in docs/inventory.md.
type ownFunction struct {
	name, usage, doc string
	make             func(*evaluator) function.Function
}

var ownFunctions = []ownFunction{
	{"cidrhost", "cidrhost(network, number)", "The address of that number in a network; from the end when negative.",
		func(*evaluator) function.Function { return cidrHostFunc }},
	{"cidrsubnet", "cidrsubnet(network, newbits, number)", "The subnet of that number, newbits longer than the network's prefix.",
		func(*evaluator) function.Function { return cidrSubnetFunc }},
	{"csvdecode", "csvdecode(text)", "Rows of a CSV with a header line, as a list of objects of strings. Diagnostics about a row name its file and line.",
		(*evaluator).csvFunc},
	{"env", "env(name) or env(name, default)", "An environment variable of the controller. Unset without a default is an error.",
		(*evaluator).envFunc},
	{"file", "file(path)", "The text of a file, by its path from the configuration directory.",
		(*evaluator).fileFunc},
	{"format", "format(spec, values...)", "Text by a printf specification.",
		func(*evaluator) function.Function { return boundedFormat(stdlib.FormatFunc) }},
	{"formatlist", "formatlist(spec, lists...)", "format over lists.",
		func(*evaluator) function.Function { return boundedFormat(stdlib.FormatListFunc) }},
	{"hostlist", "hostlist(expression)", "The names of a host list: hostlist(\"hnode[001-766]\").",
		func(*evaluator) function.Function { return hostlistFunc }},
	{"range", "range(limit), range(start, limit) or range(start, limit, step)", "Whole numbers from start (0) up to, and without, limit.",
		func(*evaluator) function.Function { return rangeFunc }},
	{"templatefile", "templatefile(path, variables)", "The text of a template file with an object of variables put in.",
		(*evaluator).templateFunc},
}

func (ev *evaluator) functions() map[string]function.Function {
	all := maps.Clone(standard)
	for _, f := range ownFunctions {
		all[f.name] = f.make(ev)
	}
	return all
}

func stringParam(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.String}
}

// read reads a file named in the configuration and records it.
func (ev *evaluator) read(name string) ([]byte, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(ev.dir, path)
	}
	text, err := readRegular(path)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%s is not UTF-8 text", path)
	}
	ev.inputs.file(filepath.ToSlash(filepath.Clean(name)), text)
	if strings.HasSuffix(path, ".csv") {
		ev.keepLines(path, text)
		ev.csv[string(text)] = filepath.ToSlash(filepath.Clean(name))
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

func (ev *evaluator) fileFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("path")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, err := ev.read(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(string(text)), nil
		},
	})
}

func (ev *evaluator) templateFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("path"), {Name: "variables", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if !args[1].Type().IsObjectType() && !args[1].Type().IsMapType() || args[1].IsNull() {
				return cty.NilVal, function.NewArgErrorf(1, "an object of variables is needed")
			}
			name := args[0].AsString()
			text, err := ev.read(name)
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
			funcs := maps.Clone(ev.funcs)
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

func (ev *evaluator) envFunc() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{stringParam("name")},
		VarParam: &function.Parameter{Name: "default", Type: cty.String, AllowNull: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			if text, ok := ev.env(name); ok {
				ev.inputs.secret("env", name, text)
				return cty.StringVal(text), nil
			}
			if len(args) > 1 {
				return args[1], nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "environment variable %s is not set; env(%q, \"…\") gives a default", name, name)
		},
	})
}

// csvFunc is csvdecode whose rows remember their file and line.
func (ev *evaluator) csvFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("text")},
		Type:   function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text := args[0].AsString()
			rows, err := decodeCSV(text, ev.csv[text])
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return rows, nil
		},
	})
}

func decodeCSV(text, file string) (cty.Value, error) {
	where := func(line int) string {
		if file == "" {
			return fmt.Sprintf("line %d", line)
		}
		return fmt.Sprintf("%s:%d", file, line)
	}
	r := csv.NewReader(bytes.NewReader([]byte(strings.TrimPrefix(text, "\ufeff")))) // spreadsheets write a byte order mark
	header, err := r.Read()
	if err == io.EOF {
		return cty.NilVal, errors.New("the CSV is empty: it needs a header line")
	}
	types := map[string]cty.Type{}
	for _, h := range header {
		if _, dup := types[h]; dup {
			return cty.NilVal, fmt.Errorf("%s: column %q stands twice in the header", where(1), h)
		}
		types[h] = cty.String
	}
	if file != "" {
		types[atAttr] = cty.String
	}
	var rows []cty.Value
	for err == nil {
		var rec []string
		if rec, err = r.Read(); err != nil {
			break
		}
		line, _ := r.FieldPos(0)
		row := make(map[string]cty.Value, len(types))
		for i, h := range header {
			row[h] = cty.StringVal(rec[i])
		}
		if file != "" {
			row[atAttr] = cty.StringVal(where(line))
		}
		rows = append(rows, cty.ObjectVal(row))
	}
	if pe := new(csv.ParseError); errors.As(err, &pe) {
		if errors.Is(pe.Err, csv.ErrFieldCount) {
			return cty.NilVal, fmt.Errorf("%s: this row has another number of fields than the header, which has %d", where(pe.Line), len(header))
		}
		return cty.NilVal, fmt.Errorf("%s: %w", where(pe.Line), pe.Err)
	}
	if len(rows) == 0 {
		return cty.ListValEmpty(cty.Object(types)), nil
	}
	return cty.ListVal(rows), nil
}

var wideFormat = regexp.MustCompile(`[0-9]{5,}`)

// boundedFormat refuses widths that would only fill memory.
func boundedFormat(f function.Function) function.Function {
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if len(args) > 0 && args[0].IsKnown() && !args[0].IsNull() && wideFormat.MatchString(args[0].AsString()) {
				return cty.NilType, function.NewArgErrorf(0, "a width of more than four digits")
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

var hostlistFunc = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("expression")},
	Type:   function.StaticReturnType(cty.List(cty.String)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		names, err := Hostlist(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		vals := make([]cty.Value, len(names))
		for i, n := range names {
			vals[i] = cty.StringVal(n)
		}
		return cty.ListVal(vals), nil
	},
})

var rangeFunc = function.New(&function.Spec{
	VarParam: &function.Parameter{Name: "numbers", Type: cty.Number},
	Type:     function.StaticReturnType(cty.List(cty.Number)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		n := make([]int64, len(args))
		for i, a := range args {
			f := a.AsBigFloat()
			v, acc := f.Int64()
			if acc != big.Exact {
				return cty.NilVal, function.NewArgErrorf(i, "a whole number is needed")
			}
			n[i] = v
		}
		from, to, step := int64(0), int64(0), int64(1)
		switch len(n) {
		case 1:
			to = n[0]
		case 2:
			from, to = n[0], n[1]
		case 3:
			from, to, step = n[0], n[1], n[2]
		default:
			return cty.NilVal, errors.New("range takes one to three numbers")
		}
		if step == 0 {
			return cty.NilVal, function.NewArgErrorf(2, "a step of zero never ends")
		}
		var out []cty.Value
		for i := from; (step > 0 && i < to) || (step < 0 && i > to); i += step {
			if len(out) == maxHosts {
				return cty.NilVal, fmt.Errorf("more than %d numbers", maxHosts)
			}
			out = append(out, cty.NumberIntVal(i))
		}
		if len(out) == 0 {
			return cty.ListValEmpty(cty.Number), nil
		}
		return cty.ListVal(out), nil
	},
})

var cidrHostFunc = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("network"), {Name: "number", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		_, network, err := net.ParseCIDR(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "%q is not a network: write it as \"10.10.0.0/22\"", args[0].AsString())
		}
		num, acc := args[1].AsBigFloat().Int(nil)
		if acc != big.Exact || num.BitLen() > 128 {
			return cty.NilVal, function.NewArgErrorf(1, "a whole number is needed")
		}
		ip, err := cidr.HostBig(network, num)
		if err != nil {
			return cty.NilVal, function.NewArgError(1, err)
		}
		return cty.StringVal(ip.String()), nil
	},
})

var cidrSubnetFunc = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("network"), {Name: "newbits", Type: cty.Number}, {Name: "number", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		_, network, err := net.ParseCIDR(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "%q is not a network: write it as \"10.10.0.0/22\"", args[0].AsString())
		}
		bits, acc := args[1].AsBigFloat().Int64()
		num, acc2 := args[2].AsBigFloat().Int(nil)
		if acc != big.Exact || bits < 0 || bits > 128 {
			return cty.NilVal, function.NewArgErrorf(1, "a whole number of bits is needed")
		}
		if acc2 != big.Exact || num.Sign() < 0 || num.BitLen() > 128 {
			return cty.NilVal, function.NewArgErrorf(2, "a whole number is needed")
		}
		sub, err := cidr.SubnetBig(network, int(bits), num)
		if err != nil {
			return cty.NilVal, function.NewArgError(1, err)
		}
		return cty.StringVal(sub.String()), nil
	},
})
