package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// autoFiles are the variable files that lie in the configuration directory
// and are read unasked, in order of their names.
func (ev *evaluator) autoFiles() []string {
	entries, err := os.ReadDir(ev.dir)
	if err != nil {
		return nil // reported already, by who read the configuration files
	}
	var out []string
	for _, e := range entries {
		n := e.Name()
		if !e.IsDir() && !strings.HasPrefix(n, ".") && !strings.HasPrefix(n, "#") &&
			(strings.HasSuffix(n, ".auto.flvars") || strings.HasSuffix(n, ".auto.flvars.json")) {
			out = append(out, filepath.Join(ev.dir, n))
		}
	}
	return out
}

// readVarFile reads name = value lines. The file's text is never shown in a
// snippet: it is where secrets are kept.
func (ev *evaluator) readVarFile(path, flag string, values map[string]given) {
	text, err := readRegular(path)
	if err != nil {
		ev.plain("Cannot read the variable file", fmt.Sprintf("%s%v.", flag, err))
		return
	}
	f, diags := parseConfig(text, path)
	if diags.HasErrors() {
		d := diags[0]
		ev.errorAt(*d.Subject, nil, "Bad variable file", "%s. The line is not shown here, because variable files hold secrets.", strings.TrimSuffix(d.Summary, "."))
		return
	}
	attrs, diags := f.Body.JustAttributes()
	for _, d := range diags {
		ev.errorAt(*d.Subject, nil, "Bad variable file", "%s: a variable file holds NAME = VALUE lines only.", d.Summary)
	}
	names := keys(attrs)
	sort.Slice(names, func(i, j int) bool { return attrs[names[i]].Range.Start.Byte < attrs[names[j]].Range.Start.Byte })
	for _, name := range names {
		a := attrs[name]
		if ev.root.vars[name] == nil {
			ev.errorAt(a.NameRange, nil, "Unknown variable", "No variable %q is declared%s", name, didYouMean(name, keys(ev.root.vars)))
			continue
		}
		values[name] = given{from: ev.place(a.Range), at: a.Expr.Range(), value: func(v *variable) (cty.Value, error) {
			val, diags := a.Expr.Value(nil)
			if diags.HasErrors() {
				return cty.NilVal, fmt.Errorf("only a literal value can stand in a variable file")
			}
			return val, nil
		}}
	}
}
