package acceptance

import (
	"fmt"
	"math"
	"strings"
)

// Chart is one quantity over time, a line for each part: what a burn-in sampled.
type Chart struct {
	Title string
	Unit  string
	Lines []ChartLine
}

// ChartLine is one part's. A point without a number breaks it.
type ChartLine struct {
	Name   string
	Points []ChartPoint
}

// ChartPoint is a value at a time, in seconds.
type ChartPoint struct{ X, Y float64 }

// Size of a chart's drawing area, in the units of its SVG, and the room for the
// numbers left of it.
const (
	chartWidth  = 540
	chartHeight = 110
	chartLeft   = 52
)

// drawn is a chart as the template shows it.
type drawn struct {
	Title, Unit   string
	Width, Height int
	Left, Right   int
	Low, Mid, Top string
	Long          string // the time axis
	Lines         []drawnLine
}

type drawnLine struct {
	Name, Path string
	Class      int // of its colour
}

// chartColours is how many the page has.
const chartColours = 8

// draw scales a chart; nil when it has no point.
func (c Chart) draw() *drawn {
	low, high, long := math.Inf(1), math.Inf(-1), 0.0
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if math.IsNaN(p.Y) || math.IsInf(p.Y, 0) {
				continue
			}
			low, high, long = min(low, p.Y), max(high, p.Y), max(long, p.X)
		}
	}
	if low > high {
		return nil
	}
	// Readings that hardly move are not to look wild: a tenth of the value is
	// shown at least.
	if room := 0.1*max(math.Abs(high), 1) - (high - low); room > 0 {
		low, high = low-room/2, high+room/2
	}
	long = max(long, 1)
	d := &drawn{Title: c.Title, Unit: c.Unit, Width: chartLeft + chartWidth + 8, Height: chartHeight + 22, Left: chartLeft, Right: chartLeft + chartWidth,
		Low: tick(low), Mid: tick((low + high) / 2), Top: tick(high), Long: seconds(long)}
	for i, l := range c.Lines {
		var path strings.Builder
		pen := "M"
		for _, p := range l.Points {
			if math.IsNaN(p.Y) || math.IsInf(p.Y, 0) {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, chartLeft+chartWidth*p.X/long, 4+chartHeight*(high-p.Y)/(high-low))
			pen = "L"
		}
		if path.Len() > 0 {
			d.Lines = append(d.Lines, drawnLine{Name: l.Name, Path: path.String(), Class: i % chartColours})
		}
	}
	return d
}

func tick(v float64) string {
	if math.Abs(v) >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
