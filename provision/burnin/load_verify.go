package burnin

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
)

// HashTile is the hash of a tile of C from its bits, row by row.
func HashTile(s Shape, tile int, bits []uint32) uint64 {
	row, column := s.Origin(tile)
	var sum uint64
	for r := range s.TileM {
		index := uint64(row+r)*uint64(s.N) + uint64(column)
		for c, b := range bits[r*s.TileN : (r+1)*s.TileN] {
			sum += Term(index+uint64(c), b)
		}
	}
	return sum
}

// Truth computes one tile of C on the CPU, in integers: dst is TileM*TileN
// elements, row by row.
func Truth(s Shape, t Type, seed uint64, tile int, dst []uint32) {
	span, seedB := t.Span(), SeedB(seed)
	row, column := s.Origin(tile)
	const chunk = 256 // of K at a time, so that what is generated stays small
	sums := make([]int64, s.TileM*s.TileN)
	b := make([]int32, chunk*s.TileN)
	for from := 0; from < s.K; from += chunk {
		depth := min(chunk, s.K-from)
		for k := range depth {
			at := uint64(from+k)*uint64(s.N) + uint64(column)
			for c := range s.TileN {
				b[k*s.TileN+c] = int32(Element(seedB, at+uint64(c), span))
			}
		}
		for r := range s.TileM {
			at := uint64(row+r)*uint64(s.K) + uint64(from)
			out := sums[r*s.TileN : (r+1)*s.TileN]
			for k := range depth {
				a := int64(Element(seed, at+uint64(k), span))
				for c, v := range b[k*s.TileN : (k+1)*s.TileN] {
					out[c] += a * int64(v)
				}
			}
		}
	}
	for i, v := range sums {
		dst[i] = t.Bits(v)
	}
}

// freivalds checks a product tile by tile: with a random vector r, C·r must be
// A·(B·r), all in 64-bit integers modulo 2^64. A wrong C whose errors are below
// 2^25 passes with a probability of at most 2^-39.
type freivalds struct {
	shape  Shape
	typ    Type
	random []uint64 // r, N long
	want   []uint64 // A·(B·r), M long
	got    []uint64 // C·r so far
}

// newFreivalds takes r from the system's random numbers: what is computed must
// not be able to fit it.
func newFreivalds(s Shape, t Type, seed uint64) (*freivalds, error) {
	raw := make([]byte, 8*s.N)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("random vector: %w", err)
	}
	f := &freivalds{shape: s, typ: t, random: make([]uint64, s.N), got: make([]uint64, s.M)}
	for i := range f.random {
		f.random[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	br := timesVector(SeedB(seed), t.Span(), s.K, f.random)
	f.want = timesVector(seed, t.Span(), s.M, br)
	return f, nil
}

// timesVector is a generated matrix of so many rows times a vector.
func timesVector(seed uint64, span, rows int, v []uint64) []uint64 {
	out := make([]uint64, rows)
	workers := min(runtime.GOMAXPROCS(0), rows)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for r := w; r < rows; r += workers {
				at, sum := uint64(r)*uint64(len(v)), uint64(0)
				for c, x := range v {
					sum += uint64(int64(Element(seed, at+uint64(c), span))) * x
				}
				out[r] = sum
			}
		})
	}
	wg.Wait()
	return out
}

// add takes in a tile. An element that is no integer (NaN) makes its row wrong.
func (f *freivalds) add(tile int, bits []uint32) {
	row, column := f.shape.Origin(tile)
	for r := range f.shape.TileM {
		var sum uint64
		for c, b := range bits[r*f.shape.TileN : (r+1)*f.shape.TileN] {
			v, ok := f.typ.Value(b)
			if !ok {
				v = int64(f.random[column+c] | 1)
			}
			sum += uint64(v) * f.random[column+c]
		}
		f.got[row+r] += sum
	}
}

// wrongRows are the rows of C that are wrong, once every tile was added.
func (f *freivalds) wrongRows() []int {
	var rows []int
	for r := range f.got {
		if f.got[r] != f.want[r] {
			rows = append(rows, r)
		}
	}
	return rows
}
