package inventory

import (
	"strings"
	"testing"
	"time"
)

func TestQuantities(t *testing.T) {
	size := func(s string) (float64, error) { v, err := ParseSize(s); return float64(v.Bytes), err }
	duration := func(s string) (float64, error) { v, err := ParseDuration(s); return float64(v.Duration), err }
	bandwidth := func(s string) (float64, error) { v, err := ParseBandwidth(s); return v.BitsPerSecond, err }
	power := func(s string) (float64, error) { v, err := ParsePower(s); return v.Watts, err }
	rate := func(s string) (float64, error) { v, err := ParseLinkRate(s); return v.BitsPerSecond, err }
	tests := []struct {
		parse func(string) (float64, error)
		text  string
		want  float64
		err   string
	}{
		{size, "2TiB", 2 << 40, ""},
		{size, "7.68TB", 7.68e12, ""},
		{size, "141GB", 141e9, ""},
		{size, "0B", 0, ""},
		{size, "2", 0, "has no unit"},
		{size, "-2GB", 0, "is not a size"},
		{size, "2Gb", 0, `Did you mean "GB"?`},
		{size, "999999999999999PB", 0, "too large"},
		{size, "", 0, "is not a size"},
		{duration, "90s", float64(90 * time.Second), ""},
		{duration, "1h30m", float64(90 * time.Minute), ""},
		{duration, "3d", float64(72 * time.Hour), ""},
		{duration, "10", 0, "has no unit"},
		{duration, "-5s", 0, "is not a duration"},
		{duration, "999999999d", 0, "too long"},
		{bandwidth, "360Gb/s", 360e9, ""},
		{bandwidth, "45GB/s", 360e9, ""},
		{bandwidth, "360Gbps", 0, `Did you mean "Gb/s"?`},
		{power, "40kW", 40e3, ""},
		{power, "10.2kW", 10.2e3, ""},
		{power, "40KW", 0, `Did you mean "kW"?`},
		{rate, "NDR200", 200e9, ""},
		{rate, "NDR", 400e9, ""},
		{rate, "800GbE", 800e9, ""},
		{rate, "200Gb/s", 200e9, ""},
		{rate, "ndr", 0, `Did you mean "NDR"?`},
	}
	for _, tt := range tests {
		got, err := tt.parse(tt.text)
		switch {
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("parse %q = %v, %v; want an error with %q", tt.text, got, err, tt.err)
		case tt.err == "" && (err != nil || got != tt.want):
			t.Errorf("parse %q = %v, %v; want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestParseMAC(t *testing.T) {
	for _, s := range []string{"52:54:00:10:00:0A", "52-54-00-10-00-0a", "5254.0010.000a", "52540010000a"} {
		if got, err := parseMAC(s); err != nil || got.String() != "52:54:00:10:00:0a" {
			t.Errorf("parseMAC(%q) = %s, %v; want 52:54:00:10:00:0a", s, got, err)
		}
	}
	for _, s := range []string{"", "52:54:00:10:00", "01:00:00:00:00:00", "00:00:00:00:00:00", "52:54:00:10:00:0a:00:01", "zz540010000a"} {
		if got, err := parseMAC(s); err == nil {
			t.Errorf("parseMAC(%q) = %s; want an error", s, got)
		}
	}
}
