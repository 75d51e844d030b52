package bmc

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// ipmitool runs one command against addr and returns what it prints.
func ipmitool(t *testing.T, addr netip.AddrPort, args ...string) string {
	t.Helper()
	bin, err := exec.LookPath("ipmitool")
	if err != nil {
		t.Skip("needs ipmitool")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append([]string{"-I", "lanplus", "-C", "3", "-H", addr.Addr().String(),
		"-p", strconv.Itoa(int(addr.Port())), "-U", testUser, "-E"}, args...)...)
	cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+plantedPassword, "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ipmitool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// rawRecords are the sensor data records of a BMC as they are.
func rawRecords(t *testing.T, ep Endpoint) (out [][]byte) {
	t.Helper()
	var c Client
	err := c.With(t.Context(), ep, func(s *Session) error {
		r := &recordReader{session: s, get: types.CommandGetSDR, reserve: types.CommandReserveSDRRepo, head: sdrHead,
			size: func(head []byte) int { return sdrHead + int(head[4]) }, most: 100, chunk: 7}
		return r.each(t.Context(), func(record []byte) error {
			out = append(out, record)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// simSetup gives ipmi_sim the sensors of richBMC, with readings, and a log.
func simSetup(t *testing.T, records [][]byte) (out []string) {
	t.Helper()
	for _, b := range records {
		if b[3] == 0x12 {
			continue // it has a locator of its own
		}
		out = append(out, fmt.Sprintf("main_sdr_add 0x20 % #x", b))
	}
	out = append(out, "sensor_add 0x20 0 0x01 0x09 0x6f", "sensor_set_bit 0x20 0 0x01 0 1 0")
	for _, s := range []struct{ number, kind, value int }{{0x30, 1, 0xfd}, {0x31, 1, 93}, {0x32, 0x0b, 128}, {0x33, 4, 77}} {
		out = append(out, fmt.Sprintf("sensor_add 0x20 0 %#x %#x 1", s.number, s.kind), fmt.Sprintf("sensor_set_value 0x20 0 %#x %#x 0", s.number, s.value))
	}
	return append(out,
		"sel_add 0x20 0x02 0x00 0x10 0x40 0x69 0x20 0x00 0x04 0x01 0x30 0x01 0x59 0x2e 0x2d",
		"sel_add 0x20 0x02 0x05 0x10 0x40 0x69 0x20 0x00 0x04 0x01 0x30 0x81 0x59 0x2c 0x2d",
		"sel_add 0x20 0x02 0x07 0x10 0x40 0x69 0x20 0x00 0x04 0x0c 0x77 0x6f 0xa1 0x02 0xff")
}

// TestRichInterop reads log and sensors of our BMC and of a foreign one, and holds
// what it reads against what ipmitool does.
func TestRichInterop(t *testing.T) {
	ours := richBMC()
	ref := startRef(t, ours)
	ours.LogEvent(1, 0x30, 0x01, [3]byte{0x59, 46, 45})
	ours.LogEvent(1, 0x30, 0x81, [3]byte{0x59, 44, 45})
	ours.LogEvent(0x0c, 0x77, 0x6f, [3]byte{0xa1, 0x02, 0xff})
	peers := map[string]func(t *testing.T) netip.AddrPort{
		"refbmc": func(*testing.T) netip.AddrPort { return ref.addr },
		"ipmi_sim": func(t *testing.T) netip.AddrPort {
			return startSim(t, "", simSetup(t, rawRecords(t, endpoint(ref.addr)))...)
		},
	}
	for name, start := range peers {
		t.Run(name, func(t *testing.T) {
			addr := start(t)
			var c Client
			l, err := c.EventLog(t.Context(), endpoint(addr))
			if err != nil {
				t.Fatal(err)
			}
			sameLog(t, l, ipmitool(t, addr, "sel", "elist"))
			got, err := c.Sensors(t.Context(), endpoint(addr))
			if err != nil {
				t.Fatal(err)
			}
			sameSensors(t, got, ipmitool(t, addr, "-c", "sdr", "list", "full"))
		})
	}
}

// sameLog compares IDs, times, sensors and directions with those of sel elist.
func sameLog(t *testing.T, l EventLog, printed string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	if len(l.Entries) < 3 || len(lines) != len(l.Entries) {
		t.Fatalf("%d entries; ipmitool prints %d:\n%s", len(l.Entries), len(lines), printed)
	}
	for i, e := range l.Entries {
		f := strings.Split(lines[i], "|")
		for j := range f {
			f[j] = strings.TrimSpace(f[j])
		}
		direction := map[bool]string{true: "Asserted", false: "Deasserted"}[e.Asserted]
		id, _ := strconv.ParseUint(f[0], 16, 16)
		sameTime := (f[1] == e.Time.Format("01/02/06") || f[1] == e.Time.Format("01/02/2006")) && strings.HasPrefix(f[2], e.Time.Format("15:04:05"))
		if f[1] == "Pre-Init" {
			sameTime = f[2] == fmt.Sprintf("%010d", int(e.SinceUp.Seconds()))
		}
		if uint16(id) != e.ID || !sameTime || f[3] != e.Type+" "+e.Sensor || !slices.Contains(f, direction) {
			t.Errorf("entry %+v; ipmitool prints %q", e, lines[i])
		}
	}
	if first, last := l.Entries[0], lines[0]; !strings.Contains(last, "46") || !strings.Contains(first.Detail, "reading 46, limit 45") {
		t.Errorf("detail %q; ipmitool prints %q", first.Detail, last)
	}
}

// sameSensors compares names, values and what is wrong with sdr list.
func sameSensors(t *testing.T, got Sensors, printed string) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(printed)).ReadAll()
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	n := 0
	for _, s := range got.Readings {
		i := slices.IndexFunc(rows, func(row []string) bool { return row[0] == s.Name })
		if i < 0 {
			continue // no full record
		}
		n++
		row := rows[i]
		if s.Value == nil {
			if row[1] != "" && row[1] != "no reading" && row[len(row)-1] != "ns" {
				t.Errorf("%s has no value; ipmitool prints %q", s.Name, row)
			}
			continue
		}
		if theirs, err := strconv.ParseFloat(row[1], 64); err != nil || theirs != *s.Value {
			t.Errorf("%s = %g; ipmitool prints %q", s.Name, *s.Value, row)
		}
		if (s.Health == "OK") != (row[3] == "ok") {
			t.Errorf("%s is %s; ipmitool prints %q", s.Name, s.Health, row)
		}
	}
	if n != 4 || got.Inlet == nil || *got.Inlet != -3 || got.Watts == nil || *got.Watts != 5120 {
		t.Errorf("%d numeric sensors, inlet %v, watts %v; want 4, -3, 5120; ipmitool prints\n%s", n, got.Inlet, got.Watts, printed)
	}
}

// TestFreeIPMI has FreeIPMI's tools read our BMC: they are stricter than ipmitool.
func TestFreeIPMI(t *testing.T) {
	b := richBMC()
	r := startRef(t, b)
	b.LogEvent(1, 0x30, 0x01, [3]byte{0x59, 46, 45})
	tests := []struct {
		tool string
		args []string
		want []string
	}{
		{"ipmi-sel", []string{"--comma-separated-output"}, []string{"Inlet Temp,Temperature,Upper Critical - going high ; Sensor Reading = 46.00 C ; Threshold = 45.00 C"}},
		{"ipmi-sensors", []string{"--comma-separated-output"}, []string{"Power Unit,Power Unit,N/A,N/A,'Power Off/Power Down'", "Inlet Temp,Temperature,-3.00,C,'OK'",
			"GPU1 Temp,Temperature,93.00,C,'At or Above (>=) Upper Critical Threshold'", "Total Power,Other Units Based Sensor,5120.00,W,'OK'", "FAN 1,Fan,N/A,RPM,N/A"}},
		{"ipmi-fru", nil, []string{"FRU Board Serial Number: SN0042-B", "FRU Product Serial Number: SN0042"}},
		{"ipmi-dcmi", []string{"--get-system-power-statistics"}, []string{"Current Power                        : 5120 Watts", "Power Measurement                    : Active"}},
	}
	for _, tt := range tests {
		bin, err := exec.LookPath(tt.tool)
		if err != nil {
			t.Skip("needs " + tt.tool + " (Debian package freeipmi-tools)")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		args := append(tt.args, "-h", r.addr.String(), "-D", "LAN_2_0", "-I", "17", "-l", "OPERATOR", "-u", testUser, "-p", plantedPassword)
		if tt.tool != "ipmi-dcmi" {
			args = append(args, "--sdr-cache-directory="+t.TempDir(), "--quiet-cache")
		}
		cmd := exec.CommandContext(ctx, bin, args...)
		out, err := cmd.CombinedOutput()
		cancel()
		for _, want := range tt.want {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v; want %q in\n%s", tt.tool, err, want, out)
			}
		}
	}
}
