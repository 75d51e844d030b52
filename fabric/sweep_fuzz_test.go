package fabric

import (
	"bytes"
	"compress/gzip"
	"encoding/gob"
	"testing"
	"time"

	"firstlight/fabric/mad"
)

// FuzzSweep spoils the answers of a small fabric. Whatever they say, the sweep ends
// in time, and what it found can be judged.
func FuzzSweep(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 64 + 3, 0xff, 1, 64 + 2, 3, 0, 64 + 36, 2}) // NodeInfo: ports, type, port it came in by
	f.Add([]byte{5, 64 + 12, 0x30, 3, 64 + 19, 0xff, 0, 64 + 33, 0xf0, 2, 17, 1, 0, 3, 9})
	f.Add(bytes.Repeat([]byte{0, 5, 0x0c}, 40))
	f.Add(bytes.Repeat([]byte{1, 64 + 19, 7}, 40))
	f.Add(append(bytes.Repeat([]byte{60, 16, 0}, 1), 0, 36+85, 0x50, 0, 36+166, 1, 0, 37, 3, 0, 36+111, 0x0f))
	c := tinySite()
	d := Declare(c, c.Fabrics["f"])
	f.Fuzz(func(t *testing.T, spoil []byte) {
		root, sw, _ := pair()
		b := fakeSwitch(0x11, 4)
		plug(sw, 3, b, 1)
		plug(b, 2, sw, 4)
		plug(fakeHCA(0x300, "n1 mlx5_0"), 1, b, 3)
		root.pkeys[0] = 0xffff
		root.info.VendorID, sw.info.VendorID, b.info.VendorID = mad.VendorNVIDIA, mad.VendorNVIDIA, mad.VendorNVIDIA
		found, err := run(t, &fake{root: root, agents: true, spoil: bytes.Clone(spoil)}, Sweep{PKeys: true, Counters: true, Modules: true, Timeout: 2 * time.Millisecond, Attempts: 1, Deadline: time.Second})
		if found == nil {
			if err == nil {
				t.Error("nothing was found, and no error says why")
			}
			return
		}
		d.Judge(found.Observed, Known{})
		Structural(found.Observed)
		for _, l := range found.Links() {
			names := d.Names(found.Observed, Known{})
			JudgeLink(l, names)
			DefaultLimits().JudgeModules(l, names)
		}
		for _, u := range found.Unanswered {
			if u.String() == "" {
				t.Errorf("an unanswered question without words: %+v", u)
			}
		}
	})
}

// FuzzReadHistory reads any bytes as what a history unpacks to. What is read can be
// added to, told from, and written and read again.
func FuzzReadHistory(f *testing.F) {
	s, h := newSmall(2), NewHistory()
	f.Add(unpacked(f, h))
	for k := range 4 {
		at := noon.Add(time.Duration(k) * time.Minute)
		s.values[PortID{2, 1}][SymbolErrors] += 3
		h.Add(s.read(at, true), at, 0.01)
	}
	f.Add(unpacked(f, h))
	var other bytes.Buffer
	if err := gob.NewEncoder(&other).Encode(historyFile{Format: historyFormat, Names: []CounterName{"of another version", SymbolErrors},
		Ports: []storedPort{{ID: PortID{1, 1}, Values: []uint64{1, 2}, Bits: []uint8{64, 16}}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(other.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		var file bytes.Buffer
		z := gzip.NewWriter(&file)
		_, _ = z.Write(raw)
		z.Close()
		h, err := ReadHistory(&file)
		if err != nil {
			return
		}
		s := newSmall(2)
		at := noon.Add(24 * time.Hour)
		h.Add(s.read(at, true), at, 0.01)
		h.Recent(s.Observed, DefaultLimits())
		file.Reset()
		if err := h.Write(&file); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadHistory(&file); err != nil {
			t.Errorf("it is written so that it cannot be read: %v", err)
		}
	})
}

// unpacked is a history as its file unpacks to.
func unpacked(f *testing.F, h *History) []byte {
	f.Helper()
	var file, raw bytes.Buffer
	err := h.Write(&file)
	if err == nil {
		var z *gzip.Reader
		if z, err = gzip.NewReader(&file); err == nil {
			_, err = raw.ReadFrom(z)
		}
	}
	if err != nil {
		f.Fatal(err)
	}
	return raw.Bytes()
}
