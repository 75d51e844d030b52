package inventory

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// TestFunctionTable: every function has its line in the documentation, and
// the table is in order.
func TestFunctionTable(t *testing.T) {
	var names []string
	for _, f := range functionTable {
		names = append(names, f.name)
		if !strings.HasPrefix(f.usage, f.name+"(") || !strings.Contains(f.usage, ")") {
			t.Errorf("the usage of %s is %q", f.name, f.usage)
		}
		if len(f.doc) < 10 || !strings.HasSuffix(f.doc, ".") {
			t.Errorf("the line of %s is %q; want a sentence", f.name, f.doc)
		}
	}
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("the functions are out of order, or one stands twice: %v", names)
	}
	ev := newEvaluator(t.TempDir(), Options{}, &Source{files: map[string]*hcl.File{}})
	if len(ev.root.funcs) != len(functionTable) {
		t.Errorf("the language has %d functions and the table %d", len(ev.root.funcs), len(functionTable))
	}
	for name := range ev.root.funcs {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not in the table", name)
		}
	}
}

func TestFunctions(t *testing.T) {
	files := map[string]string{
		"racks.yaml": "base: &b {height: 42}\nracks:\n  - {name: a, <<: *b}\n  - name: b\n",
		"x.csv":      "name,height\na,42\n",
	}
	tests := []struct{ expr, want string }{
		{`yamldecode(file("racks.yaml")).racks[0].height`, "42"},
		{`yamldecode("[1, two]")[1]`, "two"},
		{`trimspace(yamlencode({ a = 1 }))`, `"a": 1`},
		{`jsondecode("{\"a\": [1, 2]}").a[1]`, "2"},
		{`try({ a = 1 }.b, "none")`, "none"},
		{`try(local.o.x.y, local.o.x)`, "1"},
		{`tostring(can(local.o.y))`, "false"},
		{`sum([1, 2, 3.5])`, "6.5"},
		{`sum([])`, "0"},
		{`one(["x"])`, "x"},
		{`coalesce(one([]), "none")`, "none"},
		{`tostring(alltrue([true, 1 > 2]))`, "false"},
		{`tostring(alltrue([]))`, "true"},
		{`tostring(anytrue([false, 1 < 2]))`, "true"},
		{`tostring(startswith("hnode001", "hnode"))`, "true"},
		{`tostring(endswith("hnode001", "01"))`, "true"},
		{`tostring(strcontains("hnode001", "xx"))`, "false"},
		{`join(",", [for p in setproduct(["a", "b"], [1, 2]) : "${p[0]}${p[1]}"])`, "a1,a2,b1,b2"},
		{`cidrnetmask("10.10.0.0/22")`, "255.255.252.0"},
		{`join(",", cidrsubnets("10.10.0.0/22", 2, 1))`, "10.10.0.0/24,10.10.2.0/23"},
		{`join(",", cidrsubnets("10.10.0.0/16", 4, 8, 4))`, "10.10.0.0/20,10.10.16.0/24,10.10.32.0/20"},
		{`tostring(fileexists("x.csv"))`, "true"},
		{`tostring(fileexists("y.csv"))`, "false"},
		{`basename("a/b.csv")`, "b.csv"},
		{`dirname("a/b.csv")`, "a"},
		{`length("abc")`, "3"},
		{`format("0xa088c20300ab%04d", 7)`, "0xa088c20300ab0007"},
		{`format("%%12345 %s", "x")`, "%12345 x"},
		{`try(format("%12345d", 1), "refused")`, "refused"},
		{`try(format("%-.12345f", 1), "refused")`, "refused"},
		{`length(local.o)`, "1"},
		{`length(csvdecode(file("x.csv"))[0])`, "2"},
		{`join(",", sort(setsymmetricdifference(["a", "b"], ["b", "c"])))`, "a,c"},
	}
	for _, tt := range tests {
		fs := map[string]string{"c.hcl": "locals {\n  o = { x = 1 }\n}\nrack \"r\" {\n  name = " + tt.expr + "\n}\n"}
		for k, v := range files {
			fs[k] = v
		}
		c, src, diags := Load(write(t, fs), Options{Env: noEnv})
		if c == nil {
			t.Errorf("%s:\n%s", tt.expr, text(t, src, diags))
			continue
		}
		if c.Racks[tt.want] == nil {
			t.Errorf("%s is %q; want %q", tt.expr, keys(c.Racks), tt.want)
		}
	}
}

// TestHostileYAML: nesting and aliases that would fill the stack or the memory are refused, and soon.
func TestHostileYAML(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("a0: &a0 x\n")
	for i := range 30 {
		fmt.Fprintf(&laughs, "a%d: &a%d [%s]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 6))
	}
	for name, text := range map[string]string{
		"laughs":  laughs.String(),
		"flow":    strings.Repeat("[", 100000),
		"compact": strings.Repeat("- ", 100000) + "x",
		"keys":    strings.Repeat("? ", 100000) + "x",
	} {
		start := time.Now()
		c, _, diags := Load(write(t, map[string]string{"c.hcl": "locals {\n  x = yamldecode(file(\"x.yaml\"))\n}\n", "x.yaml": text}), Options{Env: noEnv})
		if c != nil || !diags.HasErrors() || diags[0].Summary == internalError {
			t.Errorf("%s: %v, %v; want an error", name, c, diags)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s took %s", name, d)
		}
	}
	many := "base: &b {height: 42}\nnodes:\n" + strings.Repeat("  - {<<: *b}\n", 2000)
	mustLoad(t, map[string]string{"c.hcl": "locals {\n  x = yamldecode(file(\"x.yaml\"))\n}\n", "x.yaml": many}, Options{})
}
