package fabric

import (
	"errors"
	"fmt"
	"strings"
)

// topologyLine reads one line of the topology form, which is not empty and no comment.
func (p *dump) topologyLine(line string) error {
	switch {
	case line[0] == '[':
		return p.linkLine(line)
	case strings.HasPrefix(line, "< "), strings.HasPrefix(line, "> "):
		return errors.New("this is what ibnetdiscover --diff prints: expected a whole dump")
	case strings.HasPrefix(line, "Chassis "), strings.HasPrefix(line, "Hostname:"), line == "Non-Chassis Nodes":
		return nil // -g
	}
	word := line
	if i := strings.IndexAny(line, " \t="); i >= 0 {
		word = line[:i]
	}
	if kind, ok := nodeWords[word]; ok {
		return p.nodeLine(line[len(word):], kind)
	}
	if key, value, ok := strings.Cut(line, "="); ok {
		return p.idLine(key, value)
	}
	return fmt.Errorf("expected a node (Switch, Ca, Rt), one of its ports ([1] …) or an identity (vendid=, sysimgguid=); found %q", clip(line))
}

var nodeWords = map[string]Kind{"Switch": Switch, "Ca": CA, "Hca": CA, "Rt": Router}

// idLine reads what stands before a node: switchguid=0xb83f(b83f).
func (p *dump) idLine(key, value string) error {
	value, _, _ = strings.Cut(value, "#")
	value = strings.TrimSpace(value)
	value, port0, _ := strings.Cut(value, "(")
	p.node = nil
	var into *uint64
	switch key {
	case "vendid":
		into = &p.ids.vendor
	case "devid":
		into = &p.ids.device
	case "sysimgguid":
		into = &p.ids.system
	case "switchguid", "caguid", "rtguid":
		into = &p.ids.guid
	case "width", "speed", "extspeed":
		return nil // a simulator's net file has them
	default:
		return fmt.Errorf("expected vendid=, devid=, sysimgguid=, switchguid=, caguid= or rtguid=; found %q", clip(key))
	}
	n, err := parseHex(value, key)
	if err != nil {
		return err
	}
	*into = n
	p.ids.any = true
	if key == "vendid" && n > 0xffffff || key == "devid" && n > 0xffff {
		return fmt.Errorf("expected %s of at most %d digits; found %q", key, map[string]int{"vendid": 6, "devid": 4}[key], clip(value))
	}
	if port0 != "" {
		if p.ids.port0, err = parseHex(strings.TrimSuffix(port0, ")"), "the GUID of port 0"); err != nil {
			return err
		}
	}
	return nil
}

// nodeLine reads the rest of: Switch 65 "S-b83f" # "leaf-01" enhanced port 0 lid 7 lmc 0.
func (p *dump) nodeLine(rest string, kind Kind) error {
	rest = strings.TrimLeft(rest, " \t")
	if strings.HasPrefix(rest, ":") {
		return errors.New("this is the list of ibnetdiscover -l, which has no links: run ibnetdiscover or ibnetdiscover -p")
	}
	count, rest, _ := strings.Cut(rest, " ")
	ports, err := parseNumber(count, "the number of ports", 0, maxPort+1)
	if err != nil {
		return err
	}
	name, rest, err := quotedName(rest)
	if err != nil {
		return err
	}
	n, err := p.byName(name, kind)
	if err != nil {
		return err
	}
	description, after, err := commentName(rest)
	if err != nil {
		return err
	}
	if n.described {
		p.o.doubt(p.line, "%s is described here, and in line %d", id(n), n.Line)
	} else {
		n.Line = p.line
	}
	if n.described && n.NumPorts != ports {
		p.o.doubt(p.line, "%s has %d ports here, and %d before", id(n), ports, n.NumPorts)
	}
	n.described, n.NumPorts = true, max(n.NumPorts, ports)
	p.describe(n, description)
	p.identify(n)
	if kind == Switch {
		n.Enhanced = strings.HasPrefix(strings.TrimSpace(after), "enhanced")
		if n.LID, err = numberAfter(after, " lid "); err != nil {
			return err
		}
	}
	p.node = n
	return nil
}

// identify gives a node the identity that stands before it.
func (p *dump) identify(n *Node) {
	if g := p.ids.guid; g != 0 {
		if n.GUID != 0 && n.GUID != g {
			p.o.doubt(p.line, "%s has the GUID 0x%016x in the line before", id(n), g)
		}
		if n.GUID == 0 {
			n.GUID = g
		}
	}
	n.SystemGUID, n.PortGUID = p.ids.system, p.ids.port0
	n.VendorID, n.DeviceID = uint32(p.ids.vendor), uint32(p.ids.device)
	p.ids = ids{}
}

// byName finds the node that links call "S-b83fd20300aa0001". A simulator's net
// file has other names; then the GUID stands before the node.
func (p *dump) byName(name string, kind Kind) (*Node, error) {
	guid, given := uint64(0), Kind("")
	if letter, hex, ok := strings.Cut(name, "-"); ok && len(letter) == 1 && len(hex) == 16 {
		if g, err := parseHex(hex, "a GUID"); err == nil {
			guid, given = g, map[string]Kind{"S": Switch, "H": CA, "R": Router}[letter]
		}
	}
	if given != "" && kind != "" && given != kind {
		return nil, fmt.Errorf("expected the name of a %s; found %q", kind, name)
	}
	if kind == "" {
		kind = given
	}
	n := p.named(name, kind, guid)
	if n.Kind == "" {
		n.Kind = kind
	}
	return n, nil
}

// linkLine reads one port of the node above:
//
//	[1] "H-a088"[1](a0881) # "hnode001 mlx5_0" lid 4 2xNDR
//	[1](a0881) "S-b83f"[4] # lid 4 lmc 0 "leaf-01" lid 7 2xNDR
func (p *dump) linkLine(line string) error {
	if p.node == nil {
		return fmt.Errorf("expected a node (Switch, Ca, Rt) before its ports; found %q", clip(line))
	}
	num, guid, rest, err := portRef(line)
	if err != nil {
		return err
	}
	a := p.node.port(num)
	if guid != 0 {
		a.GUID = guid
	}
	rest = strings.TrimLeft(rest, " \t")
	if rest == "" || rest[0] == '#' {
		a.Line = p.line // nothing behind it
		return nil
	}
	name, rest, err := quotedName(rest)
	if err != nil {
		return err
	}
	peer, err := p.byName(name, "")
	if err != nil {
		return err
	}
	num, guid, rest, err = portRef(rest)
	if err != nil {
		return err
	}
	b := peer.port(num)
	if guid != 0 && b.GUID == 0 {
		b.GUID = guid
	}
	return p.linkComment(a, b, rest)
}

// linkComment reads what stands behind a link: the own LID of an adapter's
// port, the name, LID and rate at the other end.
func (p *dump) linkComment(a, b *Port, rest string) error {
	rest = strings.TrimSpace(rest)
	if !strings.HasPrefix(rest, "#") {
		return fmt.Errorf("expected # and the description of the other end; found %q", clip(rest))
	}
	own, _, _ := strings.Cut(rest, `"`)
	description, after, err := commentName(rest)
	if err != nil {
		return err
	}
	if strings.Contains(own, " lid ") {
		if a.LID, err = numberAfter(own, " lid "); err != nil {
			return err
		}
		if _, err = numberAfter(own, " lmc "); err != nil {
			return err
		}
	}
	lid, err := numberAfter(after, " lid ")
	if err != nil {
		return err
	}
	fields := strings.Fields(after)
	if len(fields) < 3 {
		return fmt.Errorf("expected a link's width and speed, as 4xNDR, at the end; found %q", clip(after))
	}
	width, speed, err := parseRate(fields[2])
	if err != nil {
		return err
	}
	if b.Node.Kind != Switch && b.LID == 0 {
		b.LID = lid
	}
	p.describe(b.Node, description)
	p.connect(a, b, width, speed)
	return nil
}

// portRef reads [12], [12][ext 3] or [1](a088c20300004031).
func portRef(text string) (num int, guid uint64, rest string, err error) {
	if !strings.HasPrefix(text, "[") {
		return 0, 0, "", fmt.Errorf("expected a port, as [1]; found %q", clip(text))
	}
	inside, rest, ok := strings.Cut(text[1:], "]")
	if !ok {
		return 0, 0, "", fmt.Errorf("expected ] after the port; found %q", clip(text))
	}
	if num, err = parseNumber(inside, "a port", 1, maxPort); err != nil {
		return 0, 0, "", err
	}
	if strings.HasPrefix(rest, "[ext ") {
		_, rest, _ = strings.Cut(rest, "]")
	}
	if open := strings.TrimLeft(rest, " "); strings.HasPrefix(open, "(") {
		inside, after, ok := strings.Cut(open[1:], ")")
		if !ok {
			return 0, 0, "", fmt.Errorf("expected ) after the port's GUID; found %q", clip(open))
		}
		if guid, err = parseHex(inside, "the port's GUID"); err != nil {
			return 0, 0, "", err
		}
		rest = after
	}
	return num, guid, rest, nil
}

// quotedName reads "S-b83fd20300aa0001".
func quotedName(text string) (name, rest string, err error) {
	text = strings.TrimLeft(text, " \t")
	if strings.HasPrefix(text, `"`) {
		if name, rest, ok := strings.Cut(text[1:], `"`); ok && name != "" {
			return name, rest, nil
		}
	}
	return "", "", fmt.Errorf("expected a node's name in quotes, as \"S-b83fd20300aa0001\"; found %q", clip(text))
}

// commentName reads the description in a comment. It may hold a quote itself,
// so it ends at the last one.
func commentName(text string) (name, rest string, err error) {
	open, end := strings.IndexByte(text, '"'), strings.LastIndexByte(text, '"')
	if !strings.HasPrefix(strings.TrimSpace(text), "#") || open < 0 || end <= open {
		return "", "", fmt.Errorf("expected # and a description in quotes; found %q", clip(strings.TrimSpace(text)))
	}
	return text[open+1 : end], text[end+1:], nil
}

// numberAfter reads the number behind a word, as " lid ".
func numberAfter(text, word string) (int, error) {
	_, after, ok := strings.Cut(text, word)
	if !ok {
		return 0, fmt.Errorf("expected%sand a number; found %q", word, clip(text))
	}
	after = strings.TrimLeft(after, " ")
	if i := strings.IndexAny(after, " \t"); i >= 0 {
		after = after[:i]
	}
	return parseNumber(after, "the number after"+strings.TrimRight(word, " "), 0, 0xffff)
}
