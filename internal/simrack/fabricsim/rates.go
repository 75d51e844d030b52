package fabricsim

import "strings"

// speed is how PortInfo encodes the speed of a lane (§14.2.5.6). Each field has
// one bit for it; the masks of what is supported have those below it as well.
type speed struct {
	name      string
	base      uint8 // LinkSpeedActive
	ext, ext2 uint8 // LinkSpeedExtActive, LinkSpeedExtActive2
}

// speeds are those there are, slowest first.
var speeds = [...]speed{
	{name: "SDR", base: 1}, {name: "DDR", base: 2}, {name: "QDR", base: 4},
	{name: "FDR", base: 4, ext: 1}, {name: "EDR", base: 4, ext: 2}, {name: "HDR", base: 4, ext: 4}, {name: "NDR", base: 4, ext: 8},
	{name: "XDR", base: 4, ext2: 1},
}

// speedIndex finds a speed by its name.
func speedIndex(name string) (uint8, bool) {
	for i, s := range speeds {
		if s.name == name {
			return uint8(i), true
		}
	}
	return 0, false
}

// supported are the masks of a port that can run at up to this speed.
func (s speed) supported() (base, ext, ext2 uint8) {
	base, ext = s.base<<1-1, s.ext<<1-1
	if s.ext == 0 {
		ext = 0
	}
	if s.ext2 != 0 {
		ext = 0x0f
	}
	return base, ext, s.ext2
}

// widths are the numbers of lanes and their bits in LinkWidthActive
// (§14.2.5.6), narrowest first.
var widths = [...]struct {
	lanes int
	bit   uint8
}{{1, 1}, {2, 16}, {4, 2}, {8, 4}, {12, 8}}

// widthBit is the bit of a number of lanes, 0 where there is none.
func widthBit(lanes int) uint8 {
	for _, w := range widths {
		if w.lanes == lanes {
			return w.bit
		}
	}
	return 0
}

// widthMask is the LinkWidthSupported of a port with so many lanes: ports of
// Quantum-2 run on any of 1, 2 and 4 that they have.
func widthMask(lanes int) uint8 {
	var mask uint8
	for _, w := range widths {
		if w.lanes <= lanes && (w.lanes < 8 || w.lanes == lanes) {
			mask |= w.bit
		}
	}
	return mask
}

// lanesOf are the lanes and the speed that the name of a rate stands for;
// zero where it is none of InfiniBand's.
func lanesOf(rate string) (width int, name string) {
	suffixes := []struct {
		text  string
		width int
	}{{"EDR100", 4}, {"HDR100", 2}, {"HDR200", 4}, {"NDR200", 2}, {"NDR400", 4}, {"XDR400", 2}, {"XDR800", 4}}
	for _, s := range suffixes {
		if rate == s.text {
			return s.width, strings.TrimRight(rate, "0123456789")
		}
	}
	if _, ok := speedIndex(rate); ok {
		return 4, rate
	}
	return 0, ""
}
