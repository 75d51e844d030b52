package netboot

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// kernelEnv names a directory with an unpacked Debian kernel package:
// apt-get download linux-image-6.1.0-NN-amd64 && dpkg -x *.deb DIR.
const kernelEnv = "FIRSTLIGHT_TEST_KERNEL"

// TestFirmwareBoots powers on a machine with UEFI firmware: firmware DHCP,
// TFTP, iPXE, script, kernel, initrds, token, user space, and proves each from
// what the server saw. -v prints when each step was.
func TestFirmwareBoots(t *testing.T) {
	testBoots(t, uefi, KindDHCPAck, KindTFTPRead, KindRouterAdvert, KindScript, KindKernel, KindInitrd, KindToken)
}

// TestBIOSBoots does the same with SeaBIOS, whose boot ROM is an iPXE already.
func TestBIOSBoots(t *testing.T) {
	if _, err := os.Stat(biosROM); err != nil {
		t.Skip("needs " + biosROM + ", Debian package ipxe-qemu")
	}
	testBoots(t, bios, KindDHCPAck, KindScript, KindKernel, KindInitrd, KindToken)
}

func testBoots(t *testing.T, fw func(*testing.T) []string, kinds ...Kind) {
	kernelDir := needMachine(t)
	if !inNamespace(t) {
		return
	}
	r := newBridgeRig(t)
	hello := make(chan string, 1)
	r.server.Agent = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		hello <- string(b)
	})
	boot := testBoot(t, r, kernelDir)
	r.boot = func(BootRequest) (*Boot, error) { return boot, nil }
	r.start()
	m := r.powerOn(100*time.Second, fw)
	var said string
	select {
	case said = <-hello:
		t.Logf("%6.2fs user space called: %s", time.Since(m.start).Seconds(), said)
	case <-m.ctx.Done():
	}
	m.wait()
	if want := "n1 b-1 one-time-secret mode=400 uptime="; !strings.HasPrefix(said, want) {
		t.Errorf("the node said %q; want %q first", said, want)
	}
	for _, kind := range kinds {
		if e := r.want(kind); e.Node != "n1" {
			t.Errorf("%s of node %q; want n1", kind, e.Node)
		}
	}
}

// TestFirmwareReportsFailure takes an initrd away: iPXE tries for a while,
// tells the controller what it could not fetch, and leaves.
func TestFirmwareReportsFailure(t *testing.T) {
	kernelDir := needMachine(t)
	if !inNamespace(t) {
		return
	}
	r := newBridgeRig(t)
	boot := testBoot(t, r, kernelDir)
	boot.Initrds = append(boot.Initrds, Blob{Digest: "sha256:" + strings.Repeat("0", 64), Name: "absent"})
	r.boot = func(BootRequest) (*Boot, error) { return boot, nil }
	r.start()
	m := r.powerOn(120*time.Second, uefi)
	for m.ctx.Err() == nil {
		if _, err := r.find(KindBootFailed); err == nil {
			break
		}
	}
	time.Sleep(2 * time.Second)
	m.stop()
	console := m.wait()
	e := r.want(KindBootFailed)
	if e.Node != "n1" || e.BootID != "b-1" || !strings.HasPrefix(e.Detail, "initrd: iPXE error ") {
		t.Errorf("event = %+v; want node n1, boot b-1, step initrd with iPXE's error", e)
	}
	if want := "cannot fetch the initrd absent (try 10 of 10)"; !strings.Contains(console, want) {
		t.Errorf("console lacks %q", want)
	}
	if e, err := r.find(KindToken); err == nil {
		t.Errorf("a boot that failed took its token: %+v", e)
	}
}

// TestFirmwareGoesOnToNextDevice gives the node nothing to boot.
func TestFirmwareGoesOnToNextDevice(t *testing.T) {
	needMachine(t)
	if !inNamespace(t) {
		return
	}
	r := newBridgeRig(t)
	r.start()
	m := r.powerOn(60*time.Second, uefi)
	for m.ctx.Err() == nil {
		if _, err := r.find(KindBootLocal); err == nil {
			break
		}
	}
	time.Sleep(3 * time.Second)
	m.stop()
	if console, want := m.wait(), "nothing to boot by network for this node"; !strings.Contains(console, want) {
		t.Errorf("console lacks %q", want)
	}
	r.want(KindBootLocal)
}

const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	biosROM  = "/usr/lib/ipxe/qemu/pxe-e1000.rom"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

func needMachine(t *testing.T) (kernelDir string) {
	t.Helper()
	needTool(t, "qemu-system-x86_64", "depmod")
	kernelDir = os.Getenv(kernelEnv)
	if kernelDir == "" {
		t.Skip("needs " + kernelEnv + ", the directory of an unpacked linux-image package")
	}
	if _, err := os.Stat(ovmfCode); err != nil {
		t.Skip("needs OVMF, Debian package ovmf")
	}
	return kernelDir
}

func testBoot(t *testing.T, r *rig, kernelDir string) *Boot {
	t.Helper()
	vmlinuz, initramfs := testImage(t, kernelDir)
	return &Boot{Node: "n1", BootID: "b-1", Token: "one-time-secret",
		Kernel:  Blob{Digest: r.blobs.add(t, vmlinuz), Name: "vmlinuz"},
		Initrds: []Blob{{Digest: r.blobs.add(t, initramfs), Name: "initramfs.cpio"}},
		Args:    append([]string{"test.address=10.99.0.11/24", "console=ttyS0", "quiet", "panic=5"}, strings.Fields(os.Getenv("NETBOOT_TEST_ARGS"))...)}
}

const nic = "virtio-net-pci,netdev=n0,bootindex=1,mac="

// uefi is OVMF and its own PXE client.
func uefi(t *testing.T) []string {
	t.Helper()
	vars := filepath.Join(t.TempDir(), "vars.fd")
	data, err := os.ReadFile(ovmfVars)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vars, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"-drive", "if=pflash,format=raw,readonly=on,file=" + ovmfCode, "-drive", "if=pflash,format=raw,file=" + vars,
		"-device", nic + nodeMAC.String() + ",romfile="}
}

// bios is SeaBIOS and the NIC's boot ROM. Debian 12's ROMs find no virtio NIC
// under SeaBIOS, and none of them starts without a display adapter.
func bios(*testing.T) []string {
	return []string{"-machine", "pc,accel=tcg", "-vga", "std",
		"-device", "e1000,netdev=n0,bootindex=1,mac=" + nodeMAC.String() + ",romfile=" + biosROM}
}

// machine is a virtual machine that was powered on at start.
type machine struct {
	r       *rig
	start   time.Time
	ctx     context.Context
	stop    context.CancelFunc
	cmd     *exec.Cmd
	console chan string
}

func (r *rig) powerOn(limit time.Duration, fw func(*testing.T) []string) *machine {
	t := r.t
	t.Helper()
	args := []string{"-display", "none", "-no-reboot", "-nodefaults", "-m", "1024", "-serial", "stdio",
		"-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no"}
	args = append(args, strings.Fields(envOr("NETBOOT_TEST_MACHINE", "-machine q35,accel=tcg -cpu max -smp 2"))...)
	args = append(args, fw(t)...)
	m := &machine{r: r, start: time.Now(), console: make(chan string, 1)}
	m.ctx, m.stop = context.WithTimeout(t.Context(), limit)
	t.Cleanup(m.stop)
	m.cmd = exec.CommandContext(m.ctx, "qemu-system-x86_64", args...)
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.cmd.Stderr = os.Stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // not left behind by a test that is killed
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { m.console <- stamp(out, m.start) }() // ends with the machine
	return m
}

// wait waits for power-off, logs the console and what the server saw, and
// returns the console.
func (m *machine) wait() string {
	t := m.r.t
	t.Helper()
	console := <-m.console
	if err := m.cmd.Wait(); err != nil {
		t.Logf("qemu: %v", err)
	}
	t.Logf("console:\n%s", console)
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	for _, e := range m.r.events {
		t.Logf("%6.2fs %-13s %-12s %8d bytes in %7.3fs arch=%s user=%q vendor=%q %s", e.Time.Sub(m.start).Seconds(), e.Kind,
			e.Address, e.Bytes, e.Duration.Seconds(), e.Arch, e.UserClass, e.VendorClass, e.Detail)
	}
	return console
}

func envOr(key, value string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return value
}

// stamp returns the console's lines with their times.
func stamp(r io.Reader, start time.Time) string {
	var b strings.Builder
	for sc := bufio.NewScanner(r); sc.Scan(); {
		fmt.Fprintf(&b, "%6.2f %s\n", time.Since(start).Seconds(), printable(sc.Text()))
	}
	return b.String()
}

// newBridgeRig is the network of a lab: a bridge that the server is on, and a
// tap for the machine.
func newBridgeRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, blobs: dirBlobs(t.TempDir())}
	r.server = &Server{Interface: "srv", Prefix: network, Reservations: reserveNode, Booter: r, Blobs: r.blobs, Observe: r.see}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(linkUp("lo"))
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "srv"}}
	must(netlink.LinkAdd(bridge))
	must(netlink.AddrAdd(bridge, &netlink.Addr{IPNet: &net.IPNet{IP: serverAddr.AsSlice(), Mask: net.CIDRMask(24, 32)}}))
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tap0"}, Mode: netlink.TUNTAP_MODE_TAP}
	must(netlink.LinkAdd(tap))
	must(netlink.LinkSetMaster(tap, bridge))
	must(linkUp("tap0"))
	must(linkUp("srv"))
	return r
}

// testImage returns a kernel, and an initramfs with the modules of virtio-net
// and a static init.
func testImage(t *testing.T, kernelDir string) (vmlinuz, initramfs []byte) {
	t.Helper()
	glob, _ := filepath.Glob(filepath.Join(kernelDir, "boot/vmlinuz-*"))
	if len(glob) != 1 {
		t.Fatalf("%s: %d kernels in boot/; want 1", kernelDir, len(glob))
	}
	vmlinuz, err := os.ReadFile(glob[0])
	if err != nil {
		t.Fatal(err)
	}
	version := strings.TrimPrefix(filepath.Base(glob[0]), "vmlinuz-")
	if out, err := exec.Command("depmod", "-b", kernelDir, version).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v\n%s", err, out)
	}
	base := filepath.Join(kernelDir, "lib/modules", version)
	deps, err := os.ReadFile(filepath.Join(base, "modules.dep"))
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	b = appendCPIO(b, 1, 0o040755, "modules", "")
	var order []string
	for _, module := range []string{"virtio_pci", "virtio_net", "e1000"} {
		for _, line := range strings.Split(string(deps), "\n") {
			file, rest, _ := strings.Cut(line, ":")
			if filepath.Base(file) != module+".ko" {
				continue
			}
			chain := append([]string{file}, strings.Fields(rest)...)
			for i := len(chain) - 1; i >= 0; i-- {
				content, err := os.ReadFile(filepath.Join(base, chain[i]))
				if err != nil {
					t.Fatal(err)
				}
				name := filepath.Base(chain[i])
				if !bytes.Contains([]byte(strings.Join(order, " ")+" "), []byte(name+" ")) {
					order = append(order, name)
					b = appendCPIO(b, len(order)+1, 0o100644, "modules/"+name, string(content))
				}
			}
		}
	}
	bin := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", bin, "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	init, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	b = appendCPIO(b, 100, 0o100644, "modules/order", strings.Join(order, "\n"))
	b = appendCPIO(b, 101, 0o040755, "dev", "")
	b = appendCPIO(b, 102, 0o100755, "init", string(init))
	b = appendCPIO(b, 0, 0, "TRAILER!!!", "")
	return vmlinuz, b
}
