// Package inventory reads a directory of HCL files that declares what the
// racks should be and returns it as a Cluster, or as diagnostics that name the
// file, line and column of every mistake.
package inventory

import (
	"fmt"
	"net"
	"net/netip"
	"sort"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Cluster is the whole declaration of one configuration directory.
// Every reference is resolved; every quantity is parsed.
type Cluster struct {
	Dir        string // the configuration directory, absolute
	Name       string // label of the cluster block
	Domain     string
	Settings   Settings
	Networks   map[string]*Network
	Images     map[string]*Image
	Hardware   map[string]*Hardware
	Acceptance map[string]*Acceptance
	Feeds      map[string]*Feed
	Racks      map[string]*Rack
	PDUs       map[string]*PDU
	// SwitchModels holds the built-in ones too.
	SwitchModels map[string]*SwitchModel
	Switches     []*Switch // declared ones and those of topologies, in natural order of name
	Fabrics      map[string]*Fabric
	Nodes        []*Node // in natural order of name: n2 before n10
	Lab          *Lab    // nil: metal

	// Digest names the declaration: the same inputs (files, files read by
	// functions, variable values) give the same digest. "sha256:<hex>". A
	// sensitive value enters it only through a keyed or one-way form.
	Digest string
}

// Node returns the node of that name, or nil.
func (c *Cluster) Node(name string) *Node {
	if i, ok := sort.Find(len(c.Nodes), func(i int) int { return natural(name, c.Nodes[i].Name) }); ok {
		return c.Nodes[i]
	}
	// A cluster made by hand need not be in order.
	for _, n := range c.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Settings are the controller's limits, from the controller block.
type Settings struct {
	Concurrency    int // nodes being brought up at once
	BMCConcurrency int // BMC conversations at once
	Attempts       int // tries of one transition before the node is failed
	// AttemptsDeclared: a boot is tried no more often either; else each rung of its
	// ladder once.
	AttemptsDeclared bool
	Ladder           []string                 // rungs, in order; nil: the recipe of the node's make
	BMCRestart       time.Duration            // how long a BMC that restarts is left alone
	Backoff          time.Duration            // pause before a retry; doubles, with a cap of 16 times
	Deadlines        map[string]time.Duration // by lifecycle state to be entered; absent: the lifecycle table's default
	PowerOnRate      float64                  // nodes switched on per second; 0: no limit
	PowerOnSettle    time.Duration            // how long a node counts as starting unless its agent calls home; 0: the longest deadline of a boot
	PowerMeasured    bool                     // what a node draws while it starts is what its BMC has measured, rather than the nameplate
	HTTPPort         int                      // boot and agent HTTP service
}

// Credential is a user name and where its secret is; the secret never prints.
// Of Password, PasswordFile and PasswordCommand one is declared. Password is
// empty when the sensitive variable behind it has no value, too: Load warns,
// plan does without, and whoever logs in must refuse.
type Credential struct {
	Name            string
	Username        string
	Password        Secret
	PasswordFile    string   // absolute; not read by Load
	PasswordCommand []string // a program and its arguments; not run by Load
	Range           hcl.Range

	PasswordRange hcl.Range // where the file or the command is declared, or the password
}

// Source names where the secret comes from, so that two declarations of one
// source compare equal: "" for a password that is declared itself.
func (c *Credential) Source() string {
	switch {
	case c.PasswordFile != "":
		return "file " + c.PasswordFile
	case len(c.PasswordCommand) > 0:
		return fmt.Sprintf("command %q", c.PasswordCommand)
	}
	return ""
}

// Network is one IPv4 network.
type Network struct {
	Name      string
	CIDR      netip.Prefix
	Gateway   netip.Addr // invalid when there is none
	DHCP      string     // "full", "proxy", "relay", or "" when firstlight serves no DHCP here
	Interface string     // the controller's interface on it; "" when the controller is not on it
	Address   netip.Addr // the controller's own address on it; default where it has an interface or DHCP: in a lab the gateway, else the first host address that is not the gateway
	Range     hcl.Range
}

// Image is an operating system image that nodes boot.
type Image struct {
	Name   string
	Source string // directory or manifest, absolute
	Method string // "netboot" or "disk"
	Digest string // pinned manifest digest, or ""
	Range  hcl.Range

	DigestRange hcl.Range // where the digest is pinned
}

// Hardware is what a healthy node of a class is. Zero means not declared, and
// what is not declared is not checked.
type Hardware struct {
	Name    string
	Vendor  string // SMBIOS system manufacturer
	Product string // SMBIOS product name
	Units   int    // rack units that a node takes
	Power   Power  // of one node, by its nameplate
	CPU     *CPU
	Memory  *Memory
	GPU     *GPU
	HCAs    []HCA
	Disks   []Disk
	Range   hcl.Range
}

// CPU counts processors: cores is physical cores over all sockets.
type CPU struct {
	Sockets int
	Cores   int
	Range   hcl.Range
}

// Memory is installed memory.
type Memory struct {
	Total Size
	DIMMs int
	Range hcl.Range
}

// GPU describes all GPUs of the class.
type GPU struct {
	Model   string
	PCIID   string // "vvvv:dddd", lower case
	Count   int
	Memory  Size // of one GPU
	NVLinks int  // of one GPU
	Range   hcl.Range
}

// HCA is one InfiniBand or RoCE adapter port of the class.
type HCA struct {
	Name    string // label: the RDMA device or rail name, as "ibn1"
	Rail    int
	Rate    LinkRate
	NearGPU int    // -1 when not declared
	Device  string // RDMA device name; the label when not declared
	PCI     string // its place on PCIe, "0000:18:00.0"; "" when not declared
	Range   hcl.Range
}

// Disk is a group of like disks.
type Disk struct {
	Name      string
	Count     int
	Size      Size // of one disk
	Transport string
	Range     hcl.Range
}

// Acceptance is the evidence a node needs before it is ready.
type Acceptance struct {
	Name   string
	Node   *NodeStage
	Rack   *RackStage
	Fabric *FabricStage
	Range  hcl.Range
}

// NodeStage is burn-in of one node. Zero durations: not asked for.
type NodeStage struct {
	GEMM     Duration
	HBMSweep bool
}

// RackStage is burn-in of a whole rack.
type RackStage struct {
	Soak Duration
}

// FabricStage is validation of the compute fabric.
type FabricStage struct {
	Pairwise     bool
	MinBandwidth Bandwidth
	Window       Duration // in which error counters are watched
}

// Feed is where racks have their power from: what stands behind one breaker.
type Feed struct {
	Name          string
	PowerBudget   Power // of all that it feeds; zero: not declared
	PowerOnBudget Power // of the nodes that are starting; zero: no limit
	Range         hcl.Range
}

// Rack is a rack. Height is in rack units; Row and Position are "" and 0 when
// not declared.
type Rack struct {
	Name          string
	Height        int
	PowerBudget   Power
	PowerOnBudget Power // of the nodes that are starting; zero: no limit
	Feeds         []*Feed
	Row           string
	Position      int
	Range         hcl.Range
}

// Node is a usable host.
type Node struct {
	Name       string
	Rack       *Rack // nil when not declared
	Unit       int   // rack unit, 0 when not declared
	Serial     string
	Hardware   *Hardware
	Image      *Image
	Acceptance *Acceptance
	BMC        *BMC
	NICs       []NIC
	HCAs       []NodeHCA
	Outlets    []Outlet // that all its power comes from; none when not declared
	Range      hcl.Range
}

// NodeHCA is what is declared of one node's own adapter: its node GUID (IBTA
// volume 1, 4.1.1), which no other port of the site has.
type NodeHCA struct {
	Name  string // of the HCA in the node's hardware
	GUID  GUID
	Range hcl.Range
}

// BootNIC is the NIC labelled "boot", else the first; nil when there is none.
func (n *Node) BootNIC() *NIC {
	for i := range n.NICs {
		if n.NICs[i].Name == "boot" {
			return &n.NICs[i]
		}
	}
	if len(n.NICs) > 0 {
		return &n.NICs[0]
	}
	return nil
}

// BMC is a node's baseboard controller.
type BMC struct {
	Address    netip.Addr
	Port       int    // UDP port of IPMI or TCP port of Redfish; the protocol's own by default
	Protocol   string // "ipmi" or "redfish"
	Credential *Credential
	Other      *BMC // the same controller by the other protocol; nil: it is declared by one only
	Range      hcl.Range
}

// By is the controller by a protocol; nil: it is not declared by it.
func (b *BMC) By(protocol string) *BMC {
	switch {
	case b == nil || b.Protocol == protocol:
		return b
	}
	return b.Other.By(protocol)
}

// BMCPort is a protocol's own port.
func BMCPort(protocol string) int {
	if protocol == "redfish" {
		return 443
	}
	return 623
}

// NIC is an Ethernet interface of a node.
type NIC struct {
	Name    string
	MAC     net.HardwareAddr
	Network *Network
	Address netip.Addr
	Range   hcl.Range
}

// Lab says how the declared nodes exist as virtual machines.
type Lab struct {
	Name     string
	CPUs     int // virtual CPUs per machine; default: the node's declared cores
	Memory   Size
	Machines map[string]*Machine // by node name; only the ones that differ from their declaration
	Range    hcl.Range
}

// Machine overrides, for one lab machine, what the declaration would give it:
// this is how a lab plays faulty metal.
type Machine struct {
	Node        string
	Serial      string
	MAC         net.HardwareAddr
	Disks       *int // total number of disks
	Memory      Size
	BMCPassword Secret
	Faults      []string // "ignore-boot-override", "revert-boot-override", "dead-bmc"
	GPUFault    string   // "bit-flip", …: of its GPU 0 in a burn-in; "": none
	Range       hcl.Range
}
