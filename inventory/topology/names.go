package topology

import (
	"fmt"
	"strings"
)

// nameSwitches names every switch, and sees to it that no name is taken twice.
func (l *layout) nameSwitches() {
	taken := make(map[string]string, len(l.spec.Nodes))
	for _, n := range l.spec.Nodes {
		if taken[n.Name] != "" {
			l.problem("nodes", "node %q is listed twice", n.Name)
			return
		}
		taken[n.Name] = "a node"
	}
	for _, a := range l.spec.Appliances {
		if who := taken[a.Name]; who != "" {
			l.problem("appliance", "the appliance's name %q is that of %s too", a.Name, who)
			return
		}
		taken[a.Name] = "an appliance"
	}
	for i, devices := range [][]*device{l.leaves, l.spines, l.cores} {
		if len(devices) == 0 {
			continue
		}
		t := l.tiers()[i]
		pattern := t.Name
		if pattern == "" {
			pattern = t.role + "-%02d"
		}
		if problem := nameTier(devices, pattern, t.role, taken); problem != "" {
			l.problem(t.role+".name", "%s", problem)
		}
	}
}

// nameTier names one tier's switches after a pattern.
func nameTier(devices []*device, pattern, role string, taken map[string]string) string {
	for i, d := range devices {
		d.Name = fmt.Sprintf(pattern, i+1)
		if strings.Contains(d.Name, "%!") {
			return fmt.Sprintf("%q is no pattern for names: write one %%d, as %q", pattern, role+"-%02d")
		}
		if who := taken[d.Name]; who != "" {
			return fmt.Sprintf("the pattern %q names %s, which is %s already", pattern, d.Name, who)
		}
		taken[d.Name] = "a switch"
	}
	return ""
}
