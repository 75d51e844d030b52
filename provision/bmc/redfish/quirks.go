package redfish

import (
	"encoding/json"
	"strings"

	"github.com/stmcginnis/gofish"

	"firstlight/provision/bmc"
)

// vendor is a make of BMC that is known to differ.
type vendor struct {
	name string // in the service root: its Vendor or Product, or a key of its Oem
	// moreLogins is how often a refused login, or a request refused right after a
	// login, is made again. Never more than one: accounts are locked from the
	// third refused login on, on the strictest BMCs, and this cycle is not alone.
	moreLogins int
	source     string
}

// vendors are matched in this order, without regard to case.
var vendors = []vendor{
	{name: "HPE", moreLogins: 1, source: "github.com/dsx-ai-factory/infra-controller pull request 69: iLO answers good credentials with 401 at times"},
	{name: "Hewlett Packard Enterprise", moreLogins: 1, source: "the same"},
	{name: "GB200", moreLogins: 1, source: "github.com/dsx-ai-factory/infra-controller pull request 5349: so do NVIDIA's GB200, GB300 and Vera Rubin"},
	{name: "GB300", moreLogins: 1, source: "the same"},
}

// vendorOf finds the make in the service root; the zero vendor when it is none
// of the table.
func vendorOf(root *gofish.Service) vendor {
	names := []string{root.Vendor, root.Product}
	var oem map[string]json.RawMessage
	if json.Unmarshal(root.OEM, &oem) == nil {
		for key := range oem {
			names = append(names, key)
		}
	}
	for _, v := range vendors {
		for _, name := range names {
			if strings.Contains(strings.ToLower(name), strings.ToLower(v.name)) {
				return v
			}
		}
	}
	return vendor{}
}

// bootRecipe is one way of writing the boot override.
type bootRecipe struct {
	name     string // as in "written to the system"
	settings bool   // to the resource of pending settings rather than to the system
	noMode   bool   // without BootSourceOverrideMode
	source   string
}

// bootRecipes are tried in this order until one reads back. All send the entity
// tag where there is one: AMI firmware refuses a PATCH without (gofish issue 171).
var bootRecipes = []bootRecipe{
	{name: "the system", source: "DMTF/Redfishtool pull request 106: Supermicro falls back to its default mode unless the mode is sent along"},
	{name: "the system's settings", settings: true, source: "DMTF/Redfish-Tacklebox issues 111 and 144: AMI wants it in /Systems/Self/SD"},
	{name: "the system without a mode", noMode: true, source: "ansible-collections/community.general issue 3509: HPE refuses a mode even if it is as it was"},
}

// resetWays are the ResetTypes of an action, the best first. PowerCycle is not
// everywhere, and a cycle is then off and on. FullPowerCycle is never used: it
// cuts the BMC's own power. A ForceRestart can cut the power of DPUs on some
// Lenovo machines, so that it serves reset only.
var resetWays = map[bmc.PowerAction][]string{
	bmc.ActionOn:    {"On", "ForceOn"},
	bmc.ActionOff:   {"ForceOff"},
	bmc.ActionSoft:  {"GracefulShutdown"},
	bmc.ActionCycle: {"PowerCycle"},
	bmc.ActionReset: {"ForceRestart"},
}

// outletParameters are the names of the parameter of Outlet.PowerControl, where a
// PDU does not say which it takes: PowerState in DSP0268's Outlet, and in what the
// PDUs of HPE Cray cabinets say (github.com/Cray-HPE/hms-capmc); OutletPowerState in the
// library's (gofish v0.23.0, Outlet.PowerControl).
var outletParameters = []string{"PowerState", "OutletPowerState"}

// placeholders stand in a serial number's place on boards that were never given
// one.
var placeholders = []string{"na", "n/a", "none", "null", "unknown", "not specified", "default string", "to be filled by o.e.m.", "0123456789"}

func known(text string) string {
	text = strings.TrimSpace(text)
	for _, p := range placeholders {
		if strings.EqualFold(text, p) {
			return ""
		}
	}
	return text
}

// baseboard says whether a resource is NVIDIA's GPU baseboard's, which is a
// computer system, a manager and a chassis of its own in Redfish, and answers
// 503 while the node is off.
func baseboard(uri string) bool {
	uri = strings.TrimRight(uri, "/")
	return strings.HasPrefix(uri[strings.LastIndexByte(uri, '/')+1:], "HGX_")
}
