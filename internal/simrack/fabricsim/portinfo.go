package fabricsim

import (
	"encoding/binary"

	"firstlight/fabric/mad"
)

// Bytes of PortInfo (§14.2.5.6) that this package reads or writes one by one.
const (
	piLID            = 16
	piSMLID          = 18
	piCapabilities   = 20
	piLocalPort      = 28
	piWidthEnabled   = 29
	piWidthSupported = 30
	piWidthActive    = 31
	piState          = 32 // and SpeedSupported
	piPhys           = 33 // and LinkDownDefaultState
	piLMC            = 34
	piSpeed          = 35 // active and enabled
	piVLs            = 37 // VLCap and InitType
	piInitReply      = 41 // and MTUCap
	piOperationalVLs = 43
	piExt2           = 56 // LinkSpeedExt…2
	piSpeedExt       = 62 // active and supported
	piSpeedExtOn     = 63
)

// Capabilities of ports, as Quantum-2 and ConnectX-7 have them: among them
// extended speeds (bit 14) and CapabilityMask2 (bit 15).
const (
	adapterCapabilities = 0x2651e848
	switchCapabilities  = 0x0250e848
	capabilitySM        = 1 << 1
	// CapabilityMask2: a node description that can be set, 2 lanes, HDR, NDR.
	capabilities2 = 1<<0 | 1<<4 | 1<<5 | 1<<10
)

// mtu4096 is that MTU as PortInfo has it.
const mtu4096 = 5

// fixed writes what a port is born with.
func (p *port) fixed(n Node) {
	base, ext, ext2 := speeds[p.mostSpeed].supported()
	info := mad.PortInfo{
		GIDPrefix: 0xfe80000000000000, WidthEnabled: widthMask(n.Width), WidthSupported: widthMask(n.Width),
		SpeedSupported: base, SpeedEnabled: base, SpeedExtCap: ext, SpeedExtOn: ext, SpeedExt2Cap: ext2, SpeedExt2On: ext2,
		NeighborMTU: mtu4096, MTUCap: mtu4096, VLCap: 3, OperationalVLs: 3, LocalPhyErrors: 8, OverrunErrors: 8, RoundTrip: 0xffffff,
	}
	switch {
	case !n.Switch:
		info.CapabilityMask, info.CapabilityMask2 = adapterCapabilities, capabilities2
	case p.num == 0:
		info.CapabilityMask, info.CapabilityMask2 = switchCapabilities, capabilities2
	}
	copy(p.set[:], mad.AppendPortInfo(nil, info))
	p.set[39], p.set[40] = 8, 8 // VLArbitrationHighCap, VLArbitrationLowCap
	p.set[52] = 16              // RespTimeValue
	p.set[piPhys] = 2           // LinkDownDefaultState: Polling
	if !n.Switch || p.num == 0 {
		p.set[50] = 1 // GUIDCap
	}
}

func (p *port) lid() uint16 { return binary.BigEndian.Uint16(p.set[piLID:]) }

// hasLID reports that a LID is one of the port's (LMC, §4.1.3).
func (p *port) hasLID(lid uint16) bool {
	own := p.lid()
	return own != 0 && lid>>(p.set[piLMC]&7) == own>>(p.set[piLMC]&7)
}

// enabled reports that a subnet manager lets the port run at a speed.
func (p *port) enabled(s speed) bool {
	switch {
	case s.ext2 != 0:
		return p.set[piExt2]&7&s.ext2 != 0
	case s.ext != 0:
		return p.set[piSpeedExtOn]&0x1f&s.ext != 0
	}
	return p.set[piSpeed]&0x0f&s.base != 0
}

// putPortInfo writes what a port says of itself to who asks through port from.
func (f *Fabric) putPortInfo(p, from *port, data []byte) {
	copy(data, p.set[:])
	data[piLocalPort] = from.num
	data[piState] = data[piState]&0xf0 | byte(p.state)
	data[piPhys] = byte(p.phys)<<4 | data[piPhys]&0x0f
	width, s := p.mostWidth, speeds[0] // a dark port names no rate that it last ran at
	if p.phys == mad.PhysLinkUp {
		width, s = p.width, speeds[p.speed]
	}
	data[piWidthActive] = widthBit(int(width))
	data[piSpeed] = s.base<<4 | data[piSpeed]&0x0f
	data[piSpeedExt] = s.ext<<4 | data[piSpeedExt]&0x0f
	data[piExt2] = s.ext2<<5 | data[piExt2]&0x1f
	if p.managers > 0 {
		binary.BigEndian.PutUint32(data[piCapabilities:], binary.BigEndian.Uint32(data[piCapabilities:])|capabilitySM)
	}
}

// writable are the bytes of PortInfo that a Set writes as they are: M_Key, GID
// prefix, LID, SM LID; M_Key lease; LMC; MTU and SL of the neighbour; VL limit;
// stall count and life; operational VLs; violation counters; time-out; thresholds.
var writable = [...][2]int{{0, 20}, {26, 28}, {34, 35}, {36, 37}, {38, 39}, {42, 50}, {51, 52}, {53, 54}}

// setPortInfo carries out a Set (§14.2.5.6). extended: the setter knows the
// extended speeds.
func (f *Fabric) setPortInfo(i int32, data []byte, extended bool) mad.Status {
	p := &f.ports[i]
	state, phys := mad.PortState(data[piState]&0x0f), mad.PhysState(data[piPhys]>>4)
	if vls := data[piOperationalVLs] >> 4; vls > p.set[piVLs]>>4 {
		return statusBadValue
	}
	if state >= mad.PortInit && (p.phys != mad.PhysLinkUp || state != p.state && state != p.state+1 || state == mad.PortInit) {
		return statusBadValue
	}
	for _, w := range writable {
		copy(p.set[w[0]:w[1]], data[w[0]:w[1]])
	}
	if down := data[piPhys] & 0x0f; down != 0 {
		p.set[piPhys] = down
	}
	p.set[piVLs] = p.set[piVLs]&0xf0 | data[piVLs]&0x0f
	choose(&p.set[piWidthEnabled], data[piWidthEnabled], p.set[piWidthSupported], 0xff)
	choose(&p.set[piSpeed], data[piSpeed]&0x0f, p.set[piState]>>4, 0x0f)
	if extended {
		choose(&p.set[piSpeedExtOn], data[piSpeedExtOn]&0x1f, p.set[piSpeedExt]&0x0f, 0x1f)
	}
	if p.num == 0 {
		return 0 // its state is not a link's
	}
	switch {
	case phys == mad.PhysDisabled:
		p.disabled = true
		f.train(i)
	case phys == mad.PhysPolling && p.disabled:
		p.disabled = false
		f.train(i)
	case state == mad.PortDown && p.phys == mad.PhysLinkUp:
		f.retrain(i)
	case state > mad.PortInit:
		p.state = state
	}
	return 0
}

// choose sets a mask of what is enabled: 0 leaves it, all means all there is.
func choose(at *uint8, value, supported, all uint8) {
	switch value {
	case 0:
	case all:
		*at = *at&^all | supported
	default:
		*at = *at&^all | value&supported
	}
}

// retrain takes a link down and up again: both ends are then in Init. Nobody
// pulled a cable, so that LinkDowned does not count.
func (f *Fabric) retrain(i int32) {
	p := &f.ports[i]
	ends := []*port{p}
	if p.peer != none && p.peer != i {
		ends = append(ends, &f.ports[p.peer])
	}
	for _, e := range ends {
		e.phys = mad.PhysTraining
	}
	f.train(i)
}
