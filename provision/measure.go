package provision

import (
	"context"
	"time"

	"firstlight/inventory"
)

// Meter is what the engine needs to learn what nodes draw while they start.
type Meter interface {
	// Watts is what the node draws now; 0 where its BMC does not measure.
	Watts(ctx context.Context, n *inventory.Node) (float64, error)
}

const (
	// meterEvery is the time between two readings of a node that starts.
	meterEvery = 10 * time.Second
	// leastReadings make a start that was watched: fewer say nothing of its peak.
	leastReadings = 3
	// leastShare is the part of the nameplate that a node counts whatever was
	// measured. Readings are seconds apart and the BMC averages each, so that the
	// inrush and any short peak are higher than the highest of them.
	leastShare = 0.5
)

// drawOf is what a node counts against power-on budgets, in watts, and whether
// that is what was measured rather than its nameplate.
func drawOf(c *inventory.Cluster, n *inventory.Node, k Node) (w int64, measured bool) {
	if n.Hardware == nil {
		return 0, false
	}
	nameplate := watts(n.Hardware.Power)
	if !c.Settings.PowerMeasured || k.Drawn == nil || k.Drawn.Nameplate != nameplate {
		return nameplate, false
	}
	return max(k.Drawn.Watts, int64(leastShare*float64(nameplate))), true
}

// watchDraw reads what a node draws from its power-on until end is called, and
// end journals the highest reading if there has been none as high. A start that was
// not watched from its beginning, or with a reading missing, says nothing.
func (e *Engine) watchDraw(ctx context.Context, n *inventory.Node, boot BootRecord) (end func(context.Context) error) {
	fresh := boot.Ordered.IsZero() && (boot.Via == viaPowerOn || boot.Via == viaPowerCycle || boot.Via == viaColdCycle)
	if e.Meter == nil || !e.Want.Cluster.Settings.PowerMeasured || !fresh || n.Hardware == nil {
		return func(context.Context) error { return nil }
	}
	ctx, stop := context.WithCancel(ctx)
	highest := make(chan float64, 1)
	go func() { highest <- e.highestDraw(ctx, n) }() // ends with ctx
	return func(ctx context.Context) error {
		stop()
		d := MeasuredData{Watts: int64(<-highest + 0.5), Nameplate: watts(n.Hardware.Power)}
		if was := e.node(n.Name).Drawn; d.Watts == 0 || was != nil && was.Nameplate == d.Nameplate && was.Watts >= d.Watts {
			return nil
		}
		return e.recordOne(ctx, n.Name, EventMeasured, d)
	}
}

// highestDraw reads until ctx ends; 0 when that says nothing.
func (e *Engine) highestDraw(ctx context.Context, n *inventory.Node) (highest float64) {
	every := e.MeterEvery
	if every == 0 {
		every = meterEvery
	}
	for readings := 0; ; readings++ {
		var now float64
		err := e.bmc(ctx, func() (err error) { now, err = e.Meter.Watts(ctx, n); return err })
		switch {
		case ctx.Err() != nil && readings >= leastReadings:
			return highest
		case ctx.Err() != nil:
			return 0
		case err != nil || now <= 0:
			e.Log.Info("what the node draws while it starts is not known", "node", n.Name, "error", err)
			return 0
		}
		highest = max(highest, now)
		sleep(ctx, every)
	}
}
