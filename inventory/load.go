package inventory

import (
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"
)

// Options are what a configuration takes from outside its directory.
type Options struct {
	// Vars are values of variables by name, from -var. They win over VarFiles,
	// which win over the directory's *.auto.flvars, which win over
	// FIRSTLIGHT_VAR_name, which wins over the default.
	Vars map[string]string
	// VarFiles are files of name = value lines (JSON when named *.json), from
	// -var-file; a later one wins.
	VarFiles []string
	// Env looks up an environment variable; nil is os.LookupEnv.
	Env func(string) (string, bool)
}

// Load reads every *.hcl and *.hcl.json file of a directory as one
// configuration. The cluster is nil when there is an error among the
// diagnostics; all mistakes are reported, not the first. Diagnostics and
// ranges name files as dir joined with the file's name. Source is never nil.
func Load(dir string, opt Options) (cluster *Cluster, src *Source, diags hcl.Diagnostics) {
	src = &Source{files: map[string]*hcl.File{}}
	ev := newEvaluator(dir, opt, src)
	defer func() {
		// The HCL and cty libraries panic on some impossible values. A person
		// with a broken file needs a message, not a stack trace.
		if r := recover(); r != nil {
			ev.diags = append(ev.diags, &hcl.Diagnostic{
				Severity: hcl.DiagError, Summary: internalError,
				Detail: fmt.Sprintf("Reading the inventory failed inside firstlight: %v. Please report this with the file that caused it.", r),
			})
			cluster = nil
		}
		src.secrets = ev.secrets
		diags = finish(ev.diags, ev.secrets)
	}()
	names, err := configFiles(dir)
	switch {
	case err != nil:
		ev.plain("Cannot read the inventory", fmt.Sprintf("%v.", err))
		return nil, src, nil
	case len(names) == 0:
		ev.plain("No inventory here", fmt.Sprintf("The directory %s has no *.hcl or *.hcl.json file. `firstlight init` writes a first one.", dir))
		return nil, src, nil
	}
	body, ok := ev.readFiles(dir, names)
	if !ok {
		return nil, src, nil
	}
	ev.root.declare(body)
	ev.declareBuiltins()
	ev.setVariables()
	ev.root.ensureAll()
	cluster = ev.build()
	if ev.failed() {
		return nil, src, nil
	}
	return cluster, src, nil
}

const internalError = "Internal error"

func (ev *evaluator) failed() bool { return ev.diags.HasErrors() }

// configFiles are the names of a directory's configuration files.
func configFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); !e.IsDir() && isConfig(n) {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return names, nil
}

// readFiles parses a directory's files and returns them as one body. ok is
// false when a file is not HCL: what half a file says is not worth reporting.
func (ev *evaluator) readFiles(dir string, names []string) (hcl.Body, bool) {
	var files []*hcl.File
	ok := true
	for _, n := range names {
		path := filepath.Join(dir, n)
		text, err := readRegular(path)
		if err != nil {
			ev.plain("Cannot read the inventory", fmt.Sprintf("%v.", err))
			ok = false
			continue
		}
		ev.inputs.file(ev.nameOf(path), text)
		f, diags := parseConfig(text, path)
		if f != nil {
			ev.src.files[path] = f
			files = append(files, f)
		}
		ev.diags = append(ev.diags, diags...)
		ok = ok && !diags.HasErrors()
	}
	body := hcl.MergeFiles(files)
	if !ok {
		ev.collectSecrets(body)
	}
	return body, ok
}

// nameOf is a file by its path from the configuration directory, so that
// nothing made of it depends on where that directory lies.
func (ev *evaluator) nameOf(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(ev.abs, abs)
	if err != nil {
		return filepath.ToSlash(abs)
	}
	return filepath.ToSlash(rel)
}

// isConfig reports whether a directory entry belongs to the configuration;
// editors' backup and lock files do not.
func isConfig(name string) bool {
	return (strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".hcl.json")) &&
		!strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "#")
}

func parseConfig(text []byte, path string) (*hcl.File, hcl.Diagnostics) {
	if d := guard(text, path); d != nil {
		return &hcl.File{Body: hcl.EmptyBody(), Bytes: text}, hcl.Diagnostics{d}
	}
	if strings.HasSuffix(path, ".json") {
		return hcljson.Parse(text, path)
	}
	return hclsyntax.ParseConfig(text, path, hcl.InitialPos)
}

// readRegular reads a file that is a file: not a device that never ends.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path) // before opening: opening a pipe waits for its writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %d bytes", maxFile)}
	}
	return text, err
}

// plain records a mistake that has no place in a file.
func (ev *evaluator) plain(summary, detail string) {
	ev.diags = append(ev.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail})
}

// declare sorts the top-level blocks of a directory.
func (sc *scope) declare(body hcl.Body) {
	schema := &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "variable", LabelNames: []string{"name"}}, {Type: "locals"},
		{Type: "module", LabelNames: []string{"name"}}, {Type: "output", LabelNames: []string{"name"}},
	}}
	for _, b := range topBlocks {
		schema.Blocks = append(schema.Blocks, b.header())
	}
	content, diags := body.Content(schema)
	for _, d := range diags {
		if m := unknownName.FindStringSubmatch(d.Detail); m != nil && d.Summary == "Unsupported block type" {
			names := topNames()
			d.Detail = fmt.Sprintf("There is no block %q: use %s%s", m[1], strings.Join(names, ", "), didYouMean(m[1], names))
		}
	}
	sc.report(diags)
	for _, b := range content.Blocks {
		switch b.Type {
		case "variable":
			sc.declareVariable(b)
		case "locals":
			sc.declareLocals(b)
		case "module":
			sc.declareModule(b)
		case "output":
			sc.declareOutput(b)
		default:
			sc.declareBlock(b)
		}
	}
}

//go:embed builtin/switches.hcl
var builtinSwitches []byte

// declareBuiltins adds the switch models that the configuration does not
// declare itself.
func (ev *evaluator) declareBuiltins() {
	const file = "built-in switches.hcl"
	f, diags := hclsyntax.ParseConfig(builtinSwitches, file, hcl.InitialPos)
	ev.diags = append(ev.diags, diags...)
	content, diags := f.Body.Content(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{topSchema("switch_model").header()}})
	ev.diags = append(ev.diags, diags...)
	ev.src.files[file] = f
	for _, b := range content.Blocks {
		ev.builtin[b.Labels[0]] = true
		if _, own := ev.root.labelled(b.Type, b.Labels[0]); !own {
			ev.root.declareBlock(b)
		}
	}
}

func topNames() []string {
	names := []string{"variable", "locals", "module", "output"}
	for _, b := range topBlocks {
		names = append(names, b.name)
	}
	return names
}
