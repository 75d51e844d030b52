package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
)

// builderVersion is part of every build's inputs: raise it when the same
// inputs would give other bytes.
const builderVersion = "3"

// BringUpName is the name of the image that BringUp builds.
const BringUpName = api.BootBringUp

// BuildFile is where the initramfs says what it is: a Build as JSON.
const BuildFile = "/etc/firstlight/build.json"

// Build is the content of BuildFile.
type Build struct {
	Name          string   `json:"name"`
	Kind          string   `json:"kind"` // api.BootBringUp or api.BootImage
	KernelRelease string   `json:"kernel_release"`
	Load          []string `json:"load"` // modules to load by name: no device announces them
}

// Builder builds images into Store. It needs apt, dpkg, kmod and, for a root
// file system, squashfs-tools, and no privileges. Builders of several
// processes may share Cache: they take turns.
type Builder struct {
	Store    Store
	Cache    string            // directory of downloaded packages and unpacked kernels; made when absent
	Agent    string            // path of the static firstlight-agent
	Kernel   string            // Debian package of the bring-up kernel; "": DefaultKernel
	Log      *slog.Logger      // nil: no log
	Progress func(step string) // told what is done next; nil: nobody is told
}

func (b *Builder) log() *slog.Logger {
	if b.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return b.Log
}

func (b *Builder) progress(step string) {
	if b.Progress != nil {
		b.Progress(step)
	}
}

// defaultArgs puts the kernel's messages on the screen and on the first serial
// port, which a BMC's serial-over-LAN and the lab read. The last one named is
// /dev/console.
func defaultArgs() []string { return []string{"console=tty0", "console=ttyS0,115200"} }

// BringUp returns the image whose initramfs is the bring-up agent, building it
// when the kernel package, the agent or the builder changed.
func (b *Builder) BringUp(ctx context.Context) (Manifest, error) {
	spec := Spec{Kernel: b.Kernel, Args: defaultArgs()}
	if spec.Kernel == "" {
		spec.Kernel = DefaultKernel
	}
	m, err := b.build(ctx, BringUpName, api.BootBringUp, spec)
	if err != nil {
		return Manifest{}, fmt.Errorf("build the bring-up image: %w", err)
	}
	return m, nil
}

// Image returns the image that sourceDir/image.hcl declares, building it when
// anything that goes into it changed. Mistakes in image.hcl are
// hcl.Diagnostics, reached with errors.As.
func (b *Builder) Image(ctx context.Context, name, sourceDir string) (Manifest, error) {
	if err := checkName(name); err != nil {
		return Manifest{}, err
	}
	if name == BringUpName {
		return Manifest{}, fmt.Errorf("image name %q is taken by the bring-up image", name)
	}
	spec, diags := ReadSpec(sourceDir)
	if diags.HasErrors() {
		return Manifest{}, fmt.Errorf("image %s: %w", name, diags)
	}
	if spec.Args == nil {
		spec.Args = defaultArgs()
	}
	m, err := b.build(ctx, name, api.BootImage, spec)
	if err != nil {
		return Manifest{}, fmt.Errorf("build image %s: %w", name, err)
	}
	return m, nil
}

// job is one build under way.
type job struct {
	name, kind string
	spec       Spec
	agent      []byte // the binary
	agentSum   string // its digest
	kernel     deb
	packages   []deb
	overlay    []entry // the source directory's files
}

// build returns the image, from the catalogue when its inputs did not change.
func (b *Builder) build(ctx context.Context, name, kind string, spec Spec) (Manifest, error) {
	if err := checkAgent(b.Agent); err != nil {
		return Manifest{}, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return Manifest{}, err
	}
	defer unlock()
	j := &job{name: name, kind: kind, spec: spec}
	if j.agent, err = os.ReadFile(b.Agent); err != nil {
		return Manifest{}, fmt.Errorf("the agent: %w", err)
	}
	sum := sha256.Sum256(j.agent)
	j.agentSum = digestPrefix + hex.EncodeToString(sum[:])
	if j.overlay, err = readOverlay(spec.Files); err != nil {
		return Manifest{}, err
	}
	a := &archive{cache: b.Cache, log: b.log(), progress: b.progress}
	if err := a.prepare(ctx); err != nil {
		return Manifest{}, err
	}
	if err := b.resolve(ctx, a, j); err != nil {
		return Manifest{}, err
	}
	if m, ok := b.current(ctx, j); ok {
		return m, nil
	}
	files, err := b.fetch(ctx, a, j)
	if err != nil {
		return Manifest{}, err
	}
	return b.assemble(ctx, j, files)
}

// resolve finds the exact packages.
func (b *Builder) resolve(ctx context.Context, a *archive, j *job) (err error) {
	b.progress("resolve packages")
	if j.kernel, err = a.kernel(ctx, j.spec.Kernel); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	j.packages, err = a.closure(ctx, j.spec.Packages)
	return err
}

// inputs is the digest of all that the image is made of.
func (j *job) inputs() string {
	in := []string{builderVersion, fmt.Sprint(rootModules), j.name, j.kind, j.agentSum, j.kernel.sha256, fmt.Sprintf("%q", j.spec.Args)}
	for _, d := range j.packages {
		in = append(in, d.name, d.sha256)
	}
	for _, e := range j.overlay {
		in = append(in, e.describe())
	}
	return inputsDigest(in...)
}

// inputsDigest hashes strings so that no two lists of them are confused.
func inputsDigest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s,", len(p), p)
	}
	return digestPrefix + hex.EncodeToString(h.Sum(nil))
}

// current returns the image in the catalogue when it was built from the same
// inputs and every byte of it is still what was built.
func (b *Builder) current(ctx context.Context, j *job) (Manifest, bool) {
	m, err := b.Store.Manifest(j.name)
	if err == nil && m.Inputs == j.inputs() {
		if err = b.Store.verify(ctx, m); err == nil {
			return m, true
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log().Warn("the image in the catalogue is unusable, building it again", "image", j.name, "error", err)
	}
	return Manifest{}, false
}

// fetch downloads what the cache lacks and returns the file of each package.
// Package lists can be older than the archive, which then no longer has what
// they name: fresh lists are tried once.
func (b *Builder) fetch(ctx context.Context, a *archive, j *job) (map[string]string, error) {
	files, err := fetchAll(ctx, a, j)
	if err == nil || ctx.Err() != nil {
		return files, err
	}
	b.log().Warn("a download failed, trying with fresh package lists", "error", err)
	if listErr := a.privateLists(ctx, true); listErr != nil {
		return nil, fmt.Errorf("%w; %w", err, listErr)
	}
	if err := b.resolve(ctx, a, j); err != nil {
		return nil, err
	}
	return fetchAll(ctx, a, j)
}

func fetchAll(ctx context.Context, a *archive, j *job) (map[string]string, error) {
	files := map[string]string{}
	for _, d := range append([]deb{j.kernel}, j.packages...) {
		path, err := a.fetch(ctx, d)
		if err != nil {
			return nil, err
		}
		files[d.name] = path
	}
	return files, nil
}

// assemble makes the parts and stores them, the manifest last.
func (b *Builder) assemble(ctx context.Context, j *job, files map[string]string) (Manifest, error) {
	k, err := b.kernelParts(ctx, j.kernel, files[j.kernel.name])
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{
		Name: j.name, Kind: j.kind, KernelRelease: k.Release, Args: j.spec.Args,
		Sources: map[string]string{"firstlight-agent": j.agentSum, j.kernel.name: j.kernel.version},
		Inputs:  j.inputs(),
	}
	for _, d := range j.packages {
		m.Sources[d.name] = d.version
	}
	if j.kind == api.BootImage {
		b.progress("make the root file system")
		root, err := b.makeRoot(ctx, j, files)
		if err != nil {
			return Manifest{}, fmt.Errorf("root file system: %w", err)
		}
		m.Root = &root
	}
	b.progress("make the initramfs")
	if m.Initramfs, err = b.makeInitramfs(j, k); err != nil {
		return Manifest{}, err
	}
	kernel, err := os.Open(k.vmlinuz())
	if err != nil {
		return Manifest{}, fmt.Errorf("kernel cache: %w", err)
	}
	defer kernel.Close()
	if m.Kernel, err = b.Store.Put(kernel); err != nil {
		return Manifest{}, err
	}
	return m, b.Store.PutManifest(m)
}

// makeInitramfs stores the agent's archive followed by the kernel's modules.
func (b *Builder) makeInitramfs(j *job, k kernelParts) (Blob, error) {
	info, err := json.Marshal(Build{Name: j.name, Kind: j.kind, KernelRelease: k.Release, Load: k.Load})
	if err != nil {
		return Blob{}, err
	}
	a := newArchive()
	for _, d := range []string{"dev", "proc", "sys", "run", "root", "mnt", "var"} {
		a.dir(d, 0o755)
	}
	a.dir("tmp", 0o1777)
	// The kernel opens /dev/console for PID 1 before anything can mount devtmpfs.
	a.charDev("dev/console", 0o600, 5, 1)
	a.charDev("dev/null", 0o666, 1, 3)
	a.file(BuildFile[1:], 0o644, append(info, '\n'))
	a.file("init", 0o755, j.agent)
	var head bytes.Buffer
	if err := a.writeTo(&head); err != nil {
		return Blob{}, err
	}
	modules, err := os.Open(k.modules())
	if err != nil {
		return Blob{}, fmt.Errorf("kernel cache: %w", err)
	}
	defer modules.Close()
	return b.Store.Put(io.MultiReader(&head, modules))
}

// lock makes builders of one cache take turns, waiting until ctx ends.
func (b *Builder) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("image cache: %w", err)
	}
	path := filepath.Join(b.Cache, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("image cache: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for waiting := false; ; waiting = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			// Closing the file gives the lock back, also when the process dies.
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !waiting {
			b.progress("wait for another build in " + b.Cache)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for another build that holds %s: %w", path, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
