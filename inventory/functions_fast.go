package inventory

import (
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// cty looks for the common type of a tuple's elements by comparing each with
// each: seconds, for a rack of every row of a large CSV. The functions here
// see to elements that are of one type already, as those of a list made by
// a for expression are, and leave the rest to cty.

// alike makes a collection of a tuple or object whose elements are of one
// type, where want is one of any type. Other values come back as they are.
func alike(v cty.Value, want cty.Type) cty.Value {
	t := v.Type()
	if v.IsMarked() || !v.IsKnown() || v.IsNull() || !want.IsCollectionType() || want.ElementType() != cty.DynamicPseudoType {
		return v
	}
	switch {
	case t.IsTupleType() && !want.IsMapType():
		types := t.TupleElementTypes()
		for _, e := range types {
			if e == cty.DynamicPseudoType || !e.Equals(types[0]) {
				return v
			}
		}
		switch {
		case len(types) == 0:
		case want.IsListType():
			return cty.ListVal(v.AsValueSlice())
		default:
			return cty.SetVal(v.AsValueSlice())
		}
	case t.IsObjectType() && want.IsMapType():
		first := cty.NilType
		for _, e := range t.AttributeTypes() {
			if first == cty.NilType {
				first = e
			}
			if e == cty.DynamicPseudoType || !e.Equals(first) {
				return v
			}
		}
		if first != cty.NilType {
			return cty.MapVal(v.AsValueMap())
		}
	}
	return v
}

// toAny is tolist, toset or tomap.
func toAny(want cty.Type) function.Function {
	slow := stdlib.MakeToFunc(want)
	return function.New(&function.Spec{
		Params: slow.Params(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if v := alike(args[0], want); v.Type() != args[0].Type() {
				return v.Type(), nil
			}
			return slow.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if v := alike(args[0], want); v.Type() != args[0].Type() {
				return v, nil
			}
			return slow.Call(args)
		},
	})
}

// ofAny is a function of lists or sets of any type.
func ofAny(slow function.Function) function.Function {
	wants := slow.Params()
	params := make([]function.Parameter, len(wants))
	open := func(p function.Parameter) function.Parameter {
		if p.Type.IsCollectionType() && p.Type.ElementType() == cty.DynamicPseudoType {
			p.Type = cty.DynamicPseudoType
		}
		return p
	}
	for i, p := range wants {
		params[i] = open(p)
	}
	spec := &function.Spec{Params: params}
	if rest := slow.VarParam(); rest != nil {
		p := open(*rest)
		spec.VarParam = &p
	}
	fit := func(args []cty.Value) ([]cty.Value, error) {
		out := make([]cty.Value, len(args))
		for i, a := range args {
			want := slow.VarParam()
			if i < len(wants) {
				want = &wants[i]
			}
			v, err := convert.Convert(alike(a, want.Type), want.Type)
			if err != nil {
				return nil, function.NewArgErrorf(i, "%s required", want.Type.FriendlyNameForConstraint())
			}
			out[i] = v
		}
		return out, nil
	}
	spec.Type = func(args []cty.Value) (cty.Type, error) {
		args, err := fit(args)
		if err != nil {
			return cty.NilType, err
		}
		return slow.ReturnTypeForValues(args)
	}
	spec.Impl = func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		args, err := fit(args)
		if err != nil {
			return cty.NilVal, err
		}
		return slow.Call(args)
	}
	return function.New(spec)
}

// distinctFunc is distinct, which in cty compares each with each.
var distinctFunc = function.New(&function.Spec{
	Params: stdlib.DistinctFunc.Params(),
	Type:   stdlib.DistinctFunc.ReturnTypeForValues,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		list := args[0]
		if list.Type() != cty.List(cty.String) || list.IsNull() || !list.IsWhollyKnown() || list.ContainsMarked() {
			return stdlib.DistinctFunc.Call(args)
		}
		seen := make(map[cty.Value]bool, list.LengthInt())
		out := make([]cty.Value, 0, list.LengthInt())
		for it := list.ElementIterator(); it.Next(); {
			if _, v := it.Element(); !seen[v] {
				seen[v] = true
				out = append(out, v)
			}
		}
		if len(out) == 0 {
			return cty.ListValEmpty(cty.String), nil
		}
		return cty.ListVal(out), nil
	},
})
