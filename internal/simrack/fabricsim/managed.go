package fabricsim

import (
	"encoding/binary"
	"errors"

	"firstlight/fabric/mad"
)

// maxLID is the last LID of one port (§4.1.3).
const maxLID = 0xbfff

// assignLIDs numbers switches and adapters' ports in their order, from 1.
func (f *Fabric) assignLIDs() error {
	lid := uint16(0)
	for i := range f.nodes {
		n := &f.nodes[i]
		first, last := 1, n.Ports
		if n.Switch {
			first, last = 0, 0
		}
		for num := first; num <= last; num++ {
			if lid++; lid > maxLID {
				return errors.New("the net has more ports than there are LIDs")
			}
			binary.BigEndian.PutUint16(f.portOf(n, num).set[piLID:], lid)
		}
	}
	f.topLID = lid
	manager := uint16(0)
	for i := range f.ports {
		p := &f.ports[i]
		if manager == 0 && !f.nodes[p.node].Switch {
			manager = p.lid()
		}
	}
	for i := range f.ports {
		binary.BigEndian.PutUint16(f.ports[i].set[piSMLID:], manager)
	}
	return nil
}

// hop is one link between switches.
type hop struct {
	to   int32 // index of the other switch
	port uint8
}

// route fills every switch's forwarding table with shortest ways, spread over
// those there are by LID.
func (f *Fabric) route() {
	f.routed = true
	links := make([][]hop, len(f.nodes))
	for i := range f.nodes {
		n := &f.nodes[i]
		if n.sw == nil {
			continue
		}
		n.sw.info.LinearFDBTop = f.topLID
		n.sw.unicast = make([]uint8, int(f.topLID)+1)
		for l := range n.sw.unicast {
			n.sw.unicast[l] = noPort
		}
		for num := 1; num <= n.Ports; num++ {
			p := f.portOf(n, num)
			if p.state == mad.PortActive && p.peer != none {
				if q := &f.ports[p.peer]; f.nodes[q.node].sw != nil && q.node != p.node {
					links[i] = append(links[i], hop{q.node, p.num})
				}
			}
		}
	}
	r := &router{f: f, links: links, far: make([]int, len(f.nodes))}
	for i := range f.nodes {
		if f.nodes[i].sw != nil {
			r.to(int32(i))
		}
	}
}

type router struct {
	f     *Fabric
	links [][]hop
	far   []int // links from the destination, by node; -1: none lead there
	queue []int32
	lids  []target
	ways  []uint8
}

// target is a LID at the destination and the port that leads to it there.
type target struct {
	lid  uint16
	port uint8
}

// to finds the ways to one switch and what hangs on it.
func (r *router) to(dest int32) {
	f, n := r.f, &r.f.nodes[dest]
	r.lids = append(r.lids[:0], target{f.ports[n.first].lid(), 0})
	for num := 1; num <= n.Ports; num++ {
		p := f.portOf(n, num)
		if p.state == mad.PortActive && p.peer != none && f.nodes[f.ports[p.peer].node].sw == nil {
			r.lids = append(r.lids, target{f.ports[p.peer].lid(), p.num})
		}
	}
	for _, t := range r.lids {
		n.sw.unicast[t.lid] = t.port
	}
	for i := range r.far {
		r.far[i] = -1
	}
	r.far[dest] = 0
	r.queue = append(r.queue[:0], dest)
	for head := 0; head < len(r.queue); head++ {
		at := r.queue[head]
		for _, h := range r.links[at] {
			if r.far[h.to] < 0 {
				r.far[h.to] = r.far[at] + 1
				r.queue = append(r.queue, h.to)
			}
		}
	}
	for i := range r.links {
		if r.far[i] <= 0 {
			continue
		}
		r.ways = r.ways[:0]
		for _, h := range r.links[i] {
			if r.far[h.to] == r.far[i]-1 {
				r.ways = append(r.ways, h.port)
			}
		}
		for _, t := range r.lids {
			f.nodes[i].sw.unicast[t.lid] = r.ways[int(t.lid)%len(r.ways)]
		}
	}
}
