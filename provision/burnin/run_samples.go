package burnin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Series are the samples of one GPU, packed: whatever did not change since the
// sample before takes no room, and what changed takes its difference. A GPU's
// day of them takes about half a megabyte.
//
// After the four bytes "FLS1" each sample is a byte that says which of the eight
// fields of its Point changed, lowest bit first, and for each of those its
// difference as a varint in zigzag form (Protocol Buffers encoding, "Signed
// Integers"). The difference of At is less one.
type Series struct {
	Data []byte `json:"data"`

	n    int
	last [fields]int64
}

// Point is one sample at a time, in the steps in which it is kept.
type Point struct {
	At       int64  // seconds since the burn-in began
	TFLOPs   int64  // thousandths: a CPU in place of a GPU has a few of them
	GBps     int64  //
	Power    int64  // W
	Temp     int64  // °C
	Memory   int64  // °C
	Clock    int64  // MHz
	Throttle uint64 // reasons, a bit each
}

const (
	fields      = 8
	seriesMagic = "FLS1"
	// mostPoints is four weeks of samples: a longer series is damaged.
	mostPoints = 28 * 24 * 3600
)

func (p Point) fields() [fields]int64 {
	return [fields]int64{p.At, p.TFLOPs, p.GBps, p.Power, p.Temp, p.Memory, p.Clock, int64(p.Throttle)}
}

func pointOf(f [fields]int64) Point {
	return Point{f[0], f[1], f[2], f[3], f[4], f[5], f[6], uint64(f[7])}
}

// pointAt rounds a sample to the steps in which it is kept.
func pointAt(at int64, s Sample) Point {
	step := func(v float64) int64 {
		if math.IsNaN(v) || math.Abs(v) > 1e12 {
			return 0
		}
		return int64(math.Round(v))
	}
	return Point{at, step(1000 * s.TFLOPs), step(s.GBps), step(s.Power), step(s.Temp), step(s.Memory), step(s.Clock), s.Throttle}
}

// Add appends a sample taken that many seconds after the beginning. One in the
// same second as the last, or before it, is left out.
func (s *Series) Add(at int64, sample Sample) error {
	if s.n == 0 && len(s.Data) > 0 { // read from a file
		points, err := s.Points()
		if err != nil {
			return err
		}
		if s.n = len(points); s.n > 0 {
			s.last = points[s.n-1].fields()
		}
	}
	if len(s.Data) == 0 {
		s.Data = append(s.Data, seriesMagic...)
		s.last[0] = -1
	}
	if at <= s.last[0] || s.n >= mostPoints {
		return nil
	}
	now := pointAt(at, sample).fields()
	mask := len(s.Data)
	s.Data = append(s.Data, 0)
	for i, v := range now {
		d := v - s.last[i]
		if i == 0 {
			d--
		}
		if d != 0 {
			s.Data[mask] |= 1 << i
			s.Data = binary.AppendVarint(s.Data, d)
		}
	}
	s.last, s.n = now, s.n+1
	return nil
}

// Points unpacks a series. Bytes that are none give an error.
func (s *Series) Points() ([]Point, error) {
	raw := s.Data
	if len(raw) == 0 {
		return nil, nil
	}
	if len(raw) < len(seriesMagic) || string(raw[:len(seriesMagic)]) != seriesMagic {
		return nil, errors.New("samples: not a series of this version")
	}
	raw = raw[len(seriesMagic):]
	var out []Point
	last := [fields]int64{-1}
	for len(raw) > 0 {
		if len(out) == mostPoints {
			return nil, fmt.Errorf("samples: more than %d", mostPoints)
		}
		mask := raw[0]
		raw = raw[1:]
		last[0]++
		for i := range last {
			if mask&(1<<i) == 0 {
				continue
			}
			d, n := binary.Varint(raw)
			if n <= 0 {
				return nil, fmt.Errorf("samples: torn after %d", len(out))
			}
			raw = raw[n:]
			last[i] += d
		}
		if len(out) > 0 && last[0] <= out[len(out)-1].At || last[0] < 0 {
			return nil, fmt.Errorf("samples: time runs backwards after %d", len(out))
		}
		out = append(out, pointOf(last))
	}
	return out, nil
}
