package burnin

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The values that kernels in another language are held against.
func TestDefinitions(t *testing.T) {
	var got []int
	for i := range uint64(8) {
		got = append(got, Element(1, i, 255))
	}
	if want := []int{34, 126, 241, -28, -28, 134, 193, 12}; !cmp.Equal(got, want) {
		t.Errorf("Element(1, 0..7, 255) = %v; want %v", got, want)
	}
	// The first output of the published SplitMix64 from the seed 1234567.
	if got := mix64(1234567 + golden); got != 6457827717110365317 {
		t.Errorf("mix64 gives %d", got)
	}
	if got := SeedB(1); got != 0x075c8519a9320579 {
		t.Errorf("SeedB(1) = %#x", got)
	}
	if got := Weight(0); got != 0x9e3779b9e17d05ad {
		t.Errorf("Weight(0) = %#x", got)
	}
	if got := Weight(7); got != 0xf1bbcdcb0be82d63 {
		t.Errorf("Weight(7) = %#x", got)
	}
}

func TestElementsFillTheirSpan(t *testing.T) {
	for _, typ := range []Type{BF16, FP8, INT8} {
		span := typ.Span()
		seen := map[int]int{}
		sum := 0
		const n = 200_000
		for i := range uint64(n) {
			v := Element(7, i, span)
			seen[v]++
			sum += v
		}
		if len(seen) != 2*span+1 {
			t.Errorf("%s: %d different values; want %d", typ, len(seen), 2*span+1)
		}
		for v := range seen {
			if v < -span || v > span {
				t.Errorf("%s: %d is outside of ±%d", typ, v, span)
			}
		}
		if mean := float64(sum) / n; math.Abs(mean) > float64(span)/50 {
			t.Errorf("%s: mean %g", typ, mean)
		}
	}
}

func TestBitsAndBack(t *testing.T) {
	for _, typ := range []Type{BF16, FP8, INT8} {
		for _, v := range []int64{0, 1, -1, 255, -65025, 1 << 23, -(1<<24 - 1)} {
			if got, ok := typ.Value(typ.Bits(v)); !ok || got != v {
				t.Errorf("%s: Value(Bits(%d)) = %d, %v", typ, v, got, ok)
			}
		}
	}
	for _, bits := range []uint32{0x7fc00000, 0x7f800000, 0x3f000000, 0xffc00001} {
		if v, ok := BF16.Value(bits); ok {
			t.Errorf("Value(%#x) = %d; want none", bits, v)
		}
	}
}

// Every single-bit change of every place of a tile changes its hash.
func TestTermSeesEveryBit(t *testing.T) {
	for index := range uint64(4096) {
		bits := BF16.Bits(int64(Element(3, index, 1<<20)))
		for bit := range 32 {
			if Term(index, bits) == Term(index, bits^1<<bit) {
				t.Fatalf("index %d: bit %d does not show", index, bit)
			}
		}
	}
}

func TestEverySlotComputesEveryTile(t *testing.T) {
	const slots, tiles = 132, 64
	seen := map[[2]int]bool{}
	for i := range slots {
		for tile := range tiles {
			seen[[2]int{Slot(tile, i, slots), tile}] = true
		}
	}
	if len(seen) != slots*tiles {
		t.Errorf("%d pairs of slot and tile; want %d", len(seen), slots*tiles)
	}
}

func TestShape(t *testing.T) {
	good := Shape{M: 8192, N: 8192, K: 8192, TileM: 128, TileN: 256}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	if row, col := good.Origin(33); row != 128 || col != 256 {
		t.Errorf("Origin(33) = %d, %d; want 128, 256", row, col)
	}
	for _, bad := range []Shape{{}, {M: 100, N: 256, K: 1, TileM: 128, TileN: 256}, {M: 1 << 17, N: 256, K: 1, TileM: 128, TileN: 256}} {
		if bad.Check() == nil {
			t.Errorf("%v passes", bad)
		}
	}
}

func TestProtocol(t *testing.T) {
	o := Order{Version: ProtocolVersion, Engine: "reference", Load: LoadGEMM, Seed: math.MaxUint64, Prove: true, Seconds: 1.5}
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadOrder(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	o.Type, o.Sample = BF16, 1
	if d := cmp.Diff(o, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{``, `{}`, `{"version":2}`, `{"version":1,"type":"fp64"}`} {
		if _, err := ReadOrder(strings.NewReader(bad)); err == nil {
			t.Errorf("ReadOrder(%s) passes", bad)
		}
	}
	m := Event{Kind: EventMismatch, Mismatch: &Mismatch{XOR: 0x8000, Hash: 0xffffffffffffffff}}
	raw, _ = json.Marshal(m)
	if !strings.Contains(string(raw), `"xor":"00008000"`) || !strings.Contains(string(raw), `"hash":"ffffffffffffffff"`) {
		t.Errorf("event %s", raw)
	}
	var back Event
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, back); d != "" {
		t.Error(d)
	}
}
