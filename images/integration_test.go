package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
)

// needTools skips the test, naming the first tool that is not installed.
func needTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := lookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
}

// testAgent compiles the stand-in for the agent.
func testAgent(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(dir, "firstlight-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", out, "./testdata/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the test agent: %v\n%s", err, msg)
	}
	return out
}

// lab is a directory with a builder and an image's source.
type lab struct {
	b     *Builder
	src   string
	steps []string // what the builder said since reset
	log   bytes.Buffer
}

func newLab(dir, agent, src string) *lab {
	l := &lab{src: src}
	l.b = &Builder{Store: Store{Dir: filepath.Join(dir, "store")}, Cache: filepath.Join(dir, "cache"), Agent: agent}
	l.b.Progress = func(step string) { l.steps = append(l.steps, step) }
	l.b.Log = slog.New(slog.NewTextHandler(&l.log, nil))
	return l
}

// build makes both images and logs how long each took.
func (l *lab) build(t *testing.T) (bringUp, image Manifest) {
	t.Helper()
	l.steps = nil
	start := time.Now()
	bringUp, err := l.b.BringUp(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	between := time.Now()
	if image, err = l.b.Image(context.Background(), "compute", l.src); err != nil {
		t.Fatal(err)
	}
	t.Logf("bring-up image %.1f s, node image %.1f s, steps %q", between.Sub(start).Seconds(), time.Since(between).Seconds(), l.steps)
	return bringUp, image
}

// TestBuildAndBoot builds from the real Debian kernel, twice and by different
// users, and boots the result.
func TestBuildAndBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and boots a kernel")
	}
	needTools(t, "apt-get", "dpkg-deb", "depmod", "mksquashfs", "unsquashfs")
	dir := t.TempDir()
	// Another user builds below it, too.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	agent := testAgent(t, dir)
	src := filepath.Join(dir, "source")
	writeSource(t, src, "hello")
	l := newLab(filepath.Join(dir, "one"), agent, src)
	if err := seedCache(l.b.Cache, os.Getenv("FIRSTLIGHT_CACHE")); err != nil {
		t.Fatal(err)
	}
	bringUp, image := l.build(t)
	checkManifests(t, l, bringUp, image)

	again, againImage := l.build(t)
	if again.Digest() != bringUp.Digest() || againImage.Digest() != image.Digest() {
		t.Errorf("a second build gave %s and %s; want %s and %s", again.Digest(), againImage.Digest(), bringUp.Digest(), image.Digest())
	}
	if want := []string{"resolve packages", "resolve packages"}; !slices.Equal(l.steps, want) {
		t.Errorf("a second build did %q; want only %q", l.steps, want)
	}
	// From here on two things go on at once: another user builds, the VM boots.
	other := startOtherBuild(t, filepath.Join(dir, "two"), agent, src, l.b.Cache)
	t.Run("boot", func(t *testing.T) { boot(t, l.b.Store, image) })
	want := bringUp.Digest() + " " + image.Digest()
	if got := other(); got != want {
		t.Errorf("another user, directory, umask and time gave %s; want %s", got, want)
	}
	t.Run("rebuild", func(t *testing.T) { rebuild(t, l, bringUp, image) })
}

// writeSource makes an image's source directory.
func writeSource(t *testing.T, src, motd string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(src, "root", "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{SpecFile: "packages = [\"busybox-static\"]\nfiles = \"root\"\n", "root/etc/motd": motd} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// seedCache copies downloaded packages, to spare the mirror.
func seedCache(cache, from string) error {
	debs, err := filepath.Glob(filepath.Join(from, "debs", "*.deb"))
	if err != nil || from == "" {
		return err
	}
	if err := os.MkdirAll(filepath.Join(cache, "debs"), 0o755); err != nil {
		return err
	}
	for _, d := range debs {
		data, err := os.ReadFile(d)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(cache, "debs", filepath.Base(d)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func checkManifests(t *testing.T, l *lab, bringUp, image Manifest) {
	t.Helper()
	const most = 40 << 20
	t.Logf("kernel %s %d bytes, bring-up initramfs %d, image initramfs %d, root %d; log: %s",
		bringUp.KernelRelease, bringUp.Kernel.Size, bringUp.Initramfs.Size, image.Initramfs.Size, image.Root.Size, l.log.String())
	for _, m := range []Manifest{bringUp, image} {
		if m.Initramfs.Size%4 != 0 {
			t.Errorf("%s: initramfs has %d bytes; want a multiple of 4, or the kernel misses the token behind it", m.Name, m.Initramfs.Size)
		}
	}
	if bringUp.Initramfs.Size > most {
		t.Errorf("bring-up initramfs has %d bytes; want at most %d", bringUp.Initramfs.Size, most)
	}
	if bringUp.Kind != api.BootBringUp || bringUp.Root != nil || image.Kind != api.BootImage || bringUp.Digest() == image.Digest() {
		t.Errorf("manifests %s and %s; want one of each kind, only the second with a root", bringUp.canonical(), image.canonical())
	}
	for _, name := range []string{BringUpName, "compute"} {
		if err := l.b.Store.Verify(context.Background(), name); err != nil {
			t.Error(err)
		}
	}
	path, err := l.b.Store.Path(image.Root.Digest)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("unsquashfs", "-lls", path).CombinedOutput()
	if err != nil {
		t.Fatalf("unsquashfs: %v: %s", err, out)
	}
	for _, want := range []string{
		`lrwxrwxrwx root/root .* squashfs-root/sbin -> usr/sbin`,
		`lrwxrwxrwx root/root .* squashfs-root/usr/sbin/init -> /usr/bin/firstlight-agent`,
		`-rwxr-xr-x root/root .* squashfs-root/usr/bin/firstlight-agent`,
		`lrwxrwxrwx root/root .* squashfs-root/usr/bin/sh -> /usr/bin/busybox`,
		`-rw-r--r-- root/root .* squashfs-root/etc/motd`,
		`drwxrwxrwt root/root .* squashfs-root/tmp`,
		`drwxr-xr-x root/root .* squashfs-root\n`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("the root file system does not list %s:\n%s", want, out)
		}
	}
}

// startOtherBuild builds the same as another user (when we are root), with
// another umask, in another directory, later. The function it returns waits
// and gives the digests.
func startOtherBuild(t *testing.T, dir, agent, src, cache string) func() string {
	t.Helper()
	if err := seedCache(filepath.Join(dir, "cache"), cache); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "build.test")
	if err := os.WriteFile(bin, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-test.run=^TestOtherBuild$", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "TZ=Asia/Tokyo", "TMPDIR=" + dir, "SOURCE_DATE_EPOCH=1000000000", otherBuildEnv + "=" + dir + ":" + agent + ":" + src}
	if os.Geteuid() == 0 {
		const nobody = 65534
		err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chown(p, nobody, nobody))
		})
		if err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() string {
		if err := cmd.Wait(); err != nil {
			t.Errorf("the other build: %v\n%s", err, out.String())
			return ""
		}
		t.Log(out.String())
		return strings.TrimSpace(strings.Join(regexp.MustCompile(`DIGESTS (.*)`).FindStringSubmatch(out.String())[1:], ""))
	}
}

const otherBuildEnv = "FIRSTLIGHT_TEST_OTHER_BUILD"

// TestOtherBuild is the child of startOtherBuild.
func TestOtherBuild(t *testing.T) {
	args := strings.Split(os.Getenv(otherBuildEnv), ":")
	if len(args) != 3 {
		t.Skip("is run by TestBuildAndBoot")
	}
	unix.Umask(0o077)
	m, image := newLab(args[0], args[1], args[2]).build(t)
	fmt.Printf("DIGESTS %s %s\n", m.Digest(), image.Digest())
}

// rebuild changes one input at a time and damages what is kept.
func rebuild(t *testing.T, l *lab, bringUp, image Manifest) {
	// A blob that rotted is noticed and made anew, with the same digest.
	path, err := l.b.Store.Path(bringUp.Initramfs.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1000); err != nil {
		t.Fatal(err)
	}
	m, _ := l.build(t)
	if m.Digest() != bringUp.Digest() || !slices.Contains(l.steps, "make the initramfs") || !strings.Contains(l.log.String(), path+" is corrupt") {
		t.Errorf("build over a corrupt blob: digest %s, steps %q, log %s; want %s, rebuilt, with a warning", m.Digest(), l.steps, l.log.String(), bringUp.Digest())
	}
	if err := l.b.Store.Verify(context.Background(), BringUpName); err != nil {
		t.Error(err)
	}

	// Files of the image: only the image changes.
	writeSource(t, l.src, "changed")
	m, changed := l.build(t)
	if m.Digest() != bringUp.Digest() || changed.Root.Digest == image.Root.Digest || changed.Initramfs != image.Initramfs {
		t.Errorf("after a change of /etc/motd: %s; want only the root of %s to differ", changed.canonical(), image.canonical())
	}

	// The agent: both change, and the kernel is not unpacked again.
	data, err := os.ReadFile(l.b.Agent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.b.Agent, append(data, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	m, _ = l.build(t)
	if m.Initramfs == bringUp.Initramfs || m.Kernel != bringUp.Kernel || strings.Contains(strings.Join(l.steps, " "), "unpack") {
		t.Errorf("after a change of the agent: %s, steps %q; want another initramfs and nothing unpacked", m.canonical(), l.steps)
	}

	// The cached kernel: damage is noticed.
	parts, err := filepath.Glob(filepath.Join(l.b.Cache, "kernel", "*", "modules.cpio.zst"))
	if err != nil || len(parts) != 1 {
		t.Fatalf("kernel cache holds %q, %v; want one kernel", parts, err)
	}
	if err := os.Truncate(parts[0], 1000); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := readKernelParts(filepath.Dir(parts[0])); !errors.As(err, &corrupt) || corrupt.File != parts[0] {
		t.Errorf("readKernelParts of a damaged cache: error = %v; want a CorruptError of %s", err, parts[0])
	}
}

// boot starts the image in a VM without firmware. A second initrd, as iPXE
// appends it, brings a token and the root file system.
func boot(t *testing.T, s Store, m Manifest) {
	needTools(t, "qemu-system-x86_64")
	dir := t.TempDir()
	kernel, err := s.Path(m.Kernel.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var initrd bytes.Buffer
	f, err := s.Open(m.Initramfs.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(&initrd, f); err != nil {
		t.Fatal(err)
	}
	initrd.Write(make([]byte, -initrd.Len()&3)) // iPXE aligns each initrd to 4 bytes
	rootPath, err := s.Path(m.Root.Digest)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(rootPath)
	if err != nil {
		t.Fatal(err)
	}
	second := newArchive()
	second.file(api.TokenPath[1:], 0o600, []byte("once"))
	second.file("root.squashfs", 0o644, root)
	if err := second.writeCPIO(&initrd); err != nil {
		t.Fatal(err)
	}
	initrdFile := filepath.Join(dir, "initrd")
	if err := os.WriteFile(initrdFile, initrd.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none", "-device", "virtio-net-pci,romfile=",
		"-kernel", kernel, "-initrd", initrdFile, "-append", strings.Join(append([]string{"console=ttyS0"}, "panic=-1"), " "))
	start := time.Now()
	out, err := cmd.Output()
	console := strings.ReplaceAll(string(out), "\r", "")
	if err != nil {
		t.Fatalf("qemu: %v; console:\n%s", err, console)
	}
	report := strings.Join(regexp.MustCompile(`FLTEST .*`).FindAllString(console, -1), "\n")
	t.Logf("qemu ran %.1f s\n%s", time.Since(start).Seconds(), report)
	checkBoot(t, m, report)
}

func checkBoot(t *testing.T, m Manifest, report string) {
	t.Helper()
	var build Build
	text := regexp.MustCompile(`FLTEST build (\{.*\}) err=<nil>`).FindStringSubmatch(report)
	if text == nil {
		t.Fatalf("the node did not print %s; it said:\n%s", BuildFile, report)
	}
	if err := json.Unmarshal([]byte(text[1]), &build); err != nil {
		t.Fatal(err)
	}
	if build.Name != m.Name || build.Kind != m.Kind || build.KernelRelease != m.KernelRelease || !slices.Contains(build.Load, "overlay") {
		t.Errorf("the node's %s = %+v; want that of %s", BuildFile, build, m.canonical())
	}
	var modules struct{ files, loaded, failed, proc int }
	line := regexp.MustCompile(`FLTEST modules .*`).FindString(report)
	if _, err := fmt.Sscanf(line, "FLTEST modules files=%d loaded=%d failed=%d proc=%d", &modules.files, &modules.loaded, &modules.failed, &modules.proc); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	// A few drivers refuse to load where their hardware is absent; none may
	// lack a symbol, which the kernel reports as ENOENT.
	if modules.files < 50 || modules.loaded+modules.failed != modules.files || modules.failed > 5 || strings.Contains(report, "FLTEST missing") {
		t.Errorf("modules on the node: %+v; want all files indexed, at most 5 refused and none without its dependencies; it said:\n%s", modules, report)
	}
	for _, want := range []string{"squashfs=true overlay=true", "/sys/class/net/eth0", "token once", "root compute /usr/bin/firstlight-agent", "root exit=0"} {
		if !strings.Contains(report, want) {
			t.Errorf("the node did not say %q; it said:\n%s", want, report)
		}
	}
}
