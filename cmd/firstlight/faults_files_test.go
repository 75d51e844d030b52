package main

import (
	"os"
	"path/filepath"
	"testing"

	"firstlight/internal/simrack"
)

// testSyntaxErrors breaks every kind of file that a person writes.
func testSyntaxErrors(t *testing.T) {
	for _, c := range []struct {
		name, file, content string
		args                []string // nil: apply
		want                []string
	}{
		{name: "hcl", file: "extra.hcl", content: "rack \"b01\" {\n  height = \n}\n", want: []string{"extra.hcl", "line 2"}},
		{name: "hcl.json", file: "extra.hcl.json", content: "{\n  \"rack\": {\n    \"b01\": {,}\n  }\n}\n", want: []string{"extra.hcl.json", "line 3"}},
		{name: "unknown name", file: "extra.hcl", content: "rack \"b01\" {\n  hight = 42\n}\n", want: []string{"extra.hcl", "line 2", "hight", "height"}},
		{name: "csv", file: "extra.hcl", content: "locals {\n  rows = csvdecode(file(\"assets.csv\"))\n}\nrack \"b01\" {\n  name = local.rows[0].name\n}\n",
			want: []string{"extra.hcl", "line 2", "assets.csv:3: this row has another number of fields than the header"}},
		{name: "variables", file: "lab.vars", content: "a = 1\nb = [\n", args: []string{"apply", "-auto-approve", "-var-file", "DIR/lab.vars"}, want: []string{"lab.vars", "line"}},
		{name: "saved plan", file: "a.plan", content: "{\n  \"format\": \"firstlight plan 1\",\n  \"plan\": {,}\n}\n", args: []string{"apply", "-plan", "DIR/a.plan"}, want: []string{"a.plan:3 is not a saved plan", "make a new one with plan -out"}},
		{name: "image", file: "images/compute/image.hcl", content: "packages = [\n  \"bash\"\n  \"dash\"\n]\n", args: []string{"validate"}, want: []string{"image.hcl", "line 3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newFaultRig(t, rackSpec{nodes: 1})
			writeFile(t, filepath.Join(r.dir, "assets.csv"), "name,unit\na,1\nb,2,3\n")
			writeFile(t, filepath.Join(r.dir, c.file), c.content)
			args := c.args
			if args == nil {
				args = []string{"apply", "-auto-approve"}
			}
			for i, a := range args {
				if rest, ok := cutDir(a); ok {
					args[i] = filepath.Join(r.dir, rest)
				}
			}
			o := r.cli(args...)
			if o.code != 1 {
				t.Errorf("%v exits %d; want 1\n%s", args, o.code, o.stdout)
			}
			wantText(t, args[0], o.stderr, c.want...)
			if n := r.rack.Counters("node-1"); n != (simrack.Counters{}) {
				t.Errorf("the machine was touched: %+v", n)
			}
			if _, err := os.Stat(filepath.Join(r.dir, ".firstlight", "report")); err == nil {
				t.Error("a report was written")
			}
		})
	}
}

// cutDir takes the stand-in for the inventory's directory off an argument.
func cutDir(arg string) (string, bool) {
	const dir = "DIR/"
	if len(arg) > len(dir) && arg[:len(dir)] == dir {
		return arg[len(dir):], true
	}
	return arg, false
}
