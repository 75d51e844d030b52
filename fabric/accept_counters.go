package fabric

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"firstlight/provision/acceptance"
)

// counted is the threshold of counters.
func (v *verdictOf) counted() string {
	return "nothing above its limit in " + Briefly(v.window)
}

// counters judges what the two ends of an adapter's link counted in the window.
// A limit that fits into it must be decided; one that needs longer can fail, and
// is named where it is not decided: it is no reason to wait for a day.
func (v *verdictOf) counters(p *Place, link Link, c *acceptance.Check) {
	a, b := v.Recent[link.A.ID()], v.Recent[link.B.ID()]
	checks := v.Limits.Judge(link, a, b, v.Names)
	c.Part, c.Threshold, c.Verdict = checks[0].Part, v.counted(), acceptance.Pass
	var waits, longer []string
	if read := checks[0]; read.Verdict != acceptance.Pass {
		waits = append(waits, read.Reading)
	}
	watched := time.Duration(0)
	if a != nil && b != nil {
		watched = min(a.Watched, b.Watched)
		if left := v.window - watched; left > 0 {
			waits = append(waits, fmt.Sprintf("not yet decided, %s to go", Briefly(left)))
		}
	}
	i := 0
	var failed []acceptance.Check
	for k := range v.Limits.Table {
		limit := &v.Limits.Table[k]
		if limit.Off {
			continue
		}
		i++
		switch judged := &checks[i]; {
		case judged.Verdict == acceptance.Fail:
			f := judged.Check
			f.Name = "fabric." + p.HCA + "." + judged.Name
			if judged.Suspect != "" {
				f.Part += "; suspect: " + judged.Suspect
			}
			failed = append(failed, f)
			v.open = append(v.open, openCheck{p.HCA, fmt.Sprintf("%s: %s; wanted %s (%s); suspect: %s", judged.Name, judged.Reading, judged.Threshold, judged.Source, judged.Suspect), acceptance.Fail})
		case judged.Verdict != acceptance.NotRun || checks[0].Verdict != acceptance.Pass:
		case judged.tell || limit.fits(link, v.window):
			if len(waits) == 0 {
				waits = append(waits, limit.Name+": "+judged.Reading)
			}
		default:
			longer = append(longer, limit.Name)
		}
	}
	c.Reading = fmt.Sprintf("nothing above its limit in %s at both ends", Briefly(watched))
	if len(longer) > 0 {
		c.Reading += "; still undecided, since they take longer than the window: " + strings.Join(longer, ", ")
	}
	switch {
	case len(failed) > 0:
		c.Verdict, c.Reading = acceptance.Fail, "above a limit"
	case len(waits) > 0:
		c.Verdict, c.Reading = acceptance.NotRun, strings.Join(slices.Compact(waits), "; ")
		v.open = append(v.open, openCheck{p.HCA, "counters: " + c.Reading, c.Verdict})
	}
	v.out.Checks = append(append(v.out.Checks, *c), failed...)
}

// fits reports that the limit can be decided within a window.
func (l *Limit) fits(link Link, window time.Duration) bool {
	if l.Most == 0 && !l.UnderTraffic {
		return true
	}
	needs := l.needs(max(link.A.bitsPerSecond(), link.B.bitsPerSecond()))
	return needs > 0 && needs <= window
}
