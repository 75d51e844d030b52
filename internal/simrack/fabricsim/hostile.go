package fabricsim

import (
	"encoding/binary"

	"firstlight/fabric/mad"
)

// A chain without an end, as a broken or hostile fabric can seem to have: behind
// a port is a switch with two ports, and behind its second one the next, each
// with a GUID that nobody has seen.
const (
	endlessGUIDs = 0xbad0000000000000
	endlessPorts = 2
)

// stepDeep takes a flight on inside such a chain, or out of it.
func (f *Fabric) stepDeep(fl *flight) fate {
	if !fl.directed() {
		return lost // no table leads here
	}
	var num byte
	switch hops := int(fl.mad[offHopCount]); {
	case !fl.back && fl.hop == hops:
		f.answerDeep(fl)
		fl.turn()
		return flying
	case fl.back:
		num = fl.mad[offReturn+fl.hop]
	default:
		num = fl.mad[offPath+fl.hop+1]
	}
	switch {
	case num == endlessPorts:
		fl.deep++
		f.note(fl, 1)
	case num != 1:
		return lost
	case fl.deep == 1:
		fl.deep = 0
		f.note(fl, f.ports[fl.at].num)
	default:
		fl.deep--
		f.note(fl, endlessPorts)
	}
	return flying
}

// answerDeep answers as such a switch.
func (f *Fabric) answerDeep(fl *flight) {
	data := fl.mad[offData:offPath]
	guid := endlessGUIDs | uint64(f.ports[fl.at].node)<<16 | uint64(fl.deep)
	in := uint8(fl.mad[offReturn+fl.hop])
	fl.setStatus(0)
	switch fl.attr() {
	case mad.AttrNodeInfo:
		copy(data, mad.AppendNodeInfo(nil, mad.NodeInfo{BaseVersion: 1, ClassVersion: 1, Type: mad.NodeSwitch, NumPorts: endlessPorts,
			SystemGUID: guid, NodeGUID: guid, PortGUID: guid, PartitionCap: 32, DeviceID: switchDevice, VendorID: vendor, LocalPort: in}))
	case mad.AttrNodeDescription:
		copy(data, mad.AppendNodeDescription(nil, switchFactory))
	case mad.AttrSwitchInfo:
		copy(data, mad.AppendSwitchInfo(nil, mad.SwitchInfo{LinearFDBCap: 0xc000, EnhancedPort0: true}))
	case mad.AttrPortInfo:
		if num := binary.BigEndian.Uint32(fl.mad[offMod:]) & 0xff; num <= endlessPorts {
			putLie(&port{num: in}, int(num), data)
			return
		}
		fl.setStatus(statusBadValue)
	default:
		fl.setStatus(statusBadAttribute)
	}
}

// putLie is the PortInfo of a port that is not there: up and active.
func putLie(from *port, num int, data []byte) {
	p := port{num: uint8(num), mostWidth: 4, mostSpeed: uint8(len(speeds) - 2)}
	p.fixed(Node{Switch: true, Width: 4})
	copy(data, p.set[:])
	s := speeds[p.mostSpeed]
	data[piLocalPort] = from.num
	data[piState] |= byte(mad.PortActive)
	data[piPhys] |= byte(mad.PhysLinkUp) << 4
	data[piWidthActive] = widthBit(4)
	data[piSpeed] |= s.base << 4
	data[piSpeedExt] |= s.ext << 4
}
