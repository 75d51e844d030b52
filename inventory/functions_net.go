package inventory

import (
	"math/big"
	"net"

	"github.com/apparentlymart/go-cidr/cidr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

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

var cidrNetmaskFunc = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("network")},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		_, network, err := net.ParseCIDR(args[0].AsString())
		if err != nil || len(network.Mask) != net.IPv4len {
			return cty.NilVal, function.NewArgErrorf(0, "%q is not an IPv4 network: write it as \"10.10.0.0/22\"", args[0].AsString())
		}
		return cty.StringVal(net.IP(network.Mask).String()), nil
	},
})

var cidrSubnetsFunc = function.New(&function.Spec{
	Params:   []function.Parameter{stringParam("network")},
	VarParam: &function.Parameter{Name: "newbits", Type: cty.Number},
	Type:     function.StaticReturnType(cty.List(cty.String)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		_, network, err := net.ParseCIDR(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "%q is not a network: write it as \"10.10.0.0/22\"", args[0].AsString())
		}
		ones, size := network.Mask.Size()
		var out []cty.Value
		var last *net.IPNet
		for i, arg := range args[1:] {
			bits, acc := arg.AsBigFloat().Int64()
			if acc != big.Exact || bits < 1 || ones+int(min(bits, 128)) > size {
				return cty.NilVal, function.NewArgErrorf(i+1, "a whole number of bits from 1 to %d is needed", size-ones)
			}
			length := ones + int(bits)
			next := &net.IPNet{IP: network.IP, Mask: net.CIDRMask(length, size)}
			if last != nil {
				over := false
				if next, over = cidr.NextSubnet(last, length); over || !network.Contains(next.IP) {
					return cty.NilVal, function.NewArgErrorf(i+1, "%s has no room left for this subnet", network)
				}
			}
			out, last = append(out, cty.StringVal(next.String())), next
		}
		if len(out) == 0 {
			return cty.ListValEmpty(cty.String), nil
		}
		return cty.ListVal(out), nil
	},
})
