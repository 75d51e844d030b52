package inventory

import (
	"testing"
	"time"
)

// TestPowerOn: what nodes are switched on by.
func TestPowerOn(t *testing.T) {
	dir := write(t, map[string]string{"n.hcl": `
controller {
  power_on_rate   = 0.5
  power_on_settle = "90s"
  power_basis     = "measured"
}
feed "f" {
  for_each        = toset(["west", "east"])
  power_on_budget = "60kW"
}
rack "a01" {
  power_on_budget = "31kW"
  feeds           = [feed.west, feed.east]
}
`})
	c, src, diags := Load(dir, Options{Env: noEnv})
	if c == nil || len(diags) > 0 {
		t.Fatal(text(t, src, diags))
	}
	if s := c.Settings; s.PowerOnRate != 0.5 || s.PowerOnSettle != 90*time.Second || !s.PowerMeasured {
		t.Errorf("rate %g, settle %s", s.PowerOnRate, s.PowerOnSettle)
	}
	a := c.Racks["a01"]
	if a.PowerOnBudget.Watts != 31000 || len(a.Feeds) != 2 || a.Feeds[0].Name != "west" || a.Feeds[1] != c.Feeds["east"] || a.Feeds[1].PowerOnBudget.Watts != 60000 {
		t.Errorf("%+v", a)
	}
	none := write(t, map[string]string{"n.hcl": `rack "a01" {}`})
	if c, src, diags := Load(none, Options{Env: noEnv}); c == nil || c.Settings.PowerOnRate != 0 || c.Settings.PowerOnSettle != 0 || c.Settings.PowerMeasured || c.Racks["a01"].PowerOnBudget.Watts != 0 {
		t.Errorf("without limits: %+v, %s", c, text(t, src, diags))
	}
}
