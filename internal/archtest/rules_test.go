package archtest

// rule allows one package to import others of this module. What no rule
// allows is forbidden, and a package without a rule fails the tests until
// somebody has thought about where it belongs.
type rule struct {
	pkg   string
	may   []edge // imported by the package
	tests []edge // imported by its tests, besides
}

// edge is one import and why it is right.
type edge struct {
	to  string
	why string
}

// rules is the import graph, from the top down.
var rules = []rule{
	{pkg: "cmd/firstlight", may: []edge{
		{"fabric", "the fabric verbs"},
		{"fabric/mad", "opens the local ports that fabric discover reads from"},
		{"images", "the image verb, and the catalogue that apply serves from"},
		{"images/vm", "the lab verb"},
		{"internal/simrack", "the lab of simulated nodes"},
		{"internal/simrack/fabricsim", "the lab fabric verb"},
		{"inventory", "every verb begins by reading one"},
		{"inventory/importer", "the import verb"},
		{"provision", "plan, apply, status"},
		{"provision/acceptance", "the signer and the report verb"},
		{"provision/agent/api", "wires the hub's reports to the engine"},
		{"provision/agent/hub", "serves the nodes' agents during apply"},
		{"provision/bmc", "the power verb; wired into the engine as its power"},
		{"provision/bmc/pacing", "leaf: prints the waves of a plan"},
		{"provision/bmc/redfish", "the same, for nodes whose BMC is declared to speak Redfish"},
		{"provision/console", "the serve verb"},
		{"provision/journal", "wired into the engine as its journal"},
		{"provision/netboot", "the boot services during apply"},
	}, tests: []edge{
		{"internal/ibsimtest", "the import and fabric verbs are tested on a simulated fabric"},
		{"internal/refbmc", "verbs are tested against a BMC that is ours"},
	}},
	{pkg: "cmd/firstlight-agent", may: []edge{
		{"fabric", "the probes that run on the node"},
		{"fabric/roce", "the node's Ethernet and RoCE state"},
		{"provision/agent", "its work on the node"},
		{"provision/agent/boot", "its life as the first process of an initramfs"},
		{"provision/burnin", "GPU health and load"},
	}},
	{pkg: "internal/simrack", may: []edge{
		{"internal/refbmc", "a simulated node's BMC"},
		{"internal/simrack/fabricsim", "the adapters of a node have the GUIDs that its simulated fabric gives them"},
		{"inventory", "what to simulate"},
		{"provision/agent", "simulated nodes run the real agent"},
		{"provision/agent/api", "and speak its protocol"},
	}},
	{pkg: "internal/simrack/fabricsim", may: []edge{
		{"fabric/mad", "simulated switches answer real datagrams"},
		{"inventory", "what to simulate"},
	}, tests: []edge{
		{"fabric", "reads what the tools print"},
		{"internal/ibsimtest", "runs the tools, and ibsim beside it"},
	}},
	{pkg: "provision", may: []edge{
		{"inventory", "what is wanted"},
		{"provision/acceptance", "the evidence that states are entered by"},
		{"provision/agent/api", "what agents report"},
		{"provision/bmc/pacing", "leaf: when machines may be switched on"},
	}, tests: []edge{
		{"provision/journal", "the engine is killed and replayed on the real journal"},
		{"provision/journal/journaltest", "the journal of the other tests is held to the same contract"},
	}},
	{pkg: "provision/journal", may: []edge{
		{"provision", "implements provision.Journal: its Event and its errors"},
	}, tests: []edge{
		{"provision/journal/journaltest", "the suite that it must pass"},
	}},
	{pkg: "provision/journal/journaltest", may: []edge{
		{"provision", "holds implementations of provision.Journal to its contract"},
	}},
	{pkg: "provision/console", may: []edge{
		{"inventory", "names and places of nodes"},
		{"provision", "states and events"},
		{"provision/acceptance", "reports"},
	}},
	{pkg: "provision/bmc", may: []edge{
		{"inventory", "a BMC's address and credential, with the line that declared it"},
		{"provision/bmc/pacing", "leaf: how many BMCs of a network are spoken to at once"},
	}, tests: []edge{
		{"internal/refbmc", "the BMC to talk to"},
		{"provision/bmc/bmctest", "the suite that it must pass"},
	}},
	{pkg: "provision/bmc/redfish", may: []edge{
		{"inventory", "leaf: the credential's secret, which does not print itself"},
		{"provision/bmc", "the terms and errors that both protocols have"},
	}, tests: []edge{
		{"internal/refbmc", "the events and the machine of a simulated BMC"},
		{"internal/simrack", "the BMC to talk to, with its faults"},
		{"provision/bmc/bmctest", "the suite that it must pass"},
	}},
	{pkg: "provision/netboot", may: []edge{
		{"inventory", "reservations, with the line that declared them"},
		{"provision/agent/api", "leaf: the boot id and token that a script hands to the agent"},
	}},
	{pkg: "provision/burnin", may: []edge{
		{"provision/acceptance", "leaf: its checks and verdicts"},
	}},
	{pkg: "provision/agent", may: []edge{
		{"fabric/roce", "the node's Ethernet and RoCE state"},
		{"provision/agent/api", "what both sides share"},
		{"provision/burnin", "GPU health and load"},
	}, tests: []edge{
		{"provision/agent/hub", "the agent is tested against the controller's side"},
	}},
	{pkg: "provision/agent/boot", may: []edge{
		{"provision/agent", "what the first process starts"},
		{"provision/agent/api", "the kernel command line's parameters"},
	}},
	{pkg: "provision/agent/hub", may: []edge{
		{"provision/agent/api", "what both sides share"},
	}, tests: []edge{
		{"provision/agent", "the hub is tested against the real agent"},
	}},
	{pkg: "images", may: []edge{
		{"inventory", "an image's source and pinned digest"},
		{"provision/agent/api", "leaf: what an initramfs tells the agent in it"},
	}, tests: []edge{
		{"images/vm", "a built image is booted"},
	}},
	{pkg: "images/vm", may: []edge{
		{"internal/refbmc", "each machine has a BMC"},
	}},
	{pkg: "fabric", may: []edge{
		{"fabric/mad", "how the fabric is read"},
		{"inventory", "the declared topology"},
		{"provision/acceptance", "its checks and verdicts"},
	}, tests: []edge{
		{"internal/ibsimtest", "reads what a foreign tool prints of a simulated fabric"},
	}},
	{pkg: "inventory/importer", may: []edge{
		{"inventory", "the language it writes, and its spellings; a fabric comes in the importer's own terms, so that it depends on no way of finding one"},
	}},
	{pkg: "fabric/roce"},
	{pkg: "inventory", may: []edge{
		{"inventory/topology", "leaf: the switches and cables that a fabric's topology block stands for"},
	}},
	// Leaves: the standard library and third parties only.
	{pkg: "examples/generate"},
	{pkg: "fabric/mad", tests: []edge{
		{"internal/ibsimtest", "the datagrams are exchanged with a foreign simulator"},
	}},
	{pkg: "internal/archtest"},
	{pkg: "internal/ibsimtest"},
	{pkg: "internal/refbmc"},
	{pkg: "inventory/topology"},
	{pkg: "provision/acceptance"},
	{pkg: "provision/bmc/bmctest"},
	{pkg: "provision/bmc/pacing"},
	{pkg: "provision/agent/api"},
}

// ban keeps a program free of what it would drag along, however far down.
type ban struct {
	pkg    string // of this module, with all its imports
	prefix string // import path
	why    string
}

var bans = []ban{
	{"cmd/firstlight-agent", "go.etcd.io/", "the agent travels in every initramfs: it must stay small"},
	{"cmd/firstlight-agent", "github.com/hashicorp/hcl", "the agent is told what to do; it reads no inventory"},
	{"cmd/firstlight-agent", "firstlight/inventory", "the agent is told what to do; it reads no inventory"},
	{"cmd/firstlight", "firstlight/provision/agent/boot", "the first process of an initramfs has no place in the controller"},
	{"cmd/firstlight", "github.com/NVIDIA/go-nvml", "needs cgo, and the controller is built without"},
	{"inventory/topology", "github.com/", "a layout follows from its nodes and switches alone: no HCL, no other library"},
	{"inventory/importer", "firstlight/fabric", "an inventory can be written of any fabric, however it was found"},
	{"inventory", "net/http", "reading an inventory touches no network"},
	{"provision/acceptance", "net/http", "evidence is judged and signed without a network"},
	{"provision/agent/api", "firstlight/", "both sides share it: it can lean on neither"},
}

// topLevel is what may lie at the top of the repository, besides names that
// begin with a dot.
var topLevel = []string{"cmd", "provision", "fabric", "images", "inventory", "examples", "internal", "docs",
	"go.mod", "go.sum", "Makefile", "README.md", "LICENSE"}
