package burnin

import (
	"fmt"
	"math"

	"firstlight/provision/acceptance"
)

// plotPoints is how many points a line of a chart has at most: each is the mean
// of the samples that fall on it.
const plotPoints = 160

// plotted are the quantities of the charts, from the samples' steps.
var plotted = []struct {
	title, unit string
	of          func(Point) float64
}{
	{"Throughput", "TFLOP/s", func(p Point) float64 { return float64(p.TFLOPs) / 1000 }},
	{"Power", "W", func(p Point) float64 { return float64(p.Power) }},
	{"Temperature", "°C", func(p Point) float64 { return float64(p.Temp) }},
	{"SM clock", "MHz", func(p Point) float64 { return float64(p.Clock) }},
}

// Charts plots the samples: throughput, power, temperature and clock of every
// GPU. What was never known has no chart.
func (b *Burn) Charts() ([]acceptance.Chart, error) {
	charts := make([]acceptance.Chart, len(plotted))
	for i, q := range plotted {
		charts[i] = acceptance.Chart{Title: q.title, Unit: q.unit}
	}
	last := int64(1)
	points := map[int][]Point{}
	for _, s := range b.Stages {
		for _, g := range s.GPUs {
			read, err := g.Samples.Points()
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.Stage.Name, g.GPU, err)
			}
			if len(read) > 0 {
				last = max(last, read[len(read)-1].At)
			}
			points[g.GPU.Index] = append(points[g.GPU.Index], read...)
		}
	}
	for _, g := range b.GPUs {
		for i, q := range plotted {
			if line := thin(points[g.Index], last, q.of); line != nil {
				charts[i].Lines = append(charts[i].Lines, acceptance.ChartLine{Name: g.String(), Points: line})
			}
		}
	}
	var out []acceptance.Chart
	for _, c := range charts {
		if c.Lines != nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// thin puts samples into a bounded number of points; nil when none of them has
// a reading. Time without samples becomes a gap.
func thin(points []Point, last int64, of func(Point) float64) []acceptance.ChartPoint {
	var sum [plotPoints]float64
	var n [plotPoints]int
	for _, p := range points {
		if v := of(p); v != 0 {
			at := min(p.At*plotPoints/(last+1), plotPoints-1)
			sum[at] += v
			n[at]++
		}
	}
	width := float64(last+1) / plotPoints
	var out []acceptance.ChartPoint
	missing := 0
	for i := range n {
		if n[i] == 0 {
			// Between two samples there may be empty places when the burn-in was
			// short; more than a few seconds of them are a gap.
			if missing++; float64(missing)*width > 5 && out != nil && !math.IsNaN(out[len(out)-1].Y) {
				out = append(out, acceptance.ChartPoint{X: float64(i) * width, Y: math.NaN()})
			}
			continue
		}
		missing = 0
		out = append(out, acceptance.ChartPoint{X: (float64(i) + 0.5) * width, Y: sum[i] / float64(n[i])})
	}
	return out
}
