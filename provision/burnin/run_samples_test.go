package burnin

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// day is a day of samples of a GPU at work: everything moves every second, as
// under a power limit.
func day(t testing.TB, seed uint64) *Series {
	rng := rand.New(rand.NewPCG(1, seed))
	s := &Series{}
	for at := range int64(24 * 3600) {
		sample := Sample{TFLOPs: 730 + 12*rng.NormFloat64(), GBps: 3100 + 40*rng.NormFloat64(), Power: 692 + 6*rng.NormFloat64(),
			Temp: 64 + 2*rng.NormFloat64(), Memory: 81 + 2*rng.NormFloat64(), Clock: 1750 + 30*rng.NormFloat64(), Throttle: 4 * uint64(rng.IntN(2))}
		if err := s.Add(at, sample); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestDayOfSamplesIsSmall(t *testing.T) {
	s := day(t, 1)
	if points, err := s.Points(); err != nil || len(points) != 24*3600 {
		t.Fatalf("%d samples, %v", len(points), err)
	}
	node := 8 * len(s.Data)
	t.Logf("8 GPUs for 24 h at 1 Hz: %.1f MB", float64(node)/1e6)
	if node > 20_000_000 {
		t.Errorf("8 GPUs for 24 h take %d bytes; want at most 20 MB", node)
	}
}

func TestSeries(t *testing.T) {
	s := &Series{}
	add := func(at int64, sample Sample) {
		t.Helper()
		if err := s.Add(at, sample); err != nil {
			t.Fatal(err)
		}
	}
	add(0, Sample{TFLOPs: 731.26, Power: 690.4, Temp: 61, Throttle: 1 << 63})
	add(1, Sample{TFLOPs: 731.26, Power: 690.4, Temp: 61, Throttle: 1 << 63})
	add(1, Sample{Temp: 99}) // the same second
	add(3600, Sample{Temp: 30, Clock: 345})
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	s = &Series{}
	if err := json.Unmarshal(raw, s); err != nil {
		t.Fatal(err)
	}
	add(3599, Sample{Temp: 99}) // before the last
	add(3601, Sample{Temp: 31, Clock: 345})
	got, err := s.Points()
	want := []Point{{At: 0, TFLOPs: 731260, Power: 690, Temp: 61, Throttle: 1 << 63}, {At: 1, TFLOPs: 731260, Power: 690, Temp: 61, Throttle: 1 << 63},
		{At: 3600, Temp: 30, Clock: 345}, {At: 3601, Temp: 31, Clock: 345}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Points() (-want +got): %v\n%s", err, diff)
	}
	for _, bad := range []string{"FLS", "FLS2\x00", "FLS1\x01", "FLS1\x01\x80", "FLS1\x01\x01", "FLS1\x00\x01\x01"} {
		if _, err := (&Series{Data: []byte(bad)}).Points(); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// Whatever is read is written again the same.
func FuzzSeries(f *testing.F) {
	s := &Series{}
	for at := range int64(4) {
		_ = s.Add(at*at, Sample{TFLOPs: 700 + float64(at), Temp: 60})
	}
	f.Add(s.Data)
	f.Add([]byte("FLS1\x01\x02\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		points, err := (&Series{Data: raw}).Points()
		if err != nil {
			return
		}
		again := &Series{}
		for _, p := range points {
			if p.At >= 1<<52 || p.TFLOPs != int64(math.Round(1000*(float64(p.TFLOPs)/1000))) {
				return // finer than a float64 carries
			}
			if err := again.Add(p.At, Sample{float64(p.TFLOPs) / 1000, float64(p.GBps), float64(p.Power), float64(p.Temp), float64(p.Memory), float64(p.Clock), p.Throttle}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := again.Points()
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range points {
			for _, v := range []int64{p.TFLOPs, p.GBps, p.Power, p.Temp, p.Memory, p.Clock} {
				if v > 1e12 || v < -1e12 {
					return // no reading: kept as zero
				}
			}
			if got[i] != p {
				t.Errorf("%+v becomes %+v", p, got[i])
			}
		}
	})
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for us := uint32(1000); us < 2000; us++ {
		h.Add(us)
	}
	var twice Histogram
	twice.Merge(h)
	twice.Merge(h)
	for share, want := range map[float64]float64{0.01: 1010, 0.5: 1500, 0.99: 1990, 1: 2000} {
		for _, h := range []Histogram{h, twice} {
			if got := h.Quantile(share); got < want*0.99 || got > want*1.01 {
				t.Errorf("quantile %v = %v; want about %v", share, got, want)
			}
		}
	}
	if twice.Count() != 2000 || Histogram(nil).Quantile(0.5) != 0 {
		t.Errorf("count %d, quantile of none %v", twice.Count(), Histogram(nil).Quantile(0.5))
	}
}
