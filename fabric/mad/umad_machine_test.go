package mad

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"
)

// guestModules are the kernel's modules that a machine with a RoCE adapter needs,
// in the order in which they are loaded.
var guestModules = []string{"dummy", "crc32_generic", "udp_tunnel", "ip6_udp_tunnel", "ib_core", "ib_uverbs", "rdma_rxe", "ib_umad"}

// TestUMADMachine boots a virtual machine with an adapter that the kernel makes of
// an Ethernet device, and runs the steps of guestSteps in it, as its first process.
func TestUMADMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	const kernelEnv = "FIRSTLIGHT_TEST_KERNEL" // as provision/netboot has it
	kernelDir := os.Getenv(kernelEnv)
	if kernelDir == "" {
		t.Skip("needs " + kernelEnv + ", the directory of an unpacked linux-image package")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64")
	}
	kernels, _ := filepath.Glob(filepath.Join(kernelDir, "boot/vmlinuz-*"))
	if len(kernels) != 1 {
		t.Fatalf("%s: %d kernels in boot/; want 1", kernelDir, len(kernels))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-m", "512", "-nodefaults", "-display", "none",
		"-no-reboot", "-serial", "stdio", "-kernel", kernels[0], "-initrd", guestImage(t, kernelDir),
		"-append", "console=ttyS0 quiet panic=-1 rdinit=/init "+guestEnv+"=1")
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // not left behind by a test that is killed
	qemu.WaitDelay = time.Second
	console, err := qemu.CombinedOutput()
	t.Logf("%v, console:\n%s", err, console)
	said := strings.ReplaceAll(string(console), "\r", "")
	for _, s := range guestSteps {
		t.Run(s.name, func(t *testing.T) {
			_, after, ran := strings.Cut(said, "step "+s.name+": ")
			if result, _, _ := strings.Cut(after, "\n"); !ran || result != "ok" {
				t.Errorf("it ended with %q", result)
			}
		})
	}
}

// guestImage is an initramfs with this test as its first process, and the modules.
func guestImage(t *testing.T, kernelDir string) string {
	t.Helper()
	dir := t.TempDir()
	init := filepath.Join(dir, "init")
	build := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-o", init, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	records := []cpio.Record{cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1), cpio.Directory("modules", 0o755)}
	add := func(name, file string) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, cpio.StaticFile(name, string(content), 0o755))
	}
	add("init", init)
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join(kernelDir, "lib/modules"), func(path string, _ fs.DirEntry, err error) error {
		found[strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")] = path
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range guestModules {
		add("modules/"+m+".ko", found[m])
	}
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	for i, r := range records {
		r.Ino, r.NLink = uint64(i+1), 1
		if err := w.WriteRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(name, archive.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}
