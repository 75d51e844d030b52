package inventory

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// hostile are files that would exhaust a stack, memory or patience; n sets their size.
func hostile(n int) []string {
	return []string{
		strings.Repeat("(", n), "locals {\n x = " + strings.Repeat("[", n), "locals {\n x = " + strings.Repeat("1+", n) + "1\n}",
		"locals {\n x = " + strings.Repeat("-", n) + "1\n}", "locals {\n x = \"" + strings.Repeat("${\"", n) + "\n}",
		"locals {\n x = a" + strings.Repeat("[*]", n) + "\n}", "locals {\n x = " + strings.Repeat("true ? 1 : ", n) + "1\n}",
		"locals {\n x = \"" + strings.Repeat("%{if true}", n) + "\"\n}", strings.Repeat("rack \"r\" {\n", n),
		"{\"rack\": " + strings.Repeat("[", n), "{\"locals\": {\"x\": \"${" + strings.Repeat("(", n) + "\"}}",
	}
}

// odd are small files that ask for much.
var odd = []string{
	"locals {\n x = 1e999999999\n}", "locals {\n x = \"${1e999999999}\"\n}", `{"rack": {"r": {"height": "${1e99999}"}}}`, `{"rack": {"r": {"height": 1e999999999}}}`,
	"locals {\n x = format(\"%999999999d\", 1)\n}", "locals {\n x = range(1e18)\n}", "locals {\n x = hostlist(\"n[0-99999][0-99999]\")\n}",
	"locals {\n x = file(\"/dev/zero\")\n}", "locals {\n x = file(\".\")\n}", "locals {\n x = templatefile(\"fuzz.hcl\", {})\n}",
	"locals {\n x = local.x\n}", "locals {\n x = csvdecode(\"a,a\\n1,2\")\n}", "locals {\n x = var\n y = each\n z = rack\n}",
	"rack \"r\" {\n for_each = rack\n}", "rack \"r\" {\n for_each = { a = rack.a }\n}", "variable \"v\" {\n type = list\n default = v\n}",
	"variable \"v\" {\n sensitive = true\n type = object({ a = string })\n default = { a = \"x\" }\n}\ncredential \"c\" {\n username = \"u\"\n password = var.v\n}",
	"hardware \"h\" {\n dynamic \"hca\" {\n for_each = range(3)\n labels = [hca.value]\n content {}\n }\n}", "\xff\xfe", "\x00",
	"locals {\n x = 1 / 0\n y = cidrhost(\"10.0.0.0/8\", 1/0)\n}", "node \"n\" {\n for_each = [null]\n}",
	"fabric \"f\" {\n link_layer = \"ethernet\"\n cables = [null, 1, {}]\n}", "locals {\n x = cidrsubnet(\"10.0.0.0/8\", 1e300, 1)\n}",
	"controller {\n deadlines = { ready = null, enrolled = [] }\n}", "rack \"r\" {\n height = rack.r.height\n}", "network \"x\" {\n cidr = network[\"x\"].cidr\n}",
	"lab \"l\" {\n machine \"n\" {\n faults = [null]\n disks = null\n }\n}", "variable \"v\" {\n sensitive = null\n type = null\n default = null\n}",
	"module \"m\" {\n source = \"./mod\"\n count = 3\n n = count.index\n}\nrack \"x\" {\n name = module.m[1].name\n}\nlocals {\n y = module.m[*].racks\n}",
	"module \"m\" {\n source = \"./mod\"\n for_each = { a = rack.x, b = null }\n n = each.value\n}\nrack \"x\" {}\nlocals {\n y = module.m[\"a\"].block\n z = [for m in module.m : m]\n}",
	"module \"m\" {\n source = \"./mod\"\n n = module.m.name\n}", "module \"m\" {\n source = \".\"\n}", "module \"m\" {\n source = \"./\"\n}", "module \"m\" {\n source = \"./fuzz.hcl\"\n}",
	"rack \"r\" {\n count = 1e99\n}\nrack \"s\" {\n count = 2\n height = rack.s[0].height\n}\nlocals {\n x = rack.s[1e99]\n}",
	"rack \"r\" {\n count = 3\n height = count.index + 1\n}\nlocals {\n x = rack.r[*].name\n y = rack.r[count.index]\n}",
	"variable \"v\" {\n type = object({ a = optional(list(number), [1]), b = optional(any) })\n default = { b = { c = null } }\n nullable = false\n validation {\n condition = var.v.a[0] > var.w\n error_message = \"no ${var.w}\"\n }\n}\nvariable \"w\" {\n default = 7\n validation {\n condition = can(var.v.z)\n error_message = upper(\"x\")\n }\n}",
	"output \"o\" {\n value = rack.r\n sensitive = true\n}\nrack \"r\" {}", "locals {\n x = try(local.y, yamldecode(\"&a [*a]\"))\n y = one(setproduct([1], [2], [{}]))\n z = sum([null])\n}",
	"locals {\n x = distinct([[1], [\"a\"]])\n y = toset([{}, { a = 1 }])\n z = tomap({ a = 1, b = \"c\" })\n u = setunion([1], [true])\n}",
	"rack \"r\" {\n dynamic \"x\" {}\n}", "node \"n\" {\n dynamic \"nic\" {\n for_each = var.x\n content {}\n }\n}",
}

// TestHostile: files of hostile size end in a diagnostic, and soon.
func TestHostile(t *testing.T) {
	for i, body := range hostile(50000) {
		name := "c.hcl"
		if strings.HasPrefix(body, "{") {
			name += ".json"
		}
		start := time.Now()
		c, _, diags := Load(write(t, map[string]string{name: body}), Options{Env: noEnv})
		if c != nil || !diags.HasErrors() || diags[0].Summary == internalError {
			t.Errorf("hostile file %d (%.40q) gave cluster %v, %v; want an error", i, body, c, diags)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("hostile file %d (%.40q) took %s", i, body, d)
		}
	}
}

// seeds are every configuration file of the tests and examples, and hostile ones.
func seeds(f *testing.F) []string {
	out := append(hostile(300), odd...)
	for _, pattern := range []string{"../examples/*/*.hcl", "../examples/*/*/*.hcl", "starter/*.hcl", "testdata/*.hcl"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			out = append(out, string(text))
		}
	}
	archives, _ := filepath.Glob("testdata/broken/*.txtar")
	for _, path := range archives {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			if strings.HasSuffix(file.Name, ".hcl") || strings.HasSuffix(file.Name, ".json") {
				out = append(out, string(file.Data))
			}
		}
	}
	return out
}

// fuzzModule is a module that the fuzzed file may use.
const fuzzModule = `
variable "n" {
  default = 1
  validation {
    condition     = try(var.n >= 0, true)
    error_message = "n is ${try(tostring(var.n), "no number")}."
  }
}
rack "m" {
  count = try(var.n * 0 + 1, 1)
  name  = "m-${try(tostring(var.n), "x")}"
}
module "deep" {
  source = "./deep"
}
output "name" {
  value = rack.m[0].name
}
output "racks" {
  value = rack.m
}
output "block" {
  value = var.n
}
`

// FuzzLoad: no single file makes Load panic, hang or give neither a cluster
// nor an error.
func FuzzLoad(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, strings.HasPrefix(s, "{"))
	}
	dir := write(f, map[string]string{"mod/m.hcl": fuzzModule, "mod/deep/d.hcl": "output \"o\" {\n  value = path.module\n}\n"})
	f.Fuzz(func(t *testing.T, body string, inJSON bool) {
		name := "fuzz.hcl"
		if inJSON {
			name += ".json"
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		c, src, diags := Load(dir, Options{Env: noEnv})
		if (c == nil) != diags.HasErrors() {
			t.Fatalf("cluster %v with diagnostics %v", c, diags)
		}
		for _, d := range diags {
			if d.Summary == internalError {
				t.Fatal(d.Detail)
			}
		}
		if err := src.WriteText(io.Discard, diags, true, 80); err != nil {
			t.Fatal(err)
		}
		Report(diags)
	})
}

// FuzzFormat: what Format gives parses, and formatting it again changes nothing.
func FuzzFormat(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		once, diags := Format(body, "fuzz.hcl")
		if diags.HasErrors() {
			return
		}
		twice, diags := Format(once, "fuzz.hcl")
		if diags.HasErrors() {
			t.Fatalf("the formatted text does not parse: %v", diags)
		}
		if !bytes.Equal(once, twice) {
			t.Fatalf("formatting again changes %q to %q", once, twice)
		}
	})
}
