package bmc

import (
	"net/netip"
	"testing"
	"time"
)

// levels are how many BMCs of each network may be spoken to at once.
func (c *Client) levels() map[string]int {
	out, e := make(chan map[string]int), c.start()
	e.post(func() {
		all := map[string]int{}
		for i, n := range e.names {
			all[n] = e.lans[i].level.Now()
		}
		out <- all
	})
	return <-out
}

// TestNarrowNetwork reads two fleets, one of them behind a network that carries
// few packets at once: all are read, and that network's level is found.
func TestNarrowNetwork(t *testing.T) {
	t.Parallel()
	const most, carries = 512, 60
	_, eps := startFleet(t, 300)
	narrow := map[netip.AddrPort]bool{}
	for i := range eps {
		eps[i].Network = "wide"
		if i%2 == 0 {
			eps[i].Network = "narrow"
			narrow[eps[i].Address] = true
		}
	}
	w := &weather{delay: 10 * time.Millisecond, carries: carries, narrow: func(a netip.AddrPort) bool { return narrow[a] }}
	c := &Client{Concurrency: most, Timeout: 30 * time.Second, open: w.open}
	for round := range 4 {
		for i, r := range readAll(t.Context(), t, c, eps) {
			if r.Err != nil {
				t.Errorf("round %d, node %d: %v", round, i, r.Err)
			}
		}
	}
	got := c.levels()
	t.Logf("levels %v, %+v", got, c.Stats())
	// How far it comes down depends on how fast this host sends; pacing's own tests
	// hold the level itself. (That of the other network is not held: a host that
	// stands still makes all networks look crowded.)
	if got["narrow"] >= most/2 || len(got) != 2 {
		t.Errorf("levels %v; want that of the network that carries %d packets well below %d", got, carries, most)
	}
	nothingHeld(t, c)
}
