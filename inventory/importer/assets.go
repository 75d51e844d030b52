package importer

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"firstlight/inventory"
)

// Assets is a list of machines, as vendors and asset databases give it out.
type Assets struct {
	Name   string // file name, for messages
	Rows   []*Asset
	Domain string   // what all host names ended in, and was taken off
	Unused []string // headers that nothing was taken from

	labels  []string // adapters that the list has GUIDs of, in its order
	bmcMACs bool     // it has the MAC addresses of BMCs
	bits    [2]int   // prefix lengths that stood behind every BMC's and every node's address; 0: none
}

// base is the file's name as an inventory may mention it: without a way to it.
func (a *Assets) base() string { return filepath.Base(a.Name) }

// Asset is one machine. Zero is not known.
type Asset struct {
	Line     int
	Hostname string
	Serial   string
	Rack     string
	Unit     int // lowest rack unit
	Span     int // rack units it takes
	Model    string
	BMC      netip.Addr
	BMCMAC   net.HardwareAddr
	MAC      net.HardwareAddr
	Address  netip.Addr
	GUIDs    map[string]inventory.GUID // by the adapter's label
}

// maxRows bounds an asset list.
const maxRows = 100000

// rowMistakes are all that is wrong with the rows of a list.
type rowMistakes struct {
	file string
	list []rowMistake
}

type rowMistake struct {
	line int
	what string
}

func (m *rowMistakes) add(line int, format string, args ...any) {
	m.list = append(m.list, rowMistake{line, fmt.Sprintf(format, args...)})
}

func (m *rowMistakes) Error() string {
	sort.SliceStable(m.list, func(i, j int) bool { return m.list[i].line < m.list[j].line })
	lines := make([]string, len(m.list))
	for i, r := range m.list {
		lines[i] = fmt.Sprintf("%s:%d: %s", m.file, r.line, r.what)
	}
	return strings.Join(lines, "\n")
}

// ReadAssets reads a CSV of machines: separated by commas, semicolons or tabs,
// with a header line that says what is in its columns. given are columns that
// the header does not make clear, by name. An error tells every bad row.
func ReadAssets(name string, raw []byte, given map[string]string) (*Assets, error) {
	for _, col := range sortedKeys(given) {
		if label, ok := strings.CutPrefix(col, "guid_"); columnOf(col) == nil && (!ok || guidLabel(col) != label) {
			return nil, fmt.Errorf("-column %s=…: the columns are %s", col, strings.Join(ColumnNames(), ", "))
		}
	}
	text, err := decodeText(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	records, lines, err := readRecords(name, text)
	if err != nil {
		return nil, err
	}
	at := headerRow(records, given)
	if at < 0 {
		return nil, fmt.Errorf("%s: it is empty: it needs a header line and a row for each node", name)
	}
	header, rows, lines := records[at], records[at+1:], append(lines[at+1:], lines[at])
	m, err := mapColumns(name, lines[len(lines)-1], header, rows, given)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s:%d: there is no row after the header", name, lines[len(lines)-1])
	}
	a := &Assets{Name: name, Unused: m.unasked, labels: m.guids}
	_, a.bmcMACs = m.at["bmc_mac"]
	wrong := &rowMistakes{file: name}
	prefixes := [2]map[int]bool{{}, {}}
	for i, r := range rows {
		if len(r) > len(header) {
			wrong.add(lines[i], "this row has %d fields, and the header %d", len(r), len(header))
			continue
		}
		a.Rows = append(a.Rows, m.asset(r, lines[i], wrong, prefixes))
	}
	for i, p := range prefixes {
		if bits := slices.Collect(maps.Keys(p)); len(bits) == 1 {
			a.bits[i] = bits[0]
		}
	}
	a.shorten()
	a.duplicates(wrong)
	if len(wrong.list) > 0 {
		return nil, wrong
	}
	return a, nil
}

// decodeText makes UTF-8 of what spreadsheets save.
func decodeText(raw []byte) (string, error) {
	for _, order := range []struct {
		mark    []byte
		low, hi int
	}{{[]byte{0xff, 0xfe}, 0, 1}, {[]byte{0xfe, 0xff}, 1, 0}} {
		if body, ok := bytes.CutPrefix(raw, order.mark); ok {
			units := make([]uint16, len(body)/2)
			for i := range units {
				units[i] = uint16(body[2*i+order.low]) | uint16(body[2*i+order.hi])<<8
			}
			return string(utf16.Decode(units)), nil
		}
	}
	if !utf8.Valid(raw) {
		return "", errors.New("it is not UTF-8 text: save it as \"CSV UTF-8\" (a spreadsheet itself cannot be read)")
	}
	return strings.TrimPrefix(string(raw), "\ufeff"), nil
}

// readRecords reads the rows that hold anything, with their lines.
func readRecords(name, text string) (records [][]string, lines []int, err error) {
	r := csv.NewReader(strings.NewReader(text))
	r.Comma, r.FieldsPerRecord = delimiter(text), -1
	r.TrimLeadingSpace = r.Comma != '\t' // or an empty first field would be lost
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return records, lines, nil
		}
		if pe := new(csv.ParseError); errors.As(err, &pe) {
			return nil, nil, fmt.Errorf("%s:%d: %w", name, pe.Line, pe.Err)
		}
		if err != nil {
			return nil, nil, err
		}
		for i := range rec {
			rec[i] = strings.TrimSpace(rec[i])
		}
		if strings.Join(rec, "") == "" {
			continue
		}
		for len(rec) > 0 && rec[len(rec)-1] == "" {
			rec = rec[:len(rec)-1]
		}
		if len(records) > maxRows {
			return nil, nil, fmt.Errorf("%s: it has more than %d rows", name, maxRows)
		}
		line, _ := r.FieldPos(0)
		records, lines = append(records, rec), append(lines, line)
	}
}

// delimiter is what separates fields: of comma, semicolon and tab the one that
// stands most often outside quotes in the first lines.
func delimiter(text string) rune {
	count := map[rune]int{}
	quoted, lines := false, 0
	for _, c := range text {
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '\n':
			lines++
		case c == ',' || c == ';' || c == '\t':
			count[c]++
		}
		if lines > 20 {
			break
		}
	}
	best := ','
	for _, c := range []rune{';', '\t'} {
		if count[c] > count[best] {
			best = c
		}
	}
	return best
}

// headerRow is the row whose fields are most often known: lists begin with
// titles and dates.
func headerRow(records [][]string, given map[string]string) int {
	best, most := -1, -1
	for i := range min(len(records), 20) {
		known := 0
		for _, h := range records[i] {
			if h != "" && (guidLabel(h) != "" || slices.ContainsFunc(columns, func(c column) bool { return c.knows(h) }) ||
				slices.ContainsFunc(slices.Collect(maps.Values(given)), func(g string) bool { return g != "" && plainHeader(g) == plainHeader(h) })) {
				known++
			}
		}
		if known > most {
			best, most = i, known
		}
	}
	return best
}

// asset reads one row.
func (m *mapping) asset(row []string, line int, wrong *rowMistakes, prefixes [2]map[int]bool) *Asset {
	a := &Asset{Line: line, GUIDs: map[string]inventory.GUID{}}
	cell := func(name string) string {
		if i, ok := m.at[name]; ok && i < len(row) {
			return row[i]
		}
		return ""
	}
	check := func(name string, err error) {
		if err != nil {
			wrong.add(line, "%s: %v", columnOf(name).what, err)
		}
	}
	a.Hostname, a.Serial, a.Rack, a.Model = cell("hostname"), cell("serial"), cell("rack"), cell("model")
	switch {
	case a.Hostname == "":
		wrong.add(line, "there is no host name")
	case !inventory.IsHostName(a.Hostname):
		wrong.add(line, "%q is not a host name: use letters, digits, - and dots", a.Hostname)
	}
	var err error
	if c := cell("unit"); c != "" {
		a.Unit, a.Span, err = parseUnit(c)
		check("unit", err)
	}
	for i, name := range []string{"bmc", "ip"} {
		c := cell(name)
		if c == "" && name == "bmc" {
			wrong.add(line, "there is no BMC address")
		}
		if c == "" {
			prefixes[i][0] = true
			continue
		}
		addr, bits, err := parseAddr(c)
		check(name, err)
		prefixes[i][bits] = true
		*[]*netip.Addr{&a.BMC, &a.Address}[i] = addr
	}
	if c := cell("mac"); c == "" {
		wrong.add(line, "there is no MAC address of the boot NIC")
	} else {
		a.MAC, err = parseMAC(c)
		check("mac", err)
	}
	if c := cell("bmc_mac"); c != "" {
		a.BMCMAC, err = parseMAC(c)
		check("bmc_mac", err)
	}
	for _, label := range m.guids {
		c := cell("guid_" + label)
		if c == "" {
			continue
		}
		g, err := inventory.ParseGUID(c)
		if err != nil {
			wrong.add(line, "GUID of %s: %v", label, err)
			continue
		}
		a.GUIDs[label] = g
	}
	return a
}

// shorten takes off the domain that all host names end in.
func (a *Assets) shorten() {
	for i, r := range a.Rows {
		_, domain, _ := strings.Cut(r.Hostname, ".")
		if domain == "" || i > 0 && domain != a.Domain {
			a.Domain = ""
			return
		}
		a.Domain = domain
	}
	for _, r := range a.Rows {
		r.Hostname, _, _ = strings.Cut(r.Hostname, ".")
	}
}

// duplicates finds what two rows claim.
func (a *Assets) duplicates(wrong *rowMistakes) {
	seen := map[string]*Asset{}
	take := func(r *Asset, key, what string) {
		if key == "" {
			return
		}
		// Labels and what they name share no text, so one map does.
		if old := seen[what+"\x00"+key]; old != nil {
			wrong.add(r.Line, "%s %s is also in line %d (%s)", what, key, old.Line, old.Hostname)
			return
		}
		seen[what+"\x00"+key] = r
	}
	for _, r := range a.Rows {
		take(r, strings.ToLower(r.Hostname), "host name")
		take(r, r.Serial, "serial number")
		take(r, r.MAC.String(), "MAC address")
		take(r, r.BMCMAC.String(), "MAC address")
		if r.BMC.IsValid() {
			take(r, r.BMC.String(), "address")
		}
		if r.Address.IsValid() {
			take(r, r.Address.String(), "address")
		}
		for u := r.Unit; r.Unit > 0 && u < r.Unit+max(r.Span, 1); u++ {
			if r.Rack != "" {
				take(r, fmt.Sprintf("%d of rack %s", u, r.Rack), "rack unit")
			}
		}
		for _, label := range sortedKeys(r.GUIDs) {
			take(r, r.GUIDs[label].String(), "GUID")
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
