package inventory

import "testing"

// TestRates holds that every name has a rate, that InfiniBand's have lanes which
// make it up, and that the usual name comes back.
func TestRates(t *testing.T) {
	for _, c := range []struct {
		name, usual string
		lanes       int
		speed       string
		bits        float64
	}{
		{"SDR", "SDR", 4, "SDR", 10e9}, {"QDR", "QDR", 4, "QDR", 40e9}, {"FDR", "FDR", 4, "FDR", 56e9}, {"EDR", "EDR", 4, "EDR", 100e9},
		{"HDR100", "HDR100", 2, "HDR", 100e9}, {"HDR200", "HDR", 4, "HDR", 200e9}, {"NDR200", "NDR200", 2, "NDR", 200e9}, {"NDR400", "NDR", 4, "NDR", 400e9},
		{"XDR400", "XDR400", 2, "XDR", 400e9}, {"XDR800", "XDR", 4, "XDR", 800e9}, {"400GbE", "", 0, "", 400e9}, {"200Gb/s", "", 0, "", 200e9},
	} {
		r, err := ParseLinkRate(c.name)
		lanes, speed, ok := r.Lanes()
		if err != nil || r.BitsPerSecond != c.bits || lanes != c.lanes || speed != c.speed || ok != (c.lanes > 0) || LanesName(lanes, speed) != c.usual {
			t.Errorf("%s: %+v, %v, %d lanes of %s, usually %q; want %+v", c.name, r, err, lanes, speed, LanesName(lanes, speed), c)
		}
	}
	for _, r := range rateNames {
		if r.bitsPerSecond() == 0 {
			t.Errorf("%s has no rate", r.name)
		}
	}
	if LanesName(1, "NDR") != "" || LaneSpeed("FDR10") != 10e9 || LaneSpeed("") != 0 {
		t.Error("one lane has no name, FDR10 runs at 10 Gb/s, and nothing at nothing")
	}
}
