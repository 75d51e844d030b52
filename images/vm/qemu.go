package vm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"firstlight/internal/refbmc"
)

// host is what the machines stand on.
type host struct {
	qemu string // path of qemu-system-x86_64
	code string // OVMF's code, shared and read-only
	vars string // OVMF's empty variable store, copied for each machine
	kvm  bool
}

// probe finds QEMU, the firmware and the accelerator, or names the package that
// has what is missing.
func probe() (host, error) {
	h := host{code: "/usr/share/OVMF/OVMF_CODE_4M.fd", vars: "/usr/share/OVMF/OVMF_VARS_4M.fd", kvm: kvmUsable()}
	var errs []error
	var err error
	if h.qemu, err = exec.LookPath("qemu-system-x86_64"); err != nil {
		errs = append(errs, errors.New("qemu-system-x86_64 is not there: apt-get install qemu-system-x86"))
	}
	for _, f := range []string{h.code, h.vars} {
		if _, err := os.Stat(f); err != nil {
			errs = append(errs, fmt.Errorf("UEFI firmware %s is not there: apt-get install ovmf", f))
		}
	}
	return h, errors.Join(errs...)
}

// kvmUsable says whether KVM can run firmware here. That /dev/kvm opens is not
// enough: a KVM on neither Intel's nor AMD's extensions hangs in real mode.
func kvmUsable() bool {
	found := false
	for _, module := range []string{"kvm_intel", "kvm_amd"} {
		if _, err := os.Stat("/sys/module/" + module); err == nil {
			found = true
		}
	}
	if !found {
		return false
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

func (h host) accel() string {
	if h.kvm {
		return "kvm"
	}
	return "tcg"
}

// Descriptors that a machine's process inherits, after the standard three.
const (
	fdQMP     = 3
	fdConsole = 4
	fdTaps    = 5
)

// arguments is QEMU's command line for one boot. Taps, QMP and console are
// inherited descriptors: nothing of a machine has a name that could outlive it.
func (h host) arguments(lab string, m *Machine, files machineFiles, boot refbmc.Boot) []string {
	model := "max" // all that TCG can do
	if h.kvm {
		model = "host"
	}
	cpus, sockets := max(m.CPUs, 1), max(m.Sockets, 1)
	args := []string{
		"-name", "guest=" + quoteOption(processName(lab, m.Name)),
		"-machine", "q35,accel=" + h.accel(),
		"-cpu", model,
		"-smp", fmt.Sprintf("%d,sockets=%d,cores=%d,threads=1", cpus, sockets, cpus/sockets),
		"-m", fmt.Sprintf("%dk", m.MemoryBytes>>10),
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
		// The guest's reboots come back to us: each is a new boot, for which the
		// BMC may hold an override.
		"-action", "reboot=shutdown",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + quoteOption(h.code),
		"-drive", "if=pflash,format=raw,unit=1,file=" + quoteOption(files.vars),
		"-smbios", smbiosSystem(lab, m),
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fdQMP),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", fdConsole),
		"-serial", "chardev:console",
		"-device", "virtio-rng-pci", // without it the first TLS or SSH key waits for entropy
		"-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n",
	}
	if !m.has(FaultDeadBMC) {
		// The BMC as the guest sees it: alive and of this machine, but it does not
		// know what is told to the one on the network.
		args = append(args, "-device", "ipmi-bmc-sim,id=bmc,guid="+systemUUID(lab, m), "-device", "isa-ipmi-kcs,bmc=bmc")
	}
	for _, f := range files.dimms {
		args = append(args, "-smbios", "file="+quoteOption(f))
	}
	// OVMF drops what has no boot index from its boot order, as long as anything
	// it knows has one; else it tries all there is, UEFI HTTP boot included, which
	// has no switch of its own. An empty drive is what a diskless machine may have.
	pxe := boot.Device == "pxe"
	if !pxe && len(m.Disks) == 0 {
		args = append(args, "-device", "ide-cd,bus=ide.0,bootindex=2")
	}
	args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string="+map[bool]string{true: "y", false: "n"}[pxe])
	for i, n := range m.NICs {
		index := ""
		if pxe && i == 0 {
			index = ",bootindex=1"
		}
		args = append(args, "-netdev", fmt.Sprintf("tap,id=net%d,fd=%d", i, fdTaps+i),
			// romfile=: OVMF has a driver of its own; QEMU's option ROM would be a second, slower PXE client.
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net%d,mac=%s,romfile=%s", i, n.MAC, index))
	}
	for i, d := range m.Disks {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,discard=unmap,file=%s", i, quoteOption(files.disks[i])),
			"-device", fmt.Sprintf("nvme,drive=disk%d,serial=%s,bootindex=%d", i, quoteOption(diskSerial(m, d)), 2+i))
	}
	return args
}

// processName is what tells a machine in ps.
func processName(lab, machine string) string { return Namespace(lab) + "/" + machine }

// diskSerial is never empty: QEMU refuses an NVMe disk without one.
func diskSerial(m *Machine, d Disk) string {
	if d.Serial != "" {
		return d.Serial
	}
	sum := sha256.Sum256([]byte(m.Name + "/" + d.Name))
	return fmt.Sprintf("%X", sum[:8])
}

// smbiosSystem is the SMBIOS system information, type 1 (DSP0134 §7.2).
func smbiosSystem(lab string, m *Machine) string {
	return fmt.Sprintf("type=1,manufacturer=%s,product=%s,serial=%s,uuid=%s",
		quoteOption(m.manufacturer()), quoteOption(m.product()), quoteOption(m.Serial), systemUUID(lab, m))
}

// systemUUID is the same each time that the lab comes up.
func systemUUID(lab string, m *Machine) string {
	sum := sha256.Sum256([]byte(lab + "/" + m.Name + "/" + m.Serial))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // RFC 9562 version 8: our own making
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func (m *Machine) manufacturer() string {
	if m.Manufacturer != "" {
		return m.Manufacturer
	}
	return "firstlight"
}

func (m *Machine) product() string {
	if m.Product != "" {
		return m.Product
	}
	return "lab"
}

// machineFiles are the files of one machine.
type machineFiles struct {
	dir   string
	vars  string
	disks []string
	dimms []string
}

func (l *Lab) files(m *Machine) machineFiles {
	f := machineFiles{dir: filepath.Join(l.Dir, m.Name)}
	f.vars = filepath.Join(f.dir, "firmware.fd")
	for _, d := range m.Disks {
		f.disks = append(f.disks, filepath.Join(f.dir, "disk-"+d.Name+".raw"))
	}
	for i := range m.DIMMs {
		f.dimms = append(f.dimms, filepath.Join(f.dir, "dimm-"+strconv.Itoa(i)+".bin"))
	}
	return f
}

func (f machineFiles) all() []string {
	return append(append([]string{f.vars}, f.disks...), f.dimms...)
}

// make makes the machine's disks, memory tables and firmware variables.
func (f machineFiles) make(m *Machine, h host) error {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	vars, err := os.ReadFile(h.vars)
	if err != nil {
		return fmt.Errorf("firmware variables: %w", err)
	}
	if err := os.WriteFile(f.vars, vars, 0o600); err != nil {
		return err
	}
	for i, d := range m.Disks {
		file, err := os.OpenFile(f.disks[i], os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
		// NVMe's block is 512 bytes here.
		err = errors.Join(file.Truncate((d.Bytes+511)&^511), file.Close())
		if err != nil {
			return fmt.Errorf("disk %s of %d bytes: %w", d.Name, d.Bytes, err)
		}
	}
	for i, path := range f.dimms {
		if err := os.WriteFile(path, smbiosDIMM(i, m.DIMMs, m.MemoryBytes), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// child is one run of QEMU: one boot of a machine.
type child struct {
	process
	cmd    *exec.Cmd
	qmp    *qmp
	stderr *tail
	// console is closed when all that the machine wrote is in its log; exited
	// when QEMU is gone too.
	console <-chan struct{}
	exited  chan struct{}
}

// launch starts QEMU on the lab's thread, and waits until it answers or is gone.
func (r *run) launch(g *guest, boot refbmc.Boot) (*child, error) {
	ours, theirs, err := socketPair("qmp")
	if err != nil {
		return nil, err
	}
	consoleOurs, consoleTheirs, err := socketPair("console")
	if err != nil {
		return nil, errors.Join(err, ours.Close(), theirs.Close())
	}
	c := &child{stderr: &tail{}, exited: make(chan struct{})}
	c.cmd = exec.Command(r.host.qemu, r.host.arguments(r.lab.Name, g.spec, g.files, boot)...)
	c.cmd.Stderr = c.stderr
	c.cmd.WaitDelay = time.Second
	c.cmd.ExtraFiles = []*os.File{theirs, consoleTheirs}
	// Dies with the supervisor, and does not hear the terminal's Ctrl-C: the
	// supervisor powers it off.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	err = r.ns.do(func() error {
		for i, n := range g.spec.NICs {
			tap, err := openTap(tapName(g.spec.Name, g.index, i), r.bridges[n.Network])
			if err != nil {
				return err
			}
			c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, tap)
		}
		return c.cmd.Start()
	})
	for _, f := range c.cmd.ExtraFiles {
		f.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start qemu: %w", err), ours.Close(), consoleOurs.Close())
	}
	c.process, _ = identify(c.cmd.Process.Pid) // gone already: the greeting below fails
	c.console = g.console.attach(consoleOurs)
	c.qmp, err = newQMP(ours)
	if err != nil {
		c.cmd.Process.Kill()
		werr := c.cmd.Wait()
		ours.Close()
		<-c.console
		if c.cmd.ProcessState.Exited() { // and not by our hand
			return nil, fmt.Errorf("qemu ended at once (%w): %s", werr, c.stderr)
		}
		return nil, fmt.Errorf("qemu does not answer (%w): %s", err, c.stderr)
	}
	return c, nil
}

// socketPair returns our end, which the runtime polls, and theirs, a blocking
// file to inherit.
func socketPair(what string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket for %s: %w", what, err)
	}
	unix.SetNonblock(fds[0], true) // os.NewFile then polls it
	return os.NewFile(uintptr(fds[0]), what), os.NewFile(uintptr(fds[1]), what), nil
}

// tail keeps the end of what a program complains about.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - 2048; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	s := strings.TrimSpace(string(t.b))
	if s == "" {
		return "it said nothing"
	}
	return strings.ReplaceAll(s, "\n", "; ")
}
