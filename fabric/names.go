package fabric

import (
	"regexp"
	"strings"

	"firstlight/inventory"
)

var (
	// saysNothing are first words of descriptions in which nothing was set.
	saysNothing = regexp.MustCompile(`(?i)^(localhost.*|mt[0-9]{4,}.*|mellanox.*|nvidia.*|connect-?x.*|mqm[0-9]+.*|quantum.*|infiniscale.*|switchx?.*|\(none\)|unknown|default|node|hca)$`)
	// ofSwitchOS is what a switch with an operating system says: MF0;leaf-01:MQM9700/U1.
	ofSwitchOS = regexp.MustCompile(`^MF0;([^:;]+):[^:;]*$`)
)

// adapterName reads a node's name, and what it calls the adapter, from a
// description: "hnode001 mlx5_0", "hnode001.example HCA-1", "hnode001". The
// name is "" where the description says none.
func adapterName(description string) (host, hca string) {
	words := strings.Fields(description)
	if len(words) == 0 || len(words) > 2 || saysNothing.MatchString(words[0]) || !inventory.IsHostName(words[0]) {
		return "", ""
	}
	host, _, _ = strings.Cut(strings.ToLower(words[0]), ".")
	if len(words) == 2 {
		hca = words[1]
	}
	return host, hca
}

// switchName reads a switch's name from a description, or "".
func switchName(description string) string {
	text := strings.TrimSpace(description)
	if m := ofSwitchOS.FindStringSubmatch(text); m != nil {
		text = m[1]
	}
	if saysNothing.MatchString(text) || !inventory.IsHostName(text) {
		return ""
	}
	return strings.ToLower(text)
}

// adapterOf finds the adapter of a node by its name in the inventory or by its
// RDMA device, or nil.
func (dev *device) adapterOf(text string) *end {
	if text == "" {
		return nil
	}
	for _, e := range dev.ends {
		if e.port == text || e.hca != nil && (e.hca.Device == text || "mlx5_"+e.hca.Device == text) {
			return e
		}
	}
	return nil
}
