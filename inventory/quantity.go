package inventory

import (
	"strings"
	"time"
)

// Secret is a value that never prints. Reveal is the only way to read it.
type Secret string

// String returns a placeholder.
func (Secret) String() string { return "(sensitive)" }

// GoString returns a placeholder.
func (Secret) GoString() string { return "(sensitive)" }

// MarshalText returns a placeholder, so that no encoder prints the value.
func (Secret) MarshalText() ([]byte, error) { return []byte("(sensitive)"), nil }

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// Size is an amount of memory or storage: compared by Bytes, printed as written.
type Size struct {
	Bytes uint64
	Text  string
}

func (s Size) String() string { return s.Text }

// Duration is a length of time: compared by Duration, printed as written.
type Duration struct {
	time.Duration
	Text string
}

func (d Duration) String() string { return d.Text }

// Bandwidth is in bits per second, printed as written.
type Bandwidth struct {
	BitsPerSecond float64
	Text          string
}

func (b Bandwidth) String() string { return b.Text }

// Power is in watts, printed as written.
type Power struct {
	Watts float64
	Text  string
}

func (p Power) String() string { return p.Text }

// LinkRate is an InfiniBand or Ethernet link rate in bits per second, printed
// as written ("NDR200").
type LinkRate struct {
	BitsPerSecond float64
	Text          string
}

func (r LinkRate) String() string { return r.Text }

// layer is the link layer that the name of the rate belongs to, or "".
func (r LinkRate) layer() string {
	switch {
	case strings.HasSuffix(r.Text, "GbE"):
		return "ethernet"
	case strings.HasSuffix(r.Text, "/s"):
		return ""
	}
	return "infiniband"
}
