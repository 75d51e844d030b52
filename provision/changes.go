package provision

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"firstlight/inventory"
)

// Change is one declared value that is not the one a proof rests on.
type Change struct {
	What string `json:"what"`         // the value's name, as "hardware.gpu.count"
	Was  string `json:"was"`          // what the proof rests on; "": nothing was declared
	Is   string `json:"is"`           // what is declared now; "": nothing is
	At   string `json:"at,omitempty"` // the declaring line, as "hardware.hcl:12"
}

// String is a reason: which value, known against declared, and where.
func (c Change) String() string {
	var s string
	switch {
	case c.Was == "":
		s = fmt.Sprintf("%s is now declared: %s", c.What, short(c.Is))
	case c.Is == "":
		s = fmt.Sprintf("%s %s is no longer declared", c.What, short(c.Was))
	default:
		s = fmt.Sprintf("%s: %s -> %s", c.What, short(c.Was), short(c.Is))
	}
	if c.At != "" {
		s += " (" + c.At + ")"
	}
	return s
}

// changes are the facets under some prefixes that differ from those a proof
// rests on, sorted by name. Quantities differ when their numbers do.
func changes(was map[string]string, is []facet, prefixes []string) []Change {
	var out []Change
	found := 0
	for _, d := range is {
		if !under(d.key, prefixes) {
			continue
		}
		old, ok := was[d.key]
		if ok {
			found++
		}
		if old != d.value && canonical(d.key, old) != canonical(d.key, d.value) {
			c := Change{What: d.key, Was: old, Is: d.value}
			if d.at.Filename != "" {
				c.At = where(d.at)
			}
			out = append(out, c)
		}
	}
	if found < len(was) {
		out = append(out, gone(was, is)...)
	}
	if len(out) == 0 {
		return nil
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.What, b.What) })
	return renamed(out, was)
}

// gone are the values that a proof rests on and nothing declares any more.
func gone(was map[string]string, is []facet) []Change {
	var out []Change
	for key, old := range was {
		if !slices.ContainsFunc(is, func(d facet) bool { return d.key == key }) {
			out = append(out, Change{What: key, Was: old})
		}
	}
	return out
}

const (
	diskPrefix = "hardware.disk."
	times      = " x "  // in a disk group: "2 x 7.68TB nvme"
	atPCI      = " at " // in an HCA: "rail 1 NDR at 0000:18:00.0"
)

// renamed drops what is only another label for the same: an image whose
// content is the one that runs, a disk group that is matched by what its disks
// are.
func renamed(all []Change, was map[string]string) []Change {
	image := was["image.digest"] != "" && !slices.ContainsFunc(all, func(c Change) bool { return c.What == "image.digest" })
	var out []Change
	for i, c := range all {
		twin := func(o Change) bool {
			return strings.HasPrefix(c.What, diskPrefix) && strings.HasPrefix(o.What, diskPrefix) &&
				canonical(c.What, o.Was) == canonical(c.What, c.Is) && canonical(c.What, o.Is) == canonical(c.What, c.Was)
		}
		if image && c.What == "image.name" || slices.ContainsFunc(all[:i], twin) || slices.ContainsFunc(all[i+1:], twin) {
			continue
		}
		out = append(out, c)
	}
	return out
}

// canonical is a facet with its quantity as a number, for comparison: the
// journal holds quantities as somebody wrote them. What is no quantity, or none
// that can be read, is left as it is.
func canonical(key, value string) string {
	switch {
	case value == "":
		return value
	case key == "hardware.memory.total" || key == "hardware.gpu.memory":
		return inBytes(value)
	case key == "fabric.min_bandwidth":
		if b, err := inventory.ParseBandwidth(value); err == nil {
			return number(b.BitsPerSecond)
		}
	case strings.HasPrefix(key, "burnin.") || key == "fabric.window":
		if d, err := inventory.ParseDuration(value); err == nil {
			return d.Duration.String()
		}
	case strings.HasPrefix(key, diskPrefix):
		count, disk, _ := strings.Cut(value, times)
		if size := inBytes(disk); size != disk {
			return count + times + size
		}
		if i := strings.LastIndexByte(disk, ' '); i >= 0 {
			return count + times + inBytes(disk[:i]) + disk[i:]
		}
	case strings.HasPrefix(key, "hardware.hca."):
		link, pci, _ := strings.Cut(value, atPCI)
		parts := strings.SplitN(link, " ", 3) // "rail", its number, the rate
		if r, err := inventory.ParseLinkRate(parts[len(parts)-1]); err == nil && len(parts) == 3 {
			return parts[1] + " " + number(r.BitsPerSecond) + atPCI + pci
		}
	}
	return value
}

// inBytes is a size as a number, or the text when it is none.
func inBytes(text string) string {
	if s, err := inventory.ParseSize(text); err == nil {
		return strconv.FormatUint(s.Bytes, 10) + " B"
	}
	return text
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// short cuts a digest to what a person compares.
func short(v string) string {
	if rest, ok := strings.CutPrefix(v, "sha256:"); ok && len(rest) > 12 {
		return "sha256:" + rest[:12]
	}
	return v
}
