package inventory

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// maxHosts bounds what one hostlist expression, or range(), may expand to.
const maxHosts = 65536

// Hostlist expands the list notation of HPC schedulers:
// "hnode[001-003,007],login1" is hnode001, hnode002, hnode003, hnode007,
// login1. Zero padding is kept; several brackets in one name multiply.
// An expression that expands to more than 65,536 names is an error.
func Hostlist(expr string) ([]string, error) {
	parts, err := splitOutside(expr)
	if err != nil {
		return nil, fmt.Errorf("hostlist %q: %w", expr, err)
	}
	var names []string
	for _, part := range parts {
		part = strings.TrimSpace(part)
		if part == "" {
			return nil, fmt.Errorf("hostlist %q: empty name", expr)
		}
		if names, err = expandPart(part, names); err != nil {
			return nil, fmt.Errorf("hostlist %q: %w", expr, err)
		}
	}
	return names, nil
}

// splitOutside splits at commas that are not inside brackets.
func splitOutside(expr string) ([]string, error) {
	var parts []string
	start, open := 0, false
	for i := range len(expr) {
		switch c := expr[i]; {
		case c == '[' && open:
			return nil, fmt.Errorf("'[' inside brackets at column %d", i+1)
		case c == '[':
			open = true
		case c == ']' && !open:
			return nil, fmt.Errorf("']' without '[' at column %d", i+1)
		case c == ']':
			open = false
		case c == ',' && !open:
			parts = append(parts, expr[start:i])
			start = i + 1
		}
	}
	if open {
		return nil, fmt.Errorf("'[' is never closed")
	}
	return append(parts, expr[start:]), nil
}

// expandPart appends the expansion of one name with any number of brackets.
func expandPart(part string, out []string) ([]string, error) {
	names := []string{""}
	for part != "" {
		lit, rest, found := strings.Cut(part, "[")
		var ranges []string
		if found {
			list, after, _ := strings.Cut(rest, "]")
			var err error
			if ranges, err = expandRanges(list); err != nil {
				return nil, err
			}
			part = after
		} else {
			ranges, part = []string{""}, ""
		}
		if len(names)*len(ranges)+len(out) > maxHosts {
			return nil, fmt.Errorf("expands to more than %d names", maxHosts)
		}
		next := make([]string, 0, len(names)*len(ranges))
		for _, n := range names {
			for _, r := range ranges {
				next = append(next, n+lit+r)
			}
		}
		names = next
	}
	return append(out, names...), nil
}

// expandRanges expands "001-003,007".
func expandRanges(list string) ([]string, error) {
	var out []string
	for _, r := range strings.Split(list, ",") {
		r = strings.TrimSpace(r)
		from, to, isRange := strings.Cut(r, "-")
		if !isRange {
			to = from
		}
		a, errA := parseIndex(from)
		b, errB := parseIndex(to)
		switch {
		case errA != nil || errB != nil:
			return nil, fmt.Errorf("%q is not a number or a range as 001-064", r)
		case b < a:
			return nil, fmt.Errorf("range %q runs backwards", r)
		case b-a >= maxHosts || len(out)+b-a >= maxHosts:
			return nil, fmt.Errorf("range %q expands to more than %d names", r, maxHosts)
		}
		for i := a; i <= b; i++ {
			out = append(out, fmt.Sprintf("%0*d", len(from), i))
		}
	}
	return out, nil
}

func parseIndex(s string) (int, error) {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not an index", s)
	}
	return strconv.Atoi(s)
}

// Fold is the reverse of Hostlist: sorted, without repeats, runs folded, as
// "hnode[001-064,070],login1". The last group of digits in a name is folded.
func Fold(names []string) string {
	names = slices.Clone(names)
	sort.Slice(names, func(i, j int) bool { return natural(names[i], names[j]) < 0 })
	names = slices.Compact(names)
	type group struct {
		head, tail string
		width      int
		runs       []string
		from, to   int
	}
	var out []string
	var g *group
	closeRun := func() {
		run := fmt.Sprintf("%0*d", g.width, g.from)
		if g.to > g.from {
			run += fmt.Sprintf("-%0*d", g.width, g.to)
		}
		g.runs = append(g.runs, run)
	}
	flush := func() {
		if g == nil {
			return
		}
		closeRun()
		list := strings.Join(g.runs, ",")
		if len(g.runs) > 1 || g.to > g.from {
			list = "[" + list + "]"
		}
		out = append(out, g.head+list+g.tail)
		g = nil
	}
	for _, name := range names {
		head, digits, tail := splitIndex(name)
		if digits == "" {
			flush()
			out = append(out, name)
			continue
		}
		n, _ := strconv.Atoi(digits)
		// Unpadded n9 and n10 share a group; padded n09 and unpadded n10 do too.
		fits := g != nil && g.head == head && g.tail == tail && fmt.Sprintf("%0*d", g.width, n) == digits
		switch {
		case !fits:
			flush()
			g = &group{head: head, tail: tail, width: len(digits), from: n, to: n}
		case n == g.to+1:
			g.to = n
		default:
			closeRun()
			g.from, g.to = n, n
		}
	}
	flush()
	return strings.Join(out, ",")
}

// splitIndex cuts a name around its last group of at most nine digits.
func splitIndex(name string) (head, digits, tail string) {
	end := strings.LastIndexAny(name, "0123456789") + 1
	start := end
	for start > 0 && name[start-1] >= '0' && name[start-1] <= '9' {
		start--
	}
	if end == 0 || end-start > 9 || strings.ContainsAny(name, "[],") {
		return name, "", ""
	}
	return name[:start], name[start:end], name[end:]
}

// natural compares names so that numbers in them order by value: n2 before
// n10. Equal numbers of different padding order by length, then bytewise, so
// that only equal names compare equal.
func natural(a, b string) int {
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		if !isDigit(a[i]) || !isDigit(b[j]) {
			if a[i] != b[j] {
				return int(a[i]) - int(b[j])
			}
			i, j = i+1, j+1
			continue
		}
		x, y := digitsAt(a, i), digitsAt(b, j)
		i, j = i+len(x), j+len(y)
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	if c := (len(a) - i) - (len(b) - j); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func digitsAt(s string, i int) string {
	end := i
	for end < len(s) && isDigit(s[end]) {
		end++
	}
	return s[i:end]
}
