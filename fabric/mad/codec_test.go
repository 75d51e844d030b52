package mad

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// captured are the MADs of testdata/ibsim.txt by name and direction; zeros at
// their end are left out there.
func captured(t testing.TB) map[string][]byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/ibsim.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		out[f[0]+" "+f[1]] = append(b, make([]byte, Size-len(b))...)
	}
	return out
}

// codec is one attribute's parser and writer, over any.
type codec struct {
	parse  func([]byte) (any, error)
	append func(any) []byte
	off    int // of the attribute in a MAD
	size   int // of the attribute
}

func of[T any](off, size int, parse func([]byte) (T, error), write func([]byte, T) []byte) codec {
	return codec{
		parse:  func(b []byte) (any, error) { v, err := parse(b); return v, err },
		append: func(v any) []byte { return write(nil, v.(T)) },
		off:    off, size: size,
	}
}

func codecs() map[string]codec {
	return map[string]codec{
		"NodeInfo":              of(64, DataSize, ParseNodeInfo, AppendNodeInfo),
		"NodeDescription":       of(64, DataSize, ParseNodeDescription, AppendNodeDescription),
		"SwitchInfo":            of(64, DataSize, ParseSwitchInfo, AppendSwitchInfo),
		"PortInfo":              of(64, DataSize, ParsePortInfo, AppendPortInfo),
		"P_KeyTable":            of(64, DataSize, ParsePKeyTable, AppendPKeyTable),
		"LinearForwardingTable": of(64, DataSize, ParseLinearForwardingTable, AppendLinearForwardingTable),
		"GeneralInfo":           of(offVendorData, VendorDataSize, ParseGeneralInfo, AppendGeneralInfo),
		"PPCNT":                 of(offVendorData+registerBlock, RegisterSize, ParsePhysicalStats, AppendPhysicalStats),
		"PDDR module":           of(offVendorData+registerBlock, RegisterSize, ParseModuleInfo, AppendModuleInfo),
		"PDDR operational":      of(offVendorData+registerBlock, RegisterSize, ParseOperationalInfo, AppendOperationalInfo),
		"SMInfo":                of(64, DataSize, ParseSMInfo, AppendSMInfo),
		"ClassPortInfo":         of(64, PerfDataSize, ParseClassPortInfo, AppendClassPortInfo),
		"PortCounters":          of(64, PerfDataSize, ParsePortCounters, AppendPortCounters),
		"PortCountersExtended":  of(64, PerfDataSize, ParsePortCountersExtended, AppendPortCountersExtended),
	}
}

// forwarding is the table of the captured leaf.
func forwarding() (t LinearForwardingTable) {
	b, _ := hex.DecodeString("ff21002121212101022203230424052506260727082809290a2a0b2b0c2c0d2d0e2e0f2f10301131123213331434153516361737183819391a3a1b3b1c3c1d3d")
	copy(t[:], b)
	return t
}

// TestCaptured reads what the simulator sent, and writes it again.
func TestCaptured(t *testing.T) {
	raw := captured(t)
	all := codecs()
	cases := []struct {
		reply, attribute string
		want             any
	}{
		{"local-NodeInfo", "NodeInfo", NodeInfo{BaseVersion: 1, ClassVersion: 1, Type: NodeCA, NumPorts: 1, SystemGUID: 0xa088c20300000600,
			NodeGUID: 0xa088c20300000600, PortGUID: 0xa088c20300000601, PartitionCap: 64, DeviceID: 0xd2f2, Revision: 0xa1, LocalPort: 1, VendorID: 0x2c9}},
		{"NodeInfo", "NodeInfo", NodeInfo{BaseVersion: 1, ClassVersion: 1, Type: NodeSwitch, NumPorts: 64, SystemGUID: 0xa088c20300000100,
			NodeGUID: 0xa088c20300000100, PortGUID: 0xa088c20300000100, PartitionCap: 8, DeviceID: 0xd2f2, Revision: 0xa1, LocalPort: 1, VendorID: 0x2c9}},
		{"NodeDescription", "NodeDescription", "leaf-001"},
		{"SwitchInfo", "SwitchInfo", SwitchInfo{LinearFDBCap: 30720, MulticastFDBCap: 1024, LinearFDBTop: 69, LifeTimeValue: 18, PartitionEnforceCap: 64, EnforceCaps: 3}},
		{"local-PortInfo", "PortInfo", PortInfo{GIDPrefix: 0xfe80000000000000, LID: 7, MasterSMLID: 1, CapabilityMask: 0x50c048, LocalPort: 1, WidthEnabled: 3,
			WidthSupported: 31, WidthActive: 2, SpeedSupported: 7, State: PortActive, PhysState: PhysLinkUp, SpeedActive: 4, SpeedEnabled: 7, NeighborMTU: 4,
			VLCap: 4, MTUCap: 4, OperationalVLs: 4, CapabilityMask2: 0x30, SpeedExtActive: 4, SpeedExtCap: 7, SpeedExtOn: 7}},
		{"PKey", "P_KeyTable", PKeyTable{0xffff}},
		{"LFT", "LinearForwardingTable", forwarding()},
		{"cpi", "ClassPortInfo", ClassPortInfo{BaseVersion: 1, ClassVersion: 1, CapabilityMask: 0x1300, RespTimeValue: 18}},
		{"pc", "PortCounters", PortCounters{Port: 1, SymbolErrorCounter: 120, LinkErrorRecoveryCounter: 3, LinkDownedCounter: 2, PortRcvErrors: 77,
			PortRcvRemotePhysicalErrors: 5, PortRcvSwitchRelayErrors: 6, PortXmitDiscards: 7, PortXmitConstraintErrors: 8, PortRcvConstraintErrors: 9,
			LocalLinkIntegrityErrors: 10, ExcessiveBufferOverrunErrors: 11, VL15Dropped: 12, PortXmitData: 1948, PortRcvData: 2120, PortXmitPkts: 1509,
			PortRcvPkts: 1610, PortXmitWait: 1700}},
		{"pce", "PortCountersExtended", PortCountersExtended{Port: 1, PortXmitData: 1<<32 + 723, PortRcvData: 3192, PortXmitPkts: 2510,
			PortRcvPkts: 2611, PortUnicastXmitPkts: 2700, PortUnicastRcvPkts: 2800, PortMulticastXmitPkts: 2900}},
	}
	for _, c := range cases {
		m := raw[c.reply+" reply"]
		if m == nil {
			t.Fatalf("no reply %s in the capture", c.reply)
		}
		codec := all[c.attribute]
		data := m[codec.off:][:codec.size]
		got, err := codec.parse(data)
		if err != nil {
			t.Errorf("%s: %v", c.reply, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.reply, diff)
		}
		if again, err := codec.parse(codec.append(got)); err != nil || !cmp.Equal(again, got) {
			t.Errorf("%s written and read again: %+v, %v; want %+v", c.reply, again, err, got)
		}
		if _, err := codec.parse(data[:codec.size/5]); err == nil {
			t.Errorf("%s cut to %d bytes is read without an error", c.reply, codec.size/5)
		}
	}
}

// TestExactBytes writes what has no fields that are left out here, and wants
// the simulator's bytes.
func TestExactBytes(t *testing.T) {
	raw := captured(t)
	all := codecs()
	for reply, attribute := range map[string]string{"local-NodeInfo": "NodeInfo", "NodeDescription": "NodeDescription", "SwitchInfo": "SwitchInfo",
		"PKey": "P_KeyTable", "LFT": "LinearForwardingTable", "cpi": "ClassPortInfo", "pc": "PortCounters", "pce": "PortCountersExtended"} {
		c := all[attribute]
		data := raw[reply+" reply"][c.off:][:c.size]
		got, err := c.parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(hex.EncodeToString(data), hex.EncodeToString(c.append(got))); diff != "" {
			t.Errorf("%s (-captured +written):\n%s", reply, diff)
		}
	}
}

// TestRequests writes the requests that the simulator answered, in both ways.
func TestRequests(t *testing.T) {
	raw := captured(t)
	const tid = 0x1122334455667788
	cases := []struct {
		name  string
		path  []byte
		attr  Attribute
		mod   uint32
		reply []byte // the path of the reply's return
	}{
		{"local-NodeInfo", nil, AttrNodeInfo, 0, nil},
		{"NodeInfo", []byte{1}, AttrNodeInfo, 0, []byte{1}},
		{"PortInfo33", []byte{1, 33}, AttrPortInfo, 33, []byte{1, 1}},
	}
	for _, c := range cases {
		want := hex.EncodeToString(raw[c.name+" request"])
		var m [Size]byte
		PutDirectedGet(&m, tid, c.path, 0, c.attr, c.mod)
		if got := hex.EncodeToString(m[:]); got != want {
			t.Errorf("PutDirectedGet %s (-captured +written):\n%s", c.name, cmp.Diff(want, got))
		}
		if last := len(c.path) - 1; last >= 0 {
			PutDirectedGet(&m, tid, c.path[:last], c.path[last], c.attr, c.mod)
			if got := hex.EncodeToString(m[:]); got != want {
				t.Errorf("PutDirectedGet %s, the last hop apart (-captured +written):\n%s", c.name, cmp.Diff(want, got))
			}
		}
		if got := hex.EncodeToString(AppendSMP(nil, DirectedGet(tid, c.path, c.attr, c.mod))); got != want {
			t.Errorf("AppendSMP %s (-captured +written):\n%s", c.name, cmp.Diff(want, got))
		}
		reply, err := ParseSMP(raw[c.name+" reply"])
		if err != nil {
			t.Fatal(err)
		}
		if !reply.Returning || reply.Status != 0 || reply.Method != MethodGetResp || reply.Attribute != c.attr || reply.Modifier != c.mod ||
			!bytes.Equal(reply.Path, c.path) || !bytes.Equal(reply.Return, c.reply) || reply.DrSLID != PermissiveLID {
			t.Errorf("reply %s: %+v", c.name, reply)
		}
		if got := reply.TID & TIDMask; got != tid&TIDMask {
			t.Errorf("reply %s has the lower half 0x%x of its TID; want 0x%x", c.name, got, tid&TIDMask)
		}
		raw[c.name+" reply"][192] = 0 // the simulator writes before the return path
		if again := AppendSMP(nil, reply); !bytes.Equal(again, raw[c.name+" reply"]) {
			t.Errorf("reply %s (-captured +written):\n%s", c.name, cmp.Diff(hex.EncodeToString(raw[c.name+" reply"]), hex.EncodeToString(again)))
		}
	}
	var m [Size]byte
	for name, attr := range map[string]Attribute{"pc": AttrPortCounters, "pce": AttrPortCountersExtended} {
		PutPerfGet(&m, tid, attr, 1)
		if want := raw[name+" request"]; !bytes.Equal(m[:], want) {
			t.Errorf("PutPerfGet %s = %x; want %x", name, m, want)
		}
	}
	lid := SMP{Header: Header{Class: ClassSubnLID, ClassVersion: 1, Method: MethodGet, TID: 7, Attribute: AttrNodeInfo}}
	if got, want := AppendSMP(nil, lid), raw["lid-routed request"]; !bytes.Equal(got, want) {
		t.Errorf("LID-routed request = %x; want %x", got, want)
	}
	if s, err := ParseSMP(raw["lid-routed reply"]); err != nil || s.Data[2] != byte(NodeSwitch) || s.Path != nil {
		t.Errorf("LID-routed reply = %+v, %v; want the NodeInfo of a switch, without a path", s, err)
	}
}

func TestStatus(t *testing.T) {
	bad, err := ParseSMP(captured(t)["bad-port reply"])
	if err != nil {
		t.Fatal(err)
	}
	if got := bad.Status.String(); got != "invalid attribute or modifier" || bad.Status.Unsupported() {
		t.Errorf("status of a port that is not there: %q, unsupported %v", got, bad.Status.Unsupported())
	}
	for status, want := range map[Status]string{0: "success", 1: "busy", 2: "redirected", 0x04: "bad version of the class",
		0x08: "method not supported", 0x0c: "method or attribute not supported", 0x1c: "invalid attribute or modifier", 0x100: "status 0x0100"} {
		if got := status.String(); got != want {
			t.Errorf("Status(%#x) = %q; want %q", uint16(status), got, want)
		}
		if got, want := status.Unsupported(), strings.Contains(want, "supported") || strings.Contains(want, "version"); got != want {
			t.Errorf("Status(%#x).Unsupported() = %v; want %v", uint16(status), got, want)
		}
	}
}

// TestSpeeds has what the simulator cannot do: a port's words are their own table.
func TestSpeeds(t *testing.T) {
	cases := []struct {
		p         PortInfo
		width     int
		speed     string
		bestWidth int
		bestSpeed string
	}{
		{PortInfo{WidthActive: 2, SpeedActive: 4, SpeedExtActive: 8, WidthSupported: 0x13, SpeedSupported: 7, SpeedExtCap: 0xf}, 4, "NDR", 4, "NDR"},
		{PortInfo{WidthActive: 16, SpeedActive: 4, SpeedExtActive: 8, WidthSupported: 0x10, SpeedExtCap: 0xc}, 2, "NDR", 2, "NDR"},
		{PortInfo{WidthActive: 16, SpeedActive: 4, SpeedExtActive: 4, WidthSupported: 0x1f, SpeedExtCap: 0x7}, 2, "HDR", 12, "HDR"},
		{PortInfo{WidthActive: 2, SpeedActive: 4, SpeedExtActive: 2, WidthSupported: 3, SpeedExtCap: 3}, 4, "EDR", 4, "EDR"},
		{PortInfo{WidthActive: 1, SpeedActive: 4, SpeedExtActive: 1, WidthSupported: 3, SpeedExtCap: 1}, 1, "FDR", 4, "FDR"},
		{PortInfo{WidthActive: 8, SpeedActive: 4, WidthSupported: 8, SpeedSupported: 7}, 12, "QDR", 12, "QDR"},
		{PortInfo{WidthActive: 4, SpeedActive: 2, WidthSupported: 4, SpeedSupported: 3}, 8, "DDR", 8, "DDR"},
		{PortInfo{WidthActive: 1, SpeedActive: 1, WidthSupported: 1, SpeedSupported: 1}, 1, "SDR", 1, "SDR"},
		{PortInfo{WidthActive: 2, SpeedActive: 4, SpeedExtActive: 8, SpeedExt2Active: 1, WidthSupported: 2, SpeedExtCap: 8, SpeedExt2Cap: 1}, 4, "XDR", 4, "XDR"},
		{PortInfo{WidthActive: 3, SpeedActive: 3}, 0, "", 0, ""},
	}
	for _, c := range cases {
		p, err := ParsePortInfo(AppendPortInfo(nil, c.p))
		if err != nil {
			t.Fatal(err)
		}
		width, speed := p.Best()
		if p.Width() != c.width || p.Speed() != c.speed || width != c.bestWidth || speed != c.bestSpeed {
			t.Errorf("%dx%s, best %dx%s; want %dx%s, %dx%s", p.Width(), p.Speed(), width, speed, c.width, c.speed, c.bestWidth, c.bestSpeed)
		}
	}
}

// TestDescriptions are what is not plain ASCII.
func TestDescriptions(t *testing.T) {
	for text, want := range map[string]string{
		"MT4129 ConnectX7   Mellanox Technologies": "MT4129 ConnectX7   Mellanox Technologies",
		"leaf\x1b[31m":                    "leaf\ufffd[31m",
		"a\x00b":                          "a",
		"bad\xff":                         "bad\ufffd",
		"  hnode001\n":                    "hnode001\ufffd",
		strings.Repeat("0", 62) + "\x1d0": strings.Repeat("0", 62) + "\ufffd0",
		strings.Repeat("é", 40):           strings.Repeat("é", 32),
	} {
		if got, err := ParseNodeDescription(AppendNodeDescription(nil, text)); err != nil || got != want {
			t.Errorf("description %q = %q, %v; want %q", text, got, err, want)
		}
	}
}

// TestRefused are bytes that are no MAD.
func TestRefused(t *testing.T) {
	good := AppendSMP(nil, DirectedGet(1, []byte{1}, AttrNodeInfo, 0))
	with := func(i int, b byte) []byte {
		m := bytes.Clone(good)
		m[i] = b
		return m
	}
	for want, b := range map[string][]byte{
		"a MAD has 256 bytes, not 255":                  good[:255],
		"MAD of base version 2; only 1 is known":        with(0, 2),
		"directed route of 64 hops; 63 is the most":     with(7, 64),
		"MAD of class 0x04 is not of subnet management": with(1, 4),
		"a MAD has 256 bytes, not 0":                    nil,
		"a MAD has 256 bytes, not 257":                  append(bytes.Clone(good), 0),
		"MAD of class 0x03 is not of subnet management": with(1, 3),
		"directed route of 255 hops; 63 is the most":    with(7, 255),
		"MAD of base version 128; only 1 is known":      with(0, 0x80),
	} {
		if _, err := ParseSMP(b); err == nil || err.Error() != want {
			t.Errorf("ParseSMP = %v; want %q", err, want)
		}
	}
	if _, err := ParseNodeInfo(make([]byte, DataSize)); err == nil || err.Error() != "NodeInfo of node type 0; there are 1 to 3" {
		t.Errorf("NodeInfo of zeros: %v", err)
	}
	long := DirectedGet(1, make([]byte, 100), AttrNodeInfo, 0)
	if s, err := ParseSMP(AppendSMP(nil, long)); err != nil || len(s.Path) != MaxHops {
		t.Errorf("a path of 100 hops is written as %d, %v; want %d", len(s.Path), err, MaxHops)
	}
}

// FuzzAttributes reads any bytes as every attribute. What is read is written
// and read again the same.
func FuzzAttributes(f *testing.F) {
	for _, m := range captured(f) {
		f.Add(m[64:])
		f.Add(m[64:128])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, c := range codecs() {
			v, err := c.parse(b)
			if text, ok := v.(string); err != nil || ok && strings.ContainsRune(text, '\ufffd') {
				continue // what replaced a byte takes three
			}
			again, err := c.parse(c.append(v))
			if err != nil || !cmp.Equal(v, again) {
				t.Errorf("%s: %+v is read as %+v, %v", name, v, again, err)
			}
		}
	})
}

// FuzzSMP reads any bytes as a packet.
func FuzzSMP(f *testing.F) {
	for _, m := range captured(f) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSMP(b)
		if err != nil {
			return
		}
		if again, err := ParseSMP(AppendSMP(nil, s)); err != nil || !cmp.Equal(s, again) {
			t.Errorf("%+v is read as %+v, %v", s, again, err)
		}
	})
}
