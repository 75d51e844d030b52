package bmc

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BadFirmware is a range of BMC firmware with a known hole.
type BadFirmware struct {
	Maker   string   // in the manufacturer's name, any case; several are parted by "|"
	IANA    []uint32 // the maker's enterprise numbers in Get Device ID
	Product string   // in the product's or board's name, any case; "": all of the maker's
	Version string   // in the firmware's version text, as "iLO 4"; "": any
	From    string   // the first version that has the hole; "": all before Fixed
	Fixed   string   // the first version without it; "": the maker gives none that can be compared
	CVE     string
	What    string
	Source  string
}

// Holes is the table of known holes that anybody on the out-of-band network can
// use without a password. It is not complete: an empty answer does not mean that a
// firmware is sound.
func Holes() []BadFirmware {
	const megarac, megaracCVE = "its Redfish service lets anybody in (AMI MegaRAC)", "CVE-2024-54085"
	nvd := func(cve string) string { return "https://nvd.nist.gov/vuln/detail/" + cve }
	dell, hpe, asus := []uint32{674}, []uint32{11, 47196}, []uint32{2623}
	board := func(product, fixed string) BadFirmware {
		return BadFirmware{Maker: "ASUS", IANA: asus, Product: product, Fixed: fixed, CVE: megaracCVE, What: megarac, Source: nvd(megaracCVE)}
	}
	// Makers of servers number MegaRAC's firmware by themselves, and where they say
	// which has the fix it is in their bulletins, board by board. HPE's for the XD670
	// is of 2025-03-20.
	bulletin := func(maker string, iana uint32, product string) BadFirmware {
		return BadFirmware{Maker: maker, IANA: []uint32{iana}, Product: product, CVE: megaracCVE, What: megarac, Source: nvd(megaracCVE)}
	}
	return []BadFirmware{
		{Maker: "Dell", IANA: dell, Fixed: "2.52.52.52", CVE: "CVE-2018-1207", What: "its web server runs what anybody sends (iDRAC7, iDRAC8)",
			Source: nvd("CVE-2018-1207")},
		{Maker: "Dell", IANA: dell, Fixed: "2.65.65.65", CVE: "CVE-2020-5344", What: "a request to its web server runs code (iDRAC7; iDRAC8 before 2.70.70.70)",
			Source: nvd("CVE-2020-5344")},
		{Maker: "Dell", IANA: dell, From: "3.0", Fixed: "4.00.00.00", CVE: "CVE-2020-5344", What: "a request to its web server runs code (iDRAC9)",
			Source: nvd("CVE-2020-5344")},
		{Maker: "HPE|Hewlett", IANA: hpe, Version: "iLO 4", Fixed: "2.53", CVE: "CVE-2017-12542", What: "a long header passes for a login",
			Source: nvd("CVE-2017-12542")},
		board("W790E-SAGE", "1.1.57"), board("W680M-ACE", "1.1.21"), board("WRX90E-SAGE", "2.1.28"), board("WRX80E-SAGE", "1.34.0"),
		bulletin("HPE|Hewlett", 47196, "XD670"), bulletin("American Megatrends", 20974, ""), bulletin("GIGA-BYTE|GIGABYTE", 15370, ""),
		bulletin("ASRockRack|ASRock Rack", 49622, ""),
	}
}

// about says whether the row is about this BMC's maker, product and kind of
// firmware.
func (b *BadFirmware) about(id Identity) bool {
	has := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	maker := slices.Contains(b.IANA, id.ManufacturerID)
	for name := range strings.SplitSeq(b.Maker, "|") {
		maker = maker || has(id.Manufacturer, name)
	}
	return maker && has(id.Product, b.Product) && has(id.Firmware, b.Version)
}

// covers says whether the firmware has the hole. decided is false when its version
// does not tell.
func (b *BadFirmware) covers(firmware string) (bad, decided bool) {
	v := versionOf(firmware, b.Version)
	if b.Fixed == "" || v == nil {
		return false, false
	}
	if order, whole := compareVersions(v, versionOf(b.Fixed, "")); !whole {
		return false, false
	} else if order >= 0 {
		return false, true
	}
	if b.From != "" {
		order, _ := compareVersions(v, versionOf(b.From, ""))
		return order >= 0, true
	}
	return true, true
}

// versionOf is the numbers of the first version in a text, after what names its
// kind; nil: there is none.
func versionOf(text, kind string) []int {
	text = strings.ToLower(text) // whose length may be another
	if _, after, ok := strings.Cut(text, strings.ToLower(kind)); ok {
		text = after
	}
	found := regexp.MustCompile(`\d+(\.\d+)*`).FindString(text)
	if found == "" {
		return nil
	}
	var out []int
	for part := range strings.SplitSeq(found, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		out = append(out, n)
	}
	return out
}

// compareVersions orders a against b. whole is false when a ends where b goes on
// and they are alike so far: IPMI gives two numbers of a version only.
func compareVersions(a, b []int) (order int, whole bool) {
	for i := range b {
		switch {
		case i >= len(a):
			for _, n := range b[i:] {
				if n != 0 {
					return 0, false
				}
			}
			return 0, true
		case a[i] != b[i]:
			if a[i] < b[i] {
				return -1, true
			}
			return 1, true
		}
	}
	return 0, true
}
