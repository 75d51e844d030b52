package inventory

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// podModule is a module that uses inputs of every sort and gives references out.
const podModule = `
variable "racks" {
  type = map(object({ height = optional(number, 48), row = optional(string) }))
}
variable "rack" {}
variable "hardware" {}
locals {
  files = file("names.txt")
}
network "compute" {
  cidr = "10.30.0.0/24"
}
credential "bmc" {
  username = trimspace(local.files)
  password = "x"
}
image "os" {
  source = "./image"
}
rack "r" {
  for_each = var.racks
  height   = each.value.height
  row      = each.value.row
}
node "n" {
  for_each = var.racks
  name     = "n-${each.key}"
  rack     = rack.r[each.key]
  hardware = var.hardware
  image    = image.os
  bmc {
    address    = "10.20.0.${length(each.key)}"
    credential = credential.bmc
  }
  nic "boot" {
    mac = "52:54:00:00:00:${format("%02x", parseint(substr(each.key, -1, 1), 36))}"
  }
}
node "extra" {
  name = "extra-${var.rack.name}"
  rack = var.rack
  bmc {
    address    = "10.20.1.1"
    credential = credential.bmc
  }
  nic "boot" {
    mac = "52:54:00:00:01:01"
  }
}
output "racks" {
  value = rack.r
}
output "first" {
  value = values(rack.r)[0]
}
output "dir" {
  value = "${basename(path.module)} of ${basename(path.root)}"
}
`

func podFiles(main string) map[string]string {
	return map[string]string{"c.hcl": main, "modules/pod/pod.hcl": podModule, "modules/pod/names.txt": "root\n", "modules/pod/image/image.hcl": ""}
}

func TestModule(t *testing.T) {
	c := mustLoad(t, podFiles(`
module "pod" {
  source   = "./modules/pod"
  racks    = { a1 = { row = "A" }, a22 = { height = 42 } }
  rack     = rack.spare
  hardware = hardware.h
}
hardware "h" {}
rack "spare" {
  height = module.pod.racks["a22"].height - 2
}
rack "after" {
  name = "after-${module.pod.first.name}"
  row  = module.pod.dir
}
`), Options{})
	var names []string
	for _, n := range c.Nodes {
		names = append(names, fmt.Sprintf("%s in %s", n.Name, n.Rack.Name))
	}
	if diff := cmp.Diff([]string{"extra-spare in spare", "n-a1 in a1", "n-a22 in a22"}, names); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if c.Racks["a1"].Height != 48 || c.Racks["a1"].Row != "A" || c.Racks["a22"].Height != 42 || c.Racks["spare"].Height != 40 {
		t.Errorf("racks are %+v, %+v, %+v", c.Racks["a1"], c.Racks["a22"], c.Racks["spare"])
	}
	n := c.Node("n-a1")
	if c.Networks["pod.compute"] == nil || n.Image != c.Images["pod.os"] || n.BMC.Credential.Name != "pod.bmc" || n.BMC.Credential.Username != "root" {
		t.Errorf("networks %v, image %+v, credential %+v", keys(c.Networks), n.Image, n.BMC.Credential)
	}
	if n.Hardware != c.Hardware["h"] {
		t.Errorf("hardware is %+v; want the caller's", n.Hardware)
	}
	if want := filepath.Join(c.Dir, "modules", "pod", "image"); c.Images["pod.os"].Source != want {
		t.Errorf("image source is %q; want %q", c.Images["pod.os"].Source, want)
	}
	if got, want := c.Racks["after-a1"], "pod of "+filepath.Base(c.Dir); got == nil || got.Row != want {
		t.Errorf("rack after-a1 is %+v; want row %q", got, want)
	}
}

// TestModuleInstances: for_each and count, nested, and what their instances are called.
func TestModuleInstances(t *testing.T) {
	c := mustLoad(t, map[string]string{
		"c.hcl": `
module "row" {
  source   = "./row"
  for_each = { east = 2, west = 1 }
  racks    = each.value
  name     = each.key
}
rack "of" {
  for_each = { one = module.row["west"].names, all = flatten([for r in module.row : r.names]), key = module.row["east"].pods[1].name }
  row      = join(",", flatten([each.value]))
}
`,
		"row/row.hcl": `
variable "racks" {}
variable "name" {}
module "pod" {
  source = "../pod"
  count  = var.racks
  name   = "${var.name}${count.index}"
}
output "names" {
  value = module.pod[*].name
}
output "pods" {
  value = module.pod
}
`,
		"pod/pod.hcl.json": `{"variable": {"name": {}}, "rack": {"r": {"name": "${var.name}"}}, "hardware": {"h": {}}, "output": {"name": {"value": "${rack.r.name}"}}}`,
	}, Options{})
	if diff := cmp.Diff([]string{"all", "east0", "east1", "key", "one", "west0"}, keys(c.Racks)); diff != "" {
		t.Errorf("racks (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"row.east.pod.0.h", "row.east.pod.1.h", "row.west.pod.0.h"}, keys(c.Hardware)); diff != "" {
		t.Errorf("hardware (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"one": "west0", "all": "east0,east1,west0", "key": "east1"} {
		if got := c.Racks[name].Row; got != want {
			t.Errorf("%s is %q; want %q", name, got, want)
		}
	}
}

// TestModulesLazy: two modules may each need an output of the other.
func TestModulesLazy(t *testing.T) {
	const m = `
variable "in" {}
variable "seed" {
  default = "seed"
}
output "start" {
  value = var.seed
}
output "through" {
  value = "${var.in}+"
}
`
	c := mustLoad(t, map[string]string{"m/m.hcl": m, "c.hcl": `
rack "r" {
  name = module.b.through
}
module "a" {
  source = "./m"
  in     = module.b.start
}
module "b" {
  source = "./m"
  in     = module.a.through
  seed   = "s"
}
`}, Options{})
	if diff := cmp.Diff([]string{"s++"}, keys(c.Racks)); diff != "" {
		t.Errorf("racks (-want +got):\n%s", diff)
	}
}

func TestModuleDigest(t *testing.T) {
	files := podFiles(`
module "pod" {
  source   = "./modules/pod"
  racks    = { a1 = {} }
  rack     = rack.a
  hardware = hardware.h
}
hardware "h" {}
rack "a" {}
`)
	want := mustLoad(t, files, Options{}).Digest
	if got := mustLoad(t, files, Options{}).Digest; got != want {
		t.Error("the digest depends on where the directory lies")
	}
	for _, name := range []string{"modules/pod/pod.hcl", "modules/pod/names.txt"} {
		old := files[name]
		files[name] = old + "\n"
		if mustLoad(t, files, Options{}).Digest == want {
			t.Errorf("the digest does not cover %s", name)
		}
		files[name] = old
	}
}

func TestModuleLimits(t *testing.T) {
	deep := map[string]string{}
	for i := range maxModuleDepth + 2 {
		deep[fmt.Sprintf("%sc.hcl", strings.Repeat("m/", i))] = "module \"m\" {\n  source = \"./m\"\n}\n"
	}
	deep[strings.Repeat("m/", maxModuleDepth+2)+"c.hcl"] = ""
	many := map[string]string{"c.hcl": "module \"m\" {\n  source = \"./m\"\n  count = 300\n}\n", "m/c.hcl": "module \"n\" {\n  source = \"../n\"\n  count = 300\n}\n", "n/c.hcl": ""}
	for _, tt := range []struct {
		files map[string]string
		want  string
	}{{deep, "Modules nested too deeply"}, {many, "Too many modules"}} {
		c, _, diags := Load(write(t, tt.files), Options{Env: noEnv})
		if c != nil || !slices.ContainsFunc(Report(diags), func(d Diagnostic) bool { return d.Summary == tt.want }) {
			t.Errorf("Load gave %v, %v; want %q", c, diags, tt.want)
		}
	}
}

// TestReferences: what TYPE.LABEL, TYPE.NAME and their instances give.
func TestReferences(t *testing.T) {
	const config = `
rack "one" {
  name = "first"
}
rack "each" {
  for_each = ["p", "q"]
  height   = length(each.key) + 40
}
rack "many" {
  count  = 3
  height = count.index + 10
}
rack "named" {
  count = 2
  name  = format("m%02d", count.index + 1)
}
rack "none" {
  count = 0
}
rack "out" {
  name = EXPR
}
`
	tests := []struct{ expr, want string }{
		{`"x-${rack.one.name}"`, "x-first"},
		{`"x-${rack.first.name}"`, "x-first"},
		{`"x-${rack["one"].name}"`, "x-first"},
		{`"x-${rack.each["p"].height}"`, "x-41"},
		{`"x-${rack.p.height}"`, "x-41"},
		{`join("-", keys(rack.each))`, "p-q"},
		{`join("-", [for k, r in rack.each : "${k}${r.height}"])`, "p41-q41"},
		{`"x-${rack.many[2].height}"`, "x-12"},
		{`"x-${rack.many-2.height}"`, "x-12"},
		{`join("-", rack.many[*].name)`, "many-0-many-1-many-2"},
		{`"x-${rack.named[1].name}"`, "x-m02"},
		{`"x-${rack.m02.name}"`, "x-m02"},
		{`"x-${length(rack.none)}"`, "x-0"},
		{`"x-${one(rack.none[*].name) == null}"`, "x-true"},
		{`"x-${rack.many[length(rack.each)].height}"`, "x-12"},
		{`"x-${try(rack.one.nothing, "not there")}"`, "x-not there"},
		{`"x-${can(rack.each["z"].height)}"`, "x-false"},
		{`"x-${try(rack.many[7].height, 0)}"`, "x-0"},
	}
	for _, tt := range tests {
		c, src, diags := Load(write(t, map[string]string{"c.hcl": strings.Replace(config, "EXPR", tt.expr, 1)}), Options{Env: noEnv})
		if c == nil {
			t.Errorf("%s:\n%s", tt.expr, text(t, src, diags))
			continue
		}
		if c.Racks[tt.want] == nil {
			t.Errorf("%s gives a rack of %q; want %q", tt.expr, keys(c.Racks), tt.want)
		}
	}
}

// TestReferenceByExpression: rack[EXPR] finds labels and names.
func TestReferenceByExpression(t *testing.T) {
	c := mustLoad(t, map[string]string{"c.hcl": `
locals {
  by = { a = "one", b = "first", c = "q" }
}
rack "one" {
  name   = "first"
  height = 41
}
rack "each" {
  for_each = ["p", "q"]
  height   = 42
}
network "n" {
  for_each = local.by
  cidr     = "10.${rack[each.value].height}.${length(each.key)}.${each.key == "a" ? 0 : each.key == "b" ? 16 : 32}/28"
}
`}, Options{})
	for name, want := range map[string]string{"a": "10.41.1.0/28", "b": "10.41.1.16/28", "c": "10.42.1.32/28"} {
		if got := c.Networks[name].CIDR.String(); got != want {
			t.Errorf("network %s is %s; want %s", name, got, want)
		}
	}
}
