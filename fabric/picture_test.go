package fabric

import (
	"bytes"
	"flag"
	"fmt"
	"html"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/inventory"
)

var update = flag.Bool("update", false, "rewrite golden files")

func drawPage(t testing.TB, p Picture) string {
	t.Helper()
	var b bytes.Buffer
	if err := WritePicture(&b, p); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); strings.Contains(s, "ZgotmplZ") || strings.Contains(s, "<no value>") || strings.Contains(s, "<script") {
		t.Error("the page has something unsafe, empty or a script")
	}
	return b.String()
}

// smallWorld is a fabric of three tiers with a few faults.
func smallWorld(t *testing.T) *world {
	t.Helper()
	c, _, diags := inventory.Load("testdata/picture", inventory.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return build(c, c.Fabrics["compute"], rand.New(rand.NewPCG(1, 2)))
}

func (w *world) picture() Picture {
	d := Declare(w.c, w.f)
	return Picture{Title: w.c.Name + " · " + w.f.Name, From: "fabric.txt", Declared: d, Observed: w.o, Off: w.known.Dark, Verdict: d.Verify(w.o, w.known)}
}

func TestPictureGolden(t *testing.T) {
	w := smallWorld(t)
	exchange(w.port("leaf-1", "1"), w.port("leaf-1", "2"))
	unplug(w.port("spine-3", "33"))
	unplug(w.port("leaf-4", "35"))
	w.port("n5", "ibn2").Width, w.port("leaf-4", "2").Width = 1, 1
	w.join(w.port("leaf-2", "20"), w.port("spine-2", "20"), lanes{4, "NDR"})
	for _, ca := range w.adapters("n3") {
		w.remove(ca)
	}
	w.known.Dark["n3"] = true
	p := w.picture()
	p.Made = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	got := drawPage(t, p)
	const golden = "testdata/picture/small.html"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), -update rewrites it:\n%s", golden, diff)
	}
}

var (
	tagWithTitle = regexp.MustCompile(`<(?:a|td|i)[^>]*? title="[^"]*"[^>]*>`)
	attribute    = regexp.MustCompile(`(id|class|title|href)="([^"]*)"`)
	anyID        = regexp.MustCompile(` id="([^"]+)"`)
	anyLink      = regexp.MustCompile(`href="#([^"]+)"`)
	showLink     = regexp.MustCompile(`<tr id="f(\d+)">.*<a href="#(p\d+|elsewhere)">`)
)

// spots are the elements of a picture that have a tooltip, by their attributes.
func spots(page string) (out []map[string]string) {
	for _, tag := range tagWithTitle.FindAllString(page, -1) {
		m := map[string]string{}
		for _, a := range attribute.FindAllStringSubmatch(tag, -1) {
			m[a[1]] = html.UnescapeString(a[2])
		}
		out = append(out, m)
	}
	return out
}

// checkPlaces holds a page against its findings: each has a row that leads to a
// place that names it, every link leads somewhere, and every port of a finding
// that has a square of its own shows it there.
func checkPlaces(t *testing.T, page string, all []Finding) {
	t.Helper()
	ids := map[string]int{}
	for _, m := range anyID.FindAllStringSubmatch(page, -1) {
		ids[m[1]]++
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("id %s is there %d times", id, n)
		}
	}
	for _, m := range anyLink.FindAllStringSubmatch(page, -1) {
		if ids[m[1]] == 0 {
			t.Errorf("a link leads to #%s, which is not there", m[1])
		}
	}
	at, byID := map[string]string{}, map[string]string{}
	for _, m := range showLink.FindAllStringSubmatch(page, -1) {
		at[m[1]] = m[2]
	}
	squares := spots(page)
	for _, s := range squares {
		byID[s["id"]] = s["title"]
	}
	for i, f := range all {
		number := fmt.Sprint(i + 1)
		if title := byID[at[number]]; !strings.Contains(title, "\n#"+number+" "+string(f.Class)+":") {
			t.Errorf("finding %s (%s) leads to %q, which says %q", number, f.Message, at[number], title)
		}
		for _, p := range f.Ports {
			for _, s := range squares {
				first, marks, _ := strings.Cut(s["title"], "\n")
				ends := strings.Split(first, " · ")
				if p.Port != "" && len(ends) == 2 && (ends[0] == p.String() || ends[1] == p.String()) && !strings.Contains("\n"+marks, "\n#"+number+" ") {
					t.Errorf("finding %s (%s): the square %q does not show it", number, f.Message, first)
				}
			}
		}
	}
}

// TestPictureFindings: whatever is found in 766 nodes is in the picture where it
// is, and the page is small and quickly made.
func TestPictureFindings(t *testing.T) {
	s := newSite(t, "abci3")
	for _, trunks := range []bool{true, false} {
		w := build(s.c, s.full, rand.New(rand.NewPCG(3, 3)))
		if !trunks {
			w.f = s.nodes
		}
		for _, j := range injectors {
			if !j.trunks || trunks {
				j.inflict(w)
			}
		}
		w.prune()
		p := w.picture()
		if len(p.Verdict.Findings) < 15 {
			t.Fatalf("%d findings; want many", len(p.Verdict.Findings))
		}
		start := time.Now()
		page := drawPage(t, p)
		t.Logf("trunks %t: %d findings, %d KiB in %v", trunks, len(p.Verdict.Findings), len(page)>>10, time.Since(start).Round(time.Millisecond))
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the picture took %v", took)
		}
		if len(page) > 2e6 {
			t.Errorf("the page has %d bytes; want at most 2 MB", len(page))
		}
		checkPlaces(t, page, p.Verdict.Findings)
		if n := strings.Count(page, `<table class="map">`); trunks && n != 6+32 {
			t.Errorf("%d uplink maps; want one for each of 6 pods and 32 groups of cores", n)
		}
		links := 0
		for _, s := range spots(page) {
			if strings.Contains(s["title"], " · leaf-") {
				links++
			}
		}
		if links != 766*8 {
			t.Errorf("%d squares of adapters; want %d", links, 766*8)
		}
	}
}

// TestPictureOfDump: without a declaration, what was found is drawn.
func TestPictureOfDump(t *testing.T) {
	s := newSite(t, "superpod-h200")
	w := build(s.c, s.full, rand.New(rand.NewPCG(4, 4)))
	exchange(w.port("dgx-009", "rail3"), w.port("dgx-009", "rail6"))
	unplug(w.port("dgx-020", "rail2"))
	w.port("dgx-001", "rail1").Speed, w.port("leaf-01", "1").Speed = "HDR", "HDR"
	v := Structural(w.o)
	if len(v.Findings) != 3 {
		t.Fatalf("findings: %q", told(v))
	}
	page := drawPage(t, Picture{Observed: w.o, Verdict: v})
	checkPlaces(t, page, v.Findings)
	for _, want := range []string{`<th scope="col">mlx5_4</th>`, "unit 4", "dgx-020 mlx5_3: no cable is drawn here", "leaf × spine"} {
		if !strings.Contains(html.UnescapeString(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// TestPictureElsewhere: a finding that no port is drawn of is told all the same,
// and so is an empty fabric.
func TestPictureElsewhere(t *testing.T) {
	f := Finding{Class: "inconsistent", Severity: Warning, Message: "line 4: what cannot be"}
	page := drawPage(t, Picture{Observed: &Observed{}, Verdict: Verdict{Findings: []Finding{f}}})
	for _, want := range []string{`<a href="#elsewhere">`, `<h2 id="elsewhere">`, "inconsistent: line 4: what cannot be", "No leaf is seen"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if page := drawPage(t, Picture{}); !strings.Contains(page, "✓ nothing odd") {
		t.Error("an empty picture has no verdict")
	}
}

// TestPictureEscapes: what a device calls itself is text.
func TestPictureEscapes(t *testing.T) {
	const dump = `switchguid=0xb1(b1)
Switch	64 "S-00000000000000b1"	# "leaf-01" base port 0 lid 1 lmc 0
[1]	"H-00000000000000a1"[1](a1) 	# "n1 <script>alert(1)</script>" lid 17 4xNDR

caguid=0xa1
Ca	1 "H-00000000000000a1"	# "n1 <script>alert(1)</script>"
[1](a1) 	"S-00000000000000b1"[1]	# lid 17 lmc 0 "leaf-01" lid 1 4xNDR
`
	o, err := ParseNetDiscover(strings.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	const evil = `"><script>x</script>`
	p := Picture{Title: evil, From: evil, Notes: []string{evil}, Observed: o, Verdict: Structural(o)}
	p.Verdict.Findings = append(p.Verdict.Findings, Finding{Class: `" onclick="x`, Severity: Error, Node: "leaf-01", Action: evil, Message: evil, DeclaredAt: evil})
	page := drawPage(t, p)
	if !strings.Contains(page, "n1 &lt;script&gt;alert(1)&lt;/script&gt;") || strings.Contains(page, ` onclick="`) {
		t.Error("the description is not shown as text")
	}
}

// TestGlyphs: no two classes look alike where colour is not seen.
func TestGlyphs(t *testing.T) {
	seen := map[string]Class{}
	for _, c := range classes {
		g := glyph(c)
		if g == "!" || seen[g] != "" {
			t.Errorf("%s has the sign %q, which is that of %q", c, g, seen[g])
		}
		seen[g] = c
	}
}

// BenchmarkPicture draws 766 nodes with eight adapters, 18,416 cables.
func BenchmarkPicture(b *testing.B) {
	s := newSite(b, "abci3")
	p := build(s.c, s.full, rand.New(rand.NewPCG(1, 1))).picture()
	for b.Loop() {
		drawPage(b, p)
	}
}
