package inventory

import (
	"errors"
	"fmt"
	"math/big"
	slash "path"
	"regexp"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// wideFormat is a verb with a width or precision of five digits or more.
var wideFormat = regexp.MustCompile(`%[^%A-Za-z]*[0-9]{5}`)

// boundedFormat refuses widths that would only fill memory.
func boundedFormat(f function.Function) function.Function {
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if len(args) > 0 && args[0].IsKnown() && !args[0].IsNull() && wideFormat.MatchString(strings.ReplaceAll(args[0].AsString(), "%%", "")) {
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

var lengthFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true, AllowUnknown: true}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		switch t := args[0].Type(); {
		case t == cty.String:
			return stdlib.StrlenFunc.Call(args)
		case t.IsObjectType():
			n := len(t.AttributeTypes())
			for _, hidden := range []string{atAttr, refAttr} {
				if t.HasAttribute(hidden) {
					n--
				}
			}
			return cty.NumberIntVal(int64(n)), nil
		}
		return stdlib.LengthFunc.Call(args)
	},
})

// textTest is a function of two texts that is true or false.
func textTest(second string, test func(text, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("text"), stringParam(second)},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(test(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

// textPart is a function of a path that is a part of it.
func textPart(part func(string) string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("path")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.StringVal(part(args[0].AsString())), nil
		},
	})
}

var (
	baseNameFunc = textPart(slash.Base)
	dirNameFunc  = textPart(slash.Dir)
)

// allOf is alltrue, or anytrue where until is true: it looks for the first
// element that decides.
func allOf(until bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			unknown := false
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				switch {
				case !v.IsKnown():
					unknown = true
				case !v.IsNull() && v.True() == until:
					return cty.BoolVal(until), nil
				case v.IsNull() && !until:
					return cty.False, nil
				}
			}
			if unknown {
				return cty.UnknownVal(cty.Bool), nil
			}
			return cty.BoolVal(!until), nil
		},
	})
}

var sumFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		list, err := convert.Convert(args[0], cty.List(cty.Number))
		if err != nil || list.IsNull() {
			return cty.NilVal, function.NewArgErrorf(0, "a list of numbers is needed")
		}
		if !list.IsWhollyKnown() {
			return cty.UnknownVal(cty.Number), nil
		}
		total := cty.Zero
		for it := list.ElementIterator(); it.Next(); {
			_, v := it.Element()
			if v.IsNull() {
				return cty.NilVal, function.NewArgErrorf(0, "there is a null in the list")
			}
			total = total.Add(v)
		}
		return total, nil
	},
})

// oneFunc makes a value or null of a list that has one element or none.
var oneFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
	Type: func(args []cty.Value) (cty.Type, error) {
		t := args[0].Type()
		switch {
		case t.IsListType() || t.IsSetType():
			return t.ElementType(), nil
		case t.IsTupleType() && t.Length() == 0:
			return cty.DynamicPseudoType, nil
		case t.IsTupleType() && t.Length() == 1:
			return t.TupleElementType(0), nil
		case t.IsTupleType():
			return cty.NilType, function.NewArgErrorf(0, "the list has %d elements, not one or none", t.Length())
		}
		return cty.NilType, function.NewArgErrorf(0, "a list or set is needed")
	},
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		if !args[0].IsKnown() || !args[0].Length().IsKnown() {
			return cty.UnknownVal(t), nil
		}
		switch n := args[0].LengthInt(); n {
		case 0:
			return cty.NullVal(t), nil
		case 1:
			it := args[0].ElementIterator()
			it.Next()
			_, v := it.Element()
			return v, nil
		default:
			return cty.NilVal, function.NewArgErrorf(0, "the list has %d elements, not one or none", n)
		}
	},
})

// maxProduct bounds the elements that setproduct makes.
const maxProduct = 1 << 20

var setProductFunc = function.New(&function.Spec{
	VarParam: stdlib.SetProductFunc.VarParam(),
	Type: func(args []cty.Value) (cty.Type, error) {
		total := 1
		for _, a := range args {
			if a, _ := a.Unmark(); a.IsKnown() && !a.IsNull() && a.CanIterateElements() && a.Length().IsKnown() {
				if total *= max(1, a.LengthInt()); total > maxProduct {
					return cty.NilType, fmt.Errorf("more than %d combinations", maxProduct)
				}
			}
		}
		return stdlib.SetProductFunc.ReturnTypeForValues(args)
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return stdlib.SetProductFunc.Call(args) },
})
