package importer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// column is one thing that an asset list can say of a node, and the headers it
// goes by. Case, spaces and punctuation in a header do not count.
type column struct {
	name     string
	what     string // in messages
	need     bool
	synonyms []string
	fits     func(cell string) bool // whether a cell could be one; nil: anything could
}

var columns = []column{
	{name: "hostname", what: "host name", need: true,
		synonyms: []string{"hostname", "host", "name", "node", "node name", "server", "server name", "system name", "computer name", "machine", "machine name", "fqdn", "dns name"}},
	{name: "serial", what: "serial number",
		synonyms: []string{"serial", "serial number", "serial no", "serial #", "s/n", "sn", "serno", "service tag", "system serial", "system serial number", "chassis serial", "chassis serial number", "chassis s/n", "node serial"}},
	{name: "rack", what: "rack",
		synonyms: []string{"rack", "cabinet", "rack name", "rack id", "rack no", "rack number", "rack location", "cab", "cabinet name", "cabinet id"}},
	{name: "unit", what: "rack unit",
		synonyms: []string{"unit", "u", "ru", "rack unit", "rack u", "position", "rack position", "u position", "ru position", "rack units", "start u", "u start", "bottom u", "lowest u", "elevation"}},
	{name: "bmc", what: "BMC address", need: true, fits: isAddr,
		synonyms: []string{"bmc", "bmc ip", "bmc address", "bmc ip address", "bmc addr", "ilo", "ilo ip", "ilo address", "ilo ip address", "idrac", "idrac ip", "idrac address", "idrac ip address", "ipmi", "ipmi ip", "ipmi address", "ipmi ip address", "oob ip", "oob address", "xcc", "xcc ip", "cimc", "cimc ip", "ibmc", "ibmc ip", "redfish", "redfish ip"}},
	{name: "bmc_mac", what: "BMC MAC address", fits: isMAC,
		synonyms: []string{"bmc mac", "bmc mac address", "bmc mac addr", "ilo mac", "ilo mac address", "idrac mac", "idrac mac address", "ipmi mac", "ipmi mac address", "oob mac", "xcc mac"}},
	{name: "mac", what: "MAC address of the boot NIC", need: true, fits: isMAC,
		synonyms: []string{"mac", "mac address", "mac addr", "boot mac", "boot mac address", "pxe mac", "pxe mac address", "nic mac", "nic1 mac", "nic 1 mac address", "lan1 mac", "eth0 mac", "host mac", "host mac address", "primary mac", "provision mac", "provisioning mac", "node mac"}},
	{name: "ip", what: "address on the boot network", fits: isAddr,
		synonyms: []string{"ip", "ip address", "address", "ipv4", "ipv4 address", "host ip", "host ip address", "node ip", "node ip address", "boot ip", "pxe ip", "provision ip", "provisioning ip", "primary ip", "os ip", "server ip"}},
	{name: "model", what: "model",
		synonyms: []string{"model", "product", "product name", "model name", "server model", "system model", "platform", "hardware model", "hardware", "hardware class", "sku name"}},
}

// ColumnNames are the names that a column can be given by.
func ColumnNames() []string {
	var out []string
	for _, c := range columns {
		out = append(out, c.name)
	}
	return append(out, "guid_HCA")
}

func columnOf(name string) *column {
	for i := range columns {
		if columns[i].name == name {
			return &columns[i]
		}
	}
	return nil
}

// plainHeader is a header without what does not count in it.
func plainHeader(h string) string {
	return strings.Map(func(r rune) rune {
		if r == '#' { // "serial #" is not "serial"
			return r
		}
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, h)
}

// knows reports whether a header is one of the column's.
func (c *column) knows(header string) bool {
	plain := plainHeader(header)
	return slices.ContainsFunc(c.synonyms, func(s string) bool { return plainHeader(s) == plain })
}

var (
	headerWord = regexp.MustCompile(`[a-z]*[0-9]+|[a-z]+`)
	digits     = regexp.MustCompile(`^[0-9]+$`)
)

// guidLabel is the adapter whose GUID a column holds: "mlx5_0 GUID" and
// "guid_mlx5_0" are mlx5_0, "HCA 1 port GUID" is hca1. "" is not such a column.
func guidLabel(header string) string {
	label, guid := "", false
	for _, w := range headerWord.FindAllString(strings.ToLower(header), -1) {
		switch {
		case w == "guid":
			guid = true
		case w == "port" || w == "node":
		case digits.MatchString(w) && label != "" && label[len(label)-1] >= '0' && label[len(label)-1] <= '9':
			label += "_" + w
		case label != "" && !digits.MatchString(w):
			label += "_" + w
		default:
			label += w
		}
	}
	if !guid || label == "system" || label == "system_image" {
		return ""
	}
	return label
}

// mapping says which column of a list holds what: by a column's name, or
// guid_LABEL.
type mapping struct {
	at      map[string]int // index of the header
	guids   []string       // labels of the adapters, in the order of their columns
	unasked []string       // headers that nothing was taken from
}

// columnMistake asks for the flag that would settle it.
type columnMistake struct {
	file     string
	line     int
	problems []string
}

func (m *columnMistake) Error() string {
	lines := make([]string, len(m.problems))
	for i, p := range m.problems {
		lines[i] = fmt.Sprintf("%s:%d: %s", m.file, m.line, p)
	}
	return strings.Join(lines, "\n")
}

// mapColumns finds what each header means. given are the flags, by column; an
// empty one leaves the column out.
func mapColumns(file string, line int, header []string, rows [][]string, given map[string]string) (*mapping, error) {
	m := &mapping{at: map[string]int{}}
	wrong := &columnMistake{file: file, line: line}
	taken := map[int]bool{}
	for _, name := range sortedKeys(given) {
		if given[name] == "" {
			continue
		}
		i, problem := findHeader(header, given[name])
		if problem != "" {
			wrong.problems = append(wrong.problems, fmt.Sprintf("-column %s=%s: %s", name, flagValue(given[name]), problem))
			continue
		}
		m.at[name], taken[i] = i, true
		if label, ok := strings.CutPrefix(name, "guid_"); ok {
			m.guids = append(m.guids, label)
		}
	}
	for i := range columns {
		c := &columns[i]
		if _, is := given[c.name]; is {
			continue
		}
		m.choose(c, header, rows, taken, wrong)
	}
	for i, h := range header {
		label := guidLabel(h)
		if _, is := m.at["guid_"+label]; label == "" || taken[i] || is {
			continue
		}
		if _, out := given["guid_"+label]; out {
			continue
		}
		m.at["guid_"+label], taken[i] = i, true
		m.guids = append(m.guids, label)
	}
	for i, h := range header {
		if !taken[i] && strings.TrimSpace(h) != "" {
			m.unasked = append(m.unasked, strings.TrimSpace(h))
		}
	}
	if len(wrong.problems) > 0 {
		return nil, wrong
	}
	return m, nil
}

// choose finds the header of one column, or says what to ask.
func (m *mapping) choose(c *column, header []string, rows [][]string, taken map[int]bool, wrong *columnMistake) {
	var found []int
	for i, h := range header {
		if !taken[i] && c.knows(h) && !slices.ContainsFunc(found, func(j int) bool { return alike(rows, i, j) }) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 1:
		m.at[c.name], taken[found[0]] = found[0], true
	case len(found) > 1:
		wrong.problems = append(wrong.problems, fmt.Sprintf("%d columns could be the %s: say which with %s", len(found), c.what, offers(c, header, found)))
	case c.need:
		var fit []int
		for i, h := range header {
			if !taken[i] && strings.TrimSpace(h) != "" && couldBe(c, rows, i) {
				fit = append(fit, i)
			}
		}
		if len(fit) == 0 {
			wrong.problems = append(wrong.problems, fmt.Sprintf("no column is the %s: it needs one, called for example %s", c.what, strings.Join(c.synonyms[:3], ", ")))
			return
		}
		wrong.problems = append(wrong.problems, fmt.Sprintf("which column is the %s? None is called %s or the like: say it with %s", c.what, strings.Join(c.synonyms[:3], ", "), offers(c, header, fit)))
	}
}

// offers are the flags to choose from.
func offers(c *column, header []string, at []int) string {
	var out []string
	for _, i := range at {
		out = append(out, fmt.Sprintf("-column %s=%s", c.name, flagValue(strings.TrimSpace(header[i]))))
	}
	return strings.Join(out, " or ")
}

// flagValue is a value as a shell takes it.
func flagValue(v string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_./-]+$`).MatchString(v) {
		return v
	}
	return `"` + v + `"`
}

// couldBe reports whether cells of a column look like what is wanted.
func couldBe(c *column, rows [][]string, i int) bool {
	if c.fits == nil {
		return true
	}
	for _, r := range rows {
		if i < len(r) && strings.TrimSpace(r[i]) != "" {
			return c.fits(r[i])
		}
	}
	return false
}

// alike reports whether two columns say the same in every row.
func alike(rows [][]string, i, j int) bool {
	for _, r := range rows {
		if i >= len(r) || j >= len(r) || r[i] != r[j] {
			return false
		}
	}
	return len(rows) > 0
}

// findHeader finds the header that a flag names: as it is, else without what
// does not count.
func findHeader(header []string, name string) (int, string) {
	var found []int
	for i, h := range header {
		if strings.TrimSpace(h) == strings.TrimSpace(name) {
			return i, ""
		}
		if plainHeader(h) == plainHeader(name) {
			found = append(found, i)
		}
	}
	if len(found) == 1 {
		return found[0], ""
	}
	var names []string
	for _, h := range header {
		if h = strings.TrimSpace(h); h != "" {
			names = append(names, fmt.Sprintf("%q", h))
		}
	}
	return 0, "there is no such column; there are " + strings.Join(names, ", ")
}
