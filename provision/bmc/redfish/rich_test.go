package redfish_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/internal/simrack"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// rich is everything that is read for people.
type rich struct {
	bios     map[string]any
	firmware []redfish.Firmware
	unread   []redfish.Unread
	sensors  redfish.Sensors
	log      []redfish.LogEntry
}

func readRich(r *rig) (out rich) {
	r.Helper()
	ctx := r.Context()
	r.must(r.client.With(ctx, r.ep, func(s *redfish.Session) error {
		var errs [4]error
		out.bios, errs[0] = s.BIOSAttributes(ctx)
		out.firmware, out.unread, errs[1] = s.Firmware(ctx)
		out.sensors, errs[2] = s.Sensors(ctx)
		out.log, errs[3] = s.EventLog(ctx)
		return errors.Join(errs[:]...)
	}))
	return out
}

// TestRich reads the built-in tree, whose values are known.
func TestRich(t *testing.T) {
	r := newRig(t, &simrack.Redfish{Faults: simrack.RedfishFaults{BaseboardDown: true}})
	got := readRich(r)
	if got.bios["BootMode"] != "UEFI" || got.bios["NetworkStack"] != true || got.bios["PxeRetryCount"] != 3.0 {
		t.Errorf("BIOS attributes %v", got.bios)
	}
	want := []redfish.Firmware{{ID: "BMC", Name: "Baseboard controller", Version: "4.5.6"}, {ID: "BIOS", Name: "Host firmware", Version: "1.2.3"}}
	if !slices.Equal(got.firmware, want) {
		t.Errorf("firmware %v; want %v", got.firmware, want)
	}
	if len(got.unread) != 1 || !strings.HasSuffix(got.unread[0].URI, "/HGX_FW_GPU_SXM_1") || !strings.Contains(got.unread[0].Reason, "503") {
		t.Errorf("unread %v; want the baseboard's part", got.unread)
	}
	s := got.sensors
	if s.Watts == nil || *s.Watts != 612 || s.Capacity == nil || *s.Capacity != 16500 {
		t.Errorf("watts %v of %v; want 612 of 16500", s.Watts, s.Capacity)
	}
	var lines []string
	for _, x := range s.Readings {
		line := x.Name + " " + x.Unit + " " + x.Health
		if x.Value == nil {
			line += " none"
		}
		lines = append(lines, line)
	}
	if want := []string{"12V V OK", "Inlet Cel OK", "Fan 1 RPM OK", "Fan 2 RPM  none"}; !slices.Equal(lines, want) {
		t.Errorf("readings %q; want %q", lines, want)
	}
	if l := got.log; len(l) != 2 || l[1].Severity != "Critical" || l[1].Message != "Power supply 3 lost its input" ||
		!l[1].Created.Equal(time.Date(2026, 2, 3, 5, 0, 0, 0, time.UTC)) {
		t.Errorf("log %+v", l)
	}
}

// TestRichRecorded reads what a real server said.
func TestRichRecorded(t *testing.T) {
	r := newRig(t, &simrack.Redfish{Tree: recorded(t)})
	r.client.Timeout = 10 * time.Second
	got := readRich(r)
	if len(got.bios) < 100 || len(got.firmware) < 80 || len(got.sensors.Readings) < 20 || len(got.log) == 0 {
		t.Errorf("%d attributes, %d parts with firmware (%d unread), %d readings, %d log entries; want more",
			len(got.bios), len(got.firmware), len(got.unread), len(got.sensors.Readings), len(got.log))
	}
	if w := got.sensors.Watts; w == nil || *w != 2161 {
		t.Errorf("watts %v; want 2161", w)
	}
	id, err := r.client.Identity(t.Context(), r.ep)
	if err != nil || id.Model != "SYS-821GE-TNHR" || id.BIOS != "1.4" || id.Firmware == "" || id.UUID != "00000000-0000-0000-0000-7cc25550a8ff" {
		t.Errorf("identity %+v, %v", id, err)
	}
}

// TestMedia inserts, exchanges and ejects an image.
func TestMedia(t *testing.T) {
	r := newRig(t, &simrack.Redfish{})
	media := func() (m redfish.Media) {
		r.must(r.client.With(t.Context(), r.ep, func(s *redfish.Session) (err error) {
			m, err = s.Media(t.Context())
			return err
		}))
		return m
	}
	for _, url := range []string{"http://10.0.0.1/a.iso", "http://10.0.0.1/b.iso"} {
		r.must(r.client.InsertMedia(t.Context(), r.ep, url))
		if m := media(); !m.Inserted || m.Image != url || !strings.HasSuffix(m.Drive, "/CD_0") {
			t.Errorf("media %+v; want %s in the CD drive", m, url)
		}
	}
	r.must(r.client.EjectMedia(t.Context(), r.ep))
	r.must(r.client.EjectMedia(t.Context(), r.ep))
	if m := media(); m.Inserted || m.Image != "" {
		t.Errorf("media %+v; want none", m)
	}
}

// TestResetBMC restarts the BMC, waits until it is back, and does not touch the
// node.
func TestResetBMC(t *testing.T) {
	r := newRig(t, &simrack.Redfish{Machine: simrack.NewBulb(true)})
	r.must(r.client.ResetBMC(t.Context(), r.ep))
	if p, err := r.client.Power(t.Context(), r.ep); err != nil || p != bmc.PowerOn {
		t.Errorf("Power after the restart = %q, %v; want on", p, err)
	}
	if events, logins := r.seen(); !slices.Equal(events, []string{"bmc-reset"}) || logins != 2 {
		t.Errorf("the BMC saw %q and %d logins; want its restart and 2", events, logins)
	}
}
