package images

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/zclconf/go-cty/cty"

	"firstlight/provision/agent/api"
)

// SpecFile is the file in an image's source directory that says what is in it.
const SpecFile = "image.hcl"

// DefaultKernel is the Debian package that the kernel comes from when nothing
// else is said; it leads to the newest kernel of the release.
const DefaultKernel = "linux-image-amd64"

// Spec is what an image's source directory declares.
type Spec struct {
	Kernel   string   // Debian package, "name" or "name=version"
	Packages []string // Debian packages; what they depend on comes with them
	Files    string   // directory whose content is laid over the packages, absolute; "": none
	Args     []string // kernel command line
}

// specFile is image.hcl as written.
type specFile struct {
	Kernel   hcl.Expression `hcl:"kernel,optional"`
	Packages hcl.Expression `hcl:"packages,optional"`
	Files    hcl.Expression `hcl:"files,optional"`
	Args     hcl.Expression `hcl:"args,optional"`
}

// packagePattern is Debian policy §5.6.1 (names) and §5.6.12 (versions).
var packagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?$`)

// ReadSpec reads dir/image.hcl. All mistakes are reported, each with its file,
// line and column.
func ReadSpec(dir string) (Spec, hcl.Diagnostics) {
	path := filepath.Join(dir, SpecFile)
	src, err := os.ReadFile(path)
	if err != nil {
		return Spec{}, hcl.Diagnostics{{
			Severity: hcl.DiagError, Summary: "Cannot read the image's declaration",
			Detail:  fmt.Sprintf("An image's source directory holds %s: %v.", SpecFile, err),
			Subject: &hcl.Range{Filename: path, Start: hcl.InitialPos, End: hcl.InitialPos},
		}}
	}
	f, diags := hclparse.NewParser().ParseHCL(src, path)
	if diags.HasErrors() {
		return Spec{}, diags
	}
	var sf specFile
	diags = append(diags, gohcl.DecodeBody(f.Body, nil, &sf)...)
	if diags.HasErrors() {
		return Spec{}, diags
	}
	spec := Spec{Kernel: DefaultKernel}
	for _, attr := range []struct {
		expr hcl.Expression
		read func(hcl.Expression) hcl.Diagnostics
	}{
		{sf.Kernel, spec.readKernel}, {sf.Packages, spec.readPackages},
		{sf.Files, func(e hcl.Expression) hcl.Diagnostics { return spec.readFiles(dir, e) }},
		{sf.Args, spec.readArgs},
	} {
		// gohcl gives an absent optional expression as a static null.
		if v, d := attr.expr.Value(nil); !d.HasErrors() && v.IsNull() {
			continue
		}
		diags = append(diags, attr.read(attr.expr)...)
	}
	if diags.HasErrors() {
		return Spec{}, diags
	}
	return spec, diags
}

// wrong is the diagnostic of an expression.
func wrong(e hcl.Expression, summary, detail string, args ...any) hcl.Diagnostics {
	return hcl.Diagnostics{{
		Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...),
		Subject: e.Range().Ptr(),
	}}
}

// text evaluates an expression that must be a string.
func text(e hcl.Expression) (string, hcl.Diagnostics) {
	v, diags := e.Value(nil)
	if diags.HasErrors() {
		return "", diags
	}
	if v.IsNull() || v.Type() != cty.String {
		return "", wrong(e, "Wrong type", "A string is needed here, not %s.", v.Type().FriendlyName())
	}
	return v.AsString(), nil
}

// texts evaluates a list of strings; each is given to check with its place.
func texts(e hcl.Expression, check func(string, hcl.Expression) hcl.Diagnostics) ([]string, hcl.Diagnostics) {
	list, diags := hcl.ExprList(e)
	if diags.HasErrors() {
		return nil, wrong(e, "Wrong type", "A list of strings in brackets is needed here.")
	}
	var out []string
	for _, el := range list {
		s, d := text(el)
		if !d.HasErrors() {
			d = append(d, check(s, el)...)
			out = append(out, s)
		}
		diags = append(diags, d...)
	}
	return out, diags
}

func (s *Spec) readKernel(e hcl.Expression) hcl.Diagnostics {
	v, diags := text(e)
	if !diags.HasErrors() && !packagePattern.MatchString(v) {
		return wrong(e, "Not a package", "%q is not the name of a Debian package, as in %q.", v, DefaultKernel)
	}
	s.Kernel = v
	return diags
}

func (s *Spec) readPackages(e hcl.Expression) (diags hcl.Diagnostics) {
	seen := map[string]bool{}
	s.Packages, diags = texts(e, func(v string, el hcl.Expression) hcl.Diagnostics {
		name, _, _ := strings.Cut(v, "=")
		if !packagePattern.MatchString(v) {
			return wrong(el, "Not a package", "%q is not the name of a Debian package, as in \"busybox-static\".", v)
		}
		if seen[name] {
			return wrong(el, "Package named twice", "Package %q is in this list already.", name)
		}
		seen[name] = true
		return nil
	})
	return diags
}

func (s *Spec) readFiles(dir string, e hcl.Expression) hcl.Diagnostics {
	v, diags := text(e)
	if diags.HasErrors() {
		return diags
	}
	if !filepath.IsLocal(v) {
		return wrong(e, "Files outside the source directory", "%q must be a directory below %s.", v, dir)
	}
	abs, err := filepath.Abs(filepath.Join(dir, v))
	if err != nil {
		return wrong(e, "No such directory", "%v.", err)
	}
	st, err := os.Stat(abs)
	if err == nil && !st.IsDir() {
		err = &fs.PathError{Op: "read", Path: abs, Err: fmt.Errorf("not a directory")}
	}
	if err != nil {
		return wrong(e, "No such directory", "The files to lay over the packages: %v.", err)
	}
	s.Files = abs
	return nil
}

func (s *Spec) readArgs(e hcl.Expression) (diags hcl.Diagnostics) {
	s.Args, diags = texts(e, func(v string, el hcl.Expression) hcl.Diagnostics {
		prefix, _, _ := strings.Cut(api.ArgController, ".")
		switch {
		case v == "" || strings.ContainsAny(v, " \t\n"):
			return wrong(el, "Not a kernel argument", "%q: write each kernel argument as a string of its own, without spaces.", v)
		case strings.HasPrefix(v, prefix+"."):
			return wrong(el, "Reserved kernel argument", "%q: arguments that begin with %q are set by the controller.", v, prefix+".")
		}
		return nil
	})
	return diags
}
