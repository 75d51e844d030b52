package provision

import (
	"slices"
	"strings"

	"firstlight/inventory"
)

// Rung is one way of getting a node to boot over the network past a BMC, or a
// firmware, that does not do as it says. Its text is what is stored.
type Rung string

// The rungs, the least disruptive first.
const (
	RungOnce       Rung = "once"           // a boot override for one boot
	RungPersistent Rung = "persistent"     // a boot override for every boot
	RungOther      Rung = "other-protocol" // the same, by the other protocol declared for the BMC
	RungBMCReset   Rung = "bmc-reset"      // restart the BMC, then the override again
	RungOutlet     Rung = "outlet"         // switch the node's PDU outlets off and on, then the override again
)

// Does says what a rung does, as part of a sentence.
func (r Rung) Does() string {
	switch r {
	case RungOnce:
		return "a boot override for one boot"
	case RungPersistent:
		return "a boot override for every boot"
	case RungOther:
		return "its BMC's other protocol"
	case RungBMCReset:
		return "a restart of its BMC"
	case RungOutlet:
		return "its PDU outlets off and on"
	}
	return string(r)
}

// prepared says that something is done to the node's BMC or its power before the
// override is set.
func (r Rung) prepared() bool { return r == RungBMCReset || r == RungOutlet }

// Recipe is the ladder that machines of one make are taken up. What a machine has
// no means for is left out of it.
type Recipe struct {
	Vendor, Product string // parts of what its hardware declares, without regard to case; "": any
	Ladder          []Rung
	Source          string
}

// Recipes are tried in this order; the last fits every machine.
func Recipes() []Recipe { return recipes }

var recipes = []Recipe{
	{Vendor: "Dell", Ladder: []Rung{RungPersistent, RungOther, RungBMCReset, RungOutlet},
		Source: "github.com/ironcore-dev/metal-operator issue 80: an iDRAC9 takes the override for one boot and boots its disk; github.com/dell/omnia pull request 3656 sets it for every boot"},
	{Vendor: "Supermicro", Ladder: []Rung{RungOnce, RungOther, RungPersistent, RungBMCReset, RungOutlet},
		Source: "github.com/bmc-toolbox/bmclib pull request 209: over IPMI the firmware of an X11 ignores the override by UEFI; github.com/redhat-performance/JetSki pull request 110: and at times one for one boot"},
	{Vendor: "OpenPOWER", Ladder: []Rung{RungOnce, RungPersistent, RungOther, RungOutlet},
		Source: "github.com/open-power/op-build issue 474: Cold Reset of the BMC starts the machine"},
	{Ladder: []Rung{RungOnce, RungPersistent, RungOther, RungBMCReset, RungOutlet},
		Source: "each rung costs more than the one before it"},
}

// RecipeOf is the recipe for a hardware class; nil is a machine of no class.
func RecipeOf(h *inventory.Hardware) Recipe {
	vendor, product := "", ""
	if h != nil {
		vendor, product = strings.ToLower(h.Vendor), strings.ToLower(h.Product)
	}
	i := slices.IndexFunc(recipes, func(r Recipe) bool {
		return strings.Contains(vendor, strings.ToLower(r.Vendor)) && strings.Contains(product, strings.ToLower(r.Product))
	})
	return recipes[i]
}

// LadderOf is what may be done to boot a node, in this order: what the inventory
// declares, else the recipe of its make, without what it has no means for, and no
// more than the tries that are declared.
func LadderOf(n *inventory.Node, s inventory.Settings) []Rung {
	rungs := RecipeOf(n.Hardware).Ladder
	if len(s.Ladder) > 0 {
		rungs = nil
		for _, r := range s.Ladder {
			rungs = append(rungs, Rung(r))
		}
	}
	var out []Rung
	for _, r := range rungs {
		switch {
		case r == RungOther && (n.BMC == nil || n.BMC.Other == nil):
		case r == RungOutlet && len(n.Outlets) == 0:
		default:
			out = append(out, r)
		}
	}
	if s.AttemptsDeclared && len(out) > s.Attempts {
		out = out[:max(s.Attempts, 1)]
	}
	return out
}

// implicitLadder is that of a step which names none, because it was not to boot
// the node, or was recorded before there were ladders.
var implicitLadder = []Rung{RungOnce, RungPersistent}

// ladder is what may be done to boot the node in the current step.
func (n *Node) ladder() []Rung {
	if len(n.Ladder) == 0 {
		return implicitLadder
	}
	return n.Ladder
}

// rung is where the node stands on its ladder.
func (n *Node) rung() Rung {
	l := n.ladder()
	return l[min(n.Rung, len(l)-1)]
}

// climbs moves the node to its next rung after a boot that failed; false: there
// is none, or it would not help. A boot that came to the boot services was not
// held up by the BMC: for it only the override's persistence is changed, because
// some firmware forgets one that is for one boot.
func (n *Node) climbs(stuck bool) bool {
	l := n.ladder()
	if n.Rung+1 >= len(l) || !stuck && l[n.Rung+1] != RungPersistent {
		return false
	}
	n.Rung++
	return true
}

// tried lists the rungs up to the one where the node stands.
func (n *Node) tried() string {
	var out []string
	for _, r := range n.ladder()[:min(n.Rung+1, len(n.ladder()))] {
		out = append(out, string(r))
	}
	return strings.Join(out, ", ")
}
