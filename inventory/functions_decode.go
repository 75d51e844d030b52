package inventory

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	yaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// csvFunc is csvdecode whose rows remember their file and line.
func (sc *scope) csvFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("text")},
		Type:   function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text := args[0].AsString()
			rows, err := decodeCSV(text, sc.ev.texts[text])
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return rows, nil
		},
	})
}

// byteOrderMark is what spreadsheets write before a CSV.
const byteOrderMark = "\ufeff"

func decodeCSV(text, file string) (cty.Value, error) {
	where := func(line int) string {
		if file == "" {
			return fmt.Sprintf("line %d", line)
		}
		return fmt.Sprintf("%s:%d", file, line)
	}
	r := csv.NewReader(bytes.NewReader([]byte(strings.TrimPrefix(text, byteOrderMark))))
	header, err := r.Read()
	if err == io.EOF {
		return cty.NilVal, errors.New("the CSV is empty: it needs a header line")
	}
	types := map[string]cty.Type{}
	for _, h := range header {
		if _, dup := types[h]; dup {
			return cty.NilVal, fmt.Errorf("%s: column %q stands twice in the header", where(1), h)
		}
		types[h] = cty.String
	}
	if file != "" {
		types[atAttr] = cty.String
	}
	var rows []cty.Value
	for err == nil {
		var rec []string
		if rec, err = r.Read(); err != nil {
			break
		}
		line, _ := r.FieldPos(0)
		row := make(map[string]cty.Value, len(types))
		for i, h := range header {
			row[h] = cty.StringVal(rec[i])
		}
		if file != "" {
			row[atAttr] = cty.StringVal(where(line))
		}
		rows = append(rows, cty.ObjectVal(row))
	}
	if pe := new(csv.ParseError); errors.As(err, &pe) {
		if errors.Is(pe.Err, csv.ErrFieldCount) {
			return cty.NilVal, fmt.Errorf("%s: this row has another number of fields than the header, which has %d", where(pe.Line), len(header))
		}
		return cty.NilVal, fmt.Errorf("%s: %w", where(pe.Line), pe.Err)
	}
	if len(rows) == 0 {
		return cty.ListValEmpty(cty.Object(types)), nil
	}
	return cty.ListVal(rows), nil
}

// jsonFunc is jsondecode that says in which file and line a text is no JSON.
func (sc *scope) jsonFunc() function.Function {
	return sc.decoder(stdlib.JSONDecodeFunc, func(text string) (line int, err error) {
		dec := json.NewDecoder(strings.NewReader(text))
		var skip json.RawMessage
		err = dec.Decode(&skip)
		at := dec.InputOffset()
		if se := new(json.SyntaxError); errors.As(err, &se) {
			at = se.Offset
		} else if err == nil {
			if _, err = dec.Token(); errors.Is(err, io.EOF) {
				return 0, nil
			}
			err = errors.New("there is something after the end of the value")
		}
		at = min(at, int64(len(text)))
		return 1 + strings.Count(text[:at], "\n"), fmt.Errorf("not JSON: %w", err)
	})
}

var yamlPlace = regexp.MustCompile(`^on line ([0-9]+), column ([0-9]+): `)

// yamlFunc is yamldecode that says in which file and line a text is no YAML.
func (sc *scope) yamlFunc() function.Function {
	return sc.decoder(yaml.YAMLDecodeFunc, func(text string) (line int, err error) {
		if err := guardYAML(text); err != nil {
			return 0, err
		}
		_, err = yaml.Standard.ImpliedType([]byte(text))
		if err == nil {
			return 0, nil
		}
		why := err.Error()
		if m := yamlPlace.FindStringSubmatch(why); m != nil {
			line, _ = strconv.Atoi(m[1]) // digits, by the expression
			why = strings.TrimPrefix(why, m[0])
		}
		return line, fmt.Errorf("not YAML: %s", why)
	})
}

// decoder puts a check before a function that decodes a text.
func (sc *scope) decoder(f function.Function, check func(text string) (line int, err error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("text")},
		Type: func(args []cty.Value) (cty.Type, error) {
			if !args[0].IsKnown() || args[0].IsNull() {
				return cty.DynamicPseudoType, nil
			}
			text := args[0].AsString()
			line, err := check(text)
			if err == nil {
				return f.ReturnTypeForValues(args)
			}
			if file := sc.ev.texts[text]; file != "" && line > 0 {
				err = fmt.Errorf("%s:%d: %w", file, line, err)
			} else if line > 0 {
				err = fmt.Errorf("line %d: %w", line, err)
			}
			return cty.NilType, function.NewArgError(0, err)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

var yamlName = regexp.MustCompile(`[&*][^\s\[\]{},]+`)

// maxAliases bounds what the aliases of a YAML text stand for, all together.
const maxAliases = 1 << 20

// guardYAML refuses a text that nests too deeply for the parser, or whose
// aliases stand for more than the memory holds.
func guardYAML(text string) error {
	depth := 0
	for line := range strings.Lines(text) {
		line = strings.TrimLeft(line, " ")
		compact := 0
		for strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "? ") || strings.HasPrefix(line, ": ") {
			line = strings.TrimLeft(line[2:], " ")
			if compact++; compact > maxDepth {
				return fmt.Errorf("it nests deeper than %d", maxDepth)
			}
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				if depth++; depth > maxDepth {
					return fmt.Errorf("it nests deeper than %d", maxDepth)
				}
			case ']', '}':
				depth = max(0, depth-1)
			}
		}
	}
	// What an anchor names is complete before its first alias, so the aliases
	// between the two are all that it can hold.
	type anchor struct {
		before, size int
		used         bool
	}
	anchors := map[string]*anchor{}
	total := 0
	for _, name := range yamlName.FindAllString(text, -1) {
		if name[0] == '&' {
			anchors[name[1:]] = &anchor{before: total}
			continue
		}
		a := anchors[name[1:]]
		if a == nil {
			continue
		}
		if !a.used {
			a.used, a.size = true, 1+total-a.before
		}
		if total += a.size; total > maxAliases {
			return errors.New("its aliases stand for too much")
		}
	}
	return nil
}
