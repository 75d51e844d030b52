package fabric

import (
	"fmt"
	"strings"
)

var portWords = map[string]Kind{"SW": Switch, "CA": CA, "RT": Router}

// portLine reads the rest of a line of the report of ports, one of
//
//	CA     4  1 0xa088c20300007031 2x NDR - SW     7  4 0xb83fd20300aa0070 ( 'hnode008 mlx5_3' - 'leaf-08' )
//	SW     7 65 0xb83fd20300aa0070 4x SDR                                    'leaf-08'
func (p *dump) portLine(word, rest string) error {
	a, rest, err := p.reportedPort(word, rest)
	if err != nil {
		return err
	}
	width, rest := field(rest)
	speed, rest := field(rest)
	lanes, name, err := parseRate(width + speed)
	if err != nil {
		return err
	}
	a.Node.described = true
	if word, after := field(rest); word == "-" {
		return p.reportedLink(a, after, lanes, name)
	}
	description := strings.TrimSpace(rest)
	if len(description) < 2 || description[0] != '\'' || description[len(description)-1] != '\'' {
		return fmt.Errorf("expected - and the port at the other end, or the node's description in '…'; found %q", clip(description))
	}
	p.describe(a.Node, description[1:len(description)-1])
	if a.Line != 0 && a.Peer != nil {
		p.o.doubt(p.line, "%s has nothing behind it here, and %s in line %d", a.Label(), a.Peer.Label(), a.Line)
		return nil
	}
	a.Line = p.line // what a dark port last ran at says nothing
	return nil
}

// reportedLink reads the other end of a port, and what the two nodes are called.
func (p *dump) reportedLink(a *Port, rest string, width int, speed string) error {
	word, rest := field(rest)
	b, rest, err := p.reportedPort(word, rest)
	if err != nil {
		return err
	}
	names := strings.TrimSpace(rest)
	inside, ok := strings.CutPrefix(names, "( '")
	inside, ok2 := strings.CutSuffix(inside, "' )")
	here, there, ok3 := strings.Cut(inside, "' - '")
	if !ok || !ok2 || !ok3 {
		return fmt.Errorf("expected the two descriptions, as ( 'hnode001 mlx5_0' - 'leaf-01' ); found %q", clip(names))
	}
	p.describe(a.Node, here)
	p.describe(b.Node, there)
	p.connect(a, b, width, speed)
	return nil
}

// reportedPort reads LID, number and GUID of a port. A switch's ports carry
// the GUID of its port 0, an adapter's their own: of an adapter with two ports
// this form does not say that they belong together.
func (p *dump) reportedPort(word, rest string) (*Port, string, error) {
	kind, ok := portWords[word]
	if !ok {
		return nil, "", fmt.Errorf("expected SW, CA or RT; found %q", clip(word))
	}
	text, rest := field(rest)
	lid, err := parseNumber(text, "a LID", 0, 0xffff)
	if err != nil {
		return nil, "", err
	}
	text, rest = field(rest)
	num, err := parseNumber(text, "a port", 1, maxPort)
	if err != nil {
		return nil, "", err
	}
	text, rest = field(rest)
	guid, err := parseHex(text, "a port's GUID")
	if err != nil {
		return nil, "", err
	}
	n := p.named(word+text, kind, 0)
	n.PortGUID = guid
	port := n.port(num)
	if kind == Switch {
		n.GUID, n.LID = guid, lid // port 0 of a switch has the node's GUID
	} else {
		port.GUID, port.LID = guid, lid
	}
	return port, rest, nil
}

// field cuts the first word off.
func field(text string) (word, rest string) {
	text = strings.TrimLeft(text, " \t")
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}
