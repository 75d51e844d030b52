package images

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// moduleTree is what depmod wrote about the modules of one kernel, read from
// /lib/modules/<release>. Module names have '_' for '-', as the kernel does.
type moduleTree struct {
	files   map[string]string   // name -> path below the directory (modules.dep)
	deps    map[string][]string // name -> names that must be loaded before it (modules.dep)
	soft    map[string][]string // name -> names or aliases it asks for (modules.softdep)
	aliases map[string][]string // alias without wildcards -> names (modules.alias)
	builtin map[string]bool     // names of what is in the kernel itself (modules.builtin)
}

// moduleName is the name of the module in a file: kernel/drivers/net/a-b.ko -> a_b.
func moduleName(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(base, "-", "_")
}

// readModuleTree reads depmod's files.
func readModuleTree(dir fs.FS) (moduleTree, error) {
	t := moduleTree{
		files: map[string]string{}, deps: map[string][]string{}, soft: map[string][]string{},
		aliases: map[string][]string{}, builtin: map[string]bool{},
	}
	parse := map[string]func(line string) error{
		"modules.dep":     t.dep,
		"modules.softdep": t.softdep,
		"modules.alias":   t.alias,
		"modules.builtin": func(line string) error { t.builtin[moduleName(line)] = true; return nil },
	}
	for _, file := range []string{"modules.dep", "modules.softdep", "modules.alias", "modules.builtin"} {
		data, err := fs.ReadFile(dir, file)
		if err != nil {
			return moduleTree{}, err
		}
		n := 0
		sc := bufio.NewScanner(bytes.NewReader(data))
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			n++
			line := strings.TrimSpace(sc.Text())
			if line == "" || line[0] == '#' {
				continue
			}
			if err := parse[file](line); err != nil {
				return moduleTree{}, fmt.Errorf("%s:%d: %w", file, n, err)
			}
		}
		if err := sc.Err(); err != nil {
			return moduleTree{}, fmt.Errorf("%s:%d: %w", file, n+1, err)
		}
	}
	if len(t.files) == 0 {
		return moduleTree{}, fmt.Errorf("modules.dep names no module")
	}
	return t, nil
}

// dep reads "kernel/a.ko: kernel/b.ko kernel/c.ko".
func (t moduleTree) dep(line string) error {
	file, rest, ok := strings.Cut(line, ":")
	if !ok {
		return fmt.Errorf("no ':' in %q", line)
	}
	name := moduleName(file)
	t.files[name] = file
	for _, d := range strings.Fields(rest) {
		t.deps[name] = append(t.deps[name], moduleName(d))
	}
	return nil
}

// softdep reads "softdep a pre: b c post: d"; the words may be aliases.
func (t moduleTree) softdep(line string) error {
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != "softdep" {
		return fmt.Errorf("%q is not a soft dependency", line)
	}
	name := moduleName(f[1])
	for _, w := range f[2:] {
		if !strings.HasSuffix(w, ":") {
			t.soft[name] = append(t.soft[name], w)
		}
	}
	return nil
}

// alias reads "alias PATTERN name". Patterns with wildcards name devices; they
// are matched by the agent on the node and are no use here.
func (t moduleTree) alias(line string) error {
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "alias" {
		return fmt.Errorf("%q is not an alias", line)
	}
	if !strings.ContainsAny(f[1], "*?[") {
		t.aliases[f[1]] = append(t.aliases[f[1]], moduleName(f[2]))
	}
	return nil
}

// closure returns the modules that roots need, themselves included, in order
// of name, and the roots that this kernel has neither as a module nor built in.
func (t moduleTree) closure(roots []rootModule) (names []string, missing []rootModule, err error) {
	seen := map[string]bool{}
	var add func(name, by string) error
	add = func(name, by string) error {
		if seen[name] {
			return nil
		}
		if _, ok := t.files[name]; !ok {
			return fmt.Errorf("module %s depends on %s, which modules.dep does not have", by, name)
		}
		seen[name] = true
		for _, d := range t.deps[name] {
			if err := add(d, name); err != nil {
				return err
			}
		}
		for _, d := range t.optional(name) {
			if err := add(d, name); err != nil {
				return err
			}
		}
		return nil
	}
	for _, r := range roots {
		if _, ok := t.files[r.name]; !ok {
			if !t.builtin[r.name] {
				missing = append(missing, r)
			}
			continue
		}
		if err := add(r.name, r.name); err != nil {
			return nil, nil, err
		}
	}
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, missing, nil
}

// optional returns the modules that a module's soft dependencies mean. One that
// this kernel has no module for is built in or absent, and is left out.
func (t moduleTree) optional(name string) []string {
	var out []string
	for _, s := range t.soft[name] {
		if n := moduleName(s); t.files[n] != "" {
			out = append(out, n)
			continue
		}
		out = append(out, t.aliases[s]...)
	}
	return out
}

// filterIndex returns the lines of one of depmod's files that speak of the
// modules kept, so that the agent reads kilobytes and not megabytes.
func filterIndex(file string, data []byte, keep map[string]bool) []byte {
	var out []byte
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		name := ""
		switch file {
		case "modules.dep":
			name = moduleName(strings.TrimSuffix(f[0], ":"))
		case "modules.alias":
			name = moduleName(f[len(f)-1])
		case "modules.softdep":
			if len(f) > 1 {
				name = moduleName(f[1])
			}
		}
		if keep[name] {
			out = append(out, line...)
		}
	}
	return out
}
