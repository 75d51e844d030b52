// Package api is all that the controller and the on-node agent share: the
// messages of the agent's HTTP/JSON protocol and the paths they travel on.
package api

import (
	"encoding/json"
	"time"
)

// Paths on the controller's HTTP service. All but Hello need the header
// "Authorization: Bearer SESSION"; 401 says that the session is not one of
// this controller's, and the agent says hello again.
const (
	PathHello  = "/agent/v1/hello"  // POST Hello -> HelloReply; 403 when the token is wrong, used or of another node
	PathJob    = "/agent/v1/job"    // GET ?wait=25s&have=ID,ID -> Job, or 204 when there is none; `have` names the jobs that the agent works on, which are not handed out again meanwhile
	PathResult = "/agent/v1/result" // POST Result -> 204
	PathLog    = "/agent/v1/log"    // POST text?offset=N -> 204; written to the boot's log file at that offset
	PathReport = "/agent/v1/report" // POST Report -> 204
)

// What a boot is for.
const (
	BootBringUp = "bring-up" // the bring-up agent, from an initramfs
	BootImage   = "image"    // the node's declared image
)

// Kernel command line keys that the controller sets and the agent reads.
const (
	ArgController = "firstlight.controller" // base URL, http://10.10.0.1:8080
	ArgNode       = "firstlight.node"       // node name
	ArgBootID     = "firstlight.boot"       // identity of this boot, fresh for each power-on or reboot that the controller ordered
	ArgKind       = "firstlight.kind"       // BootBringUp or BootImage
	ArgMAC        = "firstlight.mac"        // MAC of the boot NIC
	ArgImage      = "firstlight.image"      // digest of the manifest booted, sha256:<hex>
	ArgRoot       = "firstlight.root"       // digest of the root file system to fetch, sha256:<hex>; absent for an initramfs-only image
)

// TokenPath is where the one-time token lies in the initramfs: delivered as a
// second, tiny initrd so that it is never on a command line.
const TokenPath = "/etc/firstlight/token"

// BlobPath is the URL path prefix under which the controller serves content by
// digest: BlobPath + "<hex of sha256>".
const BlobPath = "/blob/sha256/"

// Hello is the agent's first message of a boot.
type Hello struct {
	Node          string    `json:"node"`
	BootID        string    `json:"boot_id"`
	Kind          string    `json:"kind"`
	Token         string    `json:"token"` // one-time
	Nonce         string    `json:"nonce"` // chosen by the agent once a boot; a repeated Hello with the same nonce is the same Hello, not a second use of the token
	AgentVersion  string    `json:"agent_version"`
	KernelRelease string    `json:"kernel_release"`
	Image         string    `json:"image"`          // manifest digest, from the command line
	RootDigest    string    `json:"root_digest"`    // digest of the root file system as measured on the node; "" when there is none
	MACs          []string  `json:"macs"`           // all Ethernet addresses of the node
	Address       string    `json:"address"`        // its provisioning address
	UptimeSeconds float64   `json:"uptime_seconds"` // kernel uptime now
	Time          time.Time `json:"time"`           // the node's clock
}

// HelloReply admits the agent.
type HelloReply struct {
	Session string    `json:"session"` // bearer token of this boot
	Time    time.Time `json:"time"`    // the controller's clock
}

// Job kinds.
const (
	JobInspect  = "inspect"  // Result.Inspection
	JobCheck    = "check"    // Job.GPUs; Result.Checks
	JobBurnIn   = "burn-in"  // Job.BurnIn; Result.Checks and Result.BurnIn
	JobReboot   = "reboot"   // acknowledged before it is done
	JobPowerOff = "poweroff" // likewise
)

// Job is work for the agent. The same ID may be handed out again after a
// controller restart; the agent answers from memory and does not repeat it.
type Job struct {
	ID     string  `json:"id"` // without commas
	Kind   string  `json:"kind"`
	BurnIn *BurnIn `json:"burn_in,omitempty"` // of JobBurnIn
	GPUs   *GPUs   `json:"gpus,omitempty"`    // of JobCheck: that the node is declared to have; nil for none
}

// GPUs is what the inventory says of a node's GPUs. Zeros are not declared.
type GPUs struct {
	Count   int    `json:"count"`
	PCIID   string `json:"pci_id,omitempty"`  // 10de:2335
	Model   string `json:"model,omitempty"`   // as the driver has it
	Memory  int64  `json:"memory,omitempty"`  // of one, bytes
	NVLinks int    `json:"nvlinks,omitempty"` // of one
	Source  string `json:"source"`            // "hardware.hcl:11"
}

// BurnIn asks for burn-in stages, one after the other.
type BurnIn struct {
	Engine string        `json:"engine"` // "cuda", or "reference" where the node is no metal
	GPUs   int           `json:"gpus"`   // declared; with the reference engine, how many to play
	Seed   uint64        `json:"seed"`   // of the factors: equal seeds have equal results, on any node
	Stages []BurnInStage `json:"stages"`
	Fault  *BurnInFault  `json:"fault,omitempty"` // to be planted, in a lab
}

// BurnInFault is a GPU made faulty on purpose, for the reference engine: no other
// takes one.
type BurnInFault struct {
	Kind  string `json:"kind"` // "bit-flip", …: of package burnin
	GPU   int    `json:"gpu"`
	SM    int    `json:"sm"`
	After int    `json:"after"` // iterations that go well
	Bit   int    `json:"bit"`
}

// BurnInStage is one stage as the inventory declares it.
type BurnInStage struct {
	Name    string  `json:"name"` // gemm, hbm_sweep, soak
	Seconds float64 `json:"seconds,omitempty"`
	Source  string  `json:"source"` // "cluster.hcl:48"
}

// BurnInResult is what a burn-in leaves beside its checks.
type BurnInResult struct {
	Engine string `json:"engine"` // that computed
	// Data is a burnin.Burn as JSON: every GPU's rates and samples. The
	// controller files it and shows it.
	Data json.RawMessage `json:"data"`
}

// Result answers a Job.
type Result struct {
	JobID      string        `json:"job_id"`
	Kind       string        `json:"kind"`
	Error      string        `json:"error,omitempty"`
	Inspection *Inspection   `json:"inspection,omitempty"`
	Checks     []Check       `json:"checks,omitempty"`
	BurnIn     *BurnInResult `json:"burn_in,omitempty"`
}

// Check is one node-side health check, judged on the node.
type Check struct {
	Name      string `json:"name"`
	Verdict   string `json:"verdict"` // pass, fail, not-run, not-applicable
	Reading   string `json:"reading"`
	Threshold string `json:"threshold"`
	Source    string `json:"source"`
	Part      string `json:"part"`
}

// Report tells of something that happened outside a job.
type Report struct {
	Kind    string `json:"kind"` // ReportBootFailed
	Message string `json:"message"`
}

// ReportBootFailed: the agent could not carry on the boot, as when the root
// file system's digest is wrong. Message says why.
const ReportBootFailed = "boot-failed"

// ReportDigestMismatch: the root file system fetched is not the one the
// manifest names. Booting it again is no use.
const ReportDigestMismatch = "digest-mismatch"

// Inspection is what the agent found. Sizes are bytes. Empty strings and zero
// mean that the source did not say; Errors says what could not be read.
type Inspection struct {
	System   System            `json:"system"`
	CPU      CPU               `json:"cpu"`
	Memory   Memory            `json:"memory"`
	PCI      []PCIDevice       `json:"pci"`
	NICs     []NIC             `json:"nics"`
	RDMA     []RDMADevice      `json:"rdma"`
	Disks    []Disk            `json:"disks"`
	GPUs     []PCIDevice       `json:"gpus"` // display-class devices of vendor 10de and the like, by PCI id
	BMC      *BMC              `json:"bmc,omitempty"`
	BootMode string            `json:"boot_mode"` // "uefi" or "bios"
	Kernel   string            `json:"kernel"`
	Errors   map[string]string `json:"errors,omitempty"` // part -> why it could not be read
}

// System is SMBIOS type 1 (DMTF DSP0134 §7.2) and type 0.
type System struct {
	Vendor, Product, Serial, UUID string
	BIOSVersion                   string
}

// CPU is from /proc/cpuinfo and sysfs topology.
type CPU struct {
	Model   string
	Sockets int
	Cores   int // physical
	Threads int
}

// Memory is from SMBIOS type 17 and /proc/meminfo.
type Memory struct {
	Total  uint64 // bytes the kernel has
	DIMMs  []DIMM // populated slots
	Slots  int
	Source string
}

// Installed is the sum of the populated DIMMs.
func (m Memory) Installed() uint64 {
	var n uint64
	for _, d := range m.DIMMs {
		n += d.Size
	}
	return n
}

// DIMM is one populated slot.
type DIMM struct {
	Locator, Manufacturer, Part, Serial string
	Size                                uint64
	SpeedMTs                            int
}

// PCIDevice is one function of /sys/bus/pci/devices.
type PCIDevice struct {
	Address string // 0000:18:00.0
	ID      string // vvvv:dddd
	Class   string // 6 hex digits
	Driver  string
	Speed   string // current link speed, "32.0 GT/s PCIe"
	Width   int
	NUMA    int
}

// NIC is one Ethernet interface.
type NIC struct {
	Name, MAC, Driver, PCI string
	SpeedMbps              int // 0 unknown
	Carrier                bool
	Firmware               string
}

// RDMADevice is one of /sys/class/infiniband.
type RDMADevice struct {
	Name, NodeGUID, Firmware, PCI string
	Ports                         []RDMAPort
}

// RDMAPort is one port of an RDMA device.
type RDMAPort struct {
	Number                            int
	State, PhysState, Rate, LinkLayer string
}

// Disk is one whole block device that holds data.
type Disk struct {
	Name, Model, Serial, Transport string // Transport: nvme, sata, virtio, usb, mmc
	Size                           uint64
	Rotational                     bool
}

// BMC is the baseboard controller as seen in-band.
type BMC struct {
	ManufacturerID, ProductID int
	Firmware                  string
	Address, MAC              string // LAN channel 1
}
