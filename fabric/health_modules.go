package fabric

import (
	"fmt"
	"strconv"
	"time"

	"firstlight/fabric/mad"
	"firstlight/provision/acceptance"
)

// berLimit is the most that a bit error rate after correction may be, and berTime how
// long a link of NDR takes to show it.
const (
	berLimit  = 1e-14
	berTime   = 12 * time.Minute
	berSource = "UFM's limit for NDR: a bit error rate of 1e-14, which takes 12 minutes to see"
)

// Celsius is what a port's module measures; ok is false where it has no sensor, or
// did not tell.
func (p *Port) Celsius() (degrees float64, ok bool) {
	if p.Optics == nil || p.Optics.Module == nil || !p.Optics.Module.MeasuresTemperature() {
		return 0, false
	}
	return float64(p.Optics.Module.Temperature) / 256, true
}

// FEC names the forward error correction of a port; "" is not known.
func (p *Port) FEC() string {
	if p.Optics == nil || p.Optics.Operational == nil {
		return ""
	}
	return mad.FECName(p.Optics.Operational.FEC)
}

// JudgeModules holds what the ends of a link say of their modules against limits:
// temperature, and bit errors after correction. A check that neither end has anything
// to say to is not there.
func (l Limits) JudgeModules(link Link, names Names) []LinkCheck {
	var out []LinkCheck
	ports, part := names.both(link)
	for _, judge := range []func(Link, Names) (LinkCheck, bool){l.temperature, l.bitErrors} {
		if c, told := judge(link, names); told {
			c.Ports, c.Part = ports, part
			out = append(out, c)
		}
	}
	return out
}

func (l Limits) temperature(link Link, names Names) (c LinkCheck, told bool) {
	c.Check = acceptance.Check{Name: "module-temperature", Verdict: acceptance.Pass, Threshold: fmt.Sprintf("at most %d °C", l.Temperature), Source: l.TemperatureSource}
	c.Reading = names.each(link, func(p *Port) string {
		if degrees, ok := p.Celsius(); ok {
			return strconv.FormatFloat(degrees, 'f', 1, 64) + " °C"
		}
		return "not told"
	})
	for _, p := range []*Port{link.A, link.B} {
		degrees, ok := p.Celsius()
		told = told || ok
		alarm := 0.0
		if ok {
			alarm = float64(p.Optics.Module.AlarmAt) / 256
		}
		if ok && (degrees > float64(l.Temperature) || alarm > 0 && degrees >= alarm) {
			c.Verdict = acceptance.Fail
			c.Suspect = fmt.Sprintf("the cooling of %s, or its module", names.of(p))
			if alarm > 0 && degrees >= alarm {
				c.Suspect += fmt.Sprintf(", which itself calls %.0f °C alarming", alarm)
			}
		}
	}
	return c, told
}

// bitErrors judges the rate after correction, which is of all the time since the
// counters were cleared: before that is long enough, one error would be too many.
func (l Limits) bitErrors(link Link, names Names) (c LinkCheck, told bool) {
	c.Check = acceptance.Check{Name: "effective-ber", Verdict: acceptance.Pass, Threshold: fmt.Sprintf("at most %.0e at each end", berLimit), Source: berSource}
	stats := func(p *Port) *mad.PhysicalStats {
		if p.Optics == nil {
			return nil
		}
		return p.Optics.Stats
	}
	c.Reading = names.each(link, func(p *Port) string {
		switch s := stats(p); {
		case s == nil:
			return "not told"
		case s.Effective.Value() == 0:
			return "none"
		default:
			return fmt.Sprintf("%.1e in %s", s.Effective.Value(), Briefly(countedFor(s)))
		}
	})
	var left time.Duration
	for _, p := range []*Port{link.A, link.B} {
		s := stats(p)
		if s == nil {
			continue
		}
		told = true
		needs := berTime
		if bits := p.bitsPerSecond(); bits > 0 {
			needs = time.Duration(float64(berTime) * ndrBits / bits)
		}
		switch watched := countedFor(s); {
		case watched < needs:
			left = max(left, needs-watched)
		case s.Effective.Value() > berLimit:
			c.Verdict = acceptance.Fail
			c.Suspect = fmt.Sprintf("the transmitter at the other end, the cable, or the receiver of %s, which counts", names.of(p))
		}
	}
	if left > 0 && c.Verdict == acceptance.Pass {
		c.Verdict = acceptance.NotRun
		c.Reading += fmt.Sprintf("; not yet decided, %s to go", Briefly(left))
	}
	return c, told
}

// countedFor is how long a port has counted bit errors; a year is as good as more.
func countedFor(s *mad.PhysicalStats) time.Duration {
	const year = 365 * 24 * time.Hour
	return time.Duration(min(s.SinceClear, uint64(year/time.Millisecond))) * time.Millisecond
}
