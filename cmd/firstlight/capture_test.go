package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
)

// packet is a UDP packet of a capture.
type packet struct {
	from    string // source MAC
	dport   int
	payload []byte
}

// readCapture returns the UDP packets over IPv4 of a pcap file of Ethernet
// frames (pcap-savefile(5)).
func readCapture(file string) ([]packet, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(raw) < 24 || binary.LittleEndian.Uint32(raw)&0xffff0000 != 0xa1b20000 {
		return nil, fmt.Errorf("%s is not a little-endian pcap file", file)
	}
	var out []packet
	for raw = raw[24:]; len(raw) >= 16; {
		n := int(binary.LittleEndian.Uint32(raw[8:]))
		if len(raw) < 16+n {
			break // the last record was being written
		}
		if p, ok := udpOf(raw[16 : 16+n]); ok {
			out = append(out, p)
		}
		raw = raw[16+n:]
	}
	return out, nil
}

// udpOf takes a UDP packet out of an Ethernet frame.
func udpOf(frame []byte) (packet, bool) {
	if len(frame) < 14+20+8 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 || frame[14+9] != 17 {
		return packet{}, false
	}
	ip := frame[14:]
	header := int(ip[0]&0xf) * 4
	if len(ip) < header+8 {
		return packet{}, false
	}
	return packet{from: net.HardwareAddr(frame[6:12]).String(), dport: int(binary.BigEndian.Uint16(ip[header+2:])), payload: ip[header+8:]}, true
}
