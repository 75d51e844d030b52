package importer

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"firstlight/inventory"
)

// hclBody writes into a file or a block.
type hclBody struct{ b *hclwrite.Body }

// hclFile is a file in the making.
type hclFile struct {
	hclBody
	f *hclwrite.File
}

func newFile(comment string) *hclFile {
	f := hclwrite.NewEmptyFile()
	out := &hclFile{hclBody{f.Body()}, f}
	out.comment(comment)
	return out
}

// bytes is the file in canonical form.
func (f *hclFile) bytes(name string) []byte {
	text := bytes.ReplaceAll(f.f.Bytes(), []byte("{\n}"), []byte("{}"))
	out, diags := inventory.Format(text, name)
	if diags.HasErrors() { // a mistake in this package: its tests write every form
		panic(fmt.Sprintf("%s: %v\n%s", name, diags, f.f.Bytes()))
	}
	return out
}

// comment writes lines of comment; a line longer than is read at ease is
// wrapped.
func (b hclBody) comment(text string) {
	var buf bytes.Buffer
	for _, line := range strings.Split(text, "\n") {
		width := 0
		buf.WriteString("#")
		for _, word := range strings.Fields(strings.TrimPrefix(line, "#")) {
			if width > 0 && width+1+len(word) > 96 {
				buf.WriteString("\n#")
				width = 0
			}
			buf.WriteString(" " + word)
			width += 1 + len(word)
		}
		buf.WriteString("\n")
	}
	b.b.AppendUnstructuredTokens(hclwrite.Tokens{{Type: hclsyntax.TokenComment, Bytes: buf.Bytes()}})
}

func (b hclBody) blank() { b.b.AppendNewline() }

// attr writes an attribute whose value is an expression, and a comment behind
// it where there is one.
func (b hclBody) attr(name, expr string, comment ...string) {
	f, diags := hclwrite.ParseConfig([]byte("x = "+expr+"\n"), "expression", hcl.InitialPos)
	if diags.HasErrors() {
		panic(fmt.Sprintf("%s = %s: %v", name, expr, diags))
	}
	tokens := f.Body().GetAttribute("x").Expr().BuildTokens(nil)
	for _, c := range comment {
		if c != "" {
			tokens = append(tokens, &hclwrite.Token{Type: hclsyntax.TokenComment, Bytes: []byte(c), SpacesBefore: 1})
		}
	}
	b.b.SetAttributeRaw(name, tokens)
}

// text writes an attribute whose value is a string.
func (b hclBody) text(name, value string, comment ...string) {
	b.attr(name, quote(value), comment...)
}

func (b hclBody) number(name string, value int, comment ...string) {
	b.attr(name, strconv.Itoa(value), comment...)
}

// block opens a block.
func (b hclBody) block(typ string, labels ...string) hclBody {
	return hclBody{b.b.AppendNewBlock(typ, labels).Body()}
}

// quote is a string as HCL writes it.
func quote(s string) string {
	return string(hclwrite.TokensForValue(stringVal(s)).Bytes())
}

// reference is type.label, or type["label"] where the label is no identifier.
func reference(typ, label string) string {
	if hclsyntax.ValidIdentifier(label) {
		return typ + "." + label
	}
	return typ + "[" + quote(label) + "]"
}

// names is a list of names: as they are when they are few, else as a host list.
func names(list []string) string {
	if len(list) > 6 {
		folded := inventory.Fold(list)
		if back, err := inventory.Hostlist(folded); err == nil && len(back) == len(list) && len(folded) < 200 {
			return "hostlist(" + quote(folded) + ")"
		}
	}
	quoted := make([]string, len(list))
	for i, n := range list {
		quoted[i] = quote(n)
	}
	if len(list) > 6 {
		return "[\n" + strings.Join(quoted, ",\n") + ",\n]"
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// table is a CSV in the making.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) bytes() []byte {
	var buf bytes.Buffer
	w := csv.NewWriter(&buf)
	_ = w.Write(t.header)
	_ = w.WriteAll(t.rows) // a buffer takes everything
	return buf.Bytes()
}

// gaps reports whether a column has an empty cell, and whether it has only those.
func (t *table) gaps(column string) (some, all bool) {
	all = true
	for i, h := range t.header {
		if h != column {
			continue
		}
		for _, r := range t.rows {
			some = some || r[i] == ""
			all = all && r[i] == ""
		}
	}
	return some, all
}

// cell is the expression for a column of the row at hand, null where it is empty.
func (t *table) cell(column string) string {
	if some, _ := t.gaps(column); some {
		return fmt.Sprintf(`each.value.%s == "" ? null : each.value.%[1]s`, column)
	}
	return "each.value." + column
}
