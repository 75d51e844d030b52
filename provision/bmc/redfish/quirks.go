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
	{name: dell, source: "see bootRecipes"},
}

const dell = "Dell"

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
	only     string // on this make, and where the mode is as wanted already; "": everywhere
	source   string
}

// applies says whether the recipe is for a system of that make.
func (r bootRecipe) applies(v vendor, sys systemDoc, o bmc.Override) bool {
	mode := "Legacy"
	if o.EFI || o.Device == bmc.BootNone {
		mode = "UEFI"
	}
	switch {
	case r.settings && sys.Settings.SettingsObject.URI == "":
		return false // there is no such resource
	case r.only != "":
		return r.only == v.name && sys.Boot.Mode == mode
	}
	return !r.noMode || sys.Boot.Mode != "" // else no mode was sent in the first place
}

// bootRecipes are tried in this order until one reads back. All send the entity
// tag where there is one: AMI firmware refuses a PATCH without (gofish issue 171).
var bootRecipes = []bootRecipe{
	{name: "the system, its mode left as it is", noMode: true, only: dell,
		source: "github.com/ironcore-dev/metal-operator issue 81: an iDRAC9 makes a BIOS job of every mode that is written, and boots twice for it"},
	{name: "the system", source: "DMTF/Redfishtool pull request 106: Supermicro falls back to its default mode unless the mode is sent along"},
	{name: "the system's settings", settings: true, source: "DMTF/Redfish-Tacklebox issues 111 and 144: AMI wants it in /Systems/Self/SD"},
	{name: "the system without a mode", noMode: true, source: "ansible-collections/community.general issue 3509: HPE refuses a mode even if it is as it was"},
}

// resetWay is the ResetTypes of an action, the best first.
type resetWay struct {
	action bmc.PowerAction
	types  []string
	source string
}

// resetWays has every action. FullPowerCycle is in none: it cuts the BMC's own
// power (DSP0268, ResetType).
var resetWays = []resetWay{
	{bmc.ActionOn, []string{"On", "ForceOn"}, "DSP0268, ResetType: ForceOn where only that is offered"},
	{bmc.ActionOff, []string{"ForceOff"}, "DSP0268, ResetType"},
	{bmc.ActionSoft, []string{"GracefulShutdown"}, "DSP0268, ResetType"},
	{bmc.ActionCycle, []string{"PowerCycle"}, "DSP0268, ResetType; it is not offered everywhere, and a cycle is then off and on"},
	{bmc.ActionReset, []string{"ForceRestart"}, "github.com/dsx-ai-factory/infra-controller issue 347: on a Lenovo SR650 V4 it cuts the power of DPUs, so that it serves reset only, never a cycle"},
}

// waysTo are the ResetTypes of an action; nil: there is no such action.
func waysTo(a bmc.PowerAction) []string {
	for _, w := range resetWays {
		if w.action == a {
			return w.types
		}
	}
	return nil
}

// outletParameter is a name of the parameter of Outlet.PowerControl.
type outletParameter struct{ name, source string }

// outletParameters are tried in this order where a PDU does not say which it takes.
var outletParameters = []outletParameter{
	{"PowerState", "DSP0268, Outlet; and what the PDUs of HPE Cray cabinets say (github.com/Cray-HPE/hms-capmc)"},
	{"OutletPowerState", "gofish v0.23.0, Outlet.PowerControl"},
}

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
