package inventory

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
)

//go:generate go test -run ^TestDocs$ -update .

const docsHead = "<!-- Generated from inventory/schema.go and inventory/functions_table.go by `go generate ./inventory`. Do not edit. -->\n\n" + `# The inventory language

One directory is one configuration: every ` + "`*.hcl`" + ` and ` + "`*.hcl.json`" + ` file in it, in any order. The syntax is HCL 2.
` + "`firstlight validate`" + ` checks it offline and reports every mistake at once; ` + "`firstlight fmt`" + ` lays it out; ` + "`firstlight init`" + ` writes a first one.

## Values

` + "```hcl" + `
variable "bmc_password" {      # var.bmc_password
  type        = string         # string, number, bool, list(...), map(...), object({...}), any
  default     = "..."          # without one, a value must be given
  sensitive   = true           # never shown; only passwords may use it
  nullable    = false          # null counts as no value; default: true
  description = "..."
  validation {                 # any number of them
    condition     = strlen(var.bmc_password) >= 8
    error_message = "A BMC's password has eight characters or more."
  }
}

variable "racks" {
  type = map(object({ height = optional(number, 48), row = optional(string) }))
}

locals {                       # local.assets; in any order
  assets = { for row in csvdecode(file("assets.csv")) : row.hostname => row }
}

node "hnode" {
  for_each = local.assets      # a map, an object, or a list of strings
  rack     = rack.a01          # a block, by type and label
  hardware = hardware[each.value.class]
  serial   = each.value.serial # each.key and each.value
  # ...
}

rack "b" {
  count  = 4                   # b-0 to b-3, unless a name is given
  name   = format("b%%02d", count.index + 1)
  height = 48
}
` + "`" + `` + "`" + `` + "`" + `

- A reference gives the block's attributes too: ` + "`" + `network.provision.cidr` + "`" + `. Blocks that can be referred to: %s.
- ` + "`" + `TYPE.LABEL` + "`" + ` is the block with that label. With ` + "`" + `for_each` + "`" + ` it is a map of its instances, ` + "`" + `rack.r["a01"]` + "`" + `; with ` + "`" + `count` + "`" + ` a list, ` + "`" + `rack.b[0]` + "`" + `,
  ` + "`" + `rack.b[*].name` + "`" + `. An instance has a name as well, and ` + "`" + `TYPE.NAME` + "`" + ` and ` + "`" + `TYPE[EXPRESSION]` + "`" + ` find it by that: ` + "`" + `rack[each.value.rack]` + "`" + `. Where a label and
  a name are the same, ` + "`" + `TYPE.LABEL` + "`" + ` is the label's.
- The name of an instance is its attribute ` + "`" + `name` + "`" + ` where the block has one, else ` + "`" + `each.key` + "`" + `, or ` + "`" + `LABEL-INDEX` + "`" + ` with ` + "`" + `count` + "`" + `. ` + "`" + `dynamic` + "`" + ` blocks repeat
  nested blocks.
- ` + "`" + `optional(TYPE, DEFAULT)` + "`" + ` in an object type is an attribute that may be left out. A ` + "`" + `condition` + "`" + ` may use other variables, local values and functions.
  An ` + "`" + `error_message` + "`" + ` made of a sensitive value is withheld.
- Text becomes a number where one is wanted, so CSV cells need no conversion. An empty cell is no value, except for text.
- Paths are relative to the directory of the file that names them; ` + "`" + `path.module` + "`" + ` is that directory and ` + "`" + `path.root` + "`" + ` that of the configuration.

### Where the value of a variable comes from

The first of these that there is:

1. ` + "`" + `-var name=value` + "`" + `;
2. ` + "`" + `-var-file FILE` + "`" + `, of several the last;
3. the files ` + "`" + `*.auto.flvars` + "`" + ` and ` + "`" + `*.auto.flvars.json` + "`" + ` in the configuration directory, of several the last by name;
4. the environment variable ` + "`" + `FIRSTLIGHT_VAR_name` + "`" + `;
5. the default.

A variable file holds ` + "`" + `name = value` + "`" + ` lines, and JSON when its name ends in ` + "`" + `.json` + "`" + `. No message shows its text. A value from the command line or the
environment is taken as it is for a string, and read as an HCL value for a list, map or object. A sensitive variable that is used only as a password
may be without a value for ` + "`" + `validate` + "`" + ` and ` + "`" + `plan` + "`" + `.

### Modules

A directory of configuration files can be used any number of times, with inputs, from another:

` + "`" + `` + "`" + `` + "`" + `hcl
module "pod" {
  source   = "./modules/pod"   # "./" or "../": modules are local
  for_each = local.pods        # or count
  racks    = each.value.racks  # every other attribute is an input: a variable of the module
  hardware = hardware.h200x8   # a variable without a type takes a block
}

rack "spare" {
  row = module.pod["a"].row    # an output of the module; module.pod[0].row with count
}
` + "`" + `` + "`" + `` + "`" + `

` + "`" + `` + "`" + `` + "`" + `hcl
# modules/pod/pod.hcl
variable "racks" {
  type = list(string)
}

variable "hardware" {}

rack "r" {
  for_each = var.racks
}

output "row" {
  value       = values(rack.r)[0].row
  description = "..."
  sensitive   = false
}
` + "`" + `` + "`" + `` + "`" + `

- A module sees its inputs and nothing else of its caller. Modules nest, up to 16 deep.
- Nodes, racks and switches can be touched: their names are of the whole cluster, so a module that is used twice makes them of its inputs. What else
  a module declares is called by the module's name in the cluster: ` + "`" + `pod.compute` + "`" + `, or ` + "`" + `pod.a.compute` + "`" + ` with ` + "`" + `for_each` + "`" + `.
- ` + "`" + `cluster` + "`" + `, ` + "`" + `controller` + "`" + ` and ` + "`" + `lab` + "`" + ` stand only in the configuration itself. Built-in blocks are everywhere.

### Kinds of values

| kind | written as |
|---|---|
| size | ` + "`\"2TiB\"`, `\"7.68TB\"`" + `: %s |
| duration | ` + "`\"90s\"`, `\"1h30m\"`" + `: %s |
| bandwidth | ` + "`\"360Gb/s\"`, `\"45GB/s\"`" + `: %s |
| power | ` + "`\"40kW\"`" + `: %s |
| link rate | a name (%s) or a bandwidth |
| address, network | IPv4: ` + "`\"10.10.0.11\"`, `\"10.10.0.0/22\"`" + ` |
| MAC address | ` + "`\"52:54:00:10:00:01\"`" + `, with dashes, in Cisco's dots, or bare |
| PCI id, PCI address | ` + "`\"10de:2335\"`, `\"18:00.0\"` or `\"0000:18:00.0\"`" + ` |
| partition key | four hexadecimal digits, ` + "`\"0x7fff\"`" + `: the bit of full members is not part of it |
| GUID | ` + "`\"0xb83fd20300aa0001\"`, `\"b83f:d203:00aa:0001\"`" + ` |
| name pattern | ` + "`\"leaf-%%02d\"`" + `: a name with one %%d or %%02d for the number |

## Blocks

`

// docs is docs/inventory.md.
func docs() string {
	var refs []string
	for _, b := range topBlocks {
		if referable(b.name) {
			refs = append(refs, b.name)
		}
	}
	var out strings.Builder
	var rateTexts []string
	for _, r := range rateNames {
		rateTexts = append(rateTexts, r.name)
	}
	fmt.Fprintf(&out, docsHead, strings.Join(refs, ", "), unitNames(sizeUnits), unitNames(durationUnits), unitNames(bandwidthUnits), unitNames(powerUnits), strings.Join(rateTexts, ", "))
	for _, b := range topBlocks {
		docBlock(&out, b, "###", "")
		if b.name == "switch_model" {
			docModels(&out)
		}
	}
	out.WriteString(docsTopologies())
	out.WriteString("## Functions\n\nAll of them give the same for the same files and environment: none knows the time, and none is random.\n\n| function | gives |\n|---|---|\n")
	for _, f := range functionTable {
		fmt.Fprintf(&out, "| `%s` | %s |\n", f.usage, f.doc)
	}
	return out.String()
}

func unitNames(units []unit) string {
	names := make([]string, len(units))
	for i, u := range units {
		names[i] = u.name
	}
	return strings.Join(names, ", ")
}

func docBlock(out *strings.Builder, b *blockSchema, level, outer string) {
	title := b.name
	if b.label != "" {
		title += " \"" + strings.ToUpper(b.label) + "\""
	}
	fmt.Fprintf(out, "%s %s`%s`\n\n%s", level, outer, title, b.doc)
	switch {
	case b.need != "":
		out.WriteString(" Required.")
	case outer == "" && b.single:
		out.WriteString(" At most one.")
	}
	if b.forEach {
		out.WriteString(" Takes `for_each` and `count`.")
	}
	out.WriteString("\n\n")
	if len(b.attrs) > 0 {
		out.WriteString("| attribute | kind | default | |\n|---|---|---|---|\n")
	}
	for _, a := range b.attrs {
		def := ""
		switch {
		case a.required:
			def = "required"
		case a.def != "":
			def = "`" + a.def + "`"
		}
		kind := string(a.kind)
		switch {
		case a.kind == kindRef:
			kind = "reference to " + a.ref
		case a.kind == kindRefs:
			kind = "list of references to " + a.ref
		case len(a.oneOf) > 0:
			kind = "`" + strings.Join(a.oneOf, "` \\| `") + "`"
			if a.kind == kindStrings {
				kind = "list of " + kind
			}
		case a.kind == kindInt:
			kind = fmt.Sprintf("%s, %d–%d", kind, a.min, a.max)
		case a.kind == kindDeadlines:
			kind = "map of durations by `" + strings.Join(lifecycleStates, "`, `") + "`"
		}
		fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", a.name, kind, def, a.doc)
	}
	if len(b.attrs) > 0 {
		out.WriteString("\n")
	}
	for _, n := range b.blocks {
		docBlock(out, n, "####", outer+b.name+" › ")
	}
}

// docModels lists the built-in switch models.
func docModels(out *strings.Builder) {
	ev := newEvaluator(".", Options{}, &Source{files: map[string]*hcl.File{}})
	ev.declareBuiltins()
	ev.root.ensureAll()
	out.WriteString("| built in | ports | split | units |\n|---|---|---|---|\n")
	for _, in := range ev.insts("switch_model") {
		m := switchModel(in)
		fmt.Fprintf(out, "| `switch_model.%s` | %d × %s | %d × %s | %d |\n", m.Name, m.Ports, m.Rate, m.Ports*m.Split, m.SplitRate, m.Units)
	}
	out.WriteString("\n")
}

// TestDocs holds docs/inventory.md against the tables it is made from.
func TestDocs(t *testing.T) {
	const path = "../docs/inventory.md"
	want := docs()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is out of date; run go generate ./inventory (-want +got):\n%s", path, diff)
	}
}
