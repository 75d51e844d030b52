package burnin

import (
	"fmt"

	"firstlight/provision/acceptance"
)

// SimulatedHealth is what a healthy node of a class would tell, for simulated
// nodes: nothing was asked, and the driver's version says so.
func SimulatedHealth(c Class, pcis []string) Health {
	h := Health{Version: HealthVersion, Engine: acceptance.EngineSimulated, Driver: Value{Text: "simulated: no GPU was asked"}, Interval: 1}
	for i, pci := range pcis {
		g := HealthGPU{Index: i, PCI: pci, First: map[Quantity]Value{}, Later: map[Quantity]Value{}}
		for _, k := range HealthChecks() {
			v := Value{Text: "simulated"}
			if k.Limit != nil {
				v.Number, _ = k.Limit(c, g)
				v.Text = ""
			}
			if k.Rule == noneOf {
				v.Number = 0
			}
			g.First[k.Reads] = v
		}
		g.First[GPUID], g.First[GPUSerial], g.First[PState] = Value{Text: c.ID}, Value{Text: fmt.Sprintf("SIM%d", i)}, Value{}
		// The checks before read what others hold theirs against.
		g.First[GPUBAR1], g.First[PowerEnforced] = g.First[GPUMemory], g.First[PowerDefault]
		for q, v := range g.First {
			if q.Counting() {
				g.Later[q] = v
			}
		}
		h.GPUs = append(h.GPUs, g)
	}
	return h
}
