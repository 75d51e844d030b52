package bmc

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"firstlight/inventory"
)

// simScript is what ipmi_sim runs to power its machine and set its boot device:
// "get NAME..." prints NAME:VALUE lines, "set NAME VALUE..." keeps them. A machine
// that is stuck ignores its power.
const simScript = `#!/bin/sh
cd "$(dirname "$0")/values" || exit 1
op=$1
shift
while [ $# -gt 0 ]; do
	if [ "$op" = get ]; then
		echo "$1:$(cat "$1")"
		shift
	elif [ "$1" = power ] && [ -e stuck ]; then
		shift 2
	else
		echo "$2" >"$1"
		[ "$1" = shutdown ] && echo 0 >power
		shift 2
	fi
done
`

// simConfig is what an ipmi_sim has beside the defaults.
type simConfig struct {
	kg       string // its key K_g; "": it has none
	lan      string // lines of its lan.conf
	password string // "": plantedPassword
	commands string // that set it up further, a line each
}

// writeSim writes what ipmi_sim reads.
func writeSim(t *testing.T, dir string, port uint16, serialPort int, c simConfig) {
	t.Helper()
	kg := ""
	if c.kg != "" {
		kg = fmt.Sprintf("bmc_key \"%s\"\n", c.kg)
	}
	conf := fmt.Sprintf(`name "sim"
set_working_mc 0x20
startlan 1
addr 127.0.0.1 %d
priv_limit admin
allowed_auths_admin md5
guid a123456789abcdefa123456789abcdef
%sendlan
%schassis_control "%s"
serial 15 127.0.0.1 %d codec VM
user 2 true "%s" "%s" admin 10 md5
`, port, kg, c.lan, filepath.Join(dir, "chassis"), serialPort, testUser, c.password)
	const emu = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n"
	for name, text := range map[string]string{"lan.conf": conf, "sim.emu": emu + c.commands + "\n", "chassis": simScript,
		"values/power": "0\n", "values/boot": "none\n", "state/.keep": ""} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// startSim runs OpenIPMI's simulated BMC until the test ends. kg is its key K_g;
// "": it has none. more are commands that set it up further.
func startSim(t *testing.T, kg string, more ...string) netip.AddrPort {
	t.Helper()
	return runSim(t, simConfig{kg: kg, commands: strings.Join(more, "\n")}).addr
}

// startSimWith is startSim with lines of its lan.conf.
func startSimWith(t *testing.T, lan string) netip.AddrPort {
	t.Helper()
	return runSim(t, simConfig{lan: lan}).addr
}

// sim is a running ipmi_sim.
type sim struct {
	addr netip.AddrPort
	dir  string // its files; see simScript
	cmd  *exec.Cmd
}

func runSim(t *testing.T, c simConfig) *sim {
	t.Helper()
	if c.password == "" {
		c.password = plantedPassword
	}
	bin, err := exec.LookPath("ipmi_sim")
	if err != nil {
		t.Skip("needs ipmi_sim (Debian package openipmi)")
	}
	dir := t.TempDir()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0") // for its virtual machine, which does not come
	if err != nil {
		t.Fatal(err)
	}
	addr := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	writeSim(t, dir, addr.Port(), tcp.Addr().(*net.TCPAddr).Port, c)
	udp.Close()
	tcp.Close()
	cmd := exec.Command(bin, "-c", "lan.conf", "-f", "sim.emu", "-s", "state")
	cmd.Dir = dir
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd.Stdout = said
	if _, err := cmd.StdinPipe(); err != nil { // its end would be that of ipmi_sim
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var looks Client
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		ep := endpoint(addr)
		ep.KG, ep.Password = inventory.Secret(c.kg), inventory.Secret(c.password)
		_, err := looks.Power(t.Context(), ep)
		if err == nil {
			return &sim{addr, dir, cmd}
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("ipmi_sim does not serve: %v", err)
		}
	}
}

// events are the power actions and restarts that it has accepted, by its own
// record: it must have been told "debug msg". What the client sent again, because
// no reply came in time, counts once.
func (s *sim) events(t *testing.T) (out []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{"0x0 0x2 00": "power-off", "0x0 0x2 01": "power-on", "0x0 0x2 02": "power-cycle", "0x0 0x2 03": "reset", "0x0 0x2 05": "soft-off"}
	var last []string
	for _, m := range simAccepted.FindAllStringSubmatch(strings.ReplaceAll(string(raw), "\r", ""), -1) {
		kind, ok := kinds[m[1]+" "+m[2]+" "+m[4]]
		if m[1] == "0x6" && m[2] == "0x2" {
			kind, ok = "bmc-reset", true
		}
		if ok && !slices.Equal(last, m[1:]) {
			out = append(out, kind)
		}
		last = m[1:]
	}
	return out
}

// powered is the machine's own word.
func (s *sim) powered(t *testing.T) bool {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dir, "values", "power"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw)) == "1"
}

// stick makes the machine ignore its power.
func (s *sim) stick(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "values", "stuck"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// freeze stops the BMC: nothing is answered, and what is sent is kept in its socket.
func (s *sim) freeze(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// simAccepted is a command with its number and data, and a reply that it was done.
var simAccepted = regexp.MustCompile(`netfn=(0x[0-9a-f]+) cmd=(0x[0-9a-f]+) .*\n rq_lun=\S+ rq_seq=(0x[0-9a-f]+)\n *([0-9a-f ]*?) *\nResponse message: \S+\n 00(?: |\n)`)
