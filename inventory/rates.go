package inventory

// laneSpeeds are the speeds of a lane of InfiniBand, as their names count them (IBTA
// volume 1, 14.2.5.6, LinkSpeedActive and its extensions).
var laneSpeeds = []unit{
	{"SDR", 2.5e9}, {"DDR", 5e9}, {"QDR", 10e9}, {"FDR10", 10e9}, {"FDR", 14e9}, {"EDR", 25e9}, {"HDR", 50e9}, {"NDR", 100e9}, {"XDR", 200e9},
}

// rateName is a rate by name: lanes of InfiniBand, or Ethernet's bits in a second.
type rateName struct {
	name  string
	lanes int
	speed string
	scale float64
}

// rateNames are the rates of InfiniBand and the Ethernet rates by their IEEE names.
// Of names for one thing the usual one comes first.
var rateNames = []rateName{
	{name: "SDR", lanes: 4, speed: "SDR"}, {name: "DDR", lanes: 4, speed: "DDR"}, {name: "QDR", lanes: 4, speed: "QDR"},
	{name: "FDR", lanes: 4, speed: "FDR"}, {name: "EDR", lanes: 4, speed: "EDR"},
	{name: "HDR100", lanes: 2, speed: "HDR"}, {name: "HDR", lanes: 4, speed: "HDR"}, {name: "HDR200", lanes: 4, speed: "HDR"},
	{name: "NDR200", lanes: 2, speed: "NDR"}, {name: "NDR", lanes: 4, speed: "NDR"}, {name: "NDR400", lanes: 4, speed: "NDR"},
	{name: "XDR400", lanes: 2, speed: "XDR"}, {name: "XDR", lanes: 4, speed: "XDR"}, {name: "XDR800", lanes: 4, speed: "XDR"},
	{name: "1GbE", scale: 1e9}, {name: "10GbE", scale: 10e9}, {name: "25GbE", scale: 25e9}, {name: "40GbE", scale: 40e9}, {name: "50GbE", scale: 50e9},
	{name: "100GbE", scale: 100e9}, {name: "200GbE", scale: 200e9}, {name: "400GbE", scale: 400e9}, {name: "800GbE", scale: 800e9},
}

func (r rateName) bitsPerSecond() float64 {
	if r.lanes > 0 {
		return float64(r.lanes) * LaneSpeed(r.speed)
	}
	return r.scale
}

// LaneSpeed is what a lane runs at in bits a second, by the name of its speed: "NDR".
// 0 is no such speed.
func LaneSpeed(name string) float64 {
	for _, s := range laneSpeeds {
		if s.name == name {
			return s.scale
		}
	}
	return 0
}

// Lanes are the lanes and their speed that a name of InfiniBand stands for; ok is
// false of others.
func (r LinkRate) Lanes() (lanes int, speed string, ok bool) {
	for _, n := range rateNames {
		if n.name == r.Text && n.lanes > 0 {
			return n.lanes, n.speed, true
		}
	}
	return 0, "", false
}

// LanesName is the usual name of so many lanes at that speed; "" is none.
func LanesName(lanes int, speed string) string {
	for _, n := range rateNames {
		if n.lanes > 0 && n.lanes == lanes && n.speed == speed {
			return n.name
		}
	}
	return ""
}
