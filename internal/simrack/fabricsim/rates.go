package fabricsim

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
