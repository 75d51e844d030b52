package boot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// always are the modules that no device asks for by itself.
var always = []string{"loop", "squashfs", "overlay", "efivarfs", "ipmi_si", "ipmi_devintf"}

// modules loads kernel modules out of one /lib/modules/RELEASE folder by the
// tables that depmod wrote there. Files are uncompressed.
type modules struct {
	dir     string
	log     *slog.Logger
	deps    map[string][]string // module -> files to load, dependencies first
	aliases []alias
	soft    map[string][]string // module -> modules to load before it, where they exist
	tried   map[string]bool
	insert  func(file string) error
}

type alias struct{ prefix, pattern, module string }

// openModules reads modules.dep, modules.alias and modules.softdep.
func openModules(dir string, log *slog.Logger) (*modules, error) {
	m := &modules{dir: dir, log: log, tried: map[string]bool{}, insert: insertFile}
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	m.deps = parseDep(dep)
	if b, err := os.ReadFile(filepath.Join(dir, "modules.alias")); err == nil {
		m.aliases = parseAlias(b)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "modules.softdep")); err == nil {
		m.soft = parseSoftdep(b)
	}
	return m, nil
}

// parseDep reads modules.dep: "file: dependency dependency…", where a
// dependency comes before what it needs itself, so they load from the right.
func parseDep(b []byte) map[string][]string {
	deps := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		file, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(file, "#") {
			continue
		}
		files := strings.Fields(rest)
		slices.Reverse(files)
		deps[moduleName(file)] = append(files, file)
	}
	return deps
}

// parseAlias reads modules.alias: "alias PATTERN MODULE".
func parseAlias(b []byte) []alias {
	var all []alias
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) != 3 || f[0] != "alias" {
			continue
		}
		pattern := normal(f[1])
		literal, _, _ := strings.Cut(pattern, "*")
		if i := strings.IndexAny(literal, `?[\`); i >= 0 {
			literal = literal[:i]
		}
		all = append(all, alias{prefix: literal, pattern: pattern, module: moduleName(f[2])})
	}
	return all
}

// parseSoftdep reads modules.softdep: "softdep MODULE pre: A B post: C".
func parseSoftdep(b []byte) map[string][]string {
	soft := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "softdep" {
			continue
		}
		pre := false
		for _, word := range f[2:] {
			if strings.HasSuffix(word, ":") {
				pre = word == "pre:"
			} else if pre {
				name := moduleName(f[1])
				soft[name] = append(soft[name], moduleName(word))
			}
		}
	}
	return soft
}

// moduleName is the kernel's name of a module or module file.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
}

// normal makes path.Match treat / like any other character, and - like _
// outside of brackets, as depmod and modprobe do.
func normal(s string) string {
	b, within := []byte(s), false
	for i, c := range b {
		switch {
		case c == '[':
			within = true
		case c == ']':
			within = false
		case c == '/':
			b[i] = 1
		case c == '-' && !within:
			b[i] = '_'
		}
	}
	return string(b)
}

// forAlias names the modules that say they drive modalias.
func (m *modules) forAlias(modalias string) []string {
	modalias = normal(modalias)
	var names []string
	for _, a := range m.aliases {
		if !strings.HasPrefix(modalias, a.prefix) {
			continue
		}
		if ok, err := path.Match(a.pattern, modalias); err == nil && ok && !slices.Contains(names, a.module) {
			names = append(names, a.module)
		}
	}
	return names
}

// load loads name, which is a module or an alias, with what it needs. A
// module that is not in the initramfs is built in or not wanted: no error.
func (m *modules) load(name string) error {
	files, ok := m.deps[name]
	if !ok {
		var failed []error
		for _, real := range m.forAlias(name) {
			if real != name && m.deps[real] != nil {
				failed = append(failed, m.load(real))
			}
		}
		return errors.Join(failed...)
	}
	if m.tried[name] {
		return nil
	}
	m.tried[name] = true
	for _, before := range m.soft[name] {
		if err := m.load(before); err != nil {
			m.log.Warn("cannot load a soft dependency", "module", name, "needs", before, "err", err)
		}
	}
	for _, file := range files {
		dep := moduleName(file)
		if dep != name {
			if err := m.load(dep); err != nil {
				return err
			}
			continue
		}
		if err := m.insert(filepath.Join(m.dir, file)); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

// insertFile loads one file into the kernel. Loaded or built in already, not
// in this initramfs, and no such device are all fine.
func insertFile(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// coldplug loads a driver for every device of every bus, and again for those
// that appear because of it (a virtio device behind its PCI function), until
// no new device comes for a while.
func (m *machine) coldplug() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	start := time.Now()
	dir := filepath.Join("/lib/modules", unix.ByteSliceToString(name.Release[:]))
	mods, err := openModules(dir, m.log)
	if err != nil {
		return fmt.Errorf("modules of the running kernel: %w: were kernel and initramfs built from the same package?", err)
	}
	seen := map[string]bool{}
	warn := func(what string, err error) {
		if err != nil {
			m.log.Warn("cannot load a driver", "for", what, "err", err)
		}
	}
	read := time.Since(start)
	for quiet := 0; quiet < 5; {
		if n := mods.plug("/sys", seen, warn); n > 0 {
			quiet = 0
			continue
		}
		if quiet == 0 {
			for _, name := range always {
				warn(name, mods.load(name))
			}
		}
		quiet++
		time.Sleep(100 * time.Millisecond) // disks and buses are probed in the background
	}
	m.log.Info("drivers are loaded", "modules", len(mods.tried), "devices", len(seen), "tables", read.Round(time.Millisecond).String(), "took", time.Since(start).Round(time.Millisecond).String())
	return nil
}

// plug loads drivers for the most urgent of the devices under sys whose
// modalias is not in seen yet, and returns how many those were: what everything
// waits for is the boot NIC, and a virtio one appears only once the driver of
// its PCI function is there.
func (m *modules) plug(sys string, seen map[string]bool, warn func(string, error)) int {
	files, err := filepath.Glob(filepath.Join(sys, "bus/*/devices/*/modalias"))
	if err != nil {
		return 0
	}
	var fresh []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if a := strings.TrimSpace(string(b)); err == nil && a != "" && !seen[a] {
			fresh = append(fresh, a)
		}
	}
	if len(fresh) == 0 {
		return 0
	}
	slices.SortStableFunc(fresh, func(a, b string) int { return urgency(a) - urgency(b) })
	n := 0
	for _, a := range fresh {
		if urgency(a) != urgency(fresh[0]) {
			break
		}
		n++
		seen[a] = true
		for _, name := range m.forAlias(a) {
			warn(a, m.load(name))
		}
	}
	return n
}

// urgency is 0 for network devices (PCI class 02; virtio device type 1), 1
// for virtio transports, which may hide one (PCI vendor 1AF4), 2 for others.
func urgency(modalias string) int {
	switch {
	case strings.HasPrefix(modalias, "pci:") && strings.Contains(modalias, "bc02"), strings.HasPrefix(modalias, "virtio:d00000001v"):
		return 0
	case strings.HasPrefix(modalias, "pci:v00001AF4"):
		return 1
	}
	return 2
}
