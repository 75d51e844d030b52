package bmc

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSerialSends holds what is sent when the BMC takes packets whole, in part or
// not at all.
func TestSerialSends(t *testing.T) {
	s := serial{most: 4, queue: []byte("abcdefgh")}
	text := func(p *solPacket) string {
		if p == nil {
			return ""
		}
		return string(p.data)
	}
	first := s.next()
	if text(first) != "abcd" || first.seq != 1 || s.next() != nil {
		t.Fatalf("first packet %+v; want abcd as number 1, and one at a time", first)
	}
	if p, err := s.again(); p != first || err != nil {
		t.Errorf("again = %+v, %v; want the same packet", p, err)
	}
	s.receive(solPacket{acked: 9, accepted: 4}) // of nothing that is under way
	if s.next() != nil {
		t.Error("an acknowledgement of another packet was taken")
	}
	s.receive(solPacket{acked: 1, accepted: 1})
	if p := s.next(); text(p) != "bcde" || p.seq != 2 {
		t.Errorf("after one character was taken: %+v; want the rest first", p)
	}
	s.receive(solPacket{acked: 2, bits: solNACK})
	if s.next() != nil {
		t.Error("a BMC that takes nothing is asked again at once")
	}
	for range 3 * solTries { // it answers each time, so that it is not gone
		if p, err := s.again(); text(p) != "bcde" || err != nil {
			t.Fatalf("again = %+v, %v; want bcde", p, err)
		}
		s.receive(solPacket{acked: 2, bits: solNACK})
	}
	s.receive(solPacket{acked: 2, accepted: 4})
	if p := s.next(); text(p) != "fgh" || p.seq != 3 {
		t.Errorf("next %+v; want fgh", p)
	}
	s.receive(solPacket{acked: 3}) // firmware that does not count
	if p := s.next(); p != nil {
		t.Errorf("next %+v; want nothing", p)
	}
	s.breaks, s.queue = 1, []byte("x")
	if p := s.next(); p.bits != solBreak || len(p.data) != 0 {
		t.Errorf("a break is %+v", p)
	}
	s.receive(solPacket{acked: 4})
	s.last = 0x0f
	if p := s.next(); text(p) != "x" || p.seq != 1 {
		t.Errorf("after number 15: %+v; want number 1", p)
	}
	var err error
	for range solTries {
		_, err = s.again()
	}
	if !errors.Is(err, errSOLSilent) {
		t.Errorf("after %d transmissions: %v; want the BMC given up", solTries, err)
	}
}

func TestSerialReceives(t *testing.T) {
	var s serial
	steps := []struct {
		in     solPacket
		data   string
		answer *solPacket
	}{
		{solPacket{seq: 1, data: []byte("ab")}, "ab", &solPacket{acked: 1, accepted: 2}},
		{solPacket{seq: 1, data: []byte("ab")}, "", &solPacket{acked: 1, accepted: 2}},
		{solPacket{acked: 3, accepted: 7}, "", nil},
		{solPacket{seq: 2, data: []byte("c"), bits: solOverrun}, "c", &solPacket{acked: 2, accepted: 1}},
		{solPacket{seq: 1, data: []byte("d")}, "d", &solPacket{acked: 1, accepted: 1}},
		{solPacket{bits: solEnded}, "", nil},
	}
	for i, step := range steps {
		data, answer := s.receive(step.in)
		if string(data) != step.data || cmp.Diff(step.answer, answer, cmp.AllowUnexported(solPacket{})) != "" {
			t.Errorf("step %d: %q, %+v; want %q, %+v", i, data, answer, step.data, step.answer)
		}
	}
	if !s.lost || !s.ended {
		t.Errorf("lost %v, ended %v; want both", s.lost, s.ended)
	}
}

// FuzzSerial plays a BMC that knows the session's keys: what was typed is sent in
// order and none of it twice in packets of different numbers, whatever is
// acknowledged.
func FuzzSerial(f *testing.F) {
	f.Add([]byte{0, 1, 4, 0, 0, 1, 2, 0x40}, []byte("abcdef"))
	f.Add([]byte{1, 0, 0, 0, 'x', 1, 1, 0xff, 0x10}, []byte(strings.Repeat("k", 300)))
	f.Fuzz(func(t *testing.T, in, typed []byte) {
		s := serial{most: 16, queue: append([]byte(nil), typed...)}
		var taken []byte
		for len(in) > 0 {
			if p := s.next(); p != nil && (len(p.data) > 16 || p.seq == 0 || p.seq > 15) {
				t.Fatalf("sent %+v", p)
			}
			n := min(len(in), 4+len(in)%5)
			p, ok := parseSOL(in[:n])
			in = in[n:]
			if !ok {
				continue
			}
			before := s.flight
			data, answer := s.receive(p)
			if (answer != nil) != (p.seq != 0) || len(data) > len(p.data) {
				t.Fatalf("%+v gave %q, %+v", p, data, answer)
			}
			if before != nil && s.flight == nil {
				rest := len(typed) - len(taken) - len(s.queue)
				if rest < 0 || rest > len(before.data) || string(before.data[:rest]) != string(typed[len(taken):len(taken)+rest]) {
					t.Fatalf("of %q, %d bytes count as taken after %q", typed, rest, taken)
				}
				taken = append(taken, before.data[:rest]...)
			}
			if _, err := s.again(); err != nil {
				return
			}
		}
		if sessionUser(typed) != "" && len(typed) < 4 {
			t.Error("a short reply names a user")
		}
		_ = parseWatts(typed)
	})
}
