package fabric

import (
	"math"
	"time"

	"firstlight/inventory"
)

// Limit is how much of a counter an end of a healthy link counts.
type Limit struct {
	Name    string // of its check
	Attr    string // in the inventory's limits
	Counter CounterName
	Most    int
	// In is the time that Most is for. Under traffic it is time in which the
	// end received traffic, at the speed of NDR: what a bit error rate allows is
	// a number in so many bits.
	In           time.Duration
	UnderTraffic bool
	Ends         whichEnds
	Tells        tells
	Source       string
	Off          bool // not judged unless the inventory sets it
}

// whichEnds says what the two ends of a link have to do with a limit.
type whichEnds string

const (
	eachEnd   whichEnds = "at each end"      // each is judged by itself
	bothEnds  whichEnds = "at both ends"     // they exceed it together, or not at all
	eitherEnd whichEnds = "at the worse end" // both count the same thing
)

// tells is what a counter's errors say of where the fault is.
type tells string

const (
	tellsSignal tells = "signal" // counted by the end that receives
	tellsBuffer tells = "buffer" // counted by the end that receives
	tellsSender tells = "sender" // counted by the end that sends
	tellsLink   tells = "link"   // counted by both
)

// ndrBits is what NDR carries in a second, which UFM's numbers are made for:
// 2.88 errors in 12 minutes of it are one in 1e14 bits.
const ndrBits = 400e9

// ibqueryerrors reports every increase unless it is told otherwise.
const ibqueryerrors = "ibqueryerrors(8) of infiniband-diags: threshold 0"

// Limits are what links are judged by.
type Limits struct {
	Table []Limit
	// Load is the share of its rate that an end must receive for the time to
	// count as under traffic.
	Load float64
	// Temperature is the most that a module may have, in °C.
	Temperature       int
	TemperatureSource string
}

// DefaultLimits are those of the field, each with its source.
func DefaultLimits() Limits {
	return Limits{Load: 0.01, Temperature: 70, TemperatureSource: "UFM's limit of a module's temperature", Table: []Limit{
		{Name: "symbol-errors-1e-14", Attr: "symbol_errors_12m", Counter: SymbolErrors, Most: 2, In: 12 * time.Minute, UnderTraffic: true,
			Ends: eachEnd, Tells: tellsSignal, Source: "UFM's limit for NDR at a bit error rate of 1e-14: more than 2.88 in 12 minutes"},
		{Name: "symbol-errors-1e-15", Attr: "symbol_errors_125m", Counter: SymbolErrors, Most: 3, In: 125 * time.Minute, UnderTraffic: true,
			Ends: eachEnd, Tells: tellsSignal, Source: "UFM's limit for NDR at a bit error rate of 1e-15: more than 3 in 125 minutes"},
		{Name: "link-downed", Attr: "link_downed", Counter: LinkDowned, Most: 0, In: time.Hour,
			Ends: bothEnds, Tells: tellsLink, Source: "UFM: an increase at both ends is a bad link; of one end it can be the restart of the other"},
		{Name: "flaps", Attr: "flaps", Counter: LinkDowned, Most: 5, In: 24 * time.Hour,
			Ends: eitherEnd, Tells: tellsLink, Source: "Azure's limit of flaps: 5 in 24 hours"},
		{Name: "link-recoveries", Attr: "link_recoveries", Counter: LinkRecoveries, Most: 0, In: time.Hour,
			Ends: eachEnd, Tells: tellsLink, Source: ibqueryerrors},
		{Name: "receive-errors", Attr: "receive_errors", Counter: ReceiveErrors, Most: 0, In: time.Hour,
			Ends: eachEnd, Tells: tellsSignal, Source: ibqueryerrors},
		{Name: "local-integrity-errors", Attr: "local_integrity_errors", Counter: LocalIntegrity, Most: 0, In: time.Hour,
			Ends: eachEnd, Tells: tellsSignal, Source: "IBTA §16.1.3.5: each is a threshold of the port (LocalPhyErrors) exceeded"},
		{Name: "buffer-overruns", Attr: "buffer_overruns", Counter: BufferOverruns, Most: 0, In: time.Hour,
			Ends: eachEnd, Tells: tellsBuffer, Source: "IBTA §16.1.3.5: each is a threshold of the port (OverrunErrors) exceeded"},
		{Name: "transmit-discards", Attr: "transmit_discards", Counter: TransmitDiscard, Most: 100, In: time.Hour,
			Ends: eachEnd, Tells: tellsSender, Source: "error_thresholds of infiniband-diags: 100; in an hour is firstlight's own"},
		{Name: "transmit-wait", Attr: "transmit_wait", Counter: TransmitWait, In: time.Second, Off: true,
			Ends: eachEnd, Tells: tellsSender, Source: "none: a tick of PortXmitWait differs from device to device"},
	}}
}

// LimitsOf are the default limits with what a fabric of the inventory declares
// in their place.
func LimitsOf(c *inventory.Cluster, f *inventory.Fabric) Limits {
	l := DefaultLimits()
	for i := range l.Table {
		if d, ok := f.Limits[l.Table[i].Attr]; ok {
			l.Table[i].Most, l.Table[i].Source, l.Table[i].Off = d.Most, c.DeclaredAt(d.Range), false
		}
	}
	if d, ok := f.Limits["temperature"]; ok {
		l.Temperature, l.TemperatureSource = d.Most, c.DeclaredAt(d.Range)
	}
	if d, ok := f.Limits["traffic"]; ok {
		l.Load = float64(d.Most) / 100
	}
	return l
}

// needs is how long an end has to be watched for a verdict; 0 is not known.
func (l *Limit) needs(bitsPerSecond float64) time.Duration {
	switch {
	case !l.UnderTraffic:
		return l.In
	case bitsPerSecond == 0:
		return 0
	}
	return time.Duration(float64(l.In) * ndrBits / bitsPerSecond)
}

// Window is what one counter counted in the time that a limit looks at.
type Window struct {
	Elapsed, Traffic time.Duration
	N                uint64
	Doubt            Doubt
	// Loaded reaches back until there is enough time under traffic, for limits
	// that ask for it; else nil.
	Loaded *Window
}

func (w *Window) add(s *Span, counter int) {
	w.Elapsed += s.Elapsed
	w.Traffic += s.Traffic
	if len(s.Counts) == 0 {
		return
	}
	c := s.of(counter)
	w.N += c.N
	if w.Doubt == "" {
		w.Doubt = c.Doubt
	}
}

// over reports that more was counted than is allowed: in a longer time than the
// limit's more is, in a shorter one not less. An idle link carries bits as well,
// so all the time counts. needs is 0 where the time is not known.
func (w *Window) over(l *Limit, needs time.Duration) bool {
	if needs == 0 {
		return false
	}
	longer := max(1, float64(w.Elapsed)/float64(needs))
	return float64(w.N) > math.Floor(float64(l.Most)*longer)
}

// Recent is what one end of a link counted lately.
type Recent struct {
	Last    Span          // since the reading before the newest
	Watched time.Duration // all the time that was looked at
	Windows []Window      // by limit: the newest time that is long enough, or all there is
	Has     [numCounters]bool
}

// Recent takes from what a port counted, the newest last, the time that each
// limit looks at. newest is its newest reading.
func (l Limits) Recent(series []Span, newest *Reading, bitsPerSecond float64) *Recent {
	r := &Recent{Windows: make([]Window, len(l.Table))}
	for i := range newest.Bits {
		r.Has[i] = newest.Bits[i] != 0
	}
	if len(series) > 0 {
		r.Last = series[len(series)-1]
	}
	for k := range series {
		r.Watched += series[k].Elapsed
	}
	for i := range l.Table {
		limit := &l.Table[i]
		counter, needs := indexOf(limit.Counter), limit.needs(bitsPerSecond)
		w := &r.Windows[i]
		// The shortest time that is over the limit is the one to tell.
		for k := len(series) - 1; k >= 0 && (w.Elapsed < needs || needs == 0) && !w.over(limit, needs); k-- {
			w.add(&series[k], counter)
		}
		if !limit.UnderTraffic {
			continue
		}
		w.Loaded = &Window{}
		for k := len(series) - 1; k >= 0 && (w.Loaded.Traffic < needs || needs == 0) && !w.Loaded.over(limit, needs); k-- {
			w.Loaded.add(&series[k], counter)
		}
	}
	return r
}
