package mad

import (
	"errors"
	"testing"
	"time"
)

// FuzzPacket reads any bytes as what the kernel and the simulator hand over. What
// is read as the kernel's is written and read again the same.
func FuzzPacket(f *testing.F) {
	var b [umadHeader + Size]byte
	p := Packet{LID: 7, QP: QPGeneral, Timeout: time.Second}
	PutPerfGet(&p.MAD, 7, AttrPortCounters, 9)
	putUMAD(&b, 5, &p)
	f.Add(b[:])
	b[umadStatus] = 110
	f.Add(b[:])
	f.Add(b[:umadHeader+headerSize])
	f.Add(make([]byte, simRequest))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var p, again Packet
		if err := parseIBSim(raw, &p); (err == nil) != (len(raw) == simRequest) || err != nil && !errors.Is(err, ErrForeign) {
			t.Errorf("%d bytes of ibsim: %v", len(raw), err)
		}
		err := parseUMAD(raw, &p)
		if err != nil {
			if !errors.Is(err, ErrForeign) {
				t.Errorf("%d bytes of ib_umad: %v", len(raw), err)
			}
			return
		}
		var out [umadHeader + Size]byte
		putUMAD(&out, 1, &p)
		if err := parseUMAD(out[:], &again); err != nil || again.LID != p.LID || again.QP != p.QP || again.MAD != p.MAD || again.TimedOut {
			t.Errorf("%+v is written and read as %+v, %v", p, again, err)
		}
	})
}
