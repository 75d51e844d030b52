package fabric

import (
	"compress/gzip"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// historyFile is how a History lies in a file: gob, compressed. Counters are
// numbered as in Names, so that a version with other counters can read it.
type historyFile struct {
	Format    string
	Names     []CounterName
	Ports     []storedPort
	Intervals []interval
}

// storedPort is a port with its newest reading, in the order of Names.
type storedPort struct {
	ID, Peer     PortID
	Joined, Read time.Time
	Values       []uint64
	Bits         []uint8
}

const historyFormat = "firstlight fabric history 1"

// maxHistory bounds what a file unpacks to: 100,000 ports are some 20 MB.
const maxHistory = 1 << 30

// Write writes the history.
func (h *History) Write(w io.Writer) error {
	f := historyFile{Format: historyFormat, Intervals: h.intervals, Ports: make([]storedPort, len(h.ports))}
	for i := range portCounters {
		f.Names = append(f.Names, portCounters[i].name)
	}
	for i := range h.ports {
		p := &h.ports[i]
		f.Ports[i] = storedPort{ID: p.ID, Peer: p.Peer, Joined: p.Joined, Read: p.Last.At, Values: p.Last.Values[:], Bits: p.Last.Bits[:]}
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(z).Encode(f), z.Close())
}

// ReadHistory reads what Write wrote.
func ReadHistory(r io.Reader) (*History, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("not a history of a fabric: %w", err)
	}
	var f historyFile
	if err := gob.NewDecoder(io.LimitReader(z, maxHistory)).Decode(&f); err != nil {
		return nil, fmt.Errorf("not a history of a fabric, or damaged: %w", err)
	}
	if _, err := z.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return nil, errors.New("damaged: more follows where it should end")
	}
	if f.Format != historyFormat {
		return nil, fmt.Errorf("written by another version: its format is %q, this one reads %q", f.Format, historyFormat)
	}
	return f.history()
}

// history checks what was read: whoever edited the file must not crash the
// program.
func (f *historyFile) history() (*History, error) {
	place := make([]int, len(f.Names))
	for i, name := range f.Names {
		place[i] = indexOf(name)
	}
	h := NewHistory()
	for i := range f.Ports {
		p := &f.Ports[i]
		if _, twice := h.index[p.ID]; twice || len(p.Values) != len(place) || len(p.Bits) != len(place) {
			return nil, fmt.Errorf("damaged: port %d of 0x%016x", p.ID.Port, p.ID.GUID)
		}
		w := watched{ID: p.ID, Peer: p.Peer, Joined: p.Joined, Last: Reading{At: p.Read}}
		for k, to := range place {
			if to >= 0 {
				w.Last.Values[to], w.Last.Bits[to] = p.Values[k], p.Bits[k]
			}
		}
		h.index[w.ID] = len(h.ports)
		h.ports = append(h.ports, w)
	}
	for i := range f.Intervals {
		in, ok := f.Intervals[i].renumbered(place, len(h.ports))
		if !ok {
			return nil, fmt.Errorf("damaged: what was counted until %v", f.Intervals[i].End)
		}
		h.intervals = append(h.intervals, in)
	}
	return h, nil
}

// renumbered is an interval in this version's numbers of counters; ok is false
// where it cannot be.
func (in interval) renumbered(place []int, ports int) (interval, bool) {
	out := interval{End: in.End, Times: in.Times}
	watched := 0
	for _, r := range in.Times {
		if r.Ports <= 0 || r.Ports > ports-watched || r.Elapsed < 0 || r.Traffic < 0 || r.Traffic > r.Elapsed {
			return out, false
		}
		watched += r.Ports
	}
	at, before := 0, -1
	for _, o := range in.Owners {
		if o.Counts <= 0 || o.Counts > len(in.Counts)-at || o.Port <= before || o.Port >= ports {
			return out, false
		}
		var kept []Count
		for _, c := range in.Counts[at : at+o.Counts] {
			if c.Counter < 0 || c.Counter >= len(place) {
				return out, false
			}
			if c.Counter = place[c.Counter]; c.Counter >= 0 {
				kept = append(kept, c)
			}
		}
		slices.SortFunc(kept, func(a, b Count) int { return a.Counter - b.Counter })
		if len(kept) > 0 {
			out.Owners = append(out.Owners, owner{o.Port, len(kept)})
			out.Counts = append(out.Counts, kept...)
		}
		at, before = at+o.Counts, o.Port
	}
	return out, at == len(in.Counts)
}
