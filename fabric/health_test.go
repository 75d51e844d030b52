package fabric

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"firstlight/fabric/mad"
	"firstlight/inventory"
)

// counters makes what a sweep reads of a port; wide has the 64-bit fields.
func counters(at time.Time, wide bool, set map[CounterName]uint64) *Counters {
	c := &Counters{At: at, HasWait: true, Counters: mad.PortCounters{
		SymbolErrorCounter: uint16(set[SymbolErrors]), LinkErrorRecoveryCounter: uint8(set[LinkRecoveries]), LinkDownedCounter: uint8(set[LinkDowned]),
		PortRcvErrors: uint16(set[ReceiveErrors]), LocalLinkIntegrityErrors: uint8(set[LocalIntegrity]), ExcessiveBufferOverrunErrors: uint8(set[BufferOverruns]),
		PortXmitDiscards: uint16(set[TransmitDiscard]), PortXmitWait: uint32(set[TransmitWait]), PortXmitData: uint32(set[TransmitData]), PortRcvData: uint32(set[ReceiveData]),
	}}
	if wide {
		c.HasExtendedErrors = true
		c.Extended = &mad.PortCountersExtended{
			SymbolErrorCounter: set[SymbolErrors], LinkErrorRecoveryCounter: set[LinkRecoveries], LinkDownedCounter: set[LinkDowned],
			PortRcvErrors: set[ReceiveErrors], LocalLinkIntegrityErrors: set[LocalIntegrity], ExcessiveBufferOverrunErrors: set[BufferOverruns],
			PortXmitDiscards: set[TransmitDiscard], PortXmitWait: set[TransmitWait], PortXmitData: set[TransmitData], PortRcvData: set[ReceiveData],
		}
	}
	return c
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestReadingOf takes every counter from its own field of either attribute.
func TestReadingOf(t *testing.T) {
	for _, wide := range []bool{false, true} {
		set := map[CounterName]uint64{}
		for i := range portCounters {
			set[portCounters[i].name] = uint64(i + 3)
		}
		r := ReadingOf(counters(noon, wide, set))
		for i := range portCounters {
			bits := portCounters[i].bits
			if wide {
				bits = 64
			}
			if r.Values[i] != uint64(i+3) || r.Bits[i] != bits {
				t.Errorf("wide %v: %s = %d of %d bits; want %d of %d", wide, portCounters[i].name, r.Values[i], r.Bits[i], i+3, bits)
			}
		}
	}
	c := counters(noon, true, nil)
	c.HasExtendedErrors, c.HasWait = false, false
	r := ReadingOf(c)
	if bits := r.Bits[indexOf(TransmitWait)]; bits != 0 {
		t.Errorf("PortXmitWait of %d bits, of a port without; want 0", bits)
	}
	if s, d := r.Bits[indexOf(SymbolErrors)], r.Bits[indexOf(ReceiveData)]; s != 16 || d != 64 {
		t.Errorf("without extended errors: symbol errors of %d bits and data of %d; want 16 and 64", s, d)
	}
}

// TestSince: a counter that grew, that is full, that went round, that was
// cleared, and those that stand beside it.
func TestSince(t *testing.T) {
	type set = map[CounterName]uint64
	const full32 = 1<<32 - 1
	tests := []struct {
		name          string
		before, after set
		wide          [2]bool
		want          []Count // by name, without those of data
	}{
		{name: "nothing", before: set{SymbolErrors: 7, LinkDowned: 1}, after: set{SymbolErrors: 7, LinkDowned: 1}},
		{name: "grew", before: set{SymbolErrors: 7}, after: set{SymbolErrors: 9, LinkDowned: 1}, want: []Count{n(SymbolErrors, 2, ""), n(LinkDowned, 1, "")}},
		{name: "16 bits, becomes full", before: set{SymbolErrors: 65530}, after: set{SymbolErrors: 65535}, want: []Count{n(SymbolErrors, 5, Full)}},
		{name: "16 bits, was full", before: set{ReceiveErrors: 65535}, after: set{ReceiveErrors: 65535}, want: []Count{n(ReceiveErrors, 0, Full)}},
		{name: "16 bits, one below full", before: set{ReceiveErrors: 65530}, after: set{ReceiveErrors: 65534}, want: []Count{n(ReceiveErrors, 4, "")}},
		{name: "8 bits, becomes full", before: set{LinkDowned: 250}, after: set{LinkDowned: 255}, want: []Count{n(LinkDowned, 5, Full)}},
		{name: "4 bits, becomes full", before: set{LocalIntegrity: 3, BufferOverruns: 15}, after: set{LocalIntegrity: 15, BufferOverruns: 15},
			want: []Count{n(LocalIntegrity, 12, Full), n(BufferOverruns, 0, Full)}},
		{name: "32 bits, full", before: set{TransmitWait: full32 - 1}, after: set{TransmitWait: full32}, want: []Count{n(TransmitWait, 1, Full)}},
		{name: "32 bits, went round", before: set{TransmitWait: full32 - 9, SymbolErrors: 1}, after: set{TransmitWait: 10, SymbolErrors: 1}, want: []Count{n(TransmitWait, 20, "")}},
		{name: "32 bits, cleared in the middle", before: set{TransmitWait: full32 / 2}, after: set{TransmitWait: 10}, want: inDoubt(TransmitWait, 10)},
		{name: "64 bits, 65535 is not full", wide: [2]bool{true, true}, before: set{SymbolErrors: 65530}, after: set{SymbolErrors: 65535}, want: []Count{n(SymbolErrors, 5, "")}},
		{name: "64 bits, past 32", wide: [2]bool{true, true}, before: set{TransmitWait: full32 - 9}, after: set{TransmitWait: full32 + 11}, want: []Count{n(TransmitWait, 20, "")}},
		{name: "64 bits, went round", wide: [2]bool{true, true}, before: set{TransmitWait: 1<<64 - 10}, after: set{TransmitWait: 10}, want: []Count{n(TransmitWait, 20, "")}},
		{name: "errors never go round", before: set{SymbolErrors: 65530}, after: set{SymbolErrors: 3}, want: inDoubt(SymbolErrors, 3)},
		{name: "all cleared, as by perfquery -R", before: set{SymbolErrors: 120, LinkDowned: 2, ReceiveData: 1000}, after: set{SymbolErrors: 4}, want: inDoubt(SymbolErrors, 4)},
		{name: "only data fell: the device began anew", before: set{ReceiveData: 1000}, after: set{ReceiveData: 10, SymbolErrors: 1}, want: inDoubt(SymbolErrors, 1)},
		{name: "one that stands above while another fell", before: set{SymbolErrors: 120, LinkDowned: 2}, after: set{LinkDowned: 2}, want: inDoubt(SymbolErrors, 0)},
		{name: "from another field", wide: [2]bool{true, false}, before: set{}, after: set{SymbolErrors: 3}, want: changed()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := ReadingOf(counters(noon, tt.wide[0], tt.before))
			after := ReadingOf(counters(noon.Add(time.Minute), tt.wide[1], tt.after))
			s := Since(before, after, 0)
			var got []Count
			for _, c := range s.Counts {
				if !portCounters[c.Counter].data {
					got = append(got, c)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || s.Elapsed != time.Minute || s.Traffic != 0 {
				t.Errorf("in %v, traffic %v: counts (-want +got):\n%s", s.Elapsed, s.Traffic, diff)
			}
		})
	}
}

func n(name CounterName, count uint64, doubt Doubt) Count { return Count{indexOf(name), count, doubt} }

// inDoubt is every counter set back, one of which counted since.
func inDoubt(name CounterName, count uint64) []Count {
	var out []Count
	for i := range portCounters {
		if c := n(portCounters[i].name, 0, SetBack); !portCounters[i].data {
			if c.Counter == indexOf(name) {
				c.N = count
			}
			out = append(out, c)
		}
	}
	return out
}

func changed() []Count {
	var out []Count
	for i := range portCounters {
		if !portCounters[i].data {
			out = append(out, Count{i, 0, Changed})
		}
	}
	return out
}

// TestSinceTraffic: what was received in the time decides whether it counts as
// under traffic.
func TestSinceTraffic(t *testing.T) {
	tests := []struct {
		name    string
		units   uint64 // of 4 bytes, in a minute
		least   float64
		back    bool // the clock was
		want    time.Duration
		elapsed time.Duration
	}{
		{"exactly enough", 60 * 4e9 / 32, 4e9, false, time.Minute, time.Minute},
		{"one unit less", 60*4e9/32 - 1, 4e9, false, 0, time.Minute},
		{"rate not known", 1e12, 0, false, 0, time.Minute},
		{"the clock was set back", 1e12, 4e9, true, 0, 0},
	}
	for _, tt := range tests {
		at := noon.Add(time.Minute)
		if tt.back {
			at = noon.Add(-time.Minute)
		}
		s := Since(ReadingOf(counters(noon, true, nil)), ReadingOf(counters(at, true, map[CounterName]uint64{ReceiveData: tt.units})), tt.least)
		if s.Traffic != tt.want || s.Elapsed != tt.elapsed {
			t.Errorf("%s: traffic %v of %v; want %v of %v", tt.name, s.Traffic, s.Elapsed, tt.want, tt.elapsed)
		}
	}
	sent := Since(ReadingOf(counters(noon, true, nil)), ReadingOf(counters(noon.Add(time.Minute), true, map[CounterName]uint64{TransmitData: 1e12})), 4e9)
	if sent.Traffic != 0 {
		t.Errorf("an end that only sends was under traffic for %v; what it receives is what can be in error", sent.Traffic)
	}
}

func TestSpanAdd(t *testing.T) {
	a := Span{Elapsed: 10 * time.Second, Traffic: 10 * time.Second, Counts: []Count{n(SymbolErrors, 2, ""), n(ReceiveErrors, 1, "")}}
	shared := a.Counts
	a.add(Span{Elapsed: 5 * time.Second, Counts: []Count{n(SymbolErrors, 3, Full), n(LinkDowned, 1, "")}})
	a.add(Span{Elapsed: 5 * time.Second})
	want := Span{Elapsed: 20 * time.Second, Traffic: 10 * time.Second, Counts: []Count{n(SymbolErrors, 5, Full), n(LinkDowned, 1, ""), n(ReceiveErrors, 1, "")}}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("sum (-want +got):\n%s", diff)
	}
	if shared[0].N != 2 {
		t.Errorf("the counts that were added to changed: %v", shared)
	}
}

// TestLimitTable holds the table against the inventory's attributes and their
// documented defaults.
func TestLimitTable(t *testing.T) {
	declared := inventory.FabricLimits()
	for _, l := range DefaultLimits().Table {
		def, ok := declared[l.Attr]
		if !ok || !l.Off && def != l.Most || l.Off && def != -1 {
			t.Errorf("%s: at most %d (off: %v); the inventory has limits.%s: %v, with the default %d", l.Name, l.Most, l.Off, l.Attr, ok, def)
		}
		if indexOf(l.Counter) < 0 || l.Source == "" || l.In == 0 || l.Ends == "" || l.Tells == "" {
			t.Errorf("%s is not whole: %+v", l.Name, l)
		}
		delete(declared, l.Attr)
	}
	if diff := cmp.Diff(map[string]int{"traffic": int(DefaultLimits().Load * 100), "temperature": DefaultLimits().Temperature}, declared); diff != "" {
		t.Errorf("attributes of limits without a limit (-want +got):\n%s", diff)
	}
}

func TestBriefly(t *testing.T) {
	for d, want := range map[time.Duration]string{300 * time.Millisecond: "0.3 s", 2 * time.Second: "2 s", time.Minute: "60 s", 93 * time.Minute: "93 min", 125 * time.Minute: "125 min",
		150 * time.Second: "2.5 min", 5 * time.Hour: "5 h", 4*time.Hour + 10*time.Minute: "4.2 h", 24 * time.Hour: "24 h"} {
		if got := Briefly(d); got != want {
			t.Errorf("Briefly(%v) = %q; want %q", d, got, want)
		}
	}
}

// TestLimitsOf: what a fabric declares takes the place of the default, and is
// its source.
func TestLimitsOf(t *testing.T) {
	at := hcl.Range{Filename: "f.hcl", Start: hcl.Pos{Line: 7}}
	l := LimitsOf(&inventory.Cluster{}, &inventory.Fabric{Limits: map[string]inventory.Limit{"transmit_wait": {Most: 9, Range: at}, "flaps": {Most: 1, Range: at}, "traffic": {Most: 20}, "temperature": {Most: 60, Range: at}}})
	def := DefaultLimits()
	if l.Load != 0.2 {
		t.Errorf("under traffic from %v of the rate; want 0.2", l.Load)
	}
	if l.Temperature != 60 || l.TemperatureSource != "f.hcl:7" {
		t.Errorf("at most %d °C by %s; want 60 by f.hcl:7", l.Temperature, l.TemperatureSource)
	}
	for i, got := range l.Table {
		want := def.Table[i]
		switch want.Attr {
		case "transmit_wait":
			want.Most, want.Source, want.Off = 9, "f.hcl:7", false
		case "flaps":
			want.Most, want.Source = 1, "f.hcl:7"
		}
		if got != want {
			t.Errorf("%+v; want %+v", got, want)
		}
	}
}
