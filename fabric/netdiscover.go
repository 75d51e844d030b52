package fabric

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"firstlight/inventory"
)

// maxDump bounds a dump: 100,000 links are some 25 MB.
const maxDump = 1 << 29

// maxPort is the highest port number there is: PortInfo.LocalPortNum has 8 bits
// and 255 is no port.
const maxPort = 254

// ParseNetDiscover reads what ibnetdiscover of infiniband-diags prints: its
// topology (also with -g, -s or --full), or its report of ports (-p). An error
// names the line and what was expected there. What can be read, and cannot be
// so, is in Observed.Inconsistencies.
func ParseNetDiscover(r io.Reader) (*Observed, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxDump+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxDump {
		return nil, fmt.Errorf("the dump is larger than %d MB: no fabric is", maxDump>>20)
	}
	p := &dump{o: &Observed{}, byID: map[string]*Node{}}
	text := strings.TrimPrefix(string(raw), "\ufeff")
	for text != "" {
		p.line++
		line, rest, ended := strings.Cut(text, "\n")
		if err := p.read(strings.TrimRight(line, "\r")); err != nil {
			if !ended || strings.TrimSpace(rest) == "" {
				return nil, fmt.Errorf("line %d: %w; it is the last line: is the dump cut off?", p.line, err)
			}
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
		text = rest
	}
	if len(p.o.Nodes) == 0 {
		return nil, errors.New("there is no switch and no adapter in it: expected what ibnetdiscover or ibnetdiscover -p prints")
	}
	if p.ids.any {
		p.o.doubt(p.line, "the dump ends within the description of a node: it is cut off")
	}
	for _, n := range p.o.Nodes {
		if !n.described {
			p.o.doubt(n.Line, "%s is named at the other end of a link and not described: it did not answer, or the dump is cut off", n.Label())
		}
	}
	if p.form == report { // it lists every port
		for _, n := range p.o.Nodes {
			if n.described {
				n.NumPorts = n.Ports[len(n.Ports)-1].Num
			}
		}
	}
	p.o.reconcile()
	return p.o, nil
}

// dump is the state of reading one.
type dump struct {
	o      *Observed
	line   int
	byID   map[string]*Node // by what links call a node: "S-…", "H-…"; in a report of ports by kind and GUID
	node   *Node            // whose ports follow
	ids    ids              // lines before a node's own
	form   form
	warned bool
}

type form string

const (
	topology form = "the topology that ibnetdiscover prints"
	report   form = "the report of ports that ibnetdiscover -p prints"
)

// ids are the lines that stand before a node's own.
type ids struct {
	any                 bool
	vendor, device      uint64
	system, guid, port0 uint64
}

// read takes one line of either form.
func (p *dump) read(line string) error {
	trimmed := strings.TrimSpace(line)
	if trimmed == "" || trimmed[0] == '#' {
		return nil
	}
	if toolNoise(trimmed) {
		if !p.warned {
			p.warned = true
			p.o.doubt(p.line, "ibnetdiscover complained here, so something did not answer: %s", trimmed)
		}
		return nil
	}
	switch first, rest, _ := strings.Cut(trimmed, " "); first {
	case "SW", "CA", "RT", "??":
		if err := p.is(report); err != nil {
			return err
		}
		return p.portLine(first, rest)
	}
	if err := p.is(topology); err != nil {
		return err
	}
	return p.topologyLine(trimmed)
}

// is holds every line to the form of the first.
func (p *dump) is(f form) error {
	if p.form == "" {
		p.form = f
	}
	if p.form != f {
		return fmt.Errorf("expected a line of %s, as before; found one that is not", p.form)
	}
	return nil
}

// toolNoise reports lines that ibnetdiscover writes to its standard error,
// which often ends up in the same file.
func toolNoise(line string) bool {
	for _, begin := range []string{"ibwarn:", "ibpanic:", "src/", "./libibnetdisc", "/var/tmp/"} {
		if strings.HasPrefix(line, begin) {
			return true
		}
	}
	return false
}

// named finds a node by what links call it, or makes it.
func (p *dump) named(id string, kind Kind, guid uint64) *Node {
	n := p.byID[id]
	if n == nil {
		n = &Node{Kind: kind, GUID: guid, Line: p.line}
		p.byID[id] = n
		p.o.Nodes = append(p.o.Nodes, n)
	}
	return n
}

// describe gives a node its description, which every mention must agree with.
func (p *dump) describe(n *Node, description string) {
	switch {
	case n.Description == "":
		n.Description = description
	case description != "" && n.Description != description:
		p.o.doubt(p.line, "%s is called %s here, and %q in line %d", id(n), strconv.Quote(description), n.Description, n.Line)
	}
}

func id(n *Node) string {
	guid := n.GUID
	if guid == 0 {
		guid = n.PortGUID
	}
	return fmt.Sprintf("%s 0x%016x", n.Kind, guid)
}

// connect notes that port a leads to port b, as a's side says.
func (p *dump) connect(a, b *Port, width int, speed string) {
	if a.Line != 0 && a.Peer != b {
		p.o.doubt(p.line, "%s stands here again, with another end than in line %d", a.Label(), a.Line)
		return
	}
	a.Peer, a.Width, a.Speed, a.Line = b, width, speed, p.line
}

// parseRate reads "4xNDR"; a speed that the tool did not know is "".
func parseRate(text string) (width int, speed string, err error) {
	lanes, speed, ok := strings.Cut(text, "x")
	if text == "?????" || strings.HasPrefix(text, "??") {
		return 0, "", nil
	}
	width, err = strconv.Atoi(lanes)
	if !ok || err != nil || width < 1 || width > 12 {
		return 0, "", fmt.Errorf("expected a link's width and speed, as 4xNDR; found %q", clip(text))
	}
	if speed == "???" {
		return width, "", nil
	}
	if inventory.LaneSpeed(speed) == 0 {
		return 0, "", fmt.Errorf("expected a speed, as EDR, HDR, NDR or XDR; found %q", clip(speed))
	}
	return width, speed, nil
}

func parseNumber(text, what string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("expected %s, a number from %d to %d; found %q", what, least, most, clip(text))
	}
	return n, nil
}

func parseHex(text, what string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("expected %s in hexadecimal; found %q", what, clip(text))
	}
	return n, nil
}

// clip keeps a message to one line.
func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
