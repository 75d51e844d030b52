//go:build cgo

package nvml

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// loaded starts workers that tell of their load, and end once it was read.
func loaded(read <-chan struct{}) burnin.Starter {
	return func(o burnin.Order) (*burnin.Worker, error) {
		events, out := io.Pipe()
		go func() { // ends with read, or when nobody listens
			defer out.Close()
			tell := json.NewEncoder(out)
			if tell.Encode(burnin.Event{Kind: burnin.EventReady, Ready: &burnin.Ready{Engine: o.Engine}}) != nil ||
				tell.Encode(burnin.Event{Kind: burnin.EventSample, Sample: &burnin.Sample{Temp: 60}}) != nil {
				return
			}
			<-read
			_ = tell.Encode(burnin.Event{Kind: burnin.EventDone}) // what it did is not looked at here
		}()
		return &burnin.Worker{Events: events, Stop: func() {}, Kill: func() { events.Close() }, Wait: func() error { return nil }}, nil
	}
}

// Over a burn-in, the library is read by a process for each reading, as on a
// node: here with other faults before, under load and after.
func TestBurnInReadings(t *testing.T) {
	dir := build(t)
	tests := []struct {
		before, under, after string
		want                 string
	}{
		{"", "", "", ""},
		{"", "3.pcie_width=8", "", "fail burn-in.health.pcie.width GPU 3 0000:48:00.0 serial 1653: 8"},
		{"", "3.pcie_gen=4", "", "fail burn-in.health.pcie.generation GPU 3 0000:48:00.0 serial 1653: 4"},
		{"", "3.margin=-2", "", "fail burn-in.health.temperature.margin GPU 3 0000:48:00.0 serial 1653: -2 °C"},
		{"", "3.xid=94", "", "fail burn-in.health.xid.events GPU 3 0000:48:00.0 serial 1653: 1 (Xid 94)"},
		{"", "", "3.uncorrected=3", "fail burn-in.health.ecc.uncorrected GPU 3 0000:48:00.0 serial 1653: 3 more (3 in all)"},
		{"3.uncorrected=3", "", "3.uncorrected=3", ""}, // a check's to find, and none of this load
		{"", "", "3.remap_pending=1", "fail burn-in.health.remap.pending GPU 3 0000:48:00.0 serial 1653: 1"},
		{"", "", "3.link_down=7", "fail burn-in.health.nvlink.count GPU 3 0000:48:00.0 serial 1653: 17 (link 7 down)"},
		{"3.uncorrected=3", "", "", "not-run burn-in.health.ecc.uncorrected GPU 3 0000:48:00.0 serial 1653: counts anew (3, then 0): the GPU was reset, or the driver loaded again"},
	}
	for _, tt := range tests {
		n, seen := 0, make(chan struct{})
		r := &burnin.Runner{Engine: acceptance.EngineCUDA, HealthEvery: time.Nanosecond, Start: loaded(seen)}
		for i := range 8 {
			r.GPUs = append(r.GPUs, burnin.GPU{Index: i})
		}
		r.Health = func(ctx context.Context) burnin.Health {
			script := tt.after
			switch n++; n {
			case 1:
				script = tt.before
			case 2:
				script = tt.under
			case 3: // the load may end now, and this reading with it
				close(seen)
				<-ctx.Done()
				return burnin.Health{Library: "ended"}
			}
			h, progress, err := read(t, dir, script, patience)
			if err != nil {
				t.Errorf("%v\n%s", err, progress)
			}
			return h
		}
		stages := []burnin.Stage{{Name: burnin.StageGEMM, Seconds: 1}}
		var got bytes.Buffer
		for _, c := range burnin.Checks(stages, r.Run(t.Context(), stages, nil)) {
			if strings.HasPrefix(c.Name, "burn-in.health") && c.Verdict != acceptance.Pass {
				got.WriteString(string(c.Verdict) + " " + c.Name + " " + c.Part + ": " + c.Reading)
			}
		}
		if got.String() != tt.want {
			t.Errorf("before %q, under load %q, after %q: %q; want %q", tt.before, tt.under, tt.after, &got, tt.want)
		}
	}
}
