package importer

import (
	"fmt"
	"slices"
	"strings"

	"firstlight/inventory"
)

// model is a switch model: one that needs no declaration, or one to declare.
type model struct {
	label     string
	names     []string // in a managed switch's description
	deviceID  uint32
	ports     int
	rate      string
	split     int // parts of a port
	splitRate string
}

// builtIn are the models that the language knows, with how their switches show.
var builtIn = []model{
	{label: "qm9700", names: []string{"QM9700", "QM9701", "QM9790"}, deviceID: 0xd2f2, ports: 64, rate: "NDR", split: 2, splitRate: "NDR200"},
	{label: "qm8700", names: []string{"QM8700", "QM8790"}, deviceID: 0xd2f0, ports: 40, rate: "HDR", split: 2, splitRate: "HDR100"},
}

// pickModels finds every switch's model: by its description, else by its
// device id and port count. What fits none is declared as it was seen.
func (w *wiring) pickModels() {
	for _, s := range w.switches {
		ports := s.ports()
		said := ""
		if m := managed.FindStringSubmatch(strings.TrimSpace(s.Description)); m != nil {
			said = strings.ToUpper(m[2])
		}
		for i := range builtIn {
			m := &builtIn[i]
			named := slices.Contains(m.names, said)
			if (named || s.DeviceID == m.deviceID || s.DeviceID == 0 && said == "") && m.fits(s, ports) {
				s.model, s.split, s.guess = m.label, ports > m.ports, !named
				break
			}
		}
		if s.model == "" {
			w.declare(s, ports, said)
		}
	}
}

// ports is the number of ports that cables can be plugged into: the last one
// of a switch with an aggregation node is inside it.
func (s *device) ports() int {
	if s.Ports == 0 {
		return s.most
	}
	if n := s.Ports - 1; s.most <= n && (n == 40 || n == 64 || n == 80 || n == 128) {
		return n
	}
	return s.Ports
}

// fits reports whether a switch with so many ports, at the rates it was seen
// at, can be of the model.
func (m *model) fits(s *device, ports int) bool {
	rate := m.rate
	switch ports {
	case m.ports:
	case m.ports * m.split:
		rate = m.splitRate
	default:
		return false
	}
	return !slices.ContainsFunc(s.rates, func(r string) bool { return bits(r) > bits(rate) })
}

// declare makes a model of what was seen of a switch.
func (w *wiring) declare(s *device, ports int, said string) {
	most := ""
	for _, r := range s.rates {
		if bits(r) > bits(most) {
			most = r
		}
	}
	name := strings.ToLower(said)
	if !identifier.MatchString(name) {
		name = fmt.Sprintf("ports%d", ports)
	}
	s.guess = true
	for n := 1; ; n++ {
		s.model = name
		if n > 1 || slices.ContainsFunc(builtIn, func(m model) bool { return m.label == name }) {
			s.model = fmt.Sprintf("%s-%d", name, n)
		}
		i := slices.IndexFunc(w.models, func(m *model) bool { return m.label == s.model })
		if i < 0 {
			w.models = append(w.models, &model{label: s.model, ports: max(ports, 1), rate: most})
			return
		}
		if m := w.models[i]; m.ports == max(ports, 1) && (m.rate == most || most == "" || m.rate == "") {
			if m.rate == "" {
				m.rate = most
			}
			return
		}
	}
}

// bits is a rate in bits per second; of an unknown one 0.
func bits(rate string) float64 {
	r, err := inventory.ParseLinkRate(rate)
	if err != nil {
		return 0
	}
	return r.BitsPerSecond
}
