package inventory

import (
	"fmt"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// checkHardware checks one class against itself.
func (ev *evaluator) checkHardware(in *inst) {
	hw, ok := in.obj.(*Hardware)
	if !ok {
		return
	}
	rails := newClaims[int](ev, "rail")
	devices := newClaims[string](ev, "device")
	slots := newClaims[string](ev, "PCI address")
	for _, b := range in.all("hca") {
		if r := get[int](b, "rail"); r > 0 {
			rails.take(r, r, claim{in, b, "rail"})
		}
		device := b.name
		if d := get[string](b, "device"); d != "" {
			device = d
		}
		devices.take(device, device, claim{in, b, "device"})
		if p := get[string](b, "pci"); p != "" {
			slots.take(p, p, claim{in, b, "pci"})
		}
		switch near := get[int](b, "near_gpu"); {
		case !b.has("near_gpu") || near < 0:
		case hw.GPU == nil:
			ev.errorAt(b.at("near_gpu"), in.each, "No such GPU", "%s is near GPU %d, and hardware %q declares no gpu.", capital(b.label()), near, hw.Name)
		case hw.GPU.Count > 0 && near >= hw.GPU.Count:
			ev.errorAt(b.at("near_gpu"), in.each, "No such GPU", "%s is near GPU %d, and hardware %q has GPUs 0 to %d (%s).", capital(b.label()), near, hw.Name, hw.GPU.Count-1, ev.place(hw.GPU.Range))
		}
	}
}

// checkAcceptance holds what nodes must prove against what they are.
func (ev *evaluator) checkAcceptance(c *Cluster) {
	type pair struct {
		a  *Acceptance
		hw *Hardware
	}
	seen := map[pair]bool{}
	for _, n := range ev.insts("node") {
		a := get[*inst](n, "acceptance")
		p := pair{object[Acceptance](n, "acceptance"), object[Hardware](n, "hardware")}
		if p.a == nil || p.hw == nil || seen[p] {
			continue
		}
		seen[p] = true
		ev.checkStages(a, p.a, p.hw, c)
	}
	for _, in := range ev.insts("acceptance") {
		ev.checkStageTimes(in, c.Settings.Deadlines)
	}
}

// checkStages reports stages that a class of hardware could only fail, or not run.
func (ev *evaluator) checkStages(in *inst, a *Acceptance, hw *Hardware, c *Cluster) {
	wants := fmt.Sprintf("hardware %q (%s)", hw.Name, ev.place(hw.Range))
	if b := in.one("node"); b != nil && hw.GPU == nil && c.Lab == nil { // a lab's machine plays one
		for _, attr := range []string{"gemm", "hbm_sweep"} {
			if b.has(attr) && (attr != "hbm_sweep" || get[bool](b, attr)) {
				ev.errorAt(b.at(attr), b.each, "Nothing to test", "%s asks for %s, and %s, whose nodes must prove it, declares no gpu.", capital(in.label()), attr, wants)
			}
		}
	}
	b := in.one("fabric")
	if b == nil {
		return
	}
	if len(hw.HCAs) == 0 {
		ev.errorAt(b.rng, b.each, "Nothing to test", "%s asks for fabric validation, and %s, whose nodes must prove it, declares no hca.", capital(in.label()), wants)
		return
	}
	if len(c.Fabrics) == 0 {
		ev.errorAt(b.rng, b.each, "Nothing to test", "%s asks for fabric validation, and no fabric is declared.", capital(in.label()))
	}
	least := get[Bandwidth](b, "min_bandwidth").BitsPerSecond
	for _, h := range hw.HCAs {
		rate := h.Rate.BitsPerSecond
		if least == 0 || rate == 0 || h.Rail == 0 {
			continue
		}
		switch {
		case least > rate:
			ev.errorAt(b.at("min_bandwidth"), b.each, "Threshold out of reach", "min_bandwidth %s can never be met: hca %q of hardware %q (%s) runs at %s.",
				a.Fabric.MinBandwidth, h.Name, hw.Name, ev.place(h.Range), h.Rate)
		case least < rate/2:
			ev.add(hcl.DiagWarning, b.at("min_bandwidth"), b.each, "Threshold proves little", fmt.Sprintf("min_bandwidth %s is less than half of %s: a link that lost half its lanes would pass. It is the rate of hca %q of hardware %q (%s).",
				a.Fabric.MinBandwidth, h.Rate, h.Name, hw.Name, ev.place(h.Range)))
		default:
			continue
		}
		return // the others of the class are alike, or wait for this one
	}
}

// checkStageTimes reports burn-in that is longer than the time allowed for it.
func (ev *evaluator) checkStageTimes(in *inst, deadlines map[string]time.Duration) {
	limit, ok := deadlines["burned-in"]
	a, built := in.obj.(*Acceptance)
	if !ok || !built {
		return
	}
	var total time.Duration
	rng := in.rng
	if b := in.one("node"); b != nil && a.Node.GEMM.Duration > 0 {
		total += a.Node.GEMM.Duration
		rng = b.at("gemm")
	}
	if b := in.one("rack"); b != nil && a.Rack.Soak.Duration > 0 {
		total += a.Rack.Soak.Duration
		rng = b.at("soak")
	}
	if total > limit {
		at := ""
		if s := ev.single("controller"); s != nil {
			at = " (" + ev.place(s.at("deadlines")) + ")"
		}
		ev.errorAt(rng, in.each, "Deadline too short", "The burn-in of %s takes %s, and the deadline to be burned-in is %s%s.", in.label(), total, limit, at)
	}
}
