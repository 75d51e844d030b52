package images

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// deb is one Debian binary package of an exact version.
type deb struct {
	name, version, arch string
	sha256              string   // digest of the .deb, hex, from the signed package lists
	depends             []string // the Depends field, split at commas
}

// file is the name that apt gives the package's file.
func (d deb) file() string {
	return d.name + "_" + strings.ReplaceAll(d.version, ":", "%3a") + "_" + d.arch + ".deb"
}

// archive finds and fetches Debian packages with apt, as any user. It uses the
// machine's package lists; where there are none it keeps lists of its own in
// the cache, and the machine's are left alone.
type archive struct {
	cache    string // directory
	log      *slog.Logger
	progress func(step string)
	options  []string // apt options, set by prepare
}

// prepare chooses the package lists, fetching them only when there are none.
func (a *archive) prepare(ctx context.Context) error {
	out, err := command{name: "apt-config", args: []string{"shell", "LISTS", "Dir::State::lists/d"}}.output(ctx)
	if err != nil {
		return err
	}
	_, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "=")
	// What this machine has installed must not decide what an image gets: the
	// status is that of an empty system. apt's index of the lists is kept in the
	// cache, for containers are set up to keep none and take 0.5 s a call.
	tmp := filepath.Join(a.cache, "apt", "cache")
	if err := os.MkdirAll(filepath.Join(tmp, "archives", "partial"), 0o755); err != nil {
		return fmt.Errorf("package cache: %w", err)
	}
	status := filepath.Join(a.cache, "apt", "empty-status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return fmt.Errorf("package cache: %w", err)
	}
	a.options = []string{
		"-o", "Dir::State::status=" + status, "-o", "Dir::Cache=" + tmp, "-o", "Dir::Cache::archives=" + filepath.Join(tmp, "archives"),
		"-o", "Dir::Cache::pkgcache=" + filepath.Join(tmp, "pkgcache.bin"), "-o", "Dir::Cache::srcpkgcache=" + filepath.Join(tmp, "srcpkgcache.bin"),
	}
	if os.Geteuid() == 0 {
		// apt would drop to a user who may not write to the cache.
		a.options = append(a.options, "-o", "APT::Sandbox::User=root")
	}
	if hasLists(strings.Trim(dir, "'")) {
		return nil
	}
	return a.privateLists(ctx, false)
}

// privateLists makes apt use lists in the cache and fetches them when there
// are none or refresh is set.
func (a *archive) privateLists(ctx context.Context, refresh bool) error {
	lists := filepath.Join(a.cache, "apt", "lists")
	if err := os.MkdirAll(filepath.Join(lists, "partial"), 0o755); err != nil {
		return fmt.Errorf("package lists: %w", err)
	}
	if option := "Dir::State::lists=" + lists; !slices.Contains(a.options, option) {
		a.options = append(a.options, "-o", option)
	}
	if hasLists(lists) && !refresh {
		return nil
	}
	a.progress("update package lists")
	// Without Error-Mode=any apt-get update exits 0 when it fetched nothing.
	c := command{name: "apt-get", args: append([]string{"-q", "update", "-o", "APT::Update::Error-Mode=any"}, a.options...)}
	if _, err := c.output(ctx); err != nil {
		return fmt.Errorf("this machine has no usable Debian package lists and they could not be fetched (is it online?): %w", err)
	}
	return nil
}

// hasLists reports whether dir holds at least one repository's package list.
func hasLists(dir string) bool {
	m, err := filepath.Glob(filepath.Join(dir, "*_Packages*"))
	return err == nil && len(m) > 0
}

// show returns the packages that the arguments (name or name=version) mean.
func (a *archive) show(ctx context.Context, names ...string) ([]deb, error) {
	c := command{name: "apt-cache", args: append(append([]string{"show", "--no-all-versions"}, a.options...), names...)}
	out, err := c.output(ctx)
	if ctx.Err() != nil {
		return nil, err
	}
	debs := parseShow(out)
	found := map[string]bool{}
	for _, d := range debs {
		found[d.name], found[d.name+"="+d.version] = true, true
	}
	for _, n := range names {
		if !found[n] {
			if err == nil {
				err = fmt.Errorf("%q printed nothing of it", c.String())
			}
			return nil, fmt.Errorf("package %s is not in the Debian package lists; check the name, or refresh them with apt-get update: %w", n, err)
		}
	}
	return debs, nil
}

// parseShow reads the stanzas that apt-cache show prints: "Field: value"
// lines, continued by lines that begin with a space (Debian policy §5.1).
func parseShow(out []byte) []deb {
	var debs []deb
	for _, stanza := range bytes.Split(out, []byte("\n\n")) {
		var d deb
		for _, line := range strings.Split(string(stanza), "\n") {
			key, value, ok := strings.Cut(line, ": ")
			if !ok || strings.HasPrefix(line, " ") {
				continue
			}
			switch key {
			case "Package":
				d.name = value
			case "Version":
				d.version = value
			case "Architecture":
				d.arch = value
			case "SHA256":
				d.sha256 = value
			case "Depends":
				d.depends = strings.Split(value, ", ")
			}
		}
		if d.name != "" && d.version != "" {
			debs = append(debs, d)
		}
	}
	return debs
}

// kernelDependency is how a kernel metapackage names the real one.
var kernelDependency = regexp.MustCompile(`^(linux-image-[a-z0-9.+-]+)(?: \(= ([^)]+)\))?$`)

// kernel resolves a kernel package: a metapackage such as linux-image-amd64 is
// followed to the package that has the kernel.
func (a *archive) kernel(ctx context.Context, name string) (deb, error) {
	want := name
	// Debian's chain is one step long; the bound ends a loop of packages.
	for range 4 {
		debs, err := a.show(ctx, want)
		if err != nil {
			return deb{}, err
		}
		next := ""
		for _, dep := range debs[0].depends {
			if m := kernelDependency.FindStringSubmatch(dep); m != nil && m[1] != debs[0].name {
				next = m[1]
				if m[2] != "" {
					next += "=" + m[2]
				}
			}
		}
		if next == "" {
			return debs[0], nil
		}
		want = next
	}
	return deb{}, fmt.Errorf("package %s leads to no kernel: its dependencies go round", name)
}

// instLine is what a simulated installation prints for each package.
var instLine = regexp.MustCompile(`^Inst (\S+?)(?::\S+)? \((\S+) `)

// closure returns the packages and all that they depend on, as an installation
// into an empty system would have them, in order of name.
func (a *archive) closure(ctx context.Context, names []string) ([]deb, error) {
	if len(names) == 0 {
		return nil, nil
	}
	args := append([]string{"install", "--simulate", "--no-install-recommends"}, a.options...)
	out, err := command{name: "apt-get", args: append(args, names...)}.output(ctx)
	if err != nil {
		if _, showErr := a.show(ctx, names...); showErr != nil {
			return nil, showErr // which names the one that is unknown
		}
		return nil, fmt.Errorf("resolve packages %s: %w", strings.Join(names, " "), err)
	}
	var exact []string
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		if m := instLine.FindStringSubmatch(sc.Text()); m != nil {
			exact = append(exact, m[1]+"="+m[2])
		}
	}
	if len(exact) == 0 {
		return nil, fmt.Errorf("resolve packages %s: apt-get named no package to install", strings.Join(names, " "))
	}
	return a.show(ctx, exact...)
}

// fetch returns the path of the package's file, downloading it when the cache
// does not have it with the right content.
func (a *archive) fetch(ctx context.Context, d deb) (string, error) {
	dir := filepath.Join(a.cache, "debs")
	path := filepath.Join(dir, d.file())
	want := digestPrefix + d.sha256
	if d.sha256 == "" {
		return "", fmt.Errorf("package %s %s: the package lists have no SHA256 of it; run apt-get update", d.name, d.version)
	}
	have, err := digestOfFile(path)
	switch {
	case err == nil && have.Digest == want:
		return path, nil
	case err == nil:
		a.log.Warn("cached package is corrupt, downloading it again", "file", path, "expected", want, "found", have.Digest)
	case !errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("cached package: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("package cache: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, tempPrefix)
	if err != nil {
		return "", fmt.Errorf("package cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	a.progress("download " + d.name + " " + d.version)
	c := command{dir: tmp, name: "apt-get", args: append([]string{"-q", "download"}, append(a.options, d.name+"="+d.version)...)}
	if _, err := c.output(ctx); err != nil {
		return "", fmt.Errorf("download package %s %s: %w", d.name, d.version, err)
	}
	got, err := digestOfFile(filepath.Join(tmp, d.file()))
	if err != nil {
		return "", fmt.Errorf("download package %s %s: %w", d.name, d.version, err)
	}
	if got.Digest != want {
		return "", fmt.Errorf("download package %s %s: %w", d.name, d.version, &CorruptError{File: d.file(), Want: want, Got: got.Digest})
	}
	if err := os.Rename(filepath.Join(tmp, d.file()), path); err != nil {
		return "", fmt.Errorf("package cache: %w", err)
	}
	return path, nil
}
