package burnin

import (
	"math"
	"testing"
)

func TestCharts(t *testing.T) {
	gpu := GPU{Index: 2, PCI: "0000:4f:00.0"}
	g := &GPURun{GPU: gpu}
	for at := range int64(3600) {
		if at >= 1000 && at < 2000 {
			continue // it was stopped meanwhile
		}
		if err := g.Samples.Add(at, Sample{TFLOPs: 700, Temp: 60 + float64(at)/3600}); err != nil {
			t.Fatal(err)
		}
	}
	b := &Burn{GPUs: []GPU{gpu}, Stages: []*StageBurn{{GPUs: []*GPURun{g}}}}
	charts, err := b.Charts()
	if err != nil || len(charts) != 2 || charts[0].Title != "Throughput" || charts[1].Title != "Temperature" {
		t.Fatalf("charts %+v, %v; want throughput and temperature", charts, err)
	}
	line := charts[0].Lines[0]
	gaps := 0
	for _, p := range line.Points {
		if math.IsNaN(p.Y) {
			gaps++
		} else if p.Y != 700 {
			t.Errorf("at %.0f s: %v TFLOP/s; want 700", p.X, p.Y)
		}
	}
	if line.Name != "GPU 2 (0000:4f:00.0)" || len(line.Points) > plotPoints || gaps != 1 {
		t.Errorf("%s: %d points, %d gaps; want at most %d and one gap", line.Name, len(line.Points), gaps, plotPoints)
	}
	g.Samples = Series{Data: []byte("torn")}
	if _, err := b.Charts(); err == nil {
		t.Error("torn samples are plotted")
	}
}
