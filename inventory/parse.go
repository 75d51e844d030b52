package inventory

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// unit is one spelling of a unit and what it multiplies by.
type unit struct {
	name  string
	scale float64
}

var (
	sizeUnits = []unit{
		{"B", 1}, {"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15},
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50},
	}
	bandwidthUnits = []unit{
		{"b/s", 1}, {"Kb/s", 1e3}, {"Mb/s", 1e6}, {"Gb/s", 1e9}, {"Tb/s", 1e12},
		{"B/s", 8}, {"KB/s", 8e3}, {"MB/s", 8e6}, {"GB/s", 8e9}, {"TB/s", 8e12},
	}
	powerUnits    = []unit{{"W", 1}, {"kW", 1e3}, {"MW", 1e6}}
	durationUnits = []unit{{"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9}}

	quantityRE = regexp.MustCompile(`^([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z/]*)$`)
)

// measure parses "7.68TB" against a table of units. The unit is required:
// a bare number leaves the reader guessing.
func measure(text, what, example string, units []unit) (float64, error) {
	m := quantityRE.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is not a %s: write a number and a unit, as %q", text, what, example)
	}
	names := make([]string, len(units))
	for i, u := range units {
		names[i] = u.name
		if u.name == m[2] {
			f, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return 0, fmt.Errorf("%q is not a %s: %w", text, what, err)
			}
			return f * u.scale, nil
		}
	}
	if m[2] == "" {
		return 0, fmt.Errorf("%q has no unit: write a %s as %q", text, what, example)
	}
	return 0, fmt.Errorf("%q is not a unit of %s in %q: use one of %s%s", m[2], what, text,
		strings.Join(names, ", "), didYouMean(m[2], names))
}

// ParseSize parses an amount of memory or storage, as "2TiB" or "7.68TB".
func ParseSize(text string) (Size, error) {
	f, err := measure(text, "size", "2TiB", sizeUnits)
	if err != nil {
		return Size{}, err
	}
	if f >= math.MaxUint64 {
		return Size{}, fmt.Errorf("size %q is too large", text)
	}
	return Size{Bytes: uint64(math.Round(f)), Text: text}, nil
}

// ParseDuration parses a length of time, as "90s", "24h", "3d" or "1h30m".
func ParseDuration(text string) (Duration, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 && text != "0" {
		return Duration{Duration: d, Text: text}, nil
	}
	f, err := measure(text, "duration", "90s", durationUnits)
	if err != nil {
		return Duration{}, err
	}
	if f > math.MaxInt64/2 {
		return Duration{}, fmt.Errorf("duration %q is too long", text)
	}
	return Duration{Duration: time.Duration(f), Text: text}, nil
}

// ParseBandwidth parses a bandwidth in bits ("360Gb/s") or bytes ("45GB/s") a second.
func ParseBandwidth(text string) (Bandwidth, error) {
	f, err := measure(text, "bandwidth", "360Gb/s", bandwidthUnits)
	if err != nil {
		return Bandwidth{}, err
	}
	return Bandwidth{BitsPerSecond: f, Text: text}, nil
}

// ParsePower parses an electrical power, as "40kW".
func ParsePower(text string) (Power, error) {
	f, err := measure(text, "power", "40kW", powerUnits)
	if err != nil {
		return Power{}, err
	}
	return Power{Watts: f, Text: text}, nil
}

// ParseLinkRate parses the name of a link rate ("NDR200", "400GbE") or a
// bandwidth ("200Gb/s").
func ParseLinkRate(text string) (LinkRate, error) {
	names := make([]string, len(rateNames))
	for i, r := range rateNames {
		if r.name == text {
			return LinkRate{BitsPerSecond: r.bitsPerSecond(), Text: text}, nil
		}
		names[i] = r.name
	}
	if b, err := ParseBandwidth(text); err == nil {
		return LinkRate(b), nil
	}
	return LinkRate{}, fmt.Errorf("%q is not a link rate: use one of %s, or a bandwidth as \"200Gb/s\"%s",
		text, strings.Join(names, ", "), didYouMean(text, names))
}

// parseMAC accepts the EUI-48 spellings that asset lists use: colons, dashes,
// dots, or twelve bare digits.
func parseMAC(text string) (net.HardwareAddr, error) {
	spelled := text
	if len(text) == 12 && !strings.ContainsAny(text, ":-.") {
		var b strings.Builder
		for i := 0; i < 12; i += 2 {
			if i > 0 {
				b.WriteByte(':')
			}
			b.WriteString(text[i : i+2])
		}
		spelled = b.String()
	}
	mac, err := net.ParseMAC(spelled)
	switch {
	case err != nil || len(mac) != 6:
		return nil, fmt.Errorf("%q is not a MAC address: write six bytes in hexadecimal, as \"52:54:00:10:00:01\"", text)
	case mac[0]&1 != 0:
		return nil, fmt.Errorf("%q is a multicast address: a NIC's own MAC address has an even first byte", text)
	case mac.String() == "00:00:00:00:00:00":
		return nil, fmt.Errorf("%q is the null address, which no NIC has", text)
	}
	return mac, nil
}

func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil && strings.Contains(text, "/"):
		return netip.Addr{}, fmt.Errorf("%q is not an address: write it without a prefix length, as \"10.10.0.11\"", text)
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is not an address: write an IPv4 address, as \"10.10.0.11\"", text)
	case !a.Is4():
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address: this version brings nodes up over IPv4", text)
	}
	return a, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("%q is not an IPv4 network: write it as \"10.10.0.0/22\"", text)
	case p.Masked() != p:
		return netip.Prefix{}, fmt.Errorf("%q has host bits set: the network is %q", text, p.Masked())
	case p.Bits() > 30:
		return netip.Prefix{}, fmt.Errorf("%q has no room for a controller and a node: use a prefix of /30 or shorter", text)
	}
	return p, nil
}

// GUID is an EUI-64 as InfiniBand uses it for nodes and ports (IBTA volume 1,
// 4.1.1). Zero is none.
type GUID uint64

func (g GUID) String() string { return fmt.Sprintf("0x%016x", uint64(g)) }

var guidRE = regexp.MustCompile(`^(?:0x)?([0-9a-fA-F]{1,16})$`)

// parseGUID accepts the spellings of ibnetdiscover ("0xb83fd20300aa0001", with
// or without 0x) and of ibstat and labels ("b83f:d203:00aa:0001").
func parseGUID(text string) (GUID, error) {
	plain := text
	if strings.ContainsAny(text, ":-") {
		plain = strings.NewReplacer(":", "", "-", "").Replace(text)
		if len(plain) != 16 {
			plain = ""
		}
	}
	m := guidRE.FindStringSubmatch(plain)
	if m == nil {
		return 0, fmt.Errorf("%q is not a GUID: write 16 hexadecimal digits, as \"0xb83fd20300aa0001\"", text)
	}
	n, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil || n == 0 || n == math.MaxUint64 {
		return 0, fmt.Errorf("%q is no device's GUID: all its digits are alike", text)
	}
	return GUID(n), nil
}

var pciAddrRE = regexp.MustCompile(`^(?:([0-9a-fA-F]{4}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])$`)

// parsePCIAddr gives the address with its domain, as sysfs names it.
func parsePCIAddr(text string) (string, error) {
	m := pciAddrRE.FindStringSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("%q is not a PCI address: write bus, device and function, as \"18:00.0\"", text)
	}
	if m[1] == "" {
		m[1] = "0000"
	}
	return strings.ToLower(fmt.Sprintf("%s:%s:%s.%s", m[1], m[2], m[3], m[4])), nil
}

var namePatternRE = regexp.MustCompile(`^[A-Za-z0-9._-]*%(?:0[1-9])?d[A-Za-z0-9._-]*$`)

// parseNames checks a pattern of names: host name characters around one number.
func parseNames(text string) (string, error) {
	if !namePatternRE.MatchString(text) {
		return "", fmt.Errorf("%q is not a name pattern: write a name with one %%d or %%02d in it for the number, as \"leaf-%%02d\"", text)
	}
	return text, nil
}

var pciRE = regexp.MustCompile(`^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}$`)

func parsePCI(text string) (string, error) {
	if !pciRE.MatchString(text) {
		return "", fmt.Errorf("%q is not a PCI id: write vendor and device in hexadecimal, as \"10de:2335\"", text)
	}
	return strings.ToLower(text), nil
}
