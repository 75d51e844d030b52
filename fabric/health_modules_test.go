package fabric

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric/mad"
	"firstlight/provision/acceptance"
)

// TestJudgeModules has what ends tell of their modules, and what they do not.
func TestJudgeModules(t *testing.T) {
	module := func(celsius float64, alarm int) *mad.ModuleInfo {
		return &mad.ModuleInfo{Measures: 1, Temperature: int16(celsius * 256), AlarmAt: int16(alarm * 256)}
	}
	stats := func(coefficient, magnitude uint8, since time.Duration) *mad.PhysicalStats {
		return &mad.PhysicalStats{SinceClear: uint64(since / time.Millisecond), Effective: mad.BER{Coefficient: coefficient, Magnitude: magnitude}}
	}
	const none = 255
	for name, c := range map[string]struct {
		a, b *Optics
		want []string
	}{
		"nothing told":         {nil, nil, nil},
		"copper has no sensor": {&Optics{Module: &mad.ModuleInfo{Type: mad.CableCopper}}, &Optics{Module: &mad.ModuleInfo{Type: mad.CableCopper}}, nil},
		"well": {&Optics{Module: module(45, 80), Stats: stats(15, none, time.Hour)}, &Optics{Module: module(45, 80), Stats: stats(15, none, time.Hour)},
			[]string{"pass module-temperature: 45.0 °C at both ends; at most 70 °C ()", "pass effective-ber: none at both ends; at most 1e-14 at each end ()"}},
		"one end is warm, the other tells nothing": {&Optics{Module: module(70.5, 80)}, nil,
			[]string{"fail module-temperature: hnode001 mlx5_0: 70.5 °C; leaf-01 port 1: not told; at most 70 °C (the cooling of hnode001 mlx5_0, or its module)"}},
		"just at the limit": {&Optics{Module: module(70, 80)}, &Optics{Module: module(70, 80)}, []string{"pass module-temperature: 70.0 °C at both ends; at most 70 °C ()"}},
		"its own alarm comes first": {&Optics{Module: module(40, 80)}, &Optics{Module: module(66, 65)},
			[]string{"fail module-temperature: hnode001 mlx5_0: 40.0 °C; leaf-01 port 1: 66.0 °C; at most 70 °C (the cooling of leaf-01 port 1, or its module, which itself calls 65 °C alarming)"}},
		"below zero": {&Optics{Module: module(-5.5, 0)}, &Optics{Module: module(20, 0)},
			[]string{"pass module-temperature: hnode001 mlx5_0: -5.5 °C; leaf-01 port 1: 20.0 °C; at most 70 °C ()"}},
		"too many bits": {&Optics{Stats: stats(3, 12, time.Hour)}, &Optics{Stats: stats(15, none, time.Hour)},
			[]string{"fail effective-ber: hnode001 mlx5_0: 3.0e-12 in 60 min; leaf-01 port 1: none; at most 1e-14 at each end (the transmitter at the other end, the cable, or the receiver of hnode001 mlx5_0, which counts)"}},
		"too early to say": {&Optics{Stats: stats(3, 12, 2*time.Minute)}, &Optics{Stats: stats(15, none, time.Hour)},
			[]string{"not-run effective-ber: hnode001 mlx5_0: 3.0e-12 in 2 min; leaf-01 port 1: none; not yet decided, 10 min to go; at most 1e-14 at each end ()"}},
		"few enough": {&Optics{Stats: stats(9, 15, time.Hour)}, nil, []string{"pass effective-ber: hnode001 mlx5_0: 9.0e-15 in 60 min; leaf-01 port 1: not told; at most 1e-14 at each end ()"}},
		"a clock that is wrong": {&Optics{Stats: stats(3, 12, 1<<62)}, nil,
			[]string{"fail effective-ber: hnode001 mlx5_0: 3.0e-12 in 8760 h; leaf-01 port 1: not told; at most 1e-14 at each end (the transmitter at the other end, the cable, or the receiver of hnode001 mlx5_0, which counts)"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSmall(1)
			link := s.Links()[0]
			link.A.Optics, link.B.Optics = c.a, c.b
			var got []string
			for _, check := range DefaultLimits().JudgeModules(link, nil) {
				if check.Source == "" || len(check.Ports) != 2 || check.Part == "" || check.Off() != (check.Verdict == acceptance.Fail) {
					t.Errorf("check lacks something: %+v", check)
				}
				got = append(got, fmt.Sprintf("%s %s: %s; %s (%s)", check.Verdict, check.Name, check.Reading, check.Threshold, check.Suspect))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("checks (-want +got):\n%s", diff)
			}
		})
	}
}
