package acceptance

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

func TestChart(t *testing.T) {
	r := twoNodes()
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"REFERENCE ENGINE", "<figcaption>Throughput", "<title>GPU 1</title>", "M129.1 42.2L283.4 4.0M592.0 114.0"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(page.String(), "Nothing known") {
		t.Error("a chart without a point is drawn")
	}
	r = rackWithFailures()
	page.Reset()
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(page.String(), "REFERENCE ENGINE") {
		t.Error("a page about metal names the reference engine")
	}
	for name, c := range map[string]Chart{"none": {}, "no numbers": {Lines: []ChartLine{{Points: []ChartPoint{{1, math.NaN()}, {2, math.Inf(-1)}}}}}} {
		if c.draw() != nil {
			t.Errorf("%s: drawn", name)
		}
	}
	flat := Chart{Lines: []ChartLine{{Points: []ChartPoint{{0, 60}, {10, 60}}}}}.draw()
	if flat.Low != "57" || flat.Top != "63" {
		t.Errorf("a steady 60 is drawn from %s to %s; want 57 to 63", flat.Low, flat.Top)
	}
}
