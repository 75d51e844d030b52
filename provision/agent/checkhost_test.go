package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"firstlight/provision/burnin"
)

// bridge is the configuration space of a PCIe bridge whose second extended
// capability is ACS.
func bridge(control uint16) string {
	b := make([]byte, 4096)
	binary.LittleEndian.PutUint32(b[0x100:], 0x140<<20|1<<16|0x0001) // AER, next at 0x140
	binary.LittleEndian.PutUint32(b[0x140:], 0<<20|1<<16|acsCapability)
	binary.LittleEndian.PutUint16(b[0x146:], control)
	return string(b)
}

// smartLog is a log page.
func smartPage(warning, spare, used byte, errors uint64) string {
	b := make([]byte, 512)
	b[0], b[3], b[4], b[5] = warning, spare, 10, used
	binary.LittleEndian.PutUint64(b[160:], errors)
	return string(b)
}

// trainingNode has two GPUs, each on a PCIe switch with an adapter.
func trainingNode() tree {
	tr := node().with(tree{"sys/bus/pci/devices/0000:18:00.0": "", "dev/nvme0.smart": smartPage(0, 100, 3, 0),
		"sys/bus/pci/devices/0000:1a:00.0": "-> ../../../devices/pci0000:00/0000:1a:00.0", "sys/devices/pci0000:00/0000:1a:00.0/class": "0x010802\n",
		"sys/devices/pci0000:00/0000:1a:00.0/current_link_width": "4\n", "sys/devices/pci0000:00/0000:1a:00.0/max_link_width": "4\n",
		"sys/devices/pci0000:00/0000:1a:00.0/current_link_speed": "16.0 GT/s PCIe\n", "sys/devices/pci0000:00/0000:1a:00.0/max_link_speed": "16.0 GT/s PCIe\n",
		"sys/module/nvidia_peermem/refcnt": "0\n", "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15\n",
		"sys/kernel/iommu_groups/1/type": "identity\n"})
	for cpu := range 4 {
		tr[fmt.Sprintf("sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor", cpu)] = "performance\n"
	}
	for i := range 2 {
		root := fmt.Sprintf("0000:%d5:01.0", i+4)
		up := fmt.Sprintf("0000:%d6:00.0", i+4)
		base := fmt.Sprintf("sys/devices/pci0000:%d5/%s", i+4, root)
		link := func(address, path string) {
			tr["sys/bus/pci/devices/"+address] = "-> ../../../" + strings.TrimPrefix(path, "sys/")
			tr[path+"/class"] = "0x060400\n"
			tr[path+"/config"] = bridge(0x1d &^ acsRedirect)
		}
		link(root, base)
		link(up, base+"/"+up)
		for j, class := range []string{"0x030200", "0x020700"} {
			down := fmt.Sprintf("0000:%d7:0%d.0", i+4, j)
			address := fmt.Sprintf("0000:%d%d:00.0", i+4, 8+j)
			path := base + "/" + up + "/" + down + "/" + address
			link(down, base+"/"+up+"/"+down)
			link(address, path)
			tr[path+"/class"], tr[path+"/vendor"], tr[path+"/device"], tr[path+"/numa_node"] = class+"\n", "0x10de\n", "0x2335\n", fmt.Sprintf("%d\n", i)
			tr[path+"/current_link_width"], tr[path+"/max_link_width"] = "16\n", "16\n"
			tr[path+"/current_link_speed"], tr[path+"/max_link_speed"] = "32.0 GT/s PCIe\n", "32.0 GT/s PCIe\n"
			tr[path+"/iommu_group/type"] = "identity\n"
			if j == 1 {
				tr[fmt.Sprintf("%s/infiniband/mlx5_%d/node_guid", path, i)] = "0\n"
				tr[fmt.Sprintf("%s/infiniband/mlx5_%d/device", path, i)] = "-> ../../../" + address
				tr[fmt.Sprintf("sys/class/infiniband/mlx5_%d", i)] = "-> ../../" + strings.TrimPrefix(path, "sys/") + fmt.Sprintf("/infiniband/mlx5_%d", i)
			}
		}
	}
	return tr
}

func noGPUs(context.Context) burnin.Health { return burnin.Health{Library: "not asked"} }

func TestHostHealthy(t *testing.T) {
	seen := map[string]bool{}
	boot := healthyBoot()
	boot.ReadGPUs = noGPUs
	for _, c := range Check(t.Context(), trainingNode().fs(t), boot) {
		if seen[c.Name] = true; c.Name != "gpu.driver" && c.Verdict != pass {
			t.Errorf("%+v; want pass", c)
		}
		if c.Reading == "" || c.Threshold == "" || c.Source == "" || c.Part == "" {
			t.Errorf("%s lacks a field: %+v", c.Name, c)
		}
	}
	for _, name := range []string{"cpu.governor", "pcie.iommu", "pcie.acs", "pcie.numa", "pcie.affinity", "pcie.gpudirect", "memory.dimms", "pcie.links", "disk.nvme0n1.smart"} {
		if !seen[name] {
			t.Errorf("there is no check %s", name)
		}
	}
	for _, c := range Check(t.Context(), trainingNode().fs(t), healthyBoot()) {
		if c.Name == "pcie.acs" {
			t.Errorf("%+v, where GPUs were not asked for", c)
		}
	}
}

// Each fault turns exactly the check that is for it, and names the part.
func TestHostFaults(t *testing.T) {
	const gpu1 = "sys/devices/pci0000:55/0000:55:01.0/0000:56:00.0/0000:57:00.0/0000:58:00.0"
	const hca1 = "sys/devices/pci0000:55/0000:55:01.0/0000:56:00.0/0000:57:01.0/0000:59:00.0"
	const nvme = "sys/devices/pci0000:00/0000:1a:00.0"
	noGovernor := tree{}
	for cpu := range 4 {
		noGovernor[fmt.Sprintf("sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor", cpu)] = ""
	}
	short := bridge(0)[:64]
	loop := []byte(bridge(0))
	binary.LittleEndian.PutUint32(loop[0x100:], 0x100<<20|1<<16|0x0001)
	tests := []struct {
		fault   string
		change  tree
		check   string
		verdict string
		reading string // part of it
		part    string // part of it
	}{
		{"powersave", tree{"sys/devices/system/cpu/cpu2/cpufreq/scaling_governor": "powersave\n"}, "cpu.governor", fail, "powersave on cpu2", "cpupower"},
		{"no governor", noGovernor, "cpu.governor", notApplicable, "hypervisor", "CPUs"},
		{"translated", tree{gpu1 + "/iommu_group/type": "DMA-FQ\n"}, "pcie.iommu", fail, "DMA-FQ for 0000:58:00.0", "iommu=pt"},
		{"not known whether translated", tree{gpu1 + "/iommu_group/type": ""}, "pcie.iommu", notRun, "1 devices", "kernel"},
		{"no IOMMU", tree{"sys/kernel/iommu_groups/1/type": "", gpu1 + "/iommu_group/type": ""}, "pcie.iommu", pass, "off", "kernel"},
		{"ACS", tree{"sys/devices/pci0000:55/0000:55:01.0/0000:56:00.0/0000:57:00.0/config": bridge(0x1d)}, "pcie.acs", fail, "1 of 8 bridges", "0000:57:00.0"},
		{"not root", tree{"sys/devices/pci0000:55/0000:55:01.0/config": short}, "pcie.acs", notRun, "run as root", "bridges"},
		{"capabilities in a loop", tree{"sys/devices/pci0000:55/0000:55:01.0/config": string(loop)}, "pcie.acs", pass, "off in 8", "bridges"},
		{"GPU of no socket", tree{gpu1 + "/numa_node": "-1\n"}, "pcie.numa", fail, "nodes 0 -1", "0000:58:00.0"},
		{"one socket", tree{"sys/devices/system/node/online": "0\n"}, "pcie.numa", notApplicable, "one NUMA node", "GPUs"},
		{"adapter elsewhere", tree{hca1 + "/infiniband/mlx5_1/device": "-> /none"}, "pcie.affinity", fail, "GPU 0 mlx5_0", "0000:58:00.0"},
		{"no adapter at all", tree{"sys/class/infiniband/mlx5_0": "", "sys/class/infiniband/mlx5_1": ""}, "pcie.gpudirect", notApplicable, "no RDMA", "driver"},
		{"no peermem", tree{"sys/module/nvidia_peermem/refcnt": ""}, "pcie.gpudirect", fail, "neither", "modprobe nvidia_peermem"},
		{"dma-buf", tree{"sys/module/nvidia_peermem/refcnt": "", "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15\n"}, "pcie.gpudirect", pass, "dma-buf", "driver"},
		{"no driver", tree{"sys/module/nvidia_peermem/refcnt": "", "proc/driver/nvidia/version": ""}, "pcie.gpudirect", notRun, "cannot read", "driver"},
		{"a slower DIMM", tree{"sys/firmware/dmi/tables/DMI": string(dmi(system("HPE", "Cray XD670", "SN1"), dimm("A1", 0x7fff, 64<<10, 5600), dimm("A2", 0x7fff, 64<<10, 5600), dimm("A3", 0x7fff, 64<<10, 4800)))},
			"memory.dimms", fail, "2 of 65536 MiB at 5600 MT/s, A3 of 65536 MiB at 4800 MT/s", "DIMM A3"},
		{"narrow adapter", tree{hca1 + "/current_link_width": "8\n"}, "pcie.links", fail, "32.0 GT/s PCIe x8 of 32.0 GT/s PCIe x16", "0000:59:00.0"},
		{"slow disk", tree{nvme + "/current_link_speed": "8.0 GT/s PCIe\n"}, "pcie.links", fail, "8.0 GT/s PCIe x4 of 16.0", "0000:1a:00.0"},
		{"critical warning", tree{"dev/nvme0.smart": smartPage(4, 100, 3, 0)}, "disk.nvme0n1.smart", fail, "warning 0x04", "serial S1"},
		{"media errors", tree{"dev/nvme0.smart": smartPage(0, 100, 3, 2)}, "disk.nvme0n1.smart", fail, "2 media errors", "serial S1"},
		{"no spare", tree{"dev/nvme0.smart": smartPage(0, 10, 3, 0)}, "disk.nvme0n1.smart", fail, "spare 10 %", "serial S1"},
		{"worn out", tree{"dev/nvme0.smart": smartPage(0, 100, 104, 0)}, "disk.nvme0n1.smart", fail, "104 % used", "serial S1"},
		{"no SMART", tree{"dev/nvme0.smart": ""}, "disk.nvme0n1.smart", notRun, "no such file", "serial S1"},
		{"short SMART", tree{"dev/nvme0.smart": "x"}, "disk.nvme0n1.smart", notRun, "1 bytes", "serial S1"},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			found := false
			fs := trainingNode().with(tt.change).fs(t)
			for _, c := range fs.checkHost(gpus(fs.pci())) {
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

func FuzzHostBytes(f *testing.F) {
	f.Add([]byte(bridge(0x1d)))
	f.Add([]byte(smartPage(0, 100, 3, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, has, ok := acs(b); has && !ok {
			t.Error("a capability of what cannot be read")
		}
		if _, err := parseSMART(b); (err == nil) != (len(b) >= 512) {
			t.Errorf("parseSMART of %d bytes: %v", len(b), err)
		}
	})
}
