package burnin

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"

	"firstlight/provision/acceptance"
)

// ProtocolVersion is that of Order and Event. A worker refuses another.
const ProtocolVersion = 1

// Load is what a worker does with its GPU.
type Load string

// The loads. GEMM checks every result bit; Memory checks every byte; the
// others make traffic and heat and check what arrives.
const (
	LoadGEMM   Load = "gemm"   // exact matrix products, hashed each iteration
	LoadMemory Load = "memory" // whole memory filled and verified, pattern by pattern
	LoadStream Load = "stream" // device copy at full bandwidth
	LoadHost   Load = "host"   // host to device and back, over PCIe
	LoadPeer   Load = "peer"   // device to device, over NVLink
	LoadPulse  Load = "pulse"  // GEMM switched on and off: power transients
)

// Type is the number format of the factors of a product.
type Type string

// The number formats. Each holds every integer of its Span exactly.
const (
	BF16 Type = "bf16" // accumulated in fp32
	FP8  Type = "fp8"  // e4m3, accumulated in fp32
	INT8 Type = "int8" // accumulated in int32
)

// Span is the largest absolute value of the factors: the elements of A and B
// are integers in [-Span, Span].
//
// bf16 has 8 significant bits, so integers to ±255 are exact; the sum of 8,192
// products has a standard deviation of 1.97e6, and fp32 is exact, in whatever
// order it adds, below 2^24: 8.5 of them. e4m3 has 4 significant bits, so ±16.
// An accumulator that keeps fewer bits than fp32 (the fp8 path of sm_90 keeps
// about 14) must be emptied into fp32 registers at least every 128 of K.
func (t Type) Span() int {
	switch t {
	case BF16:
		return 255
	case FP8:
		return 16
	case INT8:
		return 127
	}
	return 0
}

// Bits is how an element of C with the exact value v is kept, and hashed: the
// IEEE 754 binary32 pattern (zero is +0), or two's complement for int8.
func (t Type) Bits(v int64) uint32 {
	if t == INT8 {
		return uint32(int32(v))
	}
	return math.Float32bits(float32(v))
}

// Value is the inverse of Bits. It is false when the bits are no integer: NaN,
// infinite or a fraction, which no exact sum can be.
func (t Type) Value(bits uint32) (int64, bool) {
	if t == INT8 {
		return int64(int32(bits)), true
	}
	f := float64(math.Float32frombits(bits))
	if math.IsNaN(f) || math.Abs(f) >= 1<<62 || f != math.Trunc(f) {
		return 0, false
	}
	return int64(f), true
}

// golden is 2^64 divided by the golden ratio, odd.
const golden = 0x9E3779B97F4A7C15

// mix64 is the finalizer of SplitMix64 (Steele, Lea and Flood 2014), a
// bijection on 64 bits. All arithmetic is modulo 2^64, all shifts are logical.
func mix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// SeedB is the seed of the elements of B, where seed is that of A.
func SeedB(seed uint64) uint64 { return mix64(seed ^ 0xB) }

// Element is the integer in [-span, span] at an index of a factor:
//
//	z = mix64(seed + (index+1)*golden)            uint64
//	v = ((z >> 32) * (2*span+1)) >> 32            uint64, 0 to 2*span
//	v - span                                      int32
//
// The index in A (M rows, K columns) is row*K+column; in B (K rows, N columns)
// it is row*N+column, whatever the layout in memory. C = A·B.
func Element(seed, index uint64, span int) int {
	z := mix64(seed + (index+1)*golden)
	return int((z>>32)*uint64(2*span+1)>>32) - span
}

// Weight is the odd 64-bit number that weighs the element of C at the index
// row*N+column in the hash of its tile:
//
//	z = (index+1)*golden                          uint64
//	Weight = (z ^ (z >> 32)) | 1
//
// From one column to the next, z grows by golden: no multiplication.
func Weight(index uint64) uint64 {
	z := (index + 1) * golden
	return z ^ z>>32 | 1
}

// Term is what one element of C adds to the hash of its tile: its 32 bits, as
// an unsigned number, times the weight of its place, modulo 2^64. The hash of a
// tile is the sum of its terms modulo 2^64, in any order. A weight is odd, so a
// tile in which one element differs, in whatever bits, always has another hash.
func Term(index uint64, bits uint32) uint64 { return uint64(bits) * Weight(index) }

// Shape is the size of a product and of the tiles in which C is computed. M is
// a multiple of TileM, N of TileN, and M*N is at most 2^32.
type Shape struct {
	M     int `json:"m"`
	N     int `json:"n"`
	K     int `json:"k"`
	TileM int `json:"tile_m"`
	TileN int `json:"tile_n"`
}

// Check says what is wrong with a shape.
func (s Shape) Check() error {
	switch {
	case s.M <= 0 || s.N <= 0 || s.K <= 0 || s.TileM <= 0 || s.TileN <= 0:
		return fmt.Errorf("shape %v: every size must be positive", s)
	case s.M%s.TileM != 0 || s.N%s.TileN != 0:
		return fmt.Errorf("shape %v: C is not a whole number of tiles", s)
	case s.M > 1<<16 || s.N > 1<<16:
		return fmt.Errorf("shape %v: M and N are at most 65536", s)
	}
	return nil
}

// Tiles is how many tiles C has. They are numbered row by row: the tile of the
// element (row, column) is (row/TileM)*(N/TileN) + column/TileN.
func (s Shape) Tiles() int { return s.M / s.TileM * (s.N / s.TileN) }

// Origin is the first row and column of a tile.
func (s Shape) Origin(tile int) (row, column int) {
	across := s.N / s.TileN
	return tile / across * s.TileM, tile % across * s.TileN
}

// FLOPs of one product: a multiplication and an addition for each of M*N*K.
func (s Shape) FLOPs() float64 { return 2 * float64(s.M) * float64(s.N) * float64(s.K) }

// Slot is which of a number of slots computes a tile in an iteration. A slot is
// a thread block that has a streaming multiprocessor (SM) to itself; after as
// many iterations as there are slots, each has computed each tile. Slot b of
// iteration i so computes the tiles t0, t0+slots, t0+2*slots, … with
// t0 = (b - i) mod slots. Which SM a block was on is read on the GPU (%smid).
func Slot(tile, iteration, slots int) int { return (tile + iteration) % slots }

// Order is what a worker is told: one JSON object on its standard input, which
// then stays open. End of file there means: stop, report and end.
type Order struct {
	Version int               `json:"version"` // ProtocolVersion
	Engine  acceptance.Engine `json:"engine"`
	GPU     int               `json:"gpu"`            // index in PCI order
	UUID    string            `json:"uuid,omitempty"` // "" means by index
	Peer    int               `json:"peer,omitempty"` // LoadPeer: index of the other GPU

	Load   Load    `json:"load"`
	Type   Type    `json:"type,omitempty"`   // LoadGEMM, LoadPulse; "" means BF16
	Kernel string  `json:"kernel,omitempty"` // "" means the best that the GPU runs
	Shape  Shape   `json:"shape"`            // zero sizes: the worker's choice, told in Ready
	Seed   uint64  `json:"seed"`
	Share  float64 `json:"share,omitempty"` // LoadMemory: of the free memory; 0 means all of it

	// Seconds that count; the golden result and the proof come before. An order
	// with Iterations ends there even if Seconds are left. LoadMemory with
	// neither sweeps every pattern once.
	Seconds    float64 `json:"seconds,omitempty"`
	Iterations int     `json:"iterations,omitempty"`
	Sample     float64 `json:"sample,omitempty"` // seconds between samples; 0 means 1

	// Prove has the worker corrupt one element on purpose before anything
	// counts, and report whether its own check saw it.
	Prove bool `json:"prove"`

	// Fault is planted by tests and labs. Evidence of a run with one is no
	// evidence for metal, whatever engine computed it.
	Fault *Fault `json:"fault,omitempty"`
}

// Fault is something wrong, made on purpose.
type Fault struct {
	Kind  FaultKind `json:"kind"`
	GPU   int       `json:"gpu"`             // index; the other GPUs are well
	SM    int       `json:"sm"`              // FaultBitFlip, FaultNaN, FaultStuck: only what this SM computes
	After int       `json:"after,omitempty"` // iterations before it begins
	Bit   int       `json:"bit,omitempty"`   // FaultBitFlip: 0 to 31
	Slow  float64   `json:"slow,omitempty"`  // FaultSlow: how many times slower; 0 means 3
}

// FaultKind is what is wrong.
type FaultKind string

// The faults.
const (
	FaultBitFlip FaultKind = "bit-flip" // one bit of one element, once
	FaultNaN     FaultKind = "nan"      // one element, once
	FaultStuck   FaultKind = "stuck-sm" // an SM leaves its tiles as they were
	FaultSlow    FaultKind = "slow"     // right results, late
	FaultHang    FaultKind = "hang"     // no word any more
	FaultCrash   FaultKind = "crash"    // the process ends without a word
	FaultHot     FaultKind = "hot"      // readings above every limit
	FaultMemory  FaultKind = "memory"   // a memory cell whose Bit is stuck at one
)

// EventKind is what a worker tells.
type EventKind string

// The events, in the order in which a good run sends them. Samples, iterations
// and sweeps repeat; a worker sends something at least every two samples.
const (
	EventReady      EventKind = "ready"      // Ready
	EventGolden     EventKind = "golden"     // Golden: not before it is verified
	EventProof      EventKind = "proof"      // Proof
	EventSample     EventKind = "sample"     // Sample
	EventIterations EventKind = "iterations" // Iterations, since the last such event
	EventSweep      EventKind = "sweep"      // Sweep: one pattern over the memory
	EventTransfer   EventKind = "transfer"   // Transfer
	EventMismatch   EventKind = "mismatch"   // Mismatch
	EventCoverage   EventKind = "coverage"   // Coverage, before the end
	EventDone       EventKind = "done"       // the order is carried out
	EventError      EventKind = "error"      // Error; nothing follows
)

// Event is one line of JSON on a worker's standard output.
type Event struct {
	Kind       EventKind   `json:"kind"`
	At         float64     `json:"at"` // seconds since the worker began, monotonic
	Ready      *Ready      `json:"ready,omitempty"`
	Golden     *Golden     `json:"golden,omitempty"`
	Proof      *Proof      `json:"proof,omitempty"`
	Sample     *Sample     `json:"sample,omitempty"`
	Iterations *Iterations `json:"iterations,omitempty"`
	Sweep      *Sweep      `json:"sweep,omitempty"`
	Transfer   *Transfer   `json:"transfer,omitempty"`
	Mismatch   *Mismatch   `json:"mismatch,omitempty"`
	Coverage   *Coverage   `json:"coverage,omitempty"`
	Error      string      `json:"error,omitempty"`
}

// Ready says what the worker found and what it will do.
type Ready struct {
	Engine acceptance.Engine `json:"engine"`
	Device string            `json:"device"` // "NVIDIA H200"
	UUID   string            `json:"uuid,omitempty"`
	PCI    string            `json:"pci,omitempty"` // 0000:18:00.0
	SMs    int               `json:"sms"`
	Memory uint64            `json:"memory"` // bytes
	Driver string            `json:"driver,omitempty"`
	Kernel string            `json:"kernel,omitempty"` // "wgmma", "mma"
	Type   Type              `json:"type,omitempty"`
	Shape  Shape             `json:"shape"`
}

// Golden is the result that all others are held against, verified on the CPU.
type Golden struct {
	Hash    Hex     `json:"hash"`   // of C: the sum of the hashes of its tiles, modulo 2^64
	Rounds  int     `json:"rounds"` // of Freivalds' check
	Seconds float64 `json:"seconds"`
}

// Proof is the outcome of the corruption made on purpose.
type Proof struct {
	Caught bool   `json:"caught"`
	Index  uint64 `json:"index"` // the element corrupted
	XOR    Hex32  `json:"xor"`   // the bits flipped
	Found  Hex32  `json:"found"` // the bits that the check found to differ, at that element
	Tile   int    `json:"tile"`  // the tile that the check named
	Other  int    `json:"other"` // tiles that it named wrongly
}

// Sample is one second. Zero: not known.
type Sample struct {
	TFLOPs   float64 `json:"tflops,omitempty"`
	GBps     float64 `json:"gbps,omitempty"`   // bytes moved, 1e9 a second
	Power    float64 `json:"power,omitempty"`  // W
	Temp     float64 `json:"temp,omitempty"`   // °C, GPU
	Memory   float64 `json:"memory,omitempty"` // °C, HBM
	Clock    float64 `json:"clock,omitempty"`  // MHz, SM
	Throttle uint64  `json:"throttle,omitempty"`
}

// Iterations sums up some iterations: how many, and how long each took.
type Iterations struct {
	First  int      `json:"first"`
	Count  int      `json:"count"`
	Micros []uint32 `json:"micros"` // of each iteration, or of as many as were timed
}

// Sweep is one pattern written over the memory and read back.
type Sweep struct {
	Pattern string  `json:"pattern"`
	Bytes   uint64  `json:"bytes"` // written and verified
	Seconds float64 `json:"seconds"`
	Errors  uint64  `json:"errors"`           // words that differ
	Address uint64  `json:"address"`          // of the first, from the start of the allocation
	Want    Hex     `json:"want,omitempty"`   // of the first
	Got     Hex     `json:"got,omitempty"`    //
	Device  uint64  `json:"device,omitempty"` // its virtual address on the GPU
}

// Transfer is bytes moved between memories, and checked at their end.
type Transfer struct {
	Path    string  `json:"path"` // "h2d", "d2h", "p2p", "device"
	Bytes   uint64  `json:"bytes"`
	Seconds float64 `json:"seconds"`
	Errors  uint64  `json:"errors"`
}

// Mismatch is a tile whose hash was wrong in one iteration, recomputed and
// compared element by element.
type Mismatch struct {
	Iteration int     `json:"iteration"`
	Tile      int     `json:"tile"`
	SM        int     `json:"sm"`        // that computed it, -1 when not known
	Elements  int     `json:"elements"`  // that differ; 0: it could not be caught again
	Index     uint64  `json:"index"`     // of the first
	Want      Hex32   `json:"want"`      // its bits
	Got       Hex32   `json:"got"`       //
	XOR       Hex32   `json:"xor"`       // of all that differ, ORed
	NaN       bool    `json:"nan"`       // one of them is no number
	Again     bool    `json:"again"`     // recomputed on the same SM, it was wrong again
	Temp      float64 `json:"temp"`      // °C
	Clock     float64 `json:"clock"`     // MHz
	PowerW    float64 `json:"power"`     // W
	Reference Hex     `json:"reference"` // the hash that the tile should have
	Hash      Hex     `json:"hash"`      // the one it had
}

// Coverage is what was really done.
type Coverage struct {
	Iterations int     `json:"iterations"`
	FLOPs      float64 `json:"flops"` // verified bit for bit
	Bytes      uint64  `json:"bytes"` // of memory written and verified
	SMs        int     `json:"sms"`   // that computed something
	Pairs      float64 `json:"pairs"` // share of the (SM, tile) pairs that were computed, 0 to 1
	Seconds    float64 `json:"seconds"`
}

// Hex is 64 bits that JSON carries as hexadecimal digits: many readers of JSON
// keep 53 bits of a number.
type Hex uint64

// MarshalText gives sixteen digits.
func (h Hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(h)), nil }

// UnmarshalText reads sixteen digits.
func (h *Hex) UnmarshalText(b []byte) error {
	v, err := parseHex(b, 8)
	*h = Hex(v)
	return err
}

// Hex32 is 32 bits, likewise.
type Hex32 uint32

// MarshalText gives eight digits.
func (h Hex32) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%08x", uint32(h)), nil }

// UnmarshalText reads eight digits.
func (h *Hex32) UnmarshalText(b []byte) error {
	v, err := parseHex(b, 4)
	*h = Hex32(v)
	return err
}

func parseHex(b []byte, size int) (uint64, error) {
	raw := make([]byte, size)
	if len(b) != 2*size {
		return 0, fmt.Errorf("%q is not %d hexadecimal digits", b, 2*size)
	}
	if _, err := hex.Decode(raw, b); err != nil {
		return 0, fmt.Errorf("%q: %w", b, err)
	}
	var v uint64
	for _, c := range raw {
		v = v<<8 | uint64(c)
	}
	return v, nil
}

// ReadOrder reads a worker's order and says what is wrong with it.
func ReadOrder(r io.Reader) (Order, error) {
	var o Order
	if err := json.NewDecoder(r).Decode(&o); err != nil {
		return o, fmt.Errorf("read order: %w", err)
	}
	if o.Version != ProtocolVersion {
		return o, fmt.Errorf("order of protocol version %d; this worker speaks %d: the agent and its worker are of different versions", o.Version, ProtocolVersion)
	}
	if o.Type == "" {
		o.Type = BF16
	}
	if o.Type.Span() == 0 {
		return o, fmt.Errorf("order: no number format is called %q", o.Type)
	}
	if o.Sample <= 0 {
		o.Sample = 1
	}
	return o, nil
}
