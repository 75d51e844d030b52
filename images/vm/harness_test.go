package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// superviseEnv makes the test binary a supervisor: a crash needs a process of
// its own to kill.
const superviseEnv = "FIRSTLIGHT_VM_TEST_LAB"

func TestMain(m *testing.M) {
	lab := os.Getenv(superviseEnv)
	if lab == "" {
		os.Exit(m.Run())
	}
	l := new(Lab)
	if err := json.Unmarshal([]byte(lab), l); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	l.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := l.Supervise(ctx, func() { fmt.Println("ready") }); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// needs skips a test where a tool of the machine's is missing; CI has them all.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	if _, err := probe(); err != nil {
		t.Skipf("needs %v", err)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("needs /dev/net/tun")
	}
}

// testLab is a lab of machines "a", "b", …, each with one disk; its name is
// this test process's own. Console logs and capture are printed on failure.
func testLab(t *testing.T, label string, faults ...[]string) *Lab {
	t.Helper()
	dir := t.TempDir()
	l := &Lab{
		Name:    fmt.Sprintf("test-%s-%d", label, os.Getpid()),
		Dir:     filepath.Join(dir, "state"),
		Logs:    filepath.Join(dir, "logs"),
		Capture: filepath.Join(dir, "wire.pcap"),
		Networks: []Network{
			{Name: "provision", Interface: "br-prov", Address: netip.MustParsePrefix("10.10.0.1/24")},
			{Name: "oob", Address: netip.MustParsePrefix("10.20.0.1/24")},
		},
	}
	for i, f := range faults {
		name := string(rune('a' + i))
		l.Machines = append(l.Machines, Machine{
			Name: name, Manufacturer: "Lab, Inc.", Product: "x1", Serial: "SN-" + name, CPUs: 2, MemoryBytes: 768 << 20, DIMMs: 2,
			Disks:  []Disk{{Name: "scratch0", Bytes: 1 << 30, Serial: "D-" + name}},
			NICs:   []NIC{{MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i + 1)}, Network: "provision"}},
			BMC:    BMC{Address: netip.AddrFrom4([4]byte{10, 20, 0, byte(11 + i)}), Username: "admin", Password: "lab,secret"},
			Faults: f,
		})
	}
	t.Cleanup(func() {
		if err := Down(context.Background(), l.Name); err != nil && !errors.Is(err, ErrNotUp) {
			t.Errorf("Down(%s): %v", l.Name, err)
		}
		if t.Failed() {
			keepEvidence(t, l)
		}
	})
	return l
}

// keepEvidence copies logs and capture to where CI collects them, or prints the
// end of the logs.
func keepEvidence(t *testing.T, l *Lab) {
	if keep := os.Getenv("FIRSTLIGHT_TEST_EVIDENCE"); keep != "" {
		to := filepath.Join(keep, l.Name)
		if err := os.CopyFS(to, os.DirFS(filepath.Dir(l.Capture))); err != nil {
			t.Logf("evidence: %v", err)
		}
		t.Logf("console logs and capture are in %s", to)
		return
	}
	for _, m := range l.Machines {
		log, _ := os.ReadFile(l.ConsoleLog(m.Name))
		t.Logf("console of %s ends:\n%q", m.Name, log[max(0, len(log)-2000):])
	}
	t.Logf("capture: %d packets of DHCP; set FIRSTLIGHT_TEST_EVIDENCE to a directory to keep it", len(discovers(t, l.Capture)))
}

// supervisor is a lab held up by a process of its own.
type supervisor struct {
	cmd    *exec.Cmd
	output *tail
	first  string // "ready", or the error
}

// start returns when the lab is up, or has failed to come up.
func start(t *testing.T, l *Lab) *supervisor {
	t.Helper()
	spec, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	s := &supervisor{cmd: exec.Command(os.Args[0]), output: &tail{}}
	s.cmd.Env = append(os.Environ(), superviseEnv+"="+string(spec))
	s.cmd.Stderr = s.output
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	line := make(chan string, 1)
	go func() { // ends with the process
		sc := bufio.NewScanner(out)
		sc.Scan()
		line <- sc.Text()
	}()
	select {
	case s.first = <-line:
	case <-time.After(60 * time.Second):
		t.Fatalf("lab %s is not up after 60 s: %s", l.Name, s.output)
	}
	return s
}

// mustStart is start for labs that have to come up.
func mustStart(t *testing.T, l *Lab) *supervisor {
	t.Helper()
	s := start(t, l)
	if s.first != "ready" {
		s.cmd.Wait()
		t.Fatalf("lab %s: %s; %s", l.Name, s.first, s.output)
	}
	return s
}

// interrupt is Ctrl-C; it waits for the end.
func (s *supervisor) interrupt(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("supervisor after Ctrl-C: %v; %s", err, s.output)
	}
}

// inside runs a program in the lab's namespace, from a thread of its own.
func inside(t *testing.T, l *Lab, name string, args ...string) string {
	t.Helper()
	out, err := tryInside(l, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

func tryInside(l *Lab, name string, args ...string) (string, error) {
	type result struct {
		out []byte
		err error
	}
	done := make(chan result)
	go func() { // its thread ends with it
		if err := Enter(l.Name); err != nil {
			done <- result{nil, err}
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), "IPMI_PASSWORD=lab,secret")
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		done <- result{out, err}
	}()
	r := <-done
	return string(r.out), r.err
}

// ipmi runs ipmitool against a machine's BMC.
func ipmi(t *testing.T, l *Lab, machine int, args ...string) string {
	t.Helper()
	host := l.Machines[machine].BMC.Address.String()
	return inside(t, l, "ipmitool", append([]string{"-I", "lanplus", "-C", "17", "-H", host, "-U", "admin", "-E"}, args...)...)
}

// eventually waits for a condition; what says what it is.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s: %s", within, what)
}

func machineStatus(t *testing.T, l *Lab, machine int) MachineStatus {
	t.Helper()
	s, err := Status(context.Background(), l.Name)
	if err != nil {
		t.Fatal(err)
	}
	return s.Machines[machine]
}

// discovers are the DHCP DISCOVERs in a capture, read while it grows.
func discovers(t *testing.T, path string) []*dhcpv4.DHCPv4 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || len(data) < 24 {
		return nil
	}
	var found []*dhcpv4.DHCPv4
	for data = data[24:]; len(data) >= 16; {
		n := int(binary.LittleEndian.Uint32(data[8:]))
		if len(data) < 16+n {
			break
		}
		frame := data[16 : 16+n]
		data = data[16+n:]
		// Ethernet 14, IPv4 20, UDP 8; destination port 67.
		if n < 42 || frame[12] != 8 || frame[13] != 0 || frame[23] != 17 || binary.BigEndian.Uint16(frame[36:]) != 67 {
			continue
		}
		p, err := dhcpv4.FromBytes(frame[42:])
		if err == nil && p.MessageType() == dhcpv4.MessageTypeDiscover {
			found = append(found, p)
		}
	}
	return found
}

// from keeps those that one NIC sent.
func from(packets []*dhcpv4.DHCPv4, mac net.HardwareAddr) []*dhcpv4.DHCPv4 {
	return slices.DeleteFunc(packets, func(p *dhcpv4.DHCPv4) bool { return !bytes.Equal(p.ClientHWAddr, mac) })
}

// left lists everything of a lab that is still there: processes, namespace,
// files; nil is clean.
func left(t *testing.T, l *Lab) []string {
	t.Helper()
	var found []string
	for _, pid := range allProcesses() {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(cmdline, []byte(processName(l.Name, ""))) {
			found = append(found, fmt.Sprintf("process %d: %s", pid, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	for _, root := range []string{l.Dir, labDir(l.Name), filepath.Join("/run/netns", Namespace(l.Name))} {
		filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}

// hostLinks are the interfaces of the namespace that the tests run in.
func hostLinks(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
