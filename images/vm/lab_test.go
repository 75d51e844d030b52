package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/iana"
)

func TestLabUpAndInterrupt(t *testing.T) {
	needs(t, "qemu-system-x86_64", "ipmitool", "ip")
	before := hostLinks(t)
	l := testLab(t, "up", nil)
	s := mustStart(t, l)

	if diff := cmp.Diff(before, hostLinks(t)); diff != "" {
		t.Errorf("the lab touched the host's links (-before +during):\n%s", diff)
	}
	for _, want := range []string{"10.10.0.1/24", "10.20.0.1/24", "10.20.0.11/32", "br-prov", "oob"} {
		if got := inside(t, l, "ip", "-4", "addr"); !strings.Contains(got, want) {
			t.Errorf("ip addr in the namespace = %s; want %s in it", got, want)
		}
	}
	if got := inside(t, l, "ip", "-6", "addr"); got != "" {
		t.Errorf("IPv6 addresses in the namespace = %q; want none", got)
	}
	if got, want := ipmi(t, l, 0, "power", "status"), "Chassis Power is off\n"; got != want {
		t.Errorf("power status = %q; want %q", got, want)
	}
	again := start(t, l)
	if want := fmt.Sprintf("(process %d)", s.cmd.Process.Pid); !strings.Contains(again.first, "already up since") || !strings.Contains(again.first, want) {
		t.Errorf("second lab of the name: %q; want since when and %s", again.first, want)
	}
	if got := machineStatus(t, l, 0); got.Power != "off" || got.Console != Console(l.Name, "a") {
		t.Errorf("Status = %+v; want power off and the console's path", got)
	}

	s.interrupt(t)
	if got := left(t, l); got != nil {
		t.Errorf("left after Ctrl-C: %q", got)
	}
	if diff := cmp.Diff(before, hostLinks(t)); diff != "" {
		t.Errorf("links of the host (-before +after):\n%s", diff)
	}
	if _, err := Status(context.Background(), l.Name); !errors.Is(err, ErrNotUp) {
		t.Errorf("Status after the end: %v; want ErrNotUp", err)
	}
}

// TestFirmware boots real firmware: without an override it tries no network;
// when the guest reboots by itself the override set meanwhile counts; and a BMC
// that ignores the override shows by its silence on the wire.
func TestFirmware(t *testing.T) {
	needs(t, "qemu-system-x86_64", "ipmitool")
	l := testLab(t, "fw", nil, []string{FaultIgnoreBootOverride})
	l.Machines[1].Disks = nil // nothing to boot from at all, and yet no network boot
	mustStart(t, l)
	honest, liar := l.Machines[0].NICs[0].MAC, l.Machines[1].NICs[0].MAC

	ipmi(t, l, 0, "power", "on")
	console := dialConsole(t, l, "a")
	waitForShell(t, l, "a")
	if got := from(discovers(t, l.Capture), honest); len(got) > 0 {
		t.Errorf("%d DHCP DISCOVERs of a machine that boots from disk; want none", len(got))
	}
	ipmi(t, l, 0, "chassis", "bootdev", "pxe", "options=efiboot")
	began := time.Now()
	typeUntil(t, console, "reset\r", "the machine reboots", func() bool { return machineStatus(t, l, 0).Boots == 2 })
	var first []iana.Arch
	eventually(t, 2*time.Minute, "a DHCP DISCOVER after the reboot with a PXE override", func() bool {
		packets := from(discovers(t, l.Capture), honest)
		if len(packets) == 0 {
			return false
		}
		first = packets[0].ClientArch()
		return true
	})
	t.Logf("reset to DHCP DISCOVER: %.1f s", time.Since(began).Seconds())
	if want := []iana.Arch{iana.EFI_X86_64}; !cmp.Equal(first, want) && !cmp.Equal(first, []iana.Arch{iana.EFI_BC}) {
		t.Errorf("client architecture (option 93) of the DISCOVER = %v; want %v", first, want)
	}
	if got := machineStatus(t, l, 0); got.Boots != 2 || got.Boot != "pxe" || got.Power != "on" {
		t.Errorf("Status after the reboot = %+v; want boot 2, by pxe", got)
	}
	ipmi(t, l, 0, "power", "off")
	if got, want := ipmi(t, l, 0, "power", "status"), "Chassis Power is off\n"; got != want {
		t.Errorf("power status after power off = %q; want %q", got, want)
	}

	ipmi(t, l, 1, "chassis", "bootdev", "pxe", "options=efiboot")
	if got := ipmi(t, l, 1, "chassis", "bootparam", "get", "5"); !strings.Contains(got, "Force PXE") {
		t.Errorf("boot parameter 5 of the BMC that ignores it = %s; want it to read back as PXE", got)
	}
	ipmi(t, l, 1, "power", "on")
	waitForShell(t, l, "b")
	time.Sleep(2 * time.Second)
	if got := from(discovers(t, l.Capture), liar); len(got) > 0 {
		t.Errorf("%d DHCP DISCOVERs of a machine whose BMC ignores the override; want none", len(got))
	}
	typeUntil(t, dialConsole(t, l, "b"), "reset -s\r", "the guest shuts down and the power is off", func() bool {
		return machineStatus(t, l, 1).Power == "off"
	})
	if err := Down(context.Background(), l.Name); err != nil {
		t.Errorf("Down: %v", err)
	}
	if got := left(t, l); got != nil {
		t.Errorf("left after Down: %q", got)
	}
}

func dialConsole(t *testing.T, l *Lab, machine string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", Console(l.Name, machine))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go io.Copy(io.Discard, conn) // who does not read is hung up on; ends with conn
	return conn
}

// typeUntil types a line again and again: the shell forgets what is typed while
// it draws its prompt.
func typeUntil(t *testing.T, console net.Conn, line, what string, ok func() bool) {
	t.Helper()
	for range 10 {
		if _, err := fmt.Fprint(console, line); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if ok() {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	t.Fatalf("not after typing %q ten times: %s", line, what)
}

// waitForShell waits until the firmware has given up on the disk. Its shell
// waits five seconds for a key before it runs startup.nsh.
func waitForShell(t *testing.T, l *Lab, machine string) {
	t.Helper()
	began := time.Now()
	eventually(t, 2*time.Minute, "the UEFI shell's prompt on the console of "+machine, func() bool {
		log, err := os.ReadFile(l.ConsoleLog(machine))
		return err == nil && strings.Contains(string(log), "Shell>")
	})
	t.Logf("%s: power on to UEFI shell: %.1f s", machine, time.Since(began).Seconds())
}

func TestCrash(t *testing.T) {
	needs(t, "qemu-system-x86_64", "ipmitool")
	before := hostLinks(t)
	l := testLab(t, "crash", nil)
	s := mustStart(t, l)
	ipmi(t, l, 0, "power", "on")
	m := machineStatus(t, l, 0)
	if m.Power != "on" || m.PID == 0 {
		t.Fatalf("Status after power on = %+v; want on, with a process", m)
	}
	guest, err := identify(m.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.cmd.Wait()
	eventually(t, 10*time.Second, "QEMU dies with its supervisor", func() bool { return !guest.alive() })
	if left(t, l) == nil {
		t.Fatal("a killed supervisor left nothing: the test cannot show that lab up clears it away")
	}
	if _, err := Status(context.Background(), l.Name); !errors.Is(err, ErrNotUp) || !strings.Contains(err.Error(), "crashed") {
		t.Errorf("Status after the crash: %v; want ErrNotUp that says it crashed", err)
	}

	second := mustStart(t, l)
	if got := machineStatus(t, l, 0); got.Power != "off" {
		t.Errorf("machine after a crash and lab up: %+v; want off", got)
	}
	if err := second.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second.cmd.Wait()
	if err := Down(context.Background(), l.Name); err != nil {
		t.Errorf("Down after a crash: %v", err)
	}
	if got := left(t, l); got != nil {
		t.Errorf("left after a crash and Down: %q", got)
	}
	if diff := cmp.Diff(before, hostLinks(t)); diff != "" {
		t.Errorf("links of the host (-before +after):\n%s", diff)
	}
	if err := Down(context.Background(), l.Name); !errors.Is(err, ErrNotUp) {
		t.Errorf("Down of nothing: %v; want ErrNotUp", err)
	}
}

// TestDownByForce: a supervisor that hangs is killed, and its machine with it.
func TestDownByForce(t *testing.T) {
	needs(t, "qemu-system-x86_64", "ipmitool")
	l := testLab(t, "hang", nil)
	s := mustStart(t, l)
	ipmi(t, l, 0, "power", "on")
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	go s.cmd.Wait() // a zombie would count as left; ends with the process
	if err := Down(context.Background(), l.Name); err != nil {
		t.Errorf("Down of a supervisor that hangs: %v", err)
	}
	if got := left(t, l); got != nil {
		t.Errorf("left: %q", got)
	}
}
