package agent

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"firstlight/provision/agent/api"
)

// cpu counts sockets and cores by sysfs topology, and takes the model from
// /proc/cpuinfo ("model name" on x86; arm64 has none there).
func (fs FS) cpu() (api.CPU, error) {
	info, err := fs.read("proc/cpuinfo")
	if err != nil {
		return api.CPU{}, err
	}
	c := parseCPUInfo(string(info))
	sockets, cores, threads := map[string]bool{}, map[string]bool{}, 0
	for _, name := range fs.names("sys/devices/system/cpu") {
		if n, ok := strings.CutPrefix(name, "cpu"); !ok || strings.Trim(n, "0123456789") != "" || n == "" {
			continue
		}
		dir := "sys/devices/system/cpu/" + name + "/topology/"
		socket := fs.line(dir + "physical_package_id")
		if socket == "" { // an offline CPU has no topology
			continue
		}
		threads++
		sockets[socket] = true
		// core_id is unique within a die only, so the siblings name the core.
		core := fs.line(dir + "core_cpus_list")
		if core == "" {
			core = fs.line(dir + "thread_siblings_list")
		}
		cores[socket+"/"+core] = true
	}
	if threads > 0 {
		c.Sockets, c.Cores, c.Threads = len(sockets), len(cores), threads
	}
	return c, nil
}

// parseCPUInfo reads /proc/cpuinfo of x86.
func parseCPUInfo(text string) api.CPU {
	var c api.CPU
	sockets, cores, socket := map[string]bool{}, map[string]bool{}, ""
	for line := range strings.Lines(text) {
		k, v, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		v = strings.TrimSpace(v)
		switch strings.TrimSpace(k) {
		case "processor":
			c.Threads++
		case "model name":
			c.Model = strings.Join(strings.Fields(v), " ")
		case "physical id":
			socket = v
			sockets[v] = true
		case "core id":
			cores[socket+"/"+v] = true
		}
	}
	c.Sockets, c.Cores = len(sockets), len(cores)
	return c
}

// memTotal is MemTotal of /proc/meminfo in bytes.
func (fs FS) memTotal() (uint64, error) {
	b, err := fs.read("proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			n, err := strconv.ParseUint(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no MemTotal", fs.Path("proc/meminfo"))
}

// memory joins what the kernel has with the slots that SMBIOS lists.
func (fs FS) memory(table smbios) (api.Memory, error) {
	m := api.Memory{DIMMs: table.DIMMs, Slots: table.Slots, Source: "/proc/meminfo"}
	if table.Slots > 0 {
		m.Source = "SMBIOS type 17, /proc/meminfo"
	}
	var err error
	m.Total, err = fs.memTotal()
	return m, err
}

// cpuList reads a kernel list of numbers, "0-3,8", in order.
func cpuList(s string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		if part == "" {
			continue
		}
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 0 || b < a || b > 1<<16 {
			return nil, fmt.Errorf("%q is not a list of CPUs", s)
		}
		for n := a; n <= b; n++ {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}
