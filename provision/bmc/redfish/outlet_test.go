package redfish_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"firstlight/internal/simrack"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// pduRig is a PDU with the outlets 1, 2 and 3, and those of a second one.
type pduRig struct {
	*rig
	mu       sync.Mutex
	switched []string
}

func newPDU(t *testing.T, m simrack.RedfishMake) *pduRig {
	p := &pduRig{}
	p.rig = newRig(t, &simrack.Redfish{Make: m, Outlets: []string{"1", "2", "3", "B/2", "B/9"}, Switched: func(outlet string, on bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.switched = append(p.switched, fmt.Sprint(outlet, " ", on))
	}})
	p.ep.Node, p.ep.PDU = "n1", "a01"
	return p
}

func (p *pduRig) did() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.switched)
}

// TestSetOutlet switches outlets of PDUs that name the action's parameter
// differently, and reads back.
func TestSetOutlet(t *testing.T) {
	for _, parameter := range []string{"", "PowerState", "OutletPowerState"} {
		p := newPDU(t, simrack.RedfishMake{OutletParameter: parameter})
		for _, on := range []bool{true, false, false, true} { // it is on at first
			p.must(p.client.SetOutlet(t.Context(), p.ep, "3", on))
			want := bmc.PowerOff
			if on {
				want = bmc.PowerOn
			}
			if got, err := p.client.Outlet(t.Context(), p.ep, "3"); err != nil || got != want {
				t.Errorf("parameter %q: the outlet is %q, %v; want %q", parameter, got, err, want)
			}
		}
		p.must(p.client.SetOutlet(t.Context(), p.ep, "B/2", false))
		p.must(p.client.SetOutlet(t.Context(), p.ep, "9", false)) // the only one of that name
		if got, want := p.did(), []string{"3 false", "3 true", "B/2 false", "B/9 false"}; !slices.Equal(got, want) {
			t.Errorf("parameter %q: the PDU did %q; want %q", parameter, got, want)
		}
		p.wantLogins(1)
	}
}

// TestSetOutletFails: each way in which it can.
func TestSetOutletFails(t *testing.T) {
	tests := []struct {
		name   string
		faults simrack.RedfishFaults
		outlet string
		is     func(error) bool
		want   string
	}{
		{"not switched", simrack.RedfishFaults{Lie: true}, "1", is[*bmc.ReadBackError], "accepted outlet 1 off, and "},
		{"no such outlet", simrack.RedfishFaults{}, "17", nil, `it has no outlet "17"`},
		{"two of that name", simrack.RedfishFaults{}, "2", nil, `it has 2 outlets "2": name the PDU as well, as "1/2"`},
		{"silent", simrack.RedfishFaults{FreezeAfter: -1}, "1", is[*bmc.NoAnswerError], "did not answer for"},
		{"wrong password", simrack.RedfishFaults{RefuseLogins: 9}, "1", is[*bmc.AuthError], `refused user "admin"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPDU(t, simrack.RedfishMake{})
			p.bmc.SetFaults(tt.faults)
			err := p.client.SetOutlet(t.Context(), p.ep, tt.outlet, false)
			if err == nil || tt.is != nil && !tt.is(err) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("SetOutlet = %v; want %q", err, tt.want)
			}
			if !strings.Contains(err.Error(), "node n1: pdu a01 127.0.0.1:") || !strings.Contains(err.Error(), "nodes.hcl:7") {
				t.Errorf("the error does not name the PDU: %v", err)
			}
			if len(p.did()) != 0 {
				t.Errorf("the PDU did %q", p.did())
			}
		})
	}
	r := newRig(t, &simrack.Redfish{}) // a BMC is no PDU
	var status *redfish.StatusError
	if err := r.client.SetOutlet(t.Context(), r.ep, "1", false); !errors.As(err, &status) || status.Status != 404 {
		t.Errorf("SetOutlet at a BMC = %v; want its 404", err)
	}
}

// TestOutletSlow: a PDU that delays its outlets is waited for.
func TestOutletSlow(t *testing.T) {
	p := newPDU(t, simrack.RedfishMake{})
	p.bmc.SetFaults(simrack.RedfishFaults{OutletDelay: 150 * time.Millisecond})
	p.client.PowerWithin = 20 * time.Second
	p.must(p.client.SetOutlet(t.Context(), p.ep, "1", false))
	if got := p.did(); !slices.Equal(got, []string{"1 false"}) {
		t.Errorf("the PDU did %q when SetOutlet had returned; want the outlet off", got)
	}
}
