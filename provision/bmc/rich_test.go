package bmc

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"

	"firstlight/internal/refbmc"
)

// richBMC has an inlet temperature, a power sensor and DCMI.
func richBMC() *refbmc.BMC {
	is := func(v float64) func() (float64, bool) { return func() (float64, bool) { return v, true } }
	return &refbmc.BMC{
		Watts: func() float64 { return 5120 },
		Sensors: []refbmc.Sensor{
			{Number: 0x30, Name: "Inlet Temp", Type: 1, Entity: 0x37, Unit: 1, Step: 1, Signed: true, Upper: 45, Value: is(-3)},
			{Number: 0x31, Name: "GPU1 Temp", Type: 1, Entity: 0x0b, Unit: 1, Step: 1, Signed: true, Upper: 90, Value: is(93)},
			{Number: 0x32, Name: "Total Power", Type: 0x0b, Entity: 0x13, Unit: 6, Step: 40, Value: is(5120)},
			{Number: 0x33, Name: "FAN 1", Type: 4, Entity: 0x1d, Unit: 18, Step: 100},
		},
	}
}

func TestEventLog(t *testing.T) {
	for _, limit := range []int{0, 16, 5} {
		b := richBMC()
		b.ReadLimit = limit
		r := startRef(t, b)
		var c Client
		ep := endpoint(r.addr)
		if l, err := c.EventLog(t.Context(), ep); err != nil || len(l.Entries) != 0 || l.Lost {
			t.Fatalf("EventLog of an empty log = %+v, %v; want none", l, err)
		}
		b.LogEvent(1, 0x30, 0x01, [3]byte{0x50 | 9, 46, 45})
		b.LogEvent(1, 0x30, 0x01|0x80, [3]byte{0x50 | 9, 44, 45})
		b.LogEvent(0x0c, 0x77, 0x6f, [3]byte{0xa1, 0x02, 0xff})
		if err := c.SetPower(t.Context(), ep, ActionOn); err != nil {
			t.Fatal(err)
		}
		l, err := c.EventLog(t.Context(), ep)
		if err != nil {
			t.Fatal(err)
		}
		if skew := l.Skew(); skew < -2*time.Second || skew > 2*time.Second || l.Free == 0 {
			t.Errorf("clock %s, read at %s, %d bytes free; want the same time, and room", l.Clock, l.Read, l.Free)
		}
		for i := range l.Entries {
			if l.Entries[i].Time.IsZero() {
				t.Errorf("entry %d has no time", i)
			}
			l.Entries[i].Time, l.Entries[i].Raw = time.Time{}, [16]byte{}
		}
		want := []LogEntry{
			{ID: 1, Sensor: "Inlet Temp", Type: "Temperature", Event: "Upper Critical - going high", Asserted: true, Severity: "Critical", Detail: "reading 46, limit 45 Cel"},
			{ID: 2, Sensor: "Inlet Temp", Type: "Temperature", Event: "Upper Critical - going high", Severity: "Warning", Detail: "reading 44, limit 45 Cel"},
			{ID: 3, Sensor: "#0x77", Type: "Memory", Event: "Uncorrectable ECC / other uncorrectable memory error", Asserted: true, Severity: "Critical", Detail: "data 0x02"},
			{ID: 4, Sensor: "Power Unit", Type: "Power Unit", Event: "Power Off / Power Down", Severity: "OK"},
		}
		if d := cmp.Diff(want, l.Entries); d != "" {
			t.Errorf("entries, %d bytes at a time (-want +got):\n%s", limit, d)
		}
	}
}

// TestEventLogFull: a log without room says so.
func TestEventLogFull(t *testing.T) {
	b := richBMC()
	r := startRef(t, b)
	for range 513 {
		b.LogEvent(1, 0x30, 1, [3]byte{0x59, 46, 45})
	}
	var c Client
	l, err := c.EventLog(t.Context(), endpoint(r.addr))
	if err != nil || len(l.Entries) != 512 || !l.Lost || l.Free != 0 {
		t.Errorf("EventLog = %d entries, lost %v, %d bytes free, %v; want 512, true, 0", len(l.Entries), l.Lost, l.Free, err)
	}
}

func TestSensors(t *testing.T) {
	r := startRef(t, richBMC())
	var c Client
	got, err := c.Sensors(t.Context(), endpoint(r.addr))
	if err != nil {
		t.Fatal(err)
	}
	is := func(v float64) *float64 { return &v }
	want := Sensors{Watts: is(5120), Inlet: is(-3), Readings: []Sensor{
		{Name: "Power Unit", Number: 1, Type: "Power Unit", Health: "OK", States: []string{"Power Off / Power Down"}},
		{Name: "Inlet Temp", Number: 0x30, Type: "Temperature", Value: is(-3), Unit: "Cel", Health: "OK", Inlet: true},
		{Name: "GPU1 Temp", Number: 0x31, Type: "Temperature", Value: is(93), Unit: "Cel", Health: "Critical"},
		{Name: "Total Power", Number: 0x32, Type: "Other", Value: is(5120), Unit: "W", Health: "OK"},
		{Name: "FAN 1", Number: 0x33, Type: "Fan", Unit: "RPM", Reason: "no reading now"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Sensors (-want +got):\n%s", d)
	}
}

// TestWattsOfSensors: a BMC without DCMI has a sensor for it.
func TestWattsOfSensors(t *testing.T) {
	b := richBMC()
	b.Watts = nil
	r := startRef(t, b)
	var c Client
	if got, err := c.Sensors(t.Context(), endpoint(r.addr)); err != nil || got.Watts == nil || *got.Watts != 5120 {
		t.Errorf("watts %v, %v; want 5120", got.Watts, err)
	}
}

func TestConversion(t *testing.T) {
	tests := []struct {
		name   string
		format types.SensorAnalogUnitFormat
		f      types.ReadingFactors
		linear uint8
		raw    uint8
		want   float64
	}{
		{"plain", 0, types.ReadingFactors{M: 1}, 0, 200, 200},
		{"twos complement", 2, types.ReadingFactors{M: 1}, 0, 0xfd, -3},
		{"ones complement", 1, types.ReadingFactors{M: 1}, 0, 0xfd, -2},
		{"volts", 0, types.ReadingFactors{M: 63, R_Exp: -3}, 0, 190, 11.97},
		{"offset", 0, types.ReadingFactors{M: -2, B: 5, B_Exp: 2, R_Exp: -1}, 0, 10, 48},
		{"ln", 0, types.ReadingFactors{M: 1}, 1, 20, math.Log(20)},
		{"log10", 0, types.ReadingFactors{M: 1}, 2, 100, 2},
		{"log2", 0, types.ReadingFactors{M: 1}, 3, 8, 3},
		{"e", 0, types.ReadingFactors{M: 1}, 4, 2, math.Exp(2)},
		{"exp10 of a fraction", 0, types.ReadingFactors{M: 1, R_Exp: -1}, 5, 15, math.Pow(10, 1.5)},
		{"exp2", 0, types.ReadingFactors{M: 1}, 6, 5, 32},
		{"1/x", 0, types.ReadingFactors{M: 1}, 7, 4, 0.25},
		{"square", 0, types.ReadingFactors{M: 1}, 8, 9, 81},
		{"cube", 0, types.ReadingFactors{M: 1}, 9, 3, 27},
		{"root", 0, types.ReadingFactors{M: 1}, 10, 16, 4},
		{"cube root", 0, types.ReadingFactors{M: 1}, 11, 27, 3},
	}
	for _, tt := range tests {
		r := sensorRecord{kind: sdrFull, format: tt.format, factors: tt.f, linear: tt.linear}
		if got := r.value(tt.raw); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: value(%#02x) = %g; want %g", tt.name, tt.raw, got, tt.want)
		}
	}
	for v, want := range map[float64]string{0: "0", 11.969999999: "11.97", 22: "22", -3: "-3", 16320: "16320", 0.1 + 0.2: "0.3", 100000: "100000"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s; want %s", v, got, want)
		}
	}
}

func TestLogTimes(t *testing.T) {
	for _, tt := range []struct {
		stamp uint32
		at    time.Time
		up    time.Duration
	}{
		{0, time.Time{}, 0}, {90, time.Time{}, 90 * time.Second}, {0xffffffff, time.Time{}, 0},
		{1764000000, time.Unix(1764000000, 0).UTC(), 0},
	} {
		if at, up := logTimestamp(tt.stamp); !at.Equal(tt.at) || up != tt.up {
			t.Errorf("logTimestamp(%d) = %s, %s; want %s, %s", tt.stamp, at, up, tt.at, tt.up)
		}
	}
}

// TestOEMRecords decodes records of vendors' own kinds.
func TestOEMRecords(t *testing.T) {
	var stamped, plain [16]byte
	copy(stamped[:], []byte{9, 0, 0xc1, 0, 0, 0x40, 0x69, 0x57, 0x01, 0x00, 1, 2, 3, 4, 5, 6})
	copy(plain[:], []byte{10, 0, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13})
	e := parseLogEntry(stamped, nil)
	if e.Type != "OEM" || e.Event != "record 0xc1 of manufacturer 343" || e.Detail != "01 02 03 04 05 06" || e.Time.IsZero() {
		t.Errorf("timestamped: %+v", e)
	}
	e = parseLogEntry(plain, nil)
	if e.Type != "OEM" || e.Event != "record 0xe0" || !strings.HasSuffix(e.Detail, "0c 0d") || !e.Time.IsZero() {
		t.Errorf("plain: %+v", e)
	}
}

// FuzzRecords feeds the parsers of log records, sensor records and readings.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0, 0, 0x40, 0x69, 0x20, 0, 4, 1, 0x30, 1, 0x59, 46, 45}, []byte{46, 0xc0, 0xd0})
	f.Add(slices.Concat([]byte{2, 0, 0x51, 0x01, 43}, make([]byte, 42), []byte{0xc1, 'x'}), []byte{1, 0xc0, 3, 0x80})
	f.Add(slices.Concat([]byte{2, 0, 0x51, 0x02, 28}, make([]byte, 26), []byte{0xc1, 'x'}), []byte{0xdc, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0x40})
	f.Add([]byte{2, 0, 0x51, 0x03, 13, 0x20, 0, 9, 1, 1, 1, 1, 1, 0, 0, 0, 0x81, 0x21}, []byte{})
	f.Fuzz(func(t *testing.T, record, reading []byte) {
		parseWatts(reading)
		r, ok := parseRecord(record)
		if !ok {
			r = sensorRecord{kind: sdrFull, event: 1}
		}
		var s Sensor
		s.read(r, reading)
		if s.Value != nil && (math.IsNaN(*s.Value) || math.IsInf(*s.Value, 0)) {
			t.Errorf("reading %v", *s.Value)
		}
		if len(record) >= selRecord {
			e := parseLogEntry([selRecord]byte(record), byNumber([]sensorRecord{r}))
			if e.Event == "" || e.Type == "" {
				t.Errorf("entry without words: %+v", e)
			}
		}
		for _, s := range []string{s.Name, r.name} {
			if strings.ContainsAny(s, "\x1b\n\x00") {
				t.Errorf("control characters in %q", s)
			}
		}
	})
}
