package agent

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"firstlight/provision/agent/api"
)

var healthyDigest = "sha256:" + strings.Repeat("ab", 32)

func healthyBoot() Boot {
	offset := 200 * time.Millisecond
	return Boot{MAC: "52:54:00:aa:00:01", ClockOffset: &offset, Kind: api.BootImage, RootDeclared: healthyDigest, RootMeasured: healthyDigest}
}

func TestCheckHealthy(t *testing.T) {
	checks := Check(context.Background(), node().fs(t), healthyBoot())
	if len(checks) != 16 {
		t.Errorf("%d checks; want 16", len(checks))
	}
	for _, c := range checks {
		if c.Verdict != pass {
			t.Errorf("%s = %s (%s); want pass", c.Name, c.Verdict, c.Reading)
		}
		if c.Reading == "" || c.Threshold == "" || c.Source == "" || c.Part == "" {
			t.Errorf("%s lacks a field: %+v", c.Name, c)
		}
	}
}

// Each fault turns exactly the check that is for it, and names the part.
func TestCheckFaults(t *testing.T) {
	kmsg := func(line string) tree { return tree{"dev/kmsg": "6,0,0,-;Linux version\n" + line + "\n"} }
	late, early := 6*time.Second, -6*time.Second
	tests := []struct {
		fault   string
		change  tree
		boot    func(*Boot)
		check   string
		verdict string
		reading string // part of it
		part    string // part of it
	}{
		{"machine check", kmsg("2,5,9,-;mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 7: 8c00004000010091"), nil, "kernel.machine-check", fail, "Bank 7", "CPU 3"},
		{"memory error", kmsg("4,5,9,-;EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#1_Chan#0_DIMM#0 (channel:0 slot:0)"), nil, "kernel.edac", fail, "1 CE", "CPU_SrcID#0_MC#1_Chan#0_DIMM#0"},
		{"PCIe error", kmsg("3,5,9,-;pcieport 0000:17:01.0: AER: Uncorrected (Non-Fatal) error received: 0000:18:00.0"), nil, "kernel.aer", fail, "Non-Fatal", "PCIe device 0000:17:01.0"},
		{"I/O error", kmsg("3,5,9,-;I/O error, dev nvme0n1, sector 2048 op 0x0:(READ)"), nil, "kernel.io-error", fail, "sector 2048", "disk nvme0n1"},
		{"hung task", kmsg("3,5,9,-;INFO: task kworker/0:1 blocked for more than 120 seconds."), nil, "kernel.hung-task", fail, "120 seconds", "kworker/0"},
		{"Xid", kmsg("4,5,9,-;NVRM: Xid (PCI:0000:9b:00): 119, pid=2024380, name=nvidia-smi, Timeout after 6s"), nil, "kernel.xid", fail, "119", "GPU 0000:9b:00"},
		{"Xid 79", kmsg("4,5,9,-;NVRM: Xid (PCI:0000:18:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."), nil, "kernel.xid", fail, "79", "GPU 0000:18:00"},
		{"Xid 48", kmsg("4,5,9,-;NVRM: Xid (PCI:0000:18:00): 48, pid=12, name=python, An uncorrectable double bit error (DBE) has been detected"), nil, "kernel.xid", fail, "48", "GPU 0000:18:00"},
		{"Xid 94", kmsg("4,5,9,-;NVRM: Xid (PCI:0000:18:00): 94, pid=12, name=python, Ch 00000008, errorString CTX SWITCH TIMEOUT"), nil, "kernel.xid", fail, "94", "GPU 0000:18:00"},
		{"Xid 131 is not 13", kmsg("4,5,9,-;NVRM: Xid (PCI:0000:18:00): 131, pid=12"), nil, "kernel.xid", fail, "131", "GPU 0000:18:00"},
		{"Xid of an application", kmsg("4,5,9,-;NVRM: Xid (PCI:0000:18:00): 31, pid=12, name=python, Ch 00000008, intr 00000000. MMU Fault"), nil, "kernel.xid", pass, "; 1 of applications", "GPU"},
		{"lost without an Xid", kmsg("4,5,9,-;NVRM: GPU at PCI:0000:18:00: GPU-8a56: NVRM: GPU 0000:18:00.0: GPU has fallen off the bus."), nil, "kernel.gpu-lost", fail, "fallen off", "GPU 0000:18:00"},
		{"SXid", kmsg("3,5,9,-;nvidia-nvswitch3: SXid (PCI:0000:85:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"), nil, "kernel.sxid", fail, "20034", "NVSwitch 0000:85:00.0"},
		{"log overwritten", tree{"dev/kmsg": "6,900,0,-;later\n"}, nil, "kernel.xid", notRun, "overwritten", "GPU"},
		{"no kernel log", tree{"dev/kmsg": ""}, nil, "kernel.xid", notRun, "no such file", "GPU"},
		{"cable out", tree{"sys/devices/pci0000:00/0000:19:00.0/net/eth0/carrier": "0\n"}, nil, "nic.boot.carrier", fail, "link down", "eth0"},
		{"bad cable", tree{"sys/devices/pci0000:00/0000:19:00.0/net/eth0/statistics/rx_errors": "7\n"}, nil, "nic.boot.errors", fail, "rx_errors 7", "eth0"},
		{"no counters", tree{"sys/devices/pci0000:00/0000:19:00.0/net/eth0/statistics/rx_errors": ""}, nil, "nic.boot.errors", notRun, "cannot read", "eth0"},
		{"boot NIC gone", nil, func(b *Boot) { b.MAC = "52:54:00:aa:00:02" }, "nic.boot.carrier", fail, "no interface", "52:54:00:aa:00:02"},
		{"clock ahead", nil, func(b *Boot) { b.ClockOffset = &late }, "clock.offset", fail, "+6.000s", "clock"},
		{"clock behind", nil, func(b *Boot) { b.ClockOffset = &early }, "clock.offset", fail, "-6.000s", "clock"},
		{"clock not compared", nil, func(b *Boot) { b.ClockOffset = nil }, "clock.offset", notRun, "no controller", "clock"},
		{"DIMM not trained", tree{"proc/meminfo": "MemTotal: 65536000 kB\n"}, nil, "memory.total", fail, "64000 MiB of 131072 MiB", "memory"},
		{"no SMBIOS", tree{"sys/firmware/dmi/tables/DMI": ""}, nil, "memory.total", notRun, "no DIMM", "memory"},
		{"CPU off", tree{"sys/devices/system/cpu/online": "0-1,3\n"}, nil, "cpu.online", fail, "3 of 4", "CPU 2"},
		{"socket without memory", tree{"sys/devices/system/node/has_memory": "0\n"}, nil, "numa.memory", fail, "1 of 2", "NUMA node 1"},
		{"disk shorter than it says", tree{"dev/nvme0n1": strings.Repeat("x", 3<<20)}, nil, "disk.nvme0n1.read", fail, "read at byte 3145728", "serial S1"},
		{"disk without node", tree{"dev/nvme0n1": ""}, nil, "disk.nvme0n1.read", notRun, "there is no", "serial S1"},
		{"disk of size 0", tree{"sys/devices/pci0000:00/0000:1a:00.0/nvme/nvme0/nvme0n1/size": "0\n"}, nil, "disk.nvme0n1.read", fail, "size 0", "serial S1"},
		{"wrong image", nil, func(b *Boot) { b.RootMeasured = "sha256:cd" }, "image.root", fail, "sha256:cd", "root"},
		{"image not measured", nil, func(b *Boot) { b.RootMeasured = "" }, "image.root", notRun, "not measured", "root"},
		{"no boot by firstlight", nil, func(b *Boot) { b.Kind = "" }, "image.root", notRun, "not made by firstlight", "root"},
		{"bring-up has no root", nil, func(b *Boot) { b.RootDeclared = "" }, "image.root", notApplicable, "no root", "root"},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			boot := healthyBoot()
			if tt.boot != nil {
				tt.boot(&boot)
			}
			found := false
			for _, c := range Check(context.Background(), node().with(tt.change).fs(t), boot) {
				if c.Name == tt.check {
					found = true
					if c.Verdict != tt.verdict || !strings.Contains(c.Reading, tt.reading) || !strings.Contains(c.Part, tt.part) {
						t.Errorf("%s = %+v; want %s, reading %q, part %q", tt.check, c, tt.verdict, tt.reading, tt.part)
					}
				} else if c.Verdict == fail {
					t.Errorf("%s fails too: %+v", c.Name, c)
				}
			}
			if !found {
				t.Errorf("there is no check %s", tt.check)
			}
		})
	}
}

func TestXidInRealLog(t *testing.T) {
	const path = "../../../shared/data/dmesg-xid-119.log"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Skip("needs dmesg-xid-119.log (recorded data of real hardware)")
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), "] ")
		lines = append(lines, text)
	}
	for _, s := range symptoms {
		c := s.judge(lines)
		if s.name == "kernel.xid" {
			if c.Verdict != fail || c.Part != "GPU 0000:9b:00" || !strings.Contains(c.Reading, "119") {
				t.Errorf("kernel.xid = %+v; want fail, GPU 0000:9b:00, 119", c)
			}
		} else if c.Verdict != pass {
			t.Errorf("%s = %+v; want pass", s.name, c)
		}
	}
}

func FuzzParseKmsg(f *testing.F) {
	f.Add("6,0,0,-;Linux\n KEY=v\n15,1,5,-;x\n")
	f.Add("6,;\n,,;\n;")
	f.Fuzz(func(t *testing.T, text string) {
		lines, first := parseKmsg(text)
		if first < 0 {
			t.Errorf("first = %d", first)
		}
		for _, s := range symptoms {
			s.judge(lines)
		}
	})
}

func TestParseArgs(t *testing.T) {
	const good = "quiet firstlight.controller=http://10.0.0.1:80/ firstlight.node=n1 firstlight.boot=b1 firstlight.kind=image firstlight.mac=52:54:00:AA:00:01"
	got, err := ParseArgs(good)
	want := Args{Controller: "http://10.0.0.1:80", Node: "n1", BootID: "b1", Kind: "image", MAC: "52:54:00:aa:00:01"}
	if got != want || err != nil {
		t.Errorf("ParseArgs = %+v, %v; want %+v", got, err, want)
	}
	for _, tt := range []struct{ in, want string }{
		{"quiet", "kernel command line: firstlight.controller is missing; firstlight.node is missing; firstlight.boot is missing; firstlight.kind is missing; firstlight.mac is missing"},
		{good + " firstlight.kind=disk", `kernel command line: firstlight.kind="disk" is neither "bring-up" nor "image"`},
		{good + " firstlight.root=sha256:12", `kernel command line: firstlight.root="sha256:12" is not sha256:<64 hex digits>`},
	} {
		if _, err := ParseArgs(tt.in); errText(err) != tt.want {
			t.Errorf("ParseArgs(%q) error = %q; want %q", tt.in, errText(err), tt.want)
		}
	}
}

func TestLogBufferKeepsTheTail(t *testing.T) {
	var b LogBuffer
	for range 3 {
		if _, err := b.Write([]byte(strings.Repeat("x", logKept/2))); err != nil {
			t.Fatal(err)
		}
	}
	if text, at := b.Bytes(); len(text) != logKept || at != logKept/2 {
		t.Errorf("Bytes = %d bytes from %d; want %d from %d", len(text), at, logKept, logKept/2)
	}
	if text, at := b.from(logKept, 10); len(text) != 10 || at != logKept {
		t.Errorf("from = %d bytes from %d; want 10 from %d", len(text), at, logKept)
	}
}

func TestVerdict(t *testing.T) {
	tests := []struct {
		verdicts []string
		want     string
	}{
		{[]string{pass, notApplicable}, pass}, {[]string{pass, notRun}, notRun},
		{[]string{notRun, fail, pass}, fail}, {[]string{"maybe"}, notRun}, {nil, notRun},
	}
	for _, tt := range tests {
		var r CheckReport
		for _, v := range tt.verdicts {
			r.Checks = append(r.Checks, api.Check{Verdict: v})
		}
		if got := r.Verdict(); got != tt.want {
			t.Errorf("Verdict of %q = %s; want %s", tt.verdicts, got, tt.want)
		}
	}
}
