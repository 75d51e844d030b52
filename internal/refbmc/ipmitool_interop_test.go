package refbmc

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ipmitool runs one command against addr.
func ipmitool(t *testing.T, addr netip.AddrPort, suite int, password string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	all := append([]string{"-I", "lanplus", "-C", strconv.Itoa(suite), "-H", addr.Addr().String(),
		"-p", strconv.Itoa(int(addr.Port())), "-U", testUser, "-E", "-N", "2", "-R", "1"}, args...)
	cmd := exec.CommandContext(ctx, "ipmitool", all...)
	cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+password)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func needIpmitool(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ipmitool"); err != nil {
		t.Skip("needs ipmitool")
	}
}

func TestIpmitool(t *testing.T) {
	needIpmitool(t)
	for _, suite := range []int{3, 17} {
		t.Run("suite "+strconv.Itoa(suite), func(t *testing.T) {
			t.Parallel()
			m := &testMachine{}
			b := &BMC{Machine: m, Manufacturer: "Example Corp", Product: "EX-200", Serial: "SN0042"}
			addr := serve(t, b)
			steps := []struct {
				cmd  string
				want []string // parts of the output
				on   bool     // afterwards
			}{
				{"mc info", []string{"IPMI Version              : 2.0", "Chassis Device"}, false},
				{"mc guid", []string{"GUID"}, false},
				{"fru print", []string{"Example Corp", "EX-200", "Product Serial        : SN0042", "Chassis Serial        : SN0042", "Board Serial          : SN0042-B", "Board Part Number     : B-1"}, false},
				{"chassis power status", []string{"Chassis Power is off"}, false},
				{"chassis bootdev pxe options=efiboot", []string{"Set Boot Device to pxe"}, false},
				{"chassis bootparam get 5", []string{"Boot Flag Valid", "next boot", "BIOS EFI boot", "Force PXE"}, false},
				{"chassis power on", []string{"Up/On"}, true},
				{"chassis power status", []string{"Chassis Power is on"}, true},
				{"chassis bootparam get 5", []string{"Boot Flag Invalid"}, true},
				{"chassis bootdev disk options=persistent,efiboot", []string{"Set Boot Device to disk"}, true},
				{"chassis power cycle", []string{"Cycle"}, true},
				{"chassis power reset", []string{"Reset"}, true},
				{"chassis power soft", []string{"Soft"}, false},
				{"chassis power on", []string{"Up/On"}, true},
				{"chassis power off", []string{"Down/Off"}, false},
				{"mc reset cold", []string{"Sent cold reset command to MC"}, false},
			}
			for _, s := range steps {
				out, err := ipmitool(t, addr, suite, testPassword, strings.Fields(s.cmd)...)
				if err != nil {
					t.Fatalf("ipmitool %s: %v\n%s", s.cmd, err, out)
				}
				for _, w := range s.want {
					if !strings.Contains(out, w) {
						t.Errorf("ipmitool %s: no %q in\n%s", s.cmd, w, out)
					}
				}
				if got := m.Powered(); got != s.on {
					t.Errorf("after ipmitool %s: powered = %v; want %v", s.cmd, got, s.on)
				}
			}
			disk := Boot{Device: "disk", EFI: true, Persistent: true}
			if d := cmp.Diff([]Boot{{Device: "pxe", EFI: true}, disk, disk, disk}, m.boots); d != "" {
				t.Errorf("boots (-want +got):\n%s", d)
			}
		})
	}
}

// TestIpmipower has FreeIPMI's tool drive two BMCs at once: it negotiates, pads and
// closes in its own way.
func TestIpmipower(t *testing.T) {
	if _, err := exec.LookPath("ipmipower"); err != nil {
		t.Skip("needs ipmipower")
	}
	for _, suite := range []int{3, 17} {
		t.Run("suite "+strconv.Itoa(suite), func(t *testing.T) {
			t.Parallel()
			m, other := &testMachine{}, &testMachine{on: true}
			addr, otherAddr := serve(t, &BMC{Machine: m}), serve(t, &BMC{Machine: other})
			hosts := addr.String() + "," + otherAddr.String()
			run := func(password string, args ...string) string {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				all := append([]string{"-D", "LAN_2_0", "-I", strconv.Itoa(suite), "-h", hosts, "-u", testUser, "-P", "-l", "ADMIN"}, args...)
				cmd := exec.CommandContext(ctx, "ipmipower", all...)
				cmd.Stdin = strings.NewReader(password + "\n")
				out, _ := cmd.CombinedOutput() // it exits 1 where any host fails; what it prints is held below
				// It asks for the password, and names both hosts by their address, which
				// is the same.
				lines := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(string(out), "Password: "), "127.0.0.1: ", ""))
				slices.Sort(lines)
				return strings.Join(lines, " ")
			}
			steps := []struct {
				do, want  string
				on, other bool // afterwards
			}{
				{"--stat", "off on", false, true},
				{"--on", "ok ok", true, true},
				{"--stat", "on on", true, true},
				{"--cycle", "ok ok", true, true},
				{"--reset", "ok ok", true, true},
				{"--off", "ok ok", false, false},
				{"--stat", "off off", false, false},
			}
			for _, s := range steps {
				if got := run(testPassword, s.do); got != s.want {
					t.Errorf("ipmipower %s says %q; want %q", s.do, got, s.want)
				}
				if m.Powered() != s.on || other.Powered() != s.other {
					t.Errorf("after ipmipower %s: powered = %v, %v; want %v, %v", s.do, m.Powered(), other.Powered(), s.on, s.other)
				}
			}
			if got := run("wrong", "--on"); got != "invalid invalid password password" || m.Powered() {
				t.Errorf("ipmipower with a wrong password says %q, powered %v", got, m.Powered())
			}
			if boots := len(m.boots); boots != 3 {
				t.Errorf("the machine was started %d times; want 3", boots)
			}
		})
	}
}

func TestIpmitoolRefused(t *testing.T) {
	needIpmitool(t)
	var log eventLog
	m := &testMachine{}
	b := &BMC{Machine: m, Observe: log.observe}
	addr := serve(t, b)
	if out, err := ipmitool(t, addr, 17, "wrong", "chassis", "power", "on"); err == nil {
		t.Errorf("ipmitool with a wrong password succeeded:\n%s", out)
	}
	// ipmitool sees from RAKP message 2 that the keys differ and sends no message 3.
	if log.count("login-attempt") != 1 || log.count("login") != 0 || m.Powered() {
		t.Errorf("events %v, powered %v; want one login-attempt, no login, off", log.kinds, m.Powered())
	}
	for _, suite := range []int{0, 1, 2} { // no authentication, no integrity, no encryption
		if out, err := ipmitool(t, addr, suite, testPassword, "chassis", "power", "on"); err == nil {
			t.Errorf("ipmitool -C %d succeeded:\n%s", suite, out)
		}
	}
	if out, err := ipmitool(t, addr, 17, testPassword, "chassis", "power", "cycle"); err == nil || !strings.Contains(out, "not supported in present state") {
		t.Errorf("cycle of a machine that is off: %v, %s; want it refused in this state", err, out)
	}
	m.breakDown(errors.New("no such disk"))
	if out, err := ipmitool(t, addr, 17, testPassword, "chassis", "power", "on"); err == nil {
		t.Errorf("power on of a broken machine succeeded:\n%s", out)
	}
	b.SetFaults(Faults{Silent: true})
	if out, err := ipmitool(t, addr, 17, testPassword, "chassis", "power", "status"); err == nil {
		t.Errorf("a silent bmc answered:\n%s", out)
	}
}
