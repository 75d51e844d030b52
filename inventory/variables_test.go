package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func envOf(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

func TestVariablePrecedence(t *testing.T) {
	const config = `
variable "domain" {
  type    = string
  default = "default.example"
}
variable "height" {
  type    = number
  default = 42
}
variable "racks" {
  type    = list(string)
  default = []
}
cluster "c" {
  domain = var.domain
}
rack "r" {
  for_each = var.racks
  height   = var.height
}
`
	tests := []struct {
		name      string
		opt       Options
		file      string
		auto      map[string]string
		domain    string
		rackCount int
	}{
		{name: "default", domain: "default.example"},
		{name: "environment", opt: Options{Env: envOf(map[string]string{"FIRSTLIGHT_VAR_domain": "env.example", "FIRSTLIGHT_VAR_racks": `["a", "b"]`})},
			domain: "env.example", rackCount: 2},
		{name: "file over environment", opt: Options{Env: envOf(map[string]string{"FIRSTLIGHT_VAR_domain": "env.example"})},
			file: "domain = \"file.example\"\nracks = [\"a\"]\n", domain: "file.example", rackCount: 1},
		{name: "automatic file over environment", opt: Options{Env: envOf(map[string]string{"FIRSTLIGHT_VAR_domain": "env.example"})},
			auto: map[string]string{"a.auto.flvars": "domain = \"a.example\"\nracks = [\"x\"]\n", "b.auto.flvars.json": `{"domain": "b.example"}`, "c.flvars": "domain = \"c.example\"\n",
				".d.auto.flvars": "domain = \"d.example\"\n"},
			domain: "b.example", rackCount: 1},
		{name: "file over automatic file", auto: map[string]string{"a.auto.flvars": "domain = \"a.example\"\nracks = [\"x\"]\n"},
			file: "domain = \"file.example\"\n", domain: "file.example", rackCount: 1},
		{name: "flag over file", opt: Options{Vars: map[string]string{"domain": "flag.example", "height": "50"}},
			file: "domain = \"file.example\"\nracks = [\"a\"]\n", domain: "flag.example", rackCount: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"c.hcl": config}
			maps.Copy(files, tt.auto)
			dir := write(t, files)
			if tt.opt.Env == nil {
				tt.opt.Env = noEnv
			}
			if tt.file != "" {
				path := filepath.Join(t.TempDir(), "my.vars.hcl")
				if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
				tt.opt.VarFiles = []string{path}
			}
			c, src, diags := Load(dir, tt.opt)
			if c == nil {
				t.Fatal(text(t, src, diags))
			}
			if c.Domain != tt.domain || len(c.Racks) != tt.rackCount {
				t.Errorf("domain %q, %d racks; want %q, %d", c.Domain, len(c.Racks), tt.domain, tt.rackCount)
			}
		})
	}
}

func TestVariableMistakes(t *testing.T) {
	dir := write(t, map[string]string{"c.hcl": "variable \"height\" {\n  type = number\n}\nrack \"r\" {\n  height = var.height\n}\n"})
	vars := filepath.Join(t.TempDir(), "v.hcl")
	if err := os.WriteFile(vars, []byte("heigth = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, src, diags := Load(dir, Options{Env: noEnv, Vars: map[string]string{"hight": "3", "height": "tall"}, VarFiles: []string{vars, "absent.hcl"}})
	got := text(t, src, diags)
	for _, want := range []string{
		`-var hight: no variable of that name is declared. Did you mean "height"?`,
		`No variable "heigth" is declared. Did you mean "height"?`,
		`-var-file: stat absent.hcl: no such file or directory`,
		`Variable "height" must be number: a number is required`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("diagnostics lack %q:\n%s", want, got)
		}
	}
}

// TestValidation: rules on values from each place, and who is told what.
func TestValidation(t *testing.T) {
	const config = `
variable "height" {
  type     = number
  default  = 42
  nullable = false
  validation {
    condition     = var.height >= 10
    error_message = "A rack of ${var.height} units is a cupboard."
  }
  validation {
    condition     = var.height <= var.most
    error_message = "The ceiling is at ${var.most}."
  }
}
variable "most" {
  default = 48
}
variable "pin" {
  type      = string
  sensitive = true
  validation {
    condition     = can(regex("^[0-9]+$", var.pin))
    error_message = "The PIN has digits only."
  }
}
rack "r" {
  height = var.height
}
`
	tests := []struct {
		name string
		vars map[string]string
		file string // site.auto.flvars
		want []string
	}{
		{name: "fine"},
		{name: "null is the default", file: "height = null\n"},
		{name: "first rule", vars: map[string]string{"height": "4"}, want: []string{"A rack of 4 units is a cupboard.", "c.hcl:6 of variable \"height\"", "came from -var."}},
		{name: "other variable", vars: map[string]string{"height": "47", "most": "45"}, want: []string{"The ceiling is at 45."}},
		{name: "from a file", file: "\nheight = 60\n", want: []string{"The ceiling is at 48.", "site.auto.flvars line 2", "(source code not available)", "came from site.auto.flvars:2"}},
		{name: "sensitive", vars: map[string]string{"pin": secret}, want: []string{"The PIN has digits only."}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"c.hcl": config}
			if tt.file != "" {
				files["site.auto.flvars"] = tt.file
			}
			c, src, diags := Load(write(t, files), Options{Env: noEnv, Vars: tt.vars})
			got := text(t, src, diags)
			if len(tt.want) == 0 {
				if c == nil || c.Racks["r"].Height != 42 {
					t.Errorf("Load gave %v:\n%s", c, got)
				}
				return
			}
			if len(diags) != 1 {
				t.Errorf("Load reports %d mistakes; want one:\n%s", len(diags), got)
			}
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("diagnostics lack %q:\n%s", want, got)
				}
			}
			if strings.Contains(got, secret) {
				t.Errorf("the secret shows:\n%s", got)
			}
		})
	}
}

func TestOptionalAttributes(t *testing.T) {
	c := mustLoad(t, map[string]string{"c.hcl": `
variable "racks" {
  type = map(object({
    height = optional(number, 48)
    power  = optional(object({ budget = optional(string, "40kW") }), {})
    row    = optional(string)
  }))
}
rack "r" {
  for_each     = var.racks
  height       = each.value.height
  row          = each.value.row
  power_budget = each.value.power.budget
}
`}, Options{Vars: map[string]string{"racks": `{ a = {}, b = { height = 20, row = "B", power = { budget = "9kW" } } }`}})
	a, b := c.Racks["a"], c.Racks["b"]
	if a.Height != 48 || a.Row != "" || a.PowerBudget.Text != "40kW" || b.Height != 20 || b.Row != "B" || b.PowerBudget.Text != "9kW" {
		t.Errorf("racks are %+v and %+v", a, b)
	}
}

// TestUnsetSecret: a stranger can validate and plan without the password.
func TestUnsetSecret(t *testing.T) {
	files := map[string]string{"c.hcl": `
variable "p" {
  sensitive = true
}
credential "bmc" {
  username = "admin"
  password = var.p
}
node "n1" {
  bmc {
    address    = "10.20.0.1"
    credential = credential.bmc
  }
  nic "boot" {
    mac = "52:54:00:00:00:01"
  }
}
`}
	dir := write(t, files)
	c, src, diags := Load(dir, Options{Env: noEnv})
	if c == nil {
		t.Fatal(text(t, src, diags))
	}
	if got := c.Nodes[0].BMC.Credential.Password.Reveal(); got != "" {
		t.Errorf("password is %q; want none", got)
	}
	if got := text(t, src, diags); !strings.Contains(got, "FIRSTLIGHT_VAR_p") || !strings.Contains(got, "Warning: ") {
		t.Errorf("diagnostics do not say which variable to set:\n%s", got)
	}
	c, src, diags = Load(dir, Options{Env: envOf(map[string]string{"FIRSTLIGHT_VAR_p": "s3cret-pw"})})
	if c == nil {
		t.Fatal(text(t, src, diags))
	}
	if got := c.Nodes[0].BMC.Credential.Password.Reveal(); got != "s3cret-pw" {
		t.Errorf("password is %q; want the one given", got)
	}
	if out := fmt.Sprintf("%v %+v %#v", c.Nodes[0].BMC.Credential, *c.Nodes[0].BMC.Credential, c.Nodes[0].BMC.Credential); strings.Contains(out, "s3cret-pw") {
		t.Errorf("the credential prints its password: %s", out)
	}
}

const secret = "Hunter2-xyzzy"

// leaks are mistakes of every kind that touch a secret.
var leaks = map[string]string{
	"argument":      "locals {\n  x = cidrhost(var.p, 1)\n}\n",
	"derived":       "locals {\n  x = cidrhost(upper(var.p), 1)\n}\n",
	"local":         "locals {\n  s = \"${var.p}!\"\n  x = tonumber(local.s)\n}\n",
	"serial":        "rack \"r\" {\n  name = var.p\n}\n",
	"number":        "rack \"r\" {\n  height = var.p\n}\n",
	"reference":     "node \"n\" {\n  rack = var.p\n}\n",
	"for_each":      "rack \"r\" {\n  for_each = [var.p]\n}\n",
	"file":          "locals {\n  x = file(var.p)\n}\n",
	"index":         "locals {\n  x = { a = 1 }[var.p]\n}\n",
	"through block": "credential \"c\" {\n  username = \"u\"\n  password = var.p\n}\nlocals {\n  x = tonumber(credential.c.password)\n}\n",
	"literal":       "credential \"c\" {\n  username = 3 + {}\n  password = \"" + secret + "\" \n}\n",
	"same line":     "credential \"c\" { password = \"" + secret + "\" }\n",
	"default":       "variable \"q\" {\n  sensitive = true\n  type = number\n  default = \"" + secret + "\"\n}\n",
	"default line":  "variable \"q\" {\n  sensitive = \"maybe\"\n  default = \"" + secret + "\"\n}\n",
	"syntax":        "credential \"c\" {\n  password = \"" + secret + "\"\n  ] \n}\n",
	"csv":           "locals {\n  x = csvdecode(\"a,b\\n${var.p}\")\n}\n",
	"json":          "locals {\n  x = jsondecode(var.p)\n}\n",
	"template":      "locals {\n  x = templatefile(\"t.tmpl\", { p = var.p })\n}\n",
	"validation":    "variable \"q\" {\n  default = 1\n  validation {\n    condition = var.p == \"\"\n    error_message = \"not ${upper(var.p)}\"\n  }\n}\n",
	"condition":     "variable \"q\" {\n  default = 1\n  validation {\n    condition = var.p\n    error_message = \"no\"\n  }\n}\n",
	"rule of it":    "variable \"q\" {\n  default = \"" + secret + "\"\n  sensitive = true\n  validation {\n    condition = var.q == \"\"\n    error_message = \"not ${strrev(var.q)} ${strrev(strrev(var.q))}\"\n  }\n}\n",
	"count":         "rack \"r\" {\n  count = var.p\n}\n",
	"input":         "module \"m\" {\n  source = \"./m\"\n  n = var.p\n}\n",
	"output":        "module \"m\" {\n  source = \"./m\"\n}\nlocals {\n  x = tonumber(module.m.password)\n}\n",
	"yaml":          "locals {\n  x = yamldecode(\"[${var.p}\")\n}\n",
	"try":           "locals {\n  x = try(tonumber(var.p), cidrhost(var.p, 1))\n}\n",
	"fine":          "credential \"c\" {\n  username = \"u\"\n  password = var.p\n}\n",
}

// TestSecretNeverShown plants a secret where mistakes of every kind touch it,
// and looks for it in all that Load gives to others.
func TestSecretNeverShown(t *testing.T) {
	for name, use := range leaks {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{
				"v.hcl":   "variable \"p\" {\n  type = string\n  sensitive = true\n}\n",
				"u.hcl":   use,
				"t.tmpl":  "${tonumber(p)}",
				"m/m.hcl": "variable \"n\" {\n  type = number\n  default = 1\n}\noutput \"password\" {\n  sensitive = true\n  value = \"" + secret + "\"\n}\n",
			})
			vars := filepath.Join(t.TempDir(), "v.hcl")
			if err := os.WriteFile(vars, []byte("p = \""+secret+"\"\nnobody = \""+secret+"\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, opt := range []Options{
				{Env: envOf(map[string]string{"FIRSTLIGHT_VAR_p": secret})},
				{Env: noEnv, Vars: map[string]string{"p": secret}},
				{Env: noEnv, VarFiles: []string{vars}},
			} {
				c, src, diags := Load(dir, opt)
				if c == nil && len(diags) == 0 {
					t.Fatal("neither cluster nor diagnostics")
				}
				if name != "fine" && !diags.HasErrors() {
					t.Error("Load found nothing wrong; the case proves nothing")
				}
				out := text(t, src, diags) + fmt.Sprintf("%+v", Report(diags))
				for _, d := range diags {
					out += fmt.Sprint(d.Extra, d.Expression, d.EvalContext)
				}
				if c != nil {
					js, err := json.Marshal(c)
					if err != nil {
						t.Fatal(err)
					}
					out += string(js) + fmt.Sprintf("%+v", c)
				}
				if i := strings.Index(strings.ToLower(out), strings.ToLower(secret)); i >= 0 {
					t.Errorf("the secret shows: …%s", out[max(0, i-200):min(len(out), i+40)])
				}
			}
		})
	}
}

func TestDigest(t *testing.T) {
	files := map[string]string{
		"c.hcl": "variable \"p\" {\n  sensitive = true\n}\nvariable \"d\" {\n  default = \"x\"\n}\n" +
			"credential \"c\" {\n  username = file(\"user.txt\")\n  password = var.p\n}\ncluster \"c\" {\n  domain = env(\"SITE\", \"none\")\n}\n",
		"user.txt": "admin",
	}
	load := func(dir string, opt Options) string {
		t.Helper()
		c, src, diags := Load(dir, opt)
		if c == nil {
			t.Fatal(text(t, src, diags))
		}
		return c.Digest
	}
	base := Options{Env: noEnv, Vars: map[string]string{"p": "one"}}
	want := load(write(t, files), base)
	if !strings.HasPrefix(want, "sha256:") || len(want) != 71 {
		t.Errorf("digest is %q", want)
	}
	if got := load(write(t, files), base); got != want {
		t.Error("the digest depends on the directory's path")
	}
	changed := map[string]string{"c.hcl": files["c.hcl"], "user.txt": "root"}
	tests := []struct {
		name string
		dir  string
		opt  Options
	}{
		{"file read by a function", write(t, changed), base},
		{"variable", write(t, files), Options{Env: noEnv, Vars: map[string]string{"p": "one", "d": "y"}}},
		{"sensitive variable", write(t, files), Options{Env: noEnv, Vars: map[string]string{"p": "two"}}},
		{"environment", write(t, files), Options{Env: envOf(map[string]string{"SITE": "s"}), Vars: map[string]string{"p": "one"}}},
		{"another file", write(t, map[string]string{"c.hcl": files["c.hcl"], "user.txt": "admin", "z.hcl": ""}), base},
	}
	for _, tt := range tests {
		if got := load(tt.dir, tt.opt); got == want {
			t.Errorf("the digest does not depend on a %s", tt.name)
		}
	}
}

func TestReport(t *testing.T) {
	dir := write(t, map[string]string{"c.hcl": "rack \"r\" {\n  height = 400\n}\n"})
	_, _, diags := Load(dir, Options{Env: noEnv})
	want := []Diagnostic{{Severity: "error", Summary: "Out of range", Detail: "height must be a whole number from 1 to 100; this is 400.",
		File: filepath.Join(dir, "c.hcl"), Line: 2, Column: 12}}
	if diff := cmp.Diff(want, Report(diags)); diff != "" {
		t.Errorf("Report (-want +got):\n%s", diff)
	}
	if js, err := json.Marshal(Report(nil)); err != nil || !bytes.Equal(js, []byte("[]")) {
		t.Errorf("Report(nil) is %s, %v in JSON; want []", js, err)
	}
}

func TestNoInventory(t *testing.T) {
	c, src, diags := Load(t.TempDir(), Options{Env: noEnv})
	if got := text(t, src, diags); c != nil || !strings.Contains(got, "firstlight init") {
		t.Errorf("Load of an empty directory: %v, %s", c, got)
	}
	c, src, diags = Load(filepath.Join(t.TempDir(), "absent"), Options{Env: noEnv})
	if got := text(t, src, diags); c != nil || !strings.Contains(got, "no such file") {
		t.Errorf("Load of no directory: %v, %s", c, got)
	}
}
