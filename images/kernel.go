package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// kernelParts is what a build takes from a kernel package. It is kept in the
// cache, so that only a new kernel is unpacked.
type kernelParts struct {
	Release string   `json:"release"` // as uname -r prints it
	Vmlinuz Blob     `json:"vmlinuz"`
	Modules Blob     `json:"modules"` // compressed cpio of /lib/modules/<release>
	Names   []string `json:"names"`   // modules in it
	Load    []string `json:"load"`    // those that the agent loads by name
	dir     string   // where the files are
}

func (k kernelParts) vmlinuz() string { return filepath.Join(k.dir, "vmlinuz") }
func (k kernelParts) modules() string { return filepath.Join(k.dir, "modules.cpio.zst") }

// kernelParts returns the parts of the kernel package in file, from the cache
// when they are there and intact.
func (b *Builder) kernelParts(ctx context.Context, d deb, file string) (kernelParts, error) {
	key := inputsDigest(builderVersion, d.sha256, fmt.Sprint(rootModules))
	dir := filepath.Join(b.Cache, "kernel", strings.TrimPrefix(key, digestPrefix))
	k, err := readKernelParts(dir)
	if err == nil {
		return k, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		b.log().Warn("cached kernel is unusable, unpacking it again", "package", d.name, "error", err)
	}
	b.progress("unpack " + d.name + " " + d.version)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return kernelParts{}, fmt.Errorf("kernel cache: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), tempPrefix)
	if err != nil {
		return kernelParts{}, fmt.Errorf("kernel cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := b.makeKernelParts(ctx, d, file, tmp); err != nil {
		return kernelParts{}, fmt.Errorf("kernel package %s %s: %w", d.name, d.version, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return kernelParts{}, fmt.Errorf("kernel cache: %w", err)
	}
	if err := os.Rename(filepath.Join(tmp, "parts"), dir); err != nil {
		return kernelParts{}, fmt.Errorf("kernel cache: %w", err)
	}
	return readKernelParts(dir)
}

// readKernelParts reads the cache and checks that its files are what was put there.
func readKernelParts(dir string) (kernelParts, error) {
	k := kernelParts{dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, "parts.json"))
	if err != nil {
		return kernelParts{}, err
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return kernelParts{}, fmt.Errorf("%s: %w", filepath.Join(dir, "parts.json"), err)
	}
	for path, want := range map[string]Blob{k.vmlinuz(): k.Vmlinuz, k.modules(): k.Modules} {
		got, err := digestOfFile(path)
		if err != nil {
			return kernelParts{}, err
		}
		if got != want {
			return kernelParts{}, &CorruptError{File: path, Want: want.Digest, Got: got.Digest}
		}
	}
	return k, nil
}

// makeKernelParts unpacks the package below tmp and writes tmp/parts.
func (b *Builder) makeKernelParts(ctx context.Context, d deb, file, tmp string) error {
	root, parts := filepath.Join(tmp, "root"), filepath.Join(tmp, "parts")
	if err := os.Mkdir(parts, 0o755); err != nil {
		return err
	}
	if _, err := (command{name: "dpkg-deb", args: []string{"--extract", file, root}}).output(ctx); err != nil {
		return err
	}
	release, err := kernelRelease(root)
	if err != nil {
		return err
	}
	// Debian runs depmod when the package is installed; this one never is.
	if _, err := (command{name: "depmod", args: []string{"-b", root, release}}).output(ctx); err != nil {
		return err
	}
	k := kernelParts{Release: release, dir: parts}
	dir := filepath.Join(root, "lib", "modules", release)
	tree, err := readModuleTree(os.DirFS(dir))
	if err != nil {
		return fmt.Errorf("modules of %s: %w", release, err)
	}
	var missing []rootModule
	if k.Names, missing, err = tree.closure(rootModules); err != nil {
		return fmt.Errorf("modules of %s: %w", release, err)
	}
	for _, m := range missing {
		if m.need {
			return fmt.Errorf("kernel %s has no module %s: %s", release, m.name, m.why)
		}
		b.log().Warn("the kernel lacks a module", "kernel", release, "module", m.name, "for", m.why)
	}
	for _, m := range rootModules {
		if m.load && slices.Contains(k.Names, m.name) {
			k.Load = append(k.Load, m.name)
		}
	}
	b.progress(fmt.Sprintf("compress %d kernel modules", len(k.Names)))
	if k.Modules, err = writeModules(k.modules(), dir, release, tree, k.Names); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(root, "boot", "vmlinuz-"+release), k.vmlinuz()); err != nil {
		return err
	}
	if k.Vmlinuz, err = digestOfFile(k.vmlinuz()); err != nil {
		return err
	}
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(parts, "parts.json"), data, 0o644)
}

// kernelRelease finds the one kernel in an unpacked package.
func kernelRelease(root string) (string, error) {
	found, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("has %d kernels in /boot, want 1: name a linux-image package", len(found))
	}
	return strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-"), nil
}

// writeModules writes the compressed archive of the modules and of depmod's
// files about them.
func writeModules(path, dir, release string, tree moduleTree, names []string) (Blob, error) {
	a := newArchive()
	prefix := "lib/modules/" + release + "/"
	keep := map[string]bool{}
	for _, n := range names {
		keep[n] = true
		data, err := os.ReadFile(filepath.Join(dir, tree.files[n]))
		if err != nil {
			return Blob{}, err
		}
		a.file(prefix+tree.files[n], 0o644, data)
	}
	for _, f := range []string{"modules.dep", "modules.alias", "modules.softdep", "modules.builtin"} {
		data, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			return Blob{}, err
		}
		if f != "modules.builtin" {
			data = filterIndex(f, data, keep)
		}
		a.file(prefix+f, 0o644, data)
	}
	out, err := os.Create(path)
	if err != nil {
		return Blob{}, err
	}
	defer out.Close()
	if err := a.writeTo(out); err != nil {
		return Blob{}, err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return Blob{}, err
	}
	b, err := digestOf(out)
	if err != nil {
		return Blob{}, err
	}
	return b, out.Close()
}
