package inventory

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
)

// Source is the text of a configuration, kept so that diagnostics can show
// the lines they are about.
type Source struct {
	files   map[string]*hcl.File
	secrets []string // never shown, not even inside a snippet
}

// WriteText writes the diagnostics for a person: summary, file and line, the
// lines themselves, detail. Width is in columns; 0 does not wrap. Values of
// sensitive variables are blanked wherever they would show.
func (s *Source) WriteText(w io.Writer, diags hcl.Diagnostics, color bool, width int) error {
	var files map[string]*hcl.File
	var secrets []string
	if s != nil {
		files, secrets = s.files, s.secrets
	}
	var buf bytes.Buffer
	out := hcl.NewDiagnosticTextWriter(&buf, files, uint(max(width, 0)), color)
	if err := out.WriteDiagnostics(diags); err != nil {
		return fmt.Errorf("diagnostics: %w", err)
	}
	_, err := io.WriteString(w, redact(buf.String(), secrets))
	return err
}

// Diagnostic is one diagnostic as `validate -json` prints it.
type Diagnostic struct {
	Severity string `json:"severity"` // "error" or "warning"
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	File     string `json:"file"`   // as it was named on the command line; "" when no file is at fault
	Line     int    `json:"line"`   // from 1; 0 without a file
	Column   int    `json:"column"` // from 1, in characters; 0 without a file
}

// Report returns the diagnostics as plain values. It is never nil, so that
// JSON has [] for none.
func Report(diags hcl.Diagnostics) []Diagnostic {
	out := make([]Diagnostic, 0, len(diags))
	for _, d := range diags {
		r := Diagnostic{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			r.Severity = "warning"
		}
		if d.Subject != nil {
			r.File, r.Line, r.Column = d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column
		}
		out = append(out, r)
	}
	return out
}

const hidden = "(sensitive)"

// redact blanks every secret in a text, as it is and as HCL or JSON would
// quote it. A secret of one or two characters is blanked only where it is
// quoted, or else every message would be blanked.
func redact(text string, secrets []string) string {
	for _, s := range secrets {
		quoted := strings.Trim(strconv.Quote(s), `"`)
		if len(s) < 3 {
			text = strings.ReplaceAll(text, `"`+quoted+`"`, `"`+hidden+`"`)
			continue
		}
		text = strings.ReplaceAll(text, s, hidden)
		text = strings.ReplaceAll(text, quoted, hidden)
	}
	return text
}

// suggest returns the name nearest to what was given, or "".
func suggest(given string, names []string) string {
	best, least := "", 3
	if len(given) <= 3 {
		least = 2
	}
	for _, n := range names {
		if d := levenshtein.Distance(strings.ToLower(given), strings.ToLower(n), nil); d < least && d < len(n) {
			best, least = n, d
		}
	}
	return best
}

// didYouMean is the sentence that ends a message about an unknown name.
func didYouMean(given string, names []string) string {
	if s := suggest(given, names); s != "" {
		return fmt.Sprintf(". Did you mean %q?", s)
	}
	return "."
}

// capital begins a sentence.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// listed names up to eight of the names there are.
func listed(names []string) string {
	names = slices.Clone(names)
	sort.Slice(names, func(i, j int) bool { return natural(names[i], names[j]) < 0 })
	switch more := len(names) - 8; {
	case len(names) == 0:
		return "there are none"
	case more > 1:
		return fmt.Sprintf("there are %s and %d more", strings.Join(names[:8], ", "), more)
	case len(names) == 1:
		return "there is " + names[0]
	}
	return "there are " + strings.Join(names, ", ")
}

// errorAt records a mistake. ea is the instance it was found in, nil for none.
func (ev *evaluator) errorAt(rng hcl.Range, ea *each, summary, format string, args ...any) {
	ev.add(hcl.DiagError, rng, ea, summary, fmt.Sprintf(format, args...))
}

func (ev *evaluator) add(sev hcl.DiagnosticSeverity, rng hcl.Range, ea *each, summary, detail string) {
	d := &hcl.Diagnostic{Severity: sev, Summary: summary, Detail: detail, Subject: &rng}
	if ea != nil {
		d.Extra = ea
	}
	ev.diags = append(ev.diags, d)
}

// place names a range relative to the configuration directory: "nodes.hcl:12".
func (ev *evaluator) place(rng hcl.Range) string {
	return fmt.Sprintf("%s:%d", ev.rel(rng.Filename), rng.Start.Line)
}

func (ev *evaluator) rel(file string) string {
	if r, err := filepath.Rel(ev.dir, file); err == nil && !strings.HasPrefix(r, "..") {
		return r
	}
	return file
}

// finish orders the diagnostics by place, folds what one expression did wrong
// in many instances into one, and takes out whatever could leak a secret.
func finish(in hcl.Diagnostics, secrets []string) hcl.Diagnostics {
	type where struct{ file, summary, detail string }
	type spot struct {
		where
		line, column int
		severity     hcl.DiagnosticSeverity
	}
	groups := map[spot][]*each{}
	var order []spot
	first := map[spot]*hcl.Diagnostic{}
	for _, d := range in {
		s := spot{where: where{summary: d.Summary, detail: d.Detail}, severity: d.Severity}
		if d.Subject != nil {
			s.file, s.line, s.column = d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column
		}
		if first[s] == nil {
			first[s] = d
			order = append(order, s)
		}
		if ea, ok := d.Extra.(*each); ok {
			groups[s] = append(groups[s], ea)
		}
	}
	sort.SliceStable(order, func(i, j int) bool {
		a, b := order[i], order[j]
		if a.file != b.file {
			return a.file < b.file
		}
		if a.line != b.line {
			return a.line < b.line
		}
		return a.column < b.column
	})
	var out hcl.Diagnostics
	for _, s := range order {
		d := *first[s]
		d.Expression, d.EvalContext, d.Extra = nil, nil, nil
		if eas := groups[s]; len(eas) > 0 {
			d.Detail += "\n\n" + instances(eas)
		}
		d.Summary, d.Detail = redact(d.Summary, secrets), redact(d.Detail, secrets)
		out = append(out, &d)
	}
	return out
}

// instances says in which for_each or count instances, and instances of
// modules, a mistake was found.
func instances(eas []*each) string {
	first := eas[0]
	text := "This is " + first.what()
	same := true // all in one instance of a module
	names := make([]string, 0, len(eas))
	for _, ea := range eas[1:] {
		if ea.in != first.in {
			same = false
		}
	}
	for _, ea := range eas[1:] {
		switch {
		case same && ea.key != first.key:
			names = append(names, ea.key)
		case !same && ea.id() != first.id():
			names = append(names, ea.id())
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case len(names) == 0:
		return text + "."
	case same:
		return fmt.Sprintf("%s; the same in %d more: %s.", text, len(names), Fold(names))
	case len(names) > 9:
		return fmt.Sprintf("%s; the same in %d more: %s and so on.", text, len(names), strings.Join(names[:8], ", "))
	}
	return fmt.Sprintf("%s; the same in %d more: %s.", text, len(names), strings.Join(names, ", "))
}

// what names an instance, with where it comes from.
func (ea *each) what() string {
	text := ""
	switch {
	case ea.count:
		text = fmt.Sprintf("%s with count.index = %s", ea.block, ea.key)
	case ea.block != "":
		text = fmt.Sprintf("%s with each.key = %q", ea.block, ea.key)
	}
	if ea.at != "" {
		text += " (" + ea.at + ")"
	}
	if ea.in == nil {
		return text
	}
	if text != "" {
		text += " "
	}
	return text + "in " + ea.in.trail()
}

// id is what names an instance briefly, among those of several modules.
func (ea *each) id() string {
	text := ""
	if ea.in != nil {
		text = ea.in.path
	}
	if ea.block == "" {
		return text
	}
	return strings.TrimPrefix(fmt.Sprintf("%s.%s[%q]", text, ea.block, ea.key), ".")
}
