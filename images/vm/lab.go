// Package vm runs a rack of QEMU machines that behave like servers: UEFI
// firmware (OVMF) that boots from the network by PXE or from an NVMe disk,
// network cards on bridges inside a network namespace of their own, and a
// baseboard controller that answers IPMI over LAN and drives the power. It needs
// root, Linux, and Debian's qemu-system-x86 and ovmf packages.
package vm

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
)

// Lab is a rack of machines. Set the fields, then call Supervise.
type Lab struct {
	// Name tells labs on one host apart. The network namespace is
	// "firstlight-" plus the name.
	Name string
	// Dir takes the machines' disks and firmware variables, which live as long
	// as the lab. Supervise makes it when it is not there.
	Dir string
	// Logs is the directory of the serial console logs, NAME.log, which stay
	// when the lab goes down. Empty: they go to Dir and are removed with it.
	Logs string
	// Capture is the path of a packet capture (pcap) of one network, which stays
	// when the lab goes down. Empty: none.
	Capture string
	// CaptureNetwork is the network to capture. Empty: that of the first
	// machine's first NIC.
	CaptureNetwork string

	Networks []Network
	Machines []Machine
	Log      *slog.Logger // nil: silent
}

// Network is one bridge inside the namespace.
type Network struct {
	Name      string
	Interface string       // the bridge's name, at most 15 bytes; empty: Name
	Address   netip.Prefix // the controller's own address on it, with the network's length
}

// Machine is one server.
type Machine struct {
	Name         string
	Manufacturer string // SMBIOS system manufacturer; empty: "firstlight"
	Product      string // SMBIOS product name; empty: "lab"
	Serial       string // SMBIOS serial number
	Sockets      int    // 0: 1
	CPUs         int    // over all sockets; 0: 1
	MemoryBytes  int64  // at least 512 MiB
	DIMMs        int    // memory devices that SMBIOS reports; 0: as many as QEMU makes of it
	Disks        []Disk
	NICs         []NIC // the first one is the one that PXE boots from
	BMC          BMC
	// Faults are "ignore-boot-override" (the BMC accepts and reads back the
	// override and boots its default), "revert-boot-override" (it answers OK and
	// forgets it) and "dead-bmc" (it never answers).
	Faults []string
}

// Disk is an NVMe disk, empty when the lab comes up. Its file is sparse.
type Disk struct {
	Name   string
	Bytes  int64
	Serial string // at most 20 bytes
}

// NIC is a virtio network card.
type NIC struct {
	MAC     net.HardwareAddr
	Network string // name of a Network
}

// BMC is where a machine's baseboard controller answers, UDP port 623, and whom.
// The address lies in one of the lab's networks.
type BMC struct {
	Address  netip.Addr
	Username string
	Password string
}

// Faults that a machine can have.
const (
	FaultIgnoreBootOverride = "ignore-boot-override"
	FaultRevertBootOverride = "revert-boot-override"
	FaultDeadBMC            = "dead-bmc"
)

const (
	ipmiPort      = 623
	maxInterface  = 15  // IFNAMSIZ less its NUL
	maxSocketPath = 107 // sockaddr_un less its NUL
	// OVMF and a kernel with an initramfs do not fit in less.
	minMemoryBytes int64 = 512 << 20
	// The run directory is fixed, so that a lab is found by its name alone.
	runDir = "/run/firstlight"
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Namespace is the name of a lab's network namespace, as `ip netns` shows it.
func Namespace(name string) string { return "firstlight-" + name }

// Console is the unix socket of a machine's serial console. Any number of
// clients may connect to it at once; it stays while the machine is off.
func Console(lab, machine string) string {
	return filepath.Join(labDir(lab), machine+".console")
}

func labDir(name string) string { return filepath.Join(runDir, name) }

// ConsoleLog is the file that holds all that a machine wrote to its serial
// console since the lab came up.
func (l *Lab) ConsoleLog(machine string) string {
	if l.Logs != "" {
		return filepath.Join(l.Logs, machine+".log")
	}
	return filepath.Join(l.Dir, machine+".log")
}

func (n Network) bridge() string {
	if n.Interface != "" {
		return n.Interface
	}
	return n.Name
}

// Validate reports everything that would keep the lab from coming up, short of
// what only the host can tell.
func (l *Lab) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !nameForm.MatchString(l.Name) {
		bad("lab name %q: want letters, digits, dots and dashes", l.Name)
	}
	if l.Dir == "" {
		bad("lab %s has no directory for its disks", l.Name)
	}
	seen := uses{}
	networks := map[string]Network{}
	for _, n := range l.Networks {
		for _, other := range networks {
			if n.Address.IsValid() && other.Address.IsValid() && n.Address.Overlaps(other.Address) {
				bad("networks %s (%s) and %s (%s) overlap", other.Name, other.Address.Masked(), n.Name, n.Address.Masked())
			}
		}
		networks[n.Name] = n
		errs = append(errs, n.validate(seen))
	}
	for _, m := range l.Machines {
		if p := Console(l.Name, m.Name); len(p) > maxSocketPath {
			bad("machine %s: console socket %s is longer than the %d bytes a socket's path may have: shorten the lab's name", m.Name, p, maxSocketPath)
		}
		errs = append(errs, m.validate(networks, seen))
	}
	if l.CaptureNetwork != "" {
		if _, ok := networks[l.CaptureNetwork]; !ok {
			bad("capture of network %q: the lab has no such network", l.CaptureNetwork)
		}
	}
	return errors.Join(errs...)
}

// uses remembers who used what must be unique, as "mac 52:54:…".
type uses map[string]string

func (u uses) claim(what, who string) error {
	if first, ok := u[what]; ok {
		return fmt.Errorf("%s: %s is already that of %s", who, what, first)
	}
	u[what] = who
	return nil
}

func (n Network) validate(seen uses) error {
	who := "network " + n.Name
	var errs []error
	if b := n.bridge(); len(b) > maxInterface || !nameForm.MatchString(b) || b == "lo" {
		errs = append(errs, fmt.Errorf("%s: interface name %q: want letters, digits, dots and dashes, at most %d", who, b, maxInterface))
	}
	if !n.Address.IsValid() || !n.Address.Addr().Is4() {
		errs = append(errs, fmt.Errorf("%s: the controller's address %s: want IPv4 with a length, as 10.10.0.1/24", who, n.Address))
	}
	return errors.Join(append(errs,
		seen.claim("interface "+n.bridge(), who),
		seen.claim("address "+n.Address.Addr().String(), who))...)
}

func (m *Machine) validate(networks map[string]Network, seen uses) error {
	who := "machine " + m.Name
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(who+": "+format, args...))
	}
	if !nameForm.MatchString(m.Name) {
		bad("name %q: want letters, digits, dots and dashes", m.Name)
	}
	if m.MemoryBytes < minMemoryBytes {
		bad("memory of %d MiB is too little: firmware and installer need %d MiB", m.MemoryBytes>>20, minMemoryBytes>>20)
	}
	if s := max(m.Sockets, 1); max(m.CPUs, 1)%s != 0 {
		bad("%d CPUs do not divide over %d sockets", m.CPUs, s)
	}
	for i, n := range m.NICs {
		if _, ok := networks[n.Network]; !ok {
			bad("nic %d: the lab has no network %q", i, n.Network)
		}
		if len(n.MAC) != 6 || n.MAC[0]&1 != 0 {
			bad("nic %d: MAC %s: want six bytes, not a group address", i, n.MAC)
		}
		errs = append(errs, seen.claim("MAC "+n.MAC.String(), who))
	}
	for _, d := range m.Disks {
		if !nameForm.MatchString(d.Name) || d.Bytes < 1<<20 {
			bad("disk %q of %d bytes: want a name and at least 1 MiB", d.Name, d.Bytes)
		}
		if len(d.Serial) > 20 {
			bad("disk %s: serial %q is longer than NVMe's 20 bytes", d.Name, d.Serial)
		}
		errs = append(errs, seen.claim("disk "+m.Name+"/"+d.Name, who))
	}
	if _, ok := networkOf(m.BMC.Address, networks); !ok {
		bad("BMC address %s is in none of the lab's networks", m.BMC.Address)
	}
	for _, f := range m.Faults {
		if f != FaultIgnoreBootOverride && f != FaultRevertBootOverride && f != FaultDeadBMC {
			bad("unknown fault %q: want %s, %s or %s", f, FaultIgnoreBootOverride, FaultRevertBootOverride, FaultDeadBMC)
		}
	}
	return errors.Join(append(errs,
		seen.claim("name "+m.Name, who),
		seen.claim("address "+m.BMC.Address.String(), who))...)
}

// networkOf is the network that an address lies in.
func networkOf(a netip.Addr, networks map[string]Network) (Network, bool) {
	for _, n := range networks {
		if n.Address.IsValid() && n.Address.Masked().Contains(a) {
			return n, true
		}
	}
	return Network{}, false
}

func (m *Machine) has(fault string) bool {
	for _, f := range m.Faults {
		if f == fault {
			return true
		}
	}
	return false
}

// quoteOption doubles the commas of a value in a QEMU option list.
func quoteOption(s string) string { return strings.ReplaceAll(s, ",", ",,") }
