package images

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is one file of a root file system.
type entry struct {
	name string // path without a leading '/'
	kind byte   // tar.TypeReg, TypeDir, TypeSymlink, TypeChar, TypeBlock or TypeFifo
	mode int64  // permissions with set-id and sticky bits
	link string // target of a symlink
	dev  [2]int64
	data []byte // content of a regular file
	from string // package or directory it comes from, for messages
}

// describe is what a digest of the inputs takes of an overlay entry.
func (e entry) describe() string {
	return fmt.Sprintf("%q %c %o %q %x", e.name, e.kind, e.mode, e.link, sha256.Sum256(e.data))
}

// tree is a root file system by path. Content is held in memory: the images
// of this builder are tens of megabytes.
type tree map[string]entry

// mergedDirs are symlinks into /usr in Debian 12; packages still name both.
var mergedDirs = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// canonical returns the name without "./" and with /bin and its like in /usr.
func canonical(name string) string {
	name = path.Clean("/" + name)[1:]
	first, _, _ := strings.Cut(name, "/")
	if slices.Contains(mergedDirs, first) {
		return "usr/" + name
	}
	return name
}

// add puts an entry in, in place of a file that is there.
func (t tree) add(e entry) error {
	e.name = canonical(e.name)
	if e.name == "" {
		return nil // the root directory
	}
	if old, ok := t[e.name]; ok && (old.kind == tar.TypeDir) != (e.kind == tar.TypeDir) {
		return fmt.Errorf("/%s is a directory in one of %s and %s and not in the other", e.name, old.from, e.from)
	}
	t[e.name] = e
	return nil
}

// addPackage puts in what a package file holds.
func (t tree) addPackage(ctx context.Context, d deb, file string) error {
	c := command{name: "dpkg-deb", args: []string{"--fsys-tarfile", file}}
	cmd, stderr, err := c.cmd(ctx)
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return c.explain(ctx, err, stderr)
	}
	readErr := t.addTar(tar.NewReader(out), d)
	// dpkg-deb must not wait for a reader that has stopped.
	_, _ = io.Copy(io.Discard, out)
	if err := c.explain(ctx, cmd.Wait(), stderr); err != nil {
		return fmt.Errorf("package %s %s: %w", d.name, d.version, err)
	}
	if readErr != nil {
		return fmt.Errorf("package %s %s: %w", d.name, d.version, readErr)
	}
	return nil
}

func (t tree) addTar(r *tar.Reader, d deb) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e := entry{
			name: h.Name, kind: h.Typeflag, mode: ownedByRoot(h),
			dev: [2]int64{h.Devmajor, h.Devminor}, from: "package " + d.name,
		}
		switch h.Typeflag {
		case tar.TypeReg:
			if e.data, err = io.ReadAll(r); err != nil {
				return err
			}
		case tar.TypeSymlink:
			e.link = h.Linkname
		case tar.TypeLink:
			// squashfs stores equal content once, so a copy costs nothing.
			target, ok := t[canonical(h.Linkname)]
			if !ok {
				return fmt.Errorf("%s is a hard link to %s, which is not in the package", h.Name, h.Linkname)
			}
			target.name = h.Name
			e = target
		case tar.TypeDir, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		default:
			return fmt.Errorf("%s has the unknown tar type %q", h.Name, h.Typeflag)
		}
		if err := t.add(e); err != nil {
			return err
		}
	}
}

// ownedByRoot returns the permissions that a file has when root owns it, as all
// files of an image are: a set-id bit that gave away the rights of another user
// or group must not give away root's.
func ownedByRoot(h *tar.Header) int64 {
	mode := h.Mode & 0o7777
	if h.Uid != 0 {
		mode &^= 0o4000
	}
	if h.Gid != 0 {
		mode &^= 0o2000
	}
	return mode
}

// readOverlay reads the files of a source directory. Only "executable" counts
// of their permissions: 0755 or 0644, all owned by root, so that neither the
// umask of a checkout nor its owner changes the image.
func readOverlay(dir string) ([]entry, error) {
	if dir == "" {
		return nil, nil
	}
	var out []entry
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{name: filepath.ToSlash(rel), kind: tar.TypeReg, mode: 0o644, from: dir}
		switch {
		case info.IsDir():
			e.kind, e.mode = tar.TypeDir, 0o755
		case info.Mode().IsRegular():
			if info.Mode()&0o111 != 0 {
				e.mode = 0o755
			}
			e.data, err = os.ReadFile(p)
		case info.Mode()&fs.ModeSymlink != 0:
			e.kind, e.mode = tar.TypeSymlink, 0o777
			e.link, err = os.Readlink(p)
		default:
			return fmt.Errorf("%s is a %s: only files, directories and symlinks can be laid over an image", p, info.Mode().Type())
		}
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("files of the image: %w", err)
	}
	return out, nil
}

// rootTree puts a root file system together: base, packages, the agent, and
// the source directory's files over all.
func rootTree(ctx context.Context, j *job, files map[string]string) (tree, error) {
	t := tree{}
	for _, e := range baseEntries(j.name) {
		if err := t.add(e); err != nil {
			return nil, err
		}
	}
	for _, d := range j.packages {
		if err := t.addPackage(ctx, d, files[d.name]); err != nil {
			return nil, err
		}
	}
	t.addApplets()
	for _, e := range j.overlay {
		if n := canonical(e.name); n == agentPath || n == initPath {
			return nil, fmt.Errorf("%s brings /%s, which must be the agent: remove it", e.from, e.name)
		}
		// An overlay's bin/ is a directory; in the image it is a symlink.
		if e.kind == tar.TypeDir && slices.Contains(mergedDirs, e.name) {
			continue
		}
		if err := t.add(e); err != nil {
			return nil, err
		}
	}
	t[agentPath] = entry{name: agentPath, kind: tar.TypeReg, mode: 0o755, data: j.agent, from: "the agent"}
	t[initPath] = entry{name: initPath, kind: tar.TypeSymlink, mode: 0o777, link: "/" + agentPath, from: "the agent"}
	for _, d := range mergedDirs {
		if _, ok := t["usr/"+d]; ok {
			t[d] = entry{name: d, kind: tar.TypeSymlink, mode: 0o777, link: "usr/" + d}
		}
	}
	return t, t.addParents()
}

// addParents makes the directories that no one named.
func (t tree) addParents() error {
	for _, name := range slices.Collect(maps.Keys(t)) {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			p, ok := t[d]
			if ok && p.kind != tar.TypeDir {
				return fmt.Errorf("%s brings /%s, but /%s of %s is not a directory", t[name].from, name, d, p.from)
			}
			if !ok {
				t[d] = entry{name: d, kind: tar.TypeDir, mode: 0o755, from: t[name].from}
			}
		}
	}
	return nil
}

// writeTar writes the tree in order of name, with no times.
func (t tree) writeTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		e := t[name]
		h := &tar.Header{
			Name: name, Typeflag: e.kind, Mode: e.mode, Linkname: e.link,
			Size: int64(len(e.data)), Devmajor: e.dev[0], Devminor: e.dev[1], ModTime: time.Unix(0, 0),
		}
		if e.kind == tar.TypeDir {
			h.Name += "/"
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
		if _, err := tw.Write(e.data); err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
	}
	return tw.Close()
}

// makeRoot builds the squashfs and stores it.
func (b *Builder) makeRoot(ctx context.Context, j *job, files map[string]string) (Blob, error) {
	t, err := rootTree(ctx, j, files)
	if err != nil {
		return Blob{}, err
	}
	dir, err := os.MkdirTemp(b.Cache, tempPrefix)
	if err != nil {
		return Blob{}, err
	}
	defer os.RemoveAll(dir)
	r, w := io.Pipe()
	go func() { w.CloseWithError(t.writeTar(w)) }() // ends when all is written, or r is closed below
	defer r.Close()
	out := filepath.Join(dir, "root.squashfs")
	c := command{name: "mksquashfs", stdin: r, args: []string{
		"-", out, "-tar", "-noappend", "-reproducible", "-mkfs-time", "0", "-all-time", "0",
		// Only -all-root makes the root directory root's when another user builds:
		// with -tar, squashfs-tools 4.5.1 takes no notice of -root-uid.
		"-root-mode", "0755", "-all-root",
		"-no-xattrs", "-comp", "zstd", "-no-progress", "-quiet",
	}}
	if _, err := c.output(ctx); err != nil {
		return Blob{}, err
	}
	f, err := os.Open(out)
	if err != nil {
		return Blob{}, err
	}
	defer f.Close()
	return b.Store.Put(f)
}
