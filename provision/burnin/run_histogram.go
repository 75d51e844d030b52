package burnin

import (
	"maps"
	"math"
	"slices"
)

// Histogram counts how long iterations took, in bins half a percent wide: a day
// of them takes as much room as a minute.
type Histogram map[int]int

// binWidth is the ratio of two bins' times.
const binWidth = 1.005

// Add counts an iteration of that many microseconds.
func (h *Histogram) Add(us uint32) {
	if *h == nil {
		*h = Histogram{}
	}
	(*h)[int(math.Round(math.Log(float64(max(us, 1)))/math.Log(binWidth)))]++
}

// Count is how many iterations were timed.
func (h Histogram) Count() int {
	n := 0
	for _, c := range h {
		n += c
	}
	return n
}

// Quantile is the time below which a share of the iterations took, in
// microseconds; 0 of none.
func (h Histogram) Quantile(share float64) float64 { return h.Quantiles([]float64{share})[0] }

// Quantiles are those of some shares, which ascend.
func (h Histogram) Quantiles(shares []float64) []float64 {
	out := make([]float64, len(shares))
	count, below, at := float64(h.Count()), 0, 0
	for _, bin := range slices.Sorted(maps.Keys(h)) {
		below += h[bin]
		for at < len(shares) && below >= int(math.Ceil(shares[at]*count)) {
			out[at] = math.Pow(binWidth, float64(bin))
			at++
		}
	}
	return out
}

// less is what is left without the counts of another that is part of it.
func (h Histogram) less(o Histogram) Histogram {
	out := maps.Clone(h)
	for bin, n := range o {
		if out[bin] -= n; out[bin] <= 0 {
			delete(out, bin)
		}
	}
	return out
}

// Merge adds the counts of another.
func (h *Histogram) Merge(o Histogram) {
	if *h == nil {
		*h = Histogram{}
	}
	for bin, n := range o {
		(*h)[bin] += n
	}
}
