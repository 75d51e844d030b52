package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Every fault test runs the real program, as a process of its own, against a
// simulated rack: BMCs, firmware and agents on real sockets. The rack is in a
// network namespace that the test's process is started in; the controller is in
// another; nothing touches the host's network.

// faultCase is one test in namespaces of its own.
type faultCase struct {
	name  string
	alone bool // nothing else runs beside it: it measures
	run   func(t *testing.T)
}

func faultCases() []faultCase {
	return []faultCase{
		{name: "healthy", run: testHealthy},
		{name: "redfish", run: testRedfish},
		{name: "secrets", run: testSecrets},
		{name: "wrong bmc password", run: testWrongPassword},
		{name: "bmc does not answer", run: testSilentBMC},
		{name: "override ignored", run: testOverrideIgnored},
		{name: "one-time override ignored", run: testOneTimeOverrideIgnored},
		{name: "override reverted", run: testOverrideReverted},
		{name: "ladder", run: testLadder},
		{name: "ladder of two protocols", run: testLadderOfTwo},
		{name: "ladder with outlets", run: testLadderWithOutlets},
		{name: "kill on the ladder", run: testKillOnLadder},
		{name: "wrong mac", run: testWrongMAC},
		{name: "other hardware", run: testOtherHardware},
		{name: "image digest", run: testImageDigest},
		{name: "lost packets", run: testLostPackets},
		{name: "hang after loader", run: testHangAfterLoader},
		{name: "foreign dhcp client", run: testForeignClient},
		{name: "port in use", run: testPortInUse},
		{name: "stale plan", run: testStalePlan},
		{name: "two applies", run: testTwoApplies},
		{name: "kill", run: testKill},
		{name: "interrupt", run: testInterrupt},
		{name: "full disk", run: testFullDisk},
		{name: "power-on waves", run: testPowerOnWaves},
		{name: "fabric", run: testFabric},
		{name: "fabric not readable", run: testFabricNotReadable},
		{name: "burn-in", run: testBurnIn},
		{name: "gpu health", run: testGPUHealth},
		{name: "syntax errors", run: testSyntaxErrors},
		{name: "hundred nodes", alone: true, run: testHundredNodes},
	}
}

const (
	faultCaseEnv   = "FIRSTLIGHT_TEST_CASE"    // set in the process that runs one case
	faultBinaryEnv = "FIRSTLIGHT_TEST_PROGRAM" // the program under test
)

// TestFaults is a case in its own process when faultCaseEnv is set, and starts
// those processes otherwise.
func TestFaults(t *testing.T) {
	if name := os.Getenv(faultCaseEnv); name != "" {
		for _, c := range faultCases() {
			if c.name == name {
				c.run(t)
				return
			}
		}
		t.Fatalf("no case %q", name)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	if _, err := os.Stat("/usr/lib/ipxe/snponly.efi"); err != nil {
		t.Skip("needs ipxe (/usr/lib/ipxe/snponly.efi)")
	}
	program := buildProgram(t)
	for _, alone := range []bool{true, false} {
		for _, c := range faultCases() {
			if c.alone != alone {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				if !alone {
					t.Parallel()
				}
				inNamespaces(t, c.name, program)
			})
		}
	}
}

// buildProgram builds the program as it is released.
func buildProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "firstlight")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// inNamespaces runs one case in a process with a network and a mount namespace
// of its own, which end with it.
func inNamespaces(t *testing.T, name, program string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFaults$", "-test.v", "-test.timeout=180s")
	cmd.Env = append(os.Environ(), faultCaseEnv+"="+name, faultBinaryEnv+"="+program)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	text := string(out)
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, text)
	case strings.Contains(text, "--- SKIP"):
		t.Skip(strings.TrimSpace(text))
	case testing.Verbose():
		t.Log(strings.TrimSpace(text))
	}
}

// rackSpec is an inventory of n nodes to be written.
type rackSpec struct {
	nodes     int
	deadlines map[string]string // by state; the others get 30s
	attempts  int               // 0: 3; -1: not declared
	passwords map[int]string    // of the BMC of a node, by number, where it is another
	note      string            // a comment, to change the inventory by
	protocol  string            // of the BMCs; "": ipmi
	both      bool              // the BMCs are declared by Redfish as well
	outlets   bool              // two outlets a node, on two PDUs
	hardware  string            // blocks more of the hardware
	burn      string            // attributes of the acceptance's node block
	accept    string            // blocks more of the acceptance
	fabric    string            // switches and fabrics
}

const rackPassword = "rack-secret"

func nodeName(i int) string { return fmt.Sprintf("node-%d", i) }
func bmcAddr(i int) string  { return fmt.Sprintf("10.20.1.%d", i) }
func nodeAddr(i int) string { return fmt.Sprintf("10.10.1.%d", i) }
func nodeMAC(i int) string  { return fmt.Sprintf("52:54:00:10:00:%02x", i) }

// write writes the inventory: nodes.hcl and, for all that they share, rack.hcl.
func (s rackSpec) write(t *testing.T, dir string) {
	t.Helper()
	var deadlines strings.Builder
	for _, state := range []string{"reachable", "enrolled", "matched", "provisioned", "validated", "burned-in", "ready"} {
		d := s.deadlines[state]
		if d == "" {
			d = "30s"
		}
		fmt.Fprintf(&deadlines, "    %q = %q\n", state, d)
	}
	attempts := "  attempts    = 3\n"
	switch {
	case s.attempts > 0:
		attempts = fmt.Sprintf("  attempts    = %d\n", s.attempts)
	case s.attempts < 0:
		attempts = ""
	}
	writeFile(t, filepath.Join(dir, "rack.hcl"), fmt.Sprintf(rackText, s.note, attempts, deadlines.String(), rackPassword, s.hardware, s.burn, s.accept, s.fabric))
	var nodes strings.Builder
	for i := 1; i <= s.nodes; i++ {
		credential := "credential.bmc"
		if p := s.passwords[i]; p != "" {
			credential = fmt.Sprintf("credential.bmc%d", i)
			fmt.Fprintf(&nodes, "credential \"bmc%d\" {\n  username = \"admin\"\n  password = %q\n}\n", i, p)
		}
		other := ""
		if s.both {
			other = "\n    redfish {}"
		}
		if s.outlets {
			other += fmt.Sprintf(outletText, i, i)
		}
		protocol := s.protocol
		if protocol == "" {
			protocol = "ipmi"
		}
		fmt.Fprintf(&nodes, nodeText, nodeName(i), nodeName(i), bmcAddr(i), protocol, credential, other, nodeMAC(i), nodeAddr(i))
	}
	if s.outlets {
		nodes.WriteString(pduText)
	}
	writeFile(t, filepath.Join(dir, "nodes.hcl"), nodes.String())
	writeFile(t, filepath.Join(dir, "images", "compute", "image.hcl"), "packages = []\n")
}

const rackText = `# %s
cluster "faults" {}

lab "faults" {}

controller {
  concurrency = 200
%s  backoff     = "200ms"
  bmc_restart = "400ms"
  deadlines = {
%s  }
}

credential "bmc" {
  username = "admin"
  password = %q
}

network "oob" {
  cidr      = "10.20.0.0/22"
  interface = "oob"
  address   = "10.20.0.1"
}

network "provision" {
  cidr      = "10.10.0.0/22"
  interface = "provision"
  address   = "10.10.0.1"
  dhcp      = "full"
}

image "compute" {
  source = "./images/compute"
}

hardware "sim" {
  vendor  = "Acme"
  product = "Simulated 2U"
  cpu {
    sockets = 2
    cores   = 4
  }
  memory {
    total = "128GiB"
    dimms = 4
  }
  disk "scratch" {
    count     = 2
    size      = "7.68TB"
    transport = "nvme"
  }
%s}

acceptance "none" {
  node {%s}
%s}

rack "a01" {}
%s`

const nodeText = `node %q {
  rack       = rack.a01
  serial     = "SN-%s"
  hardware   = hardware.sim
  image      = image.compute
  acceptance = acceptance.none

  bmc {
    address    = %q
    protocol   = %q
    credential = %s%s
  }
  nic "boot" {
    mac     = %q
    network = network.provision
    address = %q
  }
}

`

// outletText follows the BMC block's last argument and leaves the block open
// again, for the end that nodeText has.
const outletText = `
  }
  outlet {
    pdu = pdu.left
    id  = "%d"
  }
  outlet {
    pdu = pdu.right
    id  = "%d"`

const pduText = `pdu "left" {
  address    = "10.20.2.1"
  credential = credential.bmc
}

pdu "right" {
  address    = "10.20.2.2"
  credential = credential.bmc
}
`

func writeFile(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
