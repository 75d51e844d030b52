package fabric

import (
	"fmt"
	"strings"
)

// cables compares what is declared and what is found, cable by cable. Declared
// and found cables that share a port form chains, of which every other cable is
// declared: each chain is a permutation, and needs as many moves as it has
// found cables, or one less where it closes.
func (c *check) cables() {
	seen := make([]bool, len(c.ends))
	for _, first := range c.ends { // chains begin where only one of the two is
		if seen[first.id] || c.same(first) || c.declared(first) != nil && c.found(first) != nil {
			continue
		}
		if chain := c.chain(first, seen); len(chain) > 1 {
			c.tellChain(chain, c.declared(first) != nil)
		}
	}
	for _, first := range c.ends { // what is left are rings
		if !seen[first.id] && !c.same(first) {
			c.tellRing(c.chain(first, seen))
		}
	}
}

func (c *check) declared(e *end) *end {
	if c.gone[e.id] {
		return nil
	}
	return e.mate()
}

func (c *check) found(e *end) *end {
	if i := c.link[e.id]; i >= 0 {
		return c.ends[i]
	}
	return nil
}

// same reports an end that is cabled as declared, or neither.
func (c *check) same(e *end) bool { return c.declared(e) == c.found(e) }

// chain follows declared and found cables in turn. A ring begins with a
// declared one and its last end is the first's found other end.
func (c *check) chain(e *end, seen []bool) []*end {
	chain := []*end{e}
	seen[e.id] = true
	byDeclared := c.declared(e) != nil
	for {
		next := c.found(e)
		if byDeclared {
			next = c.declared(e)
		}
		if next == nil || seen[next.id] {
			return chain
		}
		chain, e, byDeclared = append(chain, next), next, !byDeclared
		seen[e.id] = true
	}
}

// move is a cable to plug elsewhere: its end at from belongs into to; the other
// one stays in kept.
type move struct{ kept, from, to *end }

// nice counts what an engineer would rather do: plug a cable from one port of a
// device into another of the same, and plug at the leaf.
func (m move) nice() int {
	n := 0
	if m.from.dev == m.to.dev {
		n += 4
	}
	if m.from.dev.isSwitch {
		n++
	}
	if m.from.dev.rack == m.to.dev.rack {
		n++
	}
	return n
}

// tellChain tells of an open chain of ends; the first two are a declared cable
// or a found one.
func (c *check) tellChain(chain []*end, declaredFirst bool) {
	var found, want [][2]*end
	for i := range len(chain) - 1 {
		edge := [2]*end{chain[i], chain[i+1]}
		if (i%2 == 0) == declaredFirst {
			want = append(want, edge)
		} else {
			found = append(found, edge)
		}
	}
	switch {
	case len(found) == 0:
		c.dark(want[0][0].cable)
	case len(want) == 0:
		c.extra(found[0])
	case len(want) == len(found):
		moves := forward(found, want) // each found cable is followed by the declared one it should be
		if declaredFirst {
			moves = backward(found, want)
		}
		c.tellMoves(moves, false)
	case len(want) > len(found): // one of the declared ones is missing
		lost, moves := bestSplit(found, want)
		c.tellMoves(moves, false)
		c.dark(want[lost][0].cable)
	default: // one of the found ones is too many
		over, moves := bestSurplus(found, want)
		c.tellMoves(moves, false)
		c.extra(found[over])
	}
}

// forward makes found[i] into want[i], which shares its second end.
func forward(found, want [][2]*end) (out []move) {
	for i := range found {
		out = append(out, move{kept: found[i][1], from: found[i][0], to: want[i][1]})
	}
	return out
}

// backward makes found[i] into want[i], which shares its first end.
func backward(found, want [][2]*end) (out []move) {
	for i := range found {
		out = append(out, move{kept: found[i][0], from: found[i][1], to: want[i][0]})
	}
	return out
}

// bestSplit finds which declared cable to call missing: those before it are
// what the found ones behind them should be.
func bestSplit(found, want [][2]*end) (lost int, moves []move) {
	best := -1
	for i := range want {
		m := append(backward(found[:i], want[:i]), forward(found[i:], want[i+1:])...)
		if n := niceness(m); n > best {
			best, lost, moves = n, i, m
		}
	}
	return lost, moves
}

// bestSurplus finds which found cable to call one too many.
func bestSurplus(found, want [][2]*end) (over int, moves []move) {
	best := -1
	for i := range found {
		m := append(forward(found[:i], want[:i]), backward(found[i+1:], want[i:])...)
		n := niceness(m)
		if found[i][0].cable == nil && found[i][1].cable == nil {
			n += 100
		}
		if n > best {
			best, over, moves = n, i, m
		}
	}
	return over, moves
}

func niceness(moves []move) int {
	n := 0
	for _, m := range moves {
		n += m.nice()
	}
	return n
}

// tellRing tells of cables in each other's place. The ends are in the order in
// which declared and found cables take turns, a declared one first.
func (c *check) tellRing(ring []*end) {
	var found, want [][2]*end
	for i := 0; i < len(ring); i += 2 {
		want = append(want, [2]*end{ring[i], ring[i+1]})
		found = append(found, [2]*end{ring[i+1], ring[(i+2)%len(ring)]})
	}
	back := backward(found, want)
	on := forward(found, append(want[1:len(want):len(want)], want[0]))
	if niceness(on) > niceness(back) {
		back = on
	}
	c.tellMoves(back, true)
}

// extra is the finding of a cable that is not declared.
func (c *check) extra(ends [2]*end) {
	low, high := c.turned(ends[0], ends[1])
	f := Finding{Class: ExtraCable, Severity: Warning, Node: low.dev.name, Ports: refs(high, low), Declared: "no cable",
		Found:   low.String() + " - " + high.String(),
		Message: fmt.Sprintf("%s: cabled to %s, and no cable is declared there", low, high),
		Action:  fmt.Sprintf("remove the cable from %s to %s, or declare it", high, low)}
	c.add(f)
}

// turned orders the ends of a cable from the nodes up.
func (c *check) turned(a, b *end) (low, high *end) {
	if tierOf(a) > tierOf(b) {
		return b, a
	}
	return a, b
}

func tierOf(e *end) int {
	switch {
	case !e.dev.isSwitch:
		return 0
	case e.dev.sw == nil:
		return 1
	}
	return map[string]int{"": 1, "leaf": 1, "spine": 2, "core": 3}[e.dev.sw.Role]
}

// tellMoves is the finding of cables to plug elsewhere, as one.
func (c *check) tellMoves(moves []move, closed bool) {
	first := moves[0]
	subject := first.kept
	for _, m := range moves { // tell of the node, where there is one
		if low, _ := c.turned(m.from, m.to); tierOf(m.kept) > tierOf(low) {
			subject = low
		}
	}
	f := Finding{Class: classOf(moves, closed), Severity: Error, Node: subject.dev.name, DeclaredAt: c.at(first.to.cable)}
	var declared, found, where []string
	listed := map[*end]bool{}
	for _, m := range moves {
		for _, e := range []*end{m.from, m.kept, m.to} {
			if !listed[e] {
				listed[e] = true
				f.Ports = append(f.Ports, e.ref())
			}
		}
		declared = append(declared, m.kept.String()+" - "+m.to.String())
		found = append(found, m.kept.String()+" - "+m.from.String())
		where = append(where, fmt.Sprintf("from %s to %s", m.from, m.to))
	}
	f.Declared, f.Found = strings.Join(declared, "; "), strings.Join(found, "; ")
	f.Message = fmt.Sprintf("%s: cabled to %s, declared %s%s", first.kept, first.from, first.to, declaredAs(f.DeclaredAt))
	switch {
	case closed && len(moves) == 2:
		f.Message += fmt.Sprintf("; %s is the other half of the swap", moves[1].kept)
		f.Action = fmt.Sprintf("swap the cables at %s and %s", first.from, first.to)
	case len(moves) == 1:
		f.Action = fmt.Sprintf("move the cable at %s to %s", first.from, first.to)
		if first.from.dev == first.to.dev && first.from.dev.isSwitch {
			f.Action = fmt.Sprintf("move the cable at %s to port %s%s", first.from, first.to.port, cage(first.to))
		}
	default:
		f.Message += fmt.Sprintf("; %d cables, each in the place of the next", len(moves))
		f.Action = "move the cables " + strings.Join(where, ", ")
	}
	c.add(f)
}

func cage(e *end) string {
	if e.label == "" || e.label == e.port {
		return ""
	}
	return " (" + e.label + ")"
}

func classOf(moves []move, closed bool) Class {
	first := moves[0]
	switch {
	case closed && len(moves) == 2 && first.from.dev == first.to.dev && !first.from.dev.isSwitch,
		closed && len(moves) == 2 && first.kept.dev == moves[1].kept.dev && !first.kept.dev.isSwitch:
		return SwappedRails
	case closed && len(moves) == 2:
		return SwappedPair
	case len(moves) > 1:
		return Rotated
	}
	if on, own := first.from.rail(), first.kept.rail(); first.kept.hca != nil && on != 0 && own != 0 && on != own {
		return RailViolation
	}
	return Miswired
}
