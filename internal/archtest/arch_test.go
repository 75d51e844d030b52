package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	module    = "firstlight"
	root      = "../.."
	mostLines = 600 // of a file; about 500 is the aim
)

// listed is what the go command says of one package.
type listed struct {
	ImportPath   string
	Name         string
	Doc          string
	Dir          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func golist(args ...string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New("go list: " + err.Error() + "\n" + stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

var ours = sync.OnceValues(func() ([]listed, error) {
	return golist("-json=ImportPath,Name,Doc,Dir,GoFiles,Imports,TestImports,XTestImports", "./...")
})

func packages(t *testing.T) []listed {
	t.Helper()
	all, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// own returns a package's path inside the module.
func own(path string) (string, bool) { return strings.CutPrefix(path, module+"/") }

func allowed(edges []edge, to string) bool {
	return slices.ContainsFunc(edges, func(e edge) bool { return e.to == to })
}

func find(pkg string) (rule, bool) {
	i := slices.IndexFunc(rules, func(r rule) bool { return r.pkg == pkg })
	if i < 0 {
		return rule{}, false
	}
	return rules[i], true
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, v := range violations(p) {
			t.Error(v)
		}
	}
}

// violations says which of a package's imports no rule allows.
func violations(p listed) []string {
	name, _ := own(p.ImportPath)
	r, ok := find(name)
	if !ok {
		return []string{name + " has no rule in internal/archtest/rules_test.go: add one that says what it may import and why"}
	}
	var out []string
	for _, imp := range p.Imports {
		if to, ok := own(imp); ok && !allowed(r.may, to) {
			out = append(out, name+" imports "+to+", which no rule allows: see internal/archtest/rules_test.go")
		}
	}
	for _, imp := range append(slices.Clone(p.TestImports), p.XTestImports...) {
		if to, ok := own(imp); ok && to != name && !allowed(r.may, to) && !allowed(r.tests, to) {
			out = append(out, "the tests of "+name+" import "+to+", which no rule allows: see internal/archtest/rules_test.go")
		}
	}
	return out
}

// TestViolations shows that the check above can fail.
func TestViolations(t *testing.T) {
	cases := []struct {
		p    listed
		want string
	}{
		{listed{ImportPath: "firstlight/newcomer"}, "newcomer has no rule"},
		{listed{ImportPath: "firstlight/inventory", Imports: []string{"fmt", "firstlight/provision"}}, "inventory imports provision,"},
		{listed{ImportPath: "firstlight/provision/bmc", Imports: []string{"firstlight/internal/refbmc"}}, "provision/bmc imports internal/refbmc,"},
		{listed{ImportPath: "firstlight/provision/bmc", XTestImports: []string{"firstlight/internal/refbmc", "firstlight/provision"}}, "the tests of provision/bmc import provision,"},
	}
	for _, c := range cases {
		got := violations(c.p)
		if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("violations(%s) = %q; want one that begins %q", c.p.ImportPath, got, c.want)
		}
	}
}

// TestRules checks the table itself: reasons given, names known, no cycle.
func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.pkg] {
			t.Errorf("two rules for %s", r.pkg)
		}
		seen[r.pkg] = true
	}
	for _, r := range rules {
		for _, e := range append(slices.Clone(r.may), r.tests...) {
			if e.why == "" {
				t.Errorf("%s -> %s has no reason", r.pkg, e.to)
			}
			if !seen[e.to] {
				t.Errorf("%s -> %s: no rule names that package", r.pkg, e.to)
			}
		}
		if path := cycle(r.pkg, nil); path != nil {
			t.Errorf("the rules allow a cycle: %s", strings.Join(path, " -> "))
		}
	}
}

// cycle returns a way back to where it began.
func cycle(pkg string, path []string) []string {
	if len(path) > 0 && path[0] == pkg {
		return append(path, pkg)
	}
	if slices.Contains(path, pkg) {
		return nil
	}
	r, _ := find(pkg)
	for _, e := range r.may {
		if c := cycle(e.to, append(slices.Clone(path), pkg)); c != nil {
			return c
		}
	}
	return nil
}

// TestBans follows every import to its end.
func TestBans(t *testing.T) {
	deps := map[string][]listed{}
	for _, b := range bans {
		if _, err := os.Stat(filepath.Join(root, b.pkg)); err != nil {
			continue
		}
		if deps[b.pkg] == nil {
			all, err := golist("-deps", "-json=ImportPath", "./"+b.pkg)
			if err != nil {
				t.Fatal(err)
			}
			deps[b.pkg] = all
		}
		for _, d := range deps[b.pkg] {
			if strings.HasPrefix(d.ImportPath, b.prefix) && d.ImportPath != module+"/"+b.pkg {
				t.Errorf("%s depends on %s: %s (go mod why says how)", b.pkg, d.ImportPath, b.why)
			}
		}
	}
}

func TestDocComments(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + filepath.Base(p.ImportPath) + " "
		}
		if !strings.HasPrefix(p.Doc, want) {
			t.Errorf("the doc comment of %s is %q; want it to begin %q", p.ImportPath, p.Doc, want)
		}
	}
}

// TestStaticBuild: both programs must run on a machine with another C library,
// or none.
func TestStaticBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds both programs")
	}
	for _, pkg := range []string{"./cmd/firstlight", "./cmd/firstlight-agent"} {
		if _, err := os.Stat(filepath.Join(root, pkg)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", "build", "-o", os.DevNull, pkg)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("CGO_ENABLED=0 go build %s: %v\n%s", pkg, err, out)
		}
	}
}

// files lists what is, or would be, committed.
func files(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("needs git and a clone: %v", err)
	}
	return strings.Fields(string(out))
}

func TestTopLevel(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range files(t) {
		top, _, _ := strings.Cut(f, "/")
		if seen[top] || strings.HasPrefix(top, ".") {
			continue
		}
		seen[top] = true
		if !slices.Contains(topLevel, top) {
			t.Errorf("%s lies at the top level, where only these may: %s", top, strings.Join(topLevel, " "))
		}
	}
}

func TestFileLength(t *testing.T) {
	for _, f := range files(t) {
		if filepath.Ext(f) != ".go" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			continue // removed, and not yet committed so
		}
		switch n := bytes.Count(raw, []byte("\n")); {
		case n > mostLines:
			t.Errorf("%s has %d lines; %d is the most: split it by subject", f, n, mostLines)
		case n > 500:
			t.Logf("%s has %d lines; about 500 is the aim", f, n)
		}
	}
}

// TestNoMarks: what is unfinished is an issue, not a comment.
func TestNoMarks(t *testing.T) {
	mark := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)
	for _, f := range files(t) {
		if strings.Contains(f, "/testdata/") || !slices.Contains([]string{".go", ".md", ".hcl", ".tmpl", ".txtar", ".sh", ""}, filepath.Ext(f)) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			continue
		}
		for i, line := range strings.Split(string(raw), "\n") {
			if m := mark.FindString(line); m != "" {
				t.Errorf("%s:%d: %s left in the text", f, i+1, m)
			}
		}
	}
}
