package fabricsim

import (
	"testing"

	"firstlight/fabric/mad"
)

// probe asks a fabric without sockets, from the port of a node.
type probe struct {
	t *testing.T
	f *Fabric
	c *client
}

func at(t *testing.T, f *Fabric, node string) probe {
	t.Helper()
	c, _, ok := f.attach(node, 1)
	if !ok {
		t.Fatalf("there is no node %q", node)
	}
	return probe{t, f, c}
}

// directed sends a directed-route SMP and gives what came back.
func (p probe) directed(method mad.Method, path []byte, attr mad.Attribute, mod uint32, data []byte) (mad.SMP, fate) {
	p.t.Helper()
	smp := mad.DirectedGet(7, path, attr, mod)
	smp.Method = method
	copy(smp.Data[:], data)
	fl := &flight{dlid: mad.PermissiveLID, slid: mad.PermissiveLID}
	copy(fl.mad[:], mad.AppendSMP(nil, smp))
	fl.sent = fl.mad
	p.f.start(fl, p.c, false)
	if fl.fate != answered {
		return mad.SMP{}, fl.fate
	}
	back, err := mad.ParseSMP(fl.mad[:])
	if err != nil {
		p.t.Fatalf("answer to %x by %v: %v", attr, path, err)
	}
	if !back.Returning || back.Method != mad.MethodGetResp || back.TID != 7 {
		p.t.Errorf("answer to %x by %v: D bit %v, method 0x%02x, TID %d", attr, path, back.Returning, uint8(back.Method), back.TID)
	}
	return back, answered
}

// get is the data of an attribute, which must be there.
func (p probe) get(path []byte, attr mad.Attribute, mod uint32) []byte {
	p.t.Helper()
	smp, fate := p.directed(mad.MethodGet, path, attr, mod, nil)
	if fate != answered || smp.Status != 0 {
		p.t.Fatalf("get %x by %v: fate %d, status %v", attr, path, fate, smp.Status)
	}
	return smp.Data[:]
}

func (p probe) nodeInfo(path ...byte) mad.NodeInfo {
	p.t.Helper()
	info, err := mad.ParseNodeInfo(p.get(path, mad.AttrNodeInfo, 0))
	if err != nil {
		p.t.Fatal(err)
	}
	return info
}

func (p probe) description(path ...byte) string {
	p.t.Helper()
	text, err := mad.ParseNodeDescription(p.get(path, mad.AttrNodeDescription, 0))
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func (p probe) portInfo(num uint32, path ...byte) mad.PortInfo {
	p.t.Helper()
	info, err := mad.ParsePortInfo(p.get(path, mad.AttrPortInfo, num))
	if err != nil {
		p.t.Fatal(err)
	}
	return info
}

// perf asks by LID for a port's counters; set resets those of a mask first.
func (p probe) perf(method mad.Method, attr mad.Attribute, lid uint16, port uint8, set func(data []byte)) ([]byte, fate) {
	p.t.Helper()
	fl := &flight{dlid: lid, dqp: mad.QPGeneral, sqp: mad.QPGeneral}
	mad.PutPerfGet(&fl.mad, 9, attr, port)
	fl.mad[offMethod] = byte(method)
	if set != nil {
		set(fl.mad[offData:])
	}
	fl.sent = fl.mad
	p.f.start(fl, p.c, false)
	return mad.PerfData(&fl.mad), fl.fate
}

func (p probe) counters(lid uint16, port uint8) mad.PortCounters {
	p.t.Helper()
	data, fate := p.perf(mad.MethodGet, mad.AttrPortCounters, lid, port, nil)
	if fate != answered {
		p.t.Fatalf("counters of LID %d port %d: fate %d", lid, port, fate)
	}
	c, err := mad.ParsePortCounters(data)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// lid is the LID of a node's port, or of its port 0.
func (f *Fabric) lidOf(node string, port int) uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.portOf(&f.nodes[f.byName[node]], port).lid()
}

func build(t testing.TB, net *Net, opt Options) *Fabric {
	t.Helper()
	f, err := New(net, opt)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
