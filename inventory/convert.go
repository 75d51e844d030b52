package inventory

import (
	"encoding/csv"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// convert makes the Go value that an attribute's kind asks for. ok is false
// when it cannot, which is then reported.
func (ev *evaluator) convert(a *attrSchema, v cty.Value, rng hcl.Range, ea *each) (x any, ok bool) {
	switch a.kind {
	case kindRef:
		return ev.convertRef(a, v, rng, ea)
	case kindInt:
		return ev.convertInt(a, v, rng, ea)
	case kindNumber:
		return ev.convertNumber(a, v, rng, ea)
	case kindBool:
		b, err := convert.Convert(v, cty.Bool)
		if err != nil || refOf(v) != nil {
			ev.errorAt(rng, ea, "Wrong type", "%s must be true or false; this is %s.", a.name, friendly(v))
			return nil, false
		}
		return b.True(), true
	case kindStrings:
		return ev.convertStrings(a, v, rng, ea)
	case kindDeadlines:
		return ev.convertDeadlines(a, v, rng, ea)
	case kindCables:
		return ev.convertCables(a, v, rng, ea)
	case kindRefs:
		return ev.convertRefs(a, v, rng, ea)
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		what := friendly(v)
		if a.sensitive {
			what = v.Type().FriendlyName()
		}
		ev.errorAt(rng, ea, "Wrong type", "%s must be a %s; this is %s.", a.name, a.kind, what)
		return nil, false
	}
	x, err = parseKind(a.kind, s.AsString())
	if err != nil {
		ev.errorAt(rng, ea, "Bad "+string(a.kind), "%s: %s", a.name, sentence(err))
		return nil, false
	}
	if len(a.oneOf) > 0 && !slices.Contains(a.oneOf, s.AsString()) {
		ev.errorAt(rng, ea, "Unknown value", "%s must be one of %s; this is %q%s", a.name, quoted(a.oneOf), s.AsString(), didYouMean(s.AsString(), a.oneOf))
		return nil, false
	}
	if p, isPath := x.(path); isPath {
		x = ev.resolve(string(p), ea)
	}
	return x, true
}

// path is text that names a file; resolve makes it absolute.
type path string

func (ev *evaluator) resolve(p string, ea *each) string {
	switch {
	case filepath.IsAbs(p):
		return filepath.Clean(p)
	case ea != nil && ea.in != nil:
		return filepath.Join(ea.in.abs, p) // relative to the module that says so
	}
	return filepath.Join(ev.abs, p)
}

// parseKind parses the kinds that are written as one string.
func parseKind(k kind, s string) (any, error) {
	switch k {
	case kindSize:
		return ParseSize(s)
	case kindDuration:
		return ParseDuration(s)
	case kindBandwidth:
		return ParseBandwidth(s)
	case kindPower:
		return ParsePower(s)
	case kindRate:
		return ParseLinkRate(s)
	case kindAddr:
		return parseAddr(s)
	case kindPrefix:
		return parsePrefix(s)
	case kindMAC:
		return parseMAC(s)
	case kindPCI:
		return parsePCI(s)
	case kindGUID:
		return parseGUID(s)
	case kindPKey:
		return parsePKey(s)
	case kindPCIAddr:
		return parsePCIAddr(s)
	case kindNames:
		return parseNames(s)
	case kindPath:
		return path(s), nil
	}
	return s, nil
}

// sentence ends an error's text as one.
func sentence(err error) string {
	s := err.Error()
	if !strings.HasSuffix(s, "?") && !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(out, ", ")
}

func (ev *evaluator) convertRef(a *attrSchema, v cty.Value, rng hcl.Range, ea *each) (any, bool) {
	in := refOf(v)
	switch {
	case in != nil && in.schema.name == a.ref:
		return in, true
	case v.Type() == cty.String:
		hint := ""
		if _, there := ev.named[a.ref][v.AsString()]; there {
			hint = fmt.Sprintf(" Write %s.%s, without quotes.", a.ref, v.AsString())
		}
		ev.errorAt(rng, ea, "Wrong type", "%s must be a reference to a %s block, as %s.NAME or %s[each.value.COLUMN]; this is %s.%s", a.name, a.ref, a.ref, a.ref, friendly(v), hint)
	default:
		ev.errorAt(rng, ea, "Wrong type", "%s must be a reference to a %s block, as %s.NAME; this is %s.", a.name, a.ref, a.ref, friendly(v))
	}
	return nil, false
}

// convertRefs takes a list of references. What is wrong with one of them is
// said of that one.
func (ev *evaluator) convertRefs(a *attrSchema, v cty.Value, rng hcl.Range, ea *each) (any, bool) {
	if t := v.Type(); !t.IsListType() && !t.IsTupleType() || v.IsNull() {
		ev.errorAt(rng, ea, "Wrong type", "%s must be a list of references to %s blocks, as [%s.NAME]; this is %s.", a.name, a.ref, a.ref, friendly(v))
		return nil, false
	}
	out, good := []*inst{}, true
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		in, ok := ev.convertRef(a, e, rng, ea)
		if !ok {
			good = false
			continue
		}
		out = append(out, in.(*inst))
	}
	return out, good
}

func (ev *evaluator) convertInt(a *attrSchema, v cty.Value, rng hcl.Range, ea *each) (any, bool) {
	n, err := convert.Convert(v, cty.Number)
	if err != nil {
		ev.errorAt(rng, ea, "Wrong type", "%s must be a %s; this is %s.", a.name, a.kind, friendly(v))
		return nil, false
	}
	f := n.AsBigFloat()
	i, _ := f.Int64()
	if !f.IsInt() || i < int64(a.min) || i > int64(a.max) {
		ev.errorAt(rng, ea, "Out of range", "%s must be a %s from %d to %d; this is %s.", a.name, a.kind, a.min, a.max, f.Text('g', 10))
		return nil, false
	}
	return int(i), true
}

func (ev *evaluator) convertNumber(a *attrSchema, v cty.Value, rng hcl.Range, ea *each) (any, bool) {
	n, err := convert.Convert(v, cty.Number)
	if err != nil {
		ev.errorAt(rng, ea, "Wrong type", "%s must be a %s; this is %s.", a.name, a.kind, friendly(v))
		return nil, false
	}
	f, _ := n.AsBigFloat().Float64()
	if f <= float64(a.min) || f > float64(a.max) {
		ev.errorAt(rng, ea, "Out of range", "%s must be more than %d and at most %d; this is %s.", a.name, a.min, a.max, n.AsBigFloat().Text('g', 10))
		return nil, false
	}
	return f, true
}

func (ev *evaluator) convertStrings(a *attrSchema, v cty.Value, rng hcl.Range, ea *each) (any, bool) {
	list, err := convert.Convert(v, cty.List(cty.String))
	if err != nil {
		ev.errorAt(rng, ea, "Wrong type", "%s must be a %s; this is %s.", a.name, a.kind, friendly(v))
		return nil, false
	}
	out, good := []string{}, true
	for it := list.ElementIterator(); it.Next(); {
		_, e := it.Element()
		switch {
		case e.IsNull():
			good = false
			ev.errorAt(rng, ea, "Missing value", "%s has a null in it.", a.name)
		case len(a.oneOf) > 0 && !slices.Contains(a.oneOf, e.AsString()):
			good = false
			ev.errorAt(rng, ea, "Unknown value", "%s takes %s; %q is none of them%s", a.name, quoted(a.oneOf), e.AsString(), didYouMean(e.AsString(), a.oneOf))
		default:
			out = append(out, e.AsString())
		}
	}
	return out, good
}

func (ev *evaluator) convertDeadlines(a *attrSchema, v cty.Value, rng hcl.Range, ea *each) (any, bool) {
	if !v.Type().IsObjectType() && !v.Type().IsMapType() {
		ev.errorAt(rng, ea, "Wrong type", "%s must be a %s, as { enrolled = \"20m\" }; this is %s.", a.name, a.kind, friendly(v))
		return nil, false
	}
	out, good := map[string]time.Duration{}, true
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		state := k.AsString()
		if !slices.Contains(lifecycleStates, state) {
			good = false
			ev.errorAt(rng, ea, "Unknown lifecycle state", "%s: %q is not a state that is entered: use %s%s", a.name, state, strings.Join(lifecycleStates, ", "), didYouMean(state, lifecycleStates))
			continue
		}
		s, err := convert.Convert(e, cty.String)
		if err == nil && s.IsNull() {
			continue
		}
		var d Duration
		if err == nil {
			d, err = ParseDuration(s.AsString())
		}
		if err == nil && d.Duration == 0 {
			err = fmt.Errorf("a deadline of zero can never be met")
		}
		if err != nil {
			good = false
			ev.errorAt(rng, ea, "Bad duration", "%s.%s: %s", a.name, state, sentence(err))
			continue
		}
		out[state] = d.Duration
	}
	return out, good
}

var cableColumns = []string{"a_device", "a_port", "b_device", "b_port"}

func (ev *evaluator) convertCables(a *attrSchema, v cty.Value, rng hcl.Range, ea *each) (any, bool) {
	if t := v.Type(); !t.IsListType() && !t.IsTupleType() && !t.IsSetType() {
		ev.errorAt(rng, ea, "Wrong type", "%s must be a %s, as csvdecode(file(\"cables.csv\")); this is %s.", a.name, a.kind, friendly(v))
		return nil, false
	}
	cables := make([]Cable, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		c := Cable{Range: rng}
		if at := rowOf(e); at != "" {
			c.Range = ev.rowRange(at)
			c.Row = c.Range.Start.Line
		}
		ends, ok := cableEnds(e)
		if !ok {
			ev.errorAt(c.Range, ea, "Bad cable", "A cable is an object with %s, none of them empty; this is %s.", strings.Join(cableColumns, ", "), describeCable(e))
			continue
		}
		c.ADevice, c.APort, c.BDevice, c.BPort = ends[0], ends[1], ends[2], ends[3]
		cables = append(cables, c)
	}
	return cables, true // the good ones are still worth checking
}

// csvCables makes the cables of a CSV text without a value for every cell,
// which for a large fabric is most of the work. ok is false where a row needs
// a closer look, or the text is no CSV; convertCables then says so.
func (ev *evaluator) csvCables(text, file string) (cables []Cable, ok bool) {
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, byteOrderMark)))
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil || file == "" {
		return nil, false
	}
	var at [4]int
	for i, col := range cableColumns {
		at[i] = slices.Index(header, col)
		if at[i] < 0 || slices.Contains(header[at[i]+1:], col) {
			return nil, false
		}
	}
	if dup := slices.Compact(slices.Sorted(slices.Values(header))); len(dup) != len(header) {
		return nil, false
	}
	first := ev.lineRange(file, 1)
	starts := ev.lines[first.Filename]
	cables = make([]Cable, 0, len(starts))
	for {
		rec, err := r.Read()
		if err == io.EOF {
			return cables, true
		}
		if err != nil {
			return nil, false
		}
		var ends [4]string
		for i := range ends {
			if ends[i] = strings.TrimSpace(rec[at[i]]); ends[i] == "" {
				return nil, false
			}
		}
		line, _ := r.FieldPos(0)
		c := Cable{ADevice: ends[0], APort: ends[1], BDevice: ends[2], BPort: ends[3], Row: line, Range: rangeOfLine(first.Filename, line, starts)}
		cables = append(cables, c)
	}
}

func cableEnds(e cty.Value) ([4]string, bool) {
	var ends [4]string
	if e.IsNull() || (!e.Type().IsObjectType() && !e.Type().IsMapType()) {
		return ends, false
	}
	m := e.AsValueMap()
	for i, col := range cableColumns {
		v, ok := m[col]
		if !ok {
			return ends, false
		}
		s, err := convert.Convert(v, cty.String)
		if err != nil || s.IsNull() || strings.TrimSpace(s.AsString()) == "" {
			return ends, false
		}
		ends[i] = strings.TrimSpace(s.AsString())
	}
	return ends, true
}

func describeCable(e cty.Value) string {
	if e.IsNull() || (!e.Type().IsObjectType() && !e.Type().IsMapType()) {
		return friendly(e)
	}
	var parts []string
	m := e.AsValueMap()
	for _, k := range keys(m) {
		if s, err := convert.Convert(m[k], cty.String); k != atAttr && err == nil && !s.IsNull() {
			parts = append(parts, fmt.Sprintf("%s = %q", k, s.AsString()))
		}
	}
	if len(parts) == 0 {
		return "empty"
	}
	return strings.Join(parts, ", ")
}

// rowRange turns "cables.csv:131" into the range of that line.
func (ev *evaluator) rowRange(at string) hcl.Range {
	i := strings.LastIndexByte(at, ':')
	line := 0
	if i < 0 {
		return hcl.Range{Filename: at}
	}
	line, _ = strconv.Atoi(at[i+1:]) // 0 for what nobody here wrote
	return ev.lineRange(at[:i], line)
}

// lineRange is a line of a file that was read.
func (ev *evaluator) lineRange(name string, line int) hcl.Range {
	if !filepath.IsAbs(name) {
		name = filepath.Join(ev.dir, name)
	}
	return rangeOfLine(name, line, ev.lines[name])
}

// rangeOfLine is a line of a file whose lines begin at starts.
func rangeOfLine(name string, line int, starts []int) hcl.Range {
	r := hcl.Range{Filename: name, Start: hcl.Pos{Line: line, Column: 1}, End: hcl.Pos{Line: line, Column: 1}}
	if line >= 1 && line < len(starts) {
		r.Start.Byte, r.End.Byte = starts[line-1], max(starts[line-1], starts[line]-1)
		r.End.Column += r.End.Byte - r.Start.Byte
	}
	return r
}
