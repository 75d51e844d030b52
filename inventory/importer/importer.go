// Package importer writes a first inventory from what a site has already: a
// list of its assets and the fabric as it was found. What it had to guess says
// so in a comment; what it could not know is left out and listed.
package importer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"firstlight/inventory"
)

// Sources are what an inventory is made from. One of Assets and Fabric is
// needed.
type Sources struct {
	Cluster string   // name of the cluster
	Assets  *Assets  // nil: no asset list
	Fabric  *Fabric  // nil: no fabric
	Classes *Classes // nil: hardware classes are made from the other two
	Image   string   // source of the image, as the inventory names it; "" is a starter's
}

// Result is an inventory that was made.
type Result struct {
	Files   map[string][]byte // by path in the configuration directory
	Guessed []string          // what is not in the sources; marked in the files too
	Todo    []string          // what is left to a person
	Found   Found
}

// Found counts what was made of the sources.
type Found struct {
	Nodes    int `json:"nodes"`
	Racks    int `json:"racks"`
	Switches int `json:"switches"`
	Hosts    int `json:"hosts"` // seen in the fabric
	Cables   int `json:"cables"`
}

// site is an inventory in the making.
type site struct {
	src     Sources
	nodes   []*node
	classes []*class
	net     networks
	wires   *wiring // nil: no fabric
	out     *Result
}

// node is a node to declare.
type node struct {
	*Asset
	host  *host // as the fabric has it; nil: not seen there
	class *class
	guids map[string]inventory.GUID // by label of the hca
}

// Make makes an inventory. The same sources give the same files.
func Make(src Sources) (*Result, error) {
	s := &site{src: src, out: &Result{Files: map[string][]byte{}}}
	if src.Assets == nil && src.Fabric == nil {
		return nil, fmt.Errorf("there is nothing to import: neither assets nor a fabric")
	}
	if src.Fabric != nil {
		s.wires = trace(src.Fabric)
		if err := s.wires.check(); err != nil {
			return nil, err
		}
	}
	if src.Assets != nil {
		for _, a := range src.Assets.Rows {
			s.nodes = append(s.nodes, &node{Asset: a, guids: map[string]inventory.GUID{}})
		}
		slices.SortStableFunc(s.nodes, func(a, b *node) int { return inventory.CompareNames(a.Hostname, b.Hostname) })
		if err := s.net.infer(s.nodes, src.Assets.bits); err != nil {
			return nil, err
		}
	}
	s.join()
	if err := s.classify(); err != nil {
		return nil, err
	}
	s.write()
	return s.out, nil
}

// guess notes what was not in the sources, and returns the comment for the file.
func (s *site) guess(where, format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	s.out.Guessed = append(s.out.Guessed, where+": "+text)
	return "# guessed: " + text
}

func (s *site) todo(format string, args ...any) {
	s.out.Todo = append(s.out.Todo, fmt.Sprintf(format, args...))
}

// join finds the node that each host of the fabric is: by one of its GUIDs in
// the asset list, else by its name.
func (s *site) join() {
	if s.wires == nil || s.src.Assets == nil {
		return
	}
	byName, byGUID := map[string]*node{}, map[inventory.GUID]*node{}
	for _, n := range s.nodes {
		byName[strings.ToLower(n.Hostname)] = n
		for _, g := range n.GUIDs {
			byGUID[g] = n
		}
	}
	for _, n := range s.nodes { // a short name, unless it is somebody's whole name
		if short := shortName(n.Hostname); byName[short] == nil {
			byName[short] = n
		}
	}
	s.wires.regroup(byGUID)
	s.wires.findRails()
	for _, h := range s.wires.hosts {
		n := h.node
		if n == nil && h.named {
			n = cmp.Or(byName[strings.ToLower(h.name)], byName[shortName(h.name)])
		}
		if n != nil && n.host == nil {
			n.host, h.node, h.name, h.named = h, n, n.Hostname, true
		}
	}
	var dark []string
	for _, n := range s.nodes {
		if n.host == nil {
			dark = append(dark, n.Hostname)
		}
	}
	if len(dark) > 0 {
		s.todo("%s: in %s, and not in the fabric: off, not cabled, or called otherwise there", fold(dark), s.src.Assets.base())
	}
}
