package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"firstlight/provision/acceptance"
)

// vmLab is the two-node lab with both programs as they are released.
type vmLab struct {
	t       *testing.T
	program string
	dir     string
	console string // all that was run and what it said
}

// needLab skips where real machines cannot run, and says what is missing.
func needLab(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots virtual machines for a minute")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for _, tool := range []string{"qemu-system-x86_64", "apt-get", "mksquashfs", "ipmitool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
}

// newVMLab copies the example, as the lab "t"+pid, so that it can run beside
// the demo, and brings the lab up.
func newVMLab(t *testing.T) *vmLab {
	t.Helper()
	bin := t.TempDir()
	for _, p := range []string{"firstlight", "firstlight-agent"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(bin, p), "firstlight/cmd/"+p)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", p, err, out)
		}
	}
	l := &vmLab{t: t, program: filepath.Join(bin, "firstlight"), dir: filepath.Join(t.TempDir(), "site")}
	if err := os.CopyFS(l.dir, os.DirFS("../../examples/two-node-lab")); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(filepath.Join(l.dir, ".firstlight"))
	files, _ := filepath.Glob(filepath.Join(l.dir, "*.hcl"))
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		src = bytes.Replace(src, []byte(`lab "two-node-lab"`), fmt.Appendf(nil, `lab "t%d"`, os.Getpid()), 1)
		// A short burn-in, and room for it on a machine that emulates this one.
		src = bytes.Replace(src, []byte("  node {}\n"), []byte("  node {\n    gemm      = \"2s\"\n    hbm_sweep = true\n  }\n"), 1)
		src = bytes.Replace(src, []byte(`"burned-in" = "2m"`), []byte(`"burned-in" = "20m"`), 1)
		if err := os.WriteFile(f, src, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(l.end)
	l.cli(0, "lab", "up", l.dir)
	return l
}

// cli runs the program and holds its exit status.
func (l *vmLab) cli(want int, args ...string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.program, args...)
	out, err := cmd.CombinedOutput()
	l.console += fmt.Sprintf("$ firstlight %s\n%s\n", strings.Join(args, " "), out)
	code := 0
	var ex *exec.ExitError
	switch {
	case errors.As(err, &ex):
		code = ex.ExitCode()
	case err != nil:
		l.t.Fatalf("%s: %v", args, err)
	}
	if code != want {
		l.t.Fatalf("firstlight %s: exit status %d; want %d\n%s", strings.Join(args, " "), code, want, out)
	}
	return string(out)
}

// end takes the lab down, holds that nothing is left, and keeps what explains
// a failure.
func (l *vmLab) end() {
	if l.t.Failed() {
		l.t.Log(l.console)
		l.keepEvidence()
	}
	l.cli(0, "lab", "down", l.dir)
	name := fmt.Sprintf("firstlight-t%d", os.Getpid())
	if _, err := os.Stat("/run/netns/" + name); err == nil {
		l.t.Errorf("network namespace %s is left behind", name)
	}
	if _, err := os.Stat(fmt.Sprintf("/run/firstlight/t%d", os.Getpid())); err == nil {
		l.t.Errorf("the lab's run directory is left behind")
	}
	if out, err := exec.Command("pgrep", "-fa", fmt.Sprintf("guest=firstlight-t%d/", os.Getpid())).Output(); err == nil {
		l.t.Errorf("machines are left behind: %s", out)
	}
}

func (l *vmLab) keepEvidence() {
	to := os.Getenv("FIRSTLIGHT_TEST_EVIDENCE")
	if to == "" {
		for _, f := range []string{"logs/console/node-1.log", "logs/console/node-2.log", "logs/controller.log", "lab/supervisor.log"} {
			raw, err := os.ReadFile(filepath.Join(l.dir, ".firstlight", f))
			l.t.Logf("end of %s (%v):\n%s", f, err, raw[max(0, len(raw)-3000):])
		}
		return
	}
	for _, part := range []string{"logs", "report", "lab/boot.pcap"} {
		src := filepath.Join(l.dir, ".firstlight", part)
		if out, err := exec.Command("cp", "-r", src, to).CombinedOutput(); err != nil {
			l.t.Logf("keep %s: %v %s", src, err, out)
		}
	}
}

// TestBringUp takes two powered-off machines with real firmware to ready, and
// holds what the wire, a foreign IPMI client and the record say of it.
func TestBringUp(t *testing.T) {
	needLab(t)
	l := newVMLab(t)
	wantText(t, "power status before", l.cli(0, "power", "status", l.dir), "off: node-[1-2]")
	wantText(t, "plan before", l.cli(2, "plan", "-detailed-exitcode", l.dir), "Plan: 2 to bring up, 0 to change, 0 to remove. 2 power cycles, 0 disk erasures")
	wantText(t, "ipmitool before", l.ipmitool("10.20.0.11", "chassis", "power", "status"), "Chassis Power is off")

	wantText(t, "apply", l.cli(0, "apply", "-auto-approve", l.dir), "node-1: ready", "node-2: ready", "2/2 ready. Report: "+filepath.Join(l.dir, ".firstlight/report/index.html"))
	wantText(t, "plan after", l.cli(0, "plan", "-detailed-exitcode", l.dir), "No changes.")
	l.wantStatus()
	l.wantReport()
	l.wantFirmwarePath("52:54:00:10:00:01", "52:54:00:10:00:02")
	// The consoles were followed over the BMCs, from the firmware on.
	for _, name := range []string{"node-1", "node-2"} {
		log, err := os.ReadFile(filepath.Join(l.dir, ".firstlight", "logs", name, "console.log"))
		if err != nil {
			t.Fatal(err)
		}
		wantText(t, "console of "+name, string(log), "iPXE", "Linux version")
	}
	l.wantBadGPU()

	// A foreign client drives a BMC, and what it did is seen by ours.
	wantText(t, "ipmitool after", l.ipmitool("10.20.0.12", "chassis", "power", "status"), "Chassis Power is on")
	l.ipmitool("10.20.0.12", "chassis", "power", "off")
	wantText(t, "power status", l.cli(0, "power", "status", l.dir), "on: node-1", "off: node-2")
}

func (l *vmLab) ipmitool(address string, args ...string) string {
	l.t.Helper()
	return l.cli(0, append([]string{"lab", "exec", l.dir, "--", "ipmitool", "-I", "lanplus", "-C", "17", "-H", address, "-U", "admin", "-P", "firstlight-lab"}, args...)...)
}

func (l *vmLab) wantStatus() {
	l.t.Helper()
	var got struct {
		Nodes []struct{ Name, State, Power, Rack string }
	}
	if err := json.Unmarshal([]byte(l.cli(0, "status", "-json", l.dir)), &got); err != nil {
		l.t.Fatal(err)
	}
	for _, n := range got.Nodes {
		if n.State != "ready" || n.Power != "on" || n.Rack != "lab" {
			l.t.Errorf("status of %s = %+v; want ready, on, rack lab", n.Name, n)
		}
	}
	if len(got.Nodes) != 2 {
		l.t.Errorf("status lists %d nodes; want 2", len(got.Nodes))
	}
}

// wantReport holds that the report stands on evidence: what was read from the
// machine, with LAB on its face.
func (l *vmLab) wantReport() {
	l.t.Helper()
	page, err := os.ReadFile(filepath.Join(l.dir, ".firstlight/report/index.html"))
	if err != nil {
		l.t.Fatal(err)
	}
	wantText(l.t, "report page", string(page), "LAB", "FL-LAB-0001", "memory.dimms", "disks.root", "REFERENCE ENGINE", "by the reference engine")
	var got struct{ Nodes []acceptance.NodeReport }
	if err := json.Unmarshal([]byte(l.cli(0, "report", "-json", l.dir)), &got); err != nil {
		l.t.Fatal(err)
	}
	for _, n := range got.Nodes {
		proofs := map[string]acceptance.Evidence{}
		for _, span := range n.History {
			if span.Proof != nil {
				proofs[span.State] = *span.Proof
			}
		}
		for state, check := range map[string]string{"reachable": "bmc.serial", "enrolled": "boot.path", "matched": "system.serial", "provisioned": "image.root", "validated": "image.root", "burned-in": "burn-in.gemm.exact"} {
			ev := proofs[state]
			if i := slices.IndexFunc(ev.Checks, func(c acceptance.Check) bool { return c.Name == check }); i < 0 || ev.Checks[i].Verdict != acceptance.Pass {
				l.t.Errorf("%s: evidence for %s has no passed %s: %+v", n.Name, state, check, ev.Checks)
			}
		}
		if n.Record == "" {
			l.t.Errorf("%s has no signed record", n.Name)
		}
	}
}

// wantBadGPU burns node-1 in again with a fault in the GPU that it plays: it is
// quarantined, with the part and the reading named.
func (l *vmLab) wantBadGPU() {
	l.t.Helper()
	file := filepath.Join(l.dir, "lab.hcl")
	src, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, bytes.Replace(src, []byte("  memory = \"1GiB\"\n}"), []byte("  memory = \"1GiB\"\n  machine \"node-1\" {\n    gpu_fault = \"bit-flip\"\n  }\n}"), 1), 0o644)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	wantText(l.t, "burnin", l.cli(1, "burnin", "-auto-approve", "-target", "node-1", l.dir),
		"node-1: quarantined: burn-in.gemm.exact: found 1 wrong; the first in iteration 2", "XOR 00000010", "look at GPU 0, SM 3")
	if err := os.WriteFile(file, src, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// wantFirmwarePath holds, from the capture of the provisioning network, that
// each machine's firmware itself asked for a PXE boot, fetched the loader by
// TFTP, and that iPXE came after it.
func (l *vmLab) wantFirmwarePath(macs ...string) {
	l.t.Helper()
	packets, err := readCapture(filepath.Join(l.dir, ".firstlight/lab/boot.pcap"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, mac := range macs {
		firmware, tftp, ipxe := -1, -1, -1
		for i, p := range packets {
			if p.from != mac {
				continue
			}
			switch {
			case p.dport == 69 && tftp < 0 && bytes.Contains(p.payload, []byte("snponly.efi\x00octet")):
				tftp = i
			case p.dport == 67:
				d, err := dhcpv4.FromBytes(p.payload)
				if err != nil || d.MessageType() != dhcpv4.MessageTypeDiscover {
					continue
				}
				isX64 := slices.ContainsFunc(d.ClientArch(), func(a iana.Arch) bool { return a == iana.EFI_X86_64 || a == iana.EFI_BC })
				isIPXE := slices.ContainsFunc(d.UserClass(), func(c string) bool { return strings.Contains(c, "iPXE") }) || bytes.Contains(p.payload, []byte("iPXE"))
				if isX64 && !isIPXE && firmware < 0 && strings.HasPrefix(d.ClassIdentifier(), "PXEClient") {
					firmware = i
				}
				if isIPXE && ipxe < 0 {
					ipxe = i
				}
			}
		}
		if firmware < 0 || tftp < firmware || ipxe < tftp {
			l.t.Errorf("%s: firmware's DISCOVER is packet %d, the loader's TFTP read %d, iPXE's DISCOVER %d of %d; want them all, in this order", mac, firmware, tftp, ipxe, len(packets))
		}
	}
}
