package fabricsim

import (
	"encoding/binary"

	"firstlight/fabric/mad"
)

// Attributes of subnet management besides those of package mad (§14.2.5).
const (
	attrNotice          mad.Attribute = 0x0002
	attrGUIDInfo        mad.Attribute = 0x0014
	attrSLtoVL          mad.Attribute = 0x0017
	attrVLArbitration   mad.Attribute = 0x0018
	attrMulticast       mad.Attribute = 0x001b
	attrMellanoxExtPort mad.Attribute = 0xff90 // the vendor's: FDR10, which no port here has
)

// answer has a node carry out a question and write its answer. It is false
// where the node says nothing at all.
func (f *Fabric) answer(fl *flight, p *port, n *node) bool {
	set := false
	switch mad.Method(fl.mad[offMethod]) {
	case mad.MethodGet:
	case mad.MethodSet:
		set = true
	default:
		fl.setStatus(statusBadMethod)
		return true
	}
	mod := binary.BigEndian.Uint32(fl.mad[offMod:])
	switch class := mad.Class(fl.mad[offClass]); {
	case class == mad.ClassPerf:
		fl.setStatus(f.perf(fl, p, n, set))
	case class == mad.ClassVendor:
		status, known := f.vendor(fl, p, n, set)
		if !known {
			return false
		}
		fl.setStatus(status)
	case fl.subnet():
		fl.setStatus(f.subnet(fl.attr(), mod, fl.mad[offData:offPath], p, n, set))
	default:
		return false // no agent of that class: the packet is thrown away
	}
	return true
}

// subnet carries out one question of subnet management.
func (f *Fabric) subnet(attr mad.Attribute, mod uint32, data []byte, p *port, n *node, set bool) mad.Status {
	switch attr {
	case mad.AttrNodeInfo:
		if set {
			return statusBadMethod
		}
		f.putNodeInfo(p, n, data)
	case mad.AttrNodeDescription:
		if set {
			n.Description, _ = mad.ParseNodeDescription(data)
		}
		copy(data, mad.AppendNodeDescription(nil, n.Description))
	case mad.AttrPortInfo:
		return f.portInfo(mod, data, p, n, set)
	case mad.AttrPKeyTable:
		return f.partitions(mod, data, p, n, set)
	case mad.AttrSwitchInfo, mad.AttrLinearForwardingTable, attrMulticast:
		if n.sw == nil {
			return statusBadAttribute
		}
		return n.sw.table(attr, mod, data, set)
	case attrSLtoVL, attrVLArbitration, attrGUIDInfo:
		return f.portTable(attr, mod, data, p, n, set)
	case attrMellanoxExtPort:
		clear(data)
	default:
		return statusBadAttribute
	}
	return 0
}

func (f *Fabric) putNodeInfo(p *port, n *node, data []byte) {
	info := mad.NodeInfo{
		BaseVersion: 1, ClassVersion: 1, Type: n.kind(), NumPorts: uint8(n.Ports),
		SystemGUID: n.SystemGUID, NodeGUID: n.GUID, PortGUID: p.guid, PartitionCap: 128,
		DeviceID: n.DeviceID, VendorID: vendor, LocalPort: p.num,
	}
	if n.lie != 0 {
		info.NumPorts = uint8(n.lie)
	}
	copy(data, mad.AppendNodeInfo(nil, info))
}

// extendedSpeeds is the bit of PortInfo's modifier by which a subnet manager
// says that it knows them (§14.2.5.6).
const extendedSpeeds = 1 << 31

func (f *Fabric) portInfo(mod uint32, data []byte, p *port, n *node, set bool) mad.Status {
	num := int(mod & 0xff)
	if num == 0 && n.sw == nil {
		num = int(p.num)
	}
	if num > n.Ports {
		if num <= n.lie {
			putLie(p, num, data)
			return 0
		}
		return statusBadValue
	}
	q := f.portOf(n, num)
	if set {
		if n.sw == nil && q != p {
			return statusBadValue // an adapter's port is set through itself
		}
		if status := f.setPortInfo(n.first+int32(num), data, mod&extendedSpeeds != 0); status != 0 {
			return status
		}
	}
	f.putPortInfo(q, p, data)
	return 0
}

// partitionBlock is how many keys a block of P_KeyTable has.
const partitionBlock = 32

// partitions answers P_KeyTable (§14.2.5.7).
func (f *Fabric) partitions(mod uint32, data []byte, p *port, n *node, set bool) mad.Status {
	keys := 128
	if n.sw != nil {
		if p = f.portOf(n, int(mod>>16)); p == nil {
			return statusBadValue
		}
		if p.num != 0 {
			keys = int(n.sw.info.PartitionEnforceCap)
		}
	}
	from := int(mod&0xffff) * partitionBlock
	if from >= keys {
		return statusBadValue
	}
	if set {
		for len(p.pkeys) < from+partitionBlock {
			p.pkeys = append(p.pkeys, 0)
		}
		for i := range partitionBlock {
			p.pkeys[from+i] = binary.BigEndian.Uint16(data[2*i:])
		}
	}
	p.putPartitions(data, from)
	return 0
}

// defaultPartition is what every port has to begin with, as a full member
// (§10.9.2).
const defaultPartition = 0xffff

func (p *port) putPartitions(data []byte, from int) {
	clear(data)
	if p.pkeys == nil {
		if from == 0 {
			binary.BigEndian.PutUint16(data, defaultPartition)
		}
		return
	}
	for i := from; i < min(from+partitionBlock, len(p.pkeys)); i++ {
		binary.BigEndian.PutUint16(data[2*(i-from):], p.pkeys[i])
	}
}

// table answers what only switches have.
func (s *switching) table(attr mad.Attribute, mod uint32, data []byte, set bool) mad.Status {
	switch attr {
	case mad.AttrLinearForwardingTable:
		return s.linear(mod, data, set)
	case attrMulticast:
		// The modifier is the block of 32 LIDs and, in its upper four bits, which
		// 16 ports (§14.2.5.12).
		if mod&0x1ff >= uint32(s.info.MulticastFDBCap)/32 {
			return statusBadValue
		}
		if set {
			s.multicast[mod&0xf00001ff] = [64]byte(data)
		}
		block := s.multicast[mod&0xf00001ff]
		copy(data, block[:])
		return 0
	}
	if set {
		want, err := mad.ParseSwitchInfo(data)
		if err != nil {
			return statusBadValue
		}
		s.info.LinearFDBTop, s.info.DefaultPort, s.info.LifeTimeValue = want.LinearFDBTop, want.DefaultPort, want.LifeTimeValue
		s.info.MulticastFDBTop = want.MulticastFDBTop
		if want.PortStateChange { // written as one to be cleared
			s.info.PortStateChange = false
		}
	}
	copy(data, mad.AppendSwitchInfo(nil, s.info))
	return 0
}

// noPort is an entry of a forwarding table that leads nowhere (§14.2.5.9).
const noPort = 255

// linear answers LinearForwardingTable.
func (s *switching) linear(mod uint32, data []byte, set bool) mad.Status {
	from := int(mod) * mad.DataSize
	if mod >= uint32(s.info.LinearFDBCap)/mad.DataSize {
		return statusBadValue
	}
	if set {
		for len(s.unicast) < from+mad.DataSize {
			s.unicast = append(s.unicast, noPort)
		}
		copy(s.unicast[from:], data)
	}
	for i := range data {
		data[i] = noPort
	}
	if from < len(s.unicast) {
		copy(data, s.unicast[from:])
	}
	return 0
}

// portTable answers what a subnet manager writes and reads again: it changes
// nothing here.
func (f *Fabric) portTable(attr mad.Attribute, mod uint32, data []byte, p *port, n *node, set bool) mad.Status {
	num := int(p.num)
	switch {
	case n.sw == nil:
	case attr == attrSLtoVL:
		num = int(mod & 0xff) // the port that packets leave by; above it the one they come in by
	case attr == attrVLArbitration:
		num = int(mod & 0xffff)
	default:
		num = 0
	}
	if p = f.portOf(n, num); p == nil || attr == attrVLArbitration && (mod>>16 < 1 || mod>>16 > 4) {
		return statusBadValue
	}
	key := tableKey{attr, mod}
	if set {
		if p.tables == nil {
			p.tables = map[tableKey][mad.DataSize]byte{}
		}
		p.tables[key] = [mad.DataSize]byte(data)
	}
	block, ok := p.tables[key]
	copy(data, block[:])
	if !ok {
		defaultTable(attr, data)
	}
	if attr == attrGUIDInfo && mod == 0 {
		binary.BigEndian.PutUint64(data, p.guid) // the first is read-only
	}
	return 0
}

// defaultTable is what a port has before anybody wrote: service level n goes by
// lane n mod 4.
func defaultTable(attr mad.Attribute, data []byte) {
	if attr != attrSLtoVL {
		return
	}
	for i := range 8 {
		data[i] = byte(2*i%4)<<4 | byte((2*i+1)%4)
	}
}
