package fabric

import (
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed picture.html.tmpl
var pictureTemplate string

// Picture is what a drawing of a fabric shows.
type Picture struct {
	Title    string          // the cluster's and the fabric's name; "" is "fabric"
	From     string          // what was read; "" is not told
	Made     time.Time       // zero is not told
	Declared *Declared       // nil, or without cables: what was found is drawn
	Observed *Observed       // nil: what is declared is drawn alone
	Off      map[string]bool // nodes that are off on purpose, as in Known.Dark
	Verdict  Verdict
	Notes    []string // what a reader must know, as that findings were left out
}

// WritePicture writes a fabric and its verdict as one HTML page that needs
// nothing beside it and no scripts: what there is to do, every adapter's link in
// a matrix of scalable units and rails, and the cables between switches. Every
// finding has its number wherever a port of it is drawn; one whose ports the
// drawing does not have is listed below it.
func WritePicture(w io.Writer, p Picture) error {
	t, err := template.New("picture").Funcs(template.FuncMap{
		"glyph": glyph,
		"group": colourGroup,
		"stamp": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	}).Parse(pictureTemplate)
	if err != nil {
		return fmt.Errorf("picture template: %w", err)
	}
	if err := t.Execute(w, p.page()); err != nil {
		return fmt.Errorf("write picture: %w", err)
	}
	return nil
}

// picturePage is what the template shows.
type picturePage struct {
	Picture
	Errors, Warnings int
	Judged           bool // held against declared cables
	Work             []workRow
	Elsewhere        []workRow
	Legend           []legendRow
	Rails            []string
	Units            []unitRow
	Maps             []uplinkMap
	AnyOff           bool
}

// workRow is a finding in the work list.
type workRow struct {
	Finding
	Number int
	Where  string // "rack a01 unit 41"
	Port   string // where to go
	At     int    // the number that its place is called by; 0: it is not drawn
}

type legendRow struct {
	Class Class
	Count int
}

func (p Picture) page() picturePage {
	out := picturePage{Picture: p, Judged: p.Declared != nil && len(p.Declared.cables) > 0}
	if out.Title == "" {
		out.Title = "fabric"
	}
	count := map[Class]int{}
	for _, f := range p.Verdict.Findings {
		if f.Severity == Error {
			out.Errors++
		} else {
			out.Warnings++
		}
		if count[f.Class]++; count[f.Class] == 1 {
			out.Legend = append(out.Legend, legendRow{Class: f.Class})
		}
	}
	for i := range out.Legend {
		out.Legend[i].Count = count[out.Legend[i].Class]
	}

	d := p.draw()
	d.cells()
	d.mark(p.Verdict.Findings)
	out.Rails, out.Units = d.matrix()
	out.Maps = d.maps()
	for i, f := range p.Verdict.Findings {
		row := workRow{Finding: f, Number: i + 1, At: d.firstAt(i), Port: f.Node}
		if len(f.Ports) > 0 {
			row.Port, row.Where = f.Ports[0].String(), strings.Trim(standsAt(f.Ports[0]), " ()")
		}
		out.Work = append(out.Work, row)
		if row.At == 0 {
			out.Elsewhere = append(out.Elsewhere, row)
		}
	}
	for _, dev := range d.order {
		out.AnyOff = out.AnyOff || dev.off
	}
	return out
}

// glyphs show the class of a finding where colour does not.
var glyphs = map[Class]string{
	MissingCable: "×", MissingNode: "○", MissingHCA: "◇", Miswired: "→", SwappedPair: "⇄", SwappedRails: "⇅", Rotated: "↻",
	SwappedSwitch: "⇆", SwappedRack: "⇔", ExtraCable: "+", UnexpectedNode: "?", WrongSpeed: "≠", WrongWidth: "≈", RailViolation: "∥",
	UnbalancedUplinks: "±", DuplicateGUID: "=", DuplicateDescription: "≡", WrongPartition: "§",
}

// glyph is the sign of a class; one that is not known here has a sign all the same.
func glyph(c Class) string {
	if g := glyphs[c]; g != "" {
		return g
	}
	return "!"
}

// colourGroup is the CSS class of what kind of work a finding is.
func colourGroup(c Class) string {
	switch c {
	case MissingCable, MissingNode, MissingHCA:
		return "dark"
	case Miswired, SwappedPair, SwappedRails, Rotated, SwappedSwitch, SwappedRack, RailViolation:
		return "moved"
	case ExtraCable, UnexpectedNode:
		return "extra"
	case WrongSpeed, WrongWidth, UnbalancedUplinks:
		return "rate"
	}
	return "name"
}
