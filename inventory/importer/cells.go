package importer

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"firstlight/inventory"
)

func isAddr(cell string) bool { _, _, err := parseAddr(cell); return err == nil }
func isMAC(cell string) bool  { _, err := parseMAC(cell); return err == nil }

// parseAddr reads an address, also with a prefix length ("10.20.0.11/22") or as
// the URL of a BMC's page. bits is 0 where no prefix length stands there.
func parseAddr(cell string) (addr netip.Addr, bits int, err error) {
	text := strings.TrimSpace(cell)
	for _, scheme := range []string{"https://", "http://"} {
		if rest, ok := strings.CutPrefix(strings.ToLower(text), scheme); ok {
			text = strings.TrimSuffix(rest, "/")
		}
	}
	if p, perr := netip.ParsePrefix(text); perr == nil && p.Addr().Is4() {
		return p.Addr(), p.Bits(), nil
	}
	addr, err = inventory.ParseAddr(text)
	return addr, 0, err
}

func parseMAC(cell string) (net.HardwareAddr, error) {
	text := strings.ReplaceAll(strings.TrimSpace(cell), " ", "")
	if rest, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		text = rest
	}
	return inventory.ParseMAC(text)
}

// unitText is a rack unit as lists write it: 17, U17, 17U, RU 17, 17-21, U17-U21.
var unitText = regexp.MustCompile(`(?i)^(?:ru|u)?\s*0*([0-9]{1,3})\s*u?(?:\s*(?:-|–|to|\.\.|/)\s*(?:ru|u)?\s*0*([0-9]{1,3})\s*u?)?$`)

// parseUnit reads the lowest unit, and how many a range takes; span is 0 for a
// single unit, which may be only the lowest of several.
func parseUnit(cell string) (unit, span int, err error) {
	m := unitText.FindStringSubmatch(strings.TrimSpace(cell))
	if m == nil {
		return 0, 0, fmt.Errorf("%q is not a rack unit: write it as 17, U17 or 17-21", cell)
	}
	from, _ := strconv.Atoi(m[1])
	to := from
	if m[2] != "" {
		to, _ = strconv.Atoi(m[2])
		from, to = min(from, to), max(from, to)
		span = to - from + 1
	}
	if from < 1 || to > 100 {
		return 0, 0, fmt.Errorf("rack unit %q is not between 1 and 100", cell)
	}
	return from, span, nil
}
