package bmc

import (
	"context"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// PowerReading is what one BMC of PowerAll said.
type PowerReading struct {
	State   PowerState
	Err     error // as Client.Power's
	Elapsed time.Duration
}

// PowerAll reads the power of many nodes at once, without a goroutine for each.
// got is called by this goroutine for each index of eps, in the order in which
// the sessions end. When ctx is over, those who have not answered get its error
// or a *NoAnswerError. PowerAll returns when every session is closed.
func (c *Client) PowerAll(ctx context.Context, eps []Endpoint, got func(i int, r PowerReading)) {
	e := c.start()
	type answer struct {
		i int
		PowerReading
	}
	answers := make(chan answer, len(eps))   // the engine never waits
	asked := make([]*conversation, len(eps)) // the engine's
	began := time.Now()
	e.post(func() {
		for i, ep := range eps {
			done := func(r PowerReading) {
				r.Err = explain(ep, r.Err)
				answers <- answer{i, r}
			}
			if err := ep.check(); err != nil {
				answers <- answer{i, PowerReading{Err: err}}
			} else {
				asked[i] = e.askPower(ep, c.timeout(), began, done)
			}
		}
	})
	over := ctx.Done()
	for left := len(eps); left > 0; {
		select {
		case a := <-answers:
			left--
			got(a.i, a.PowerReading)
		case <-over:
			over = nil
			e.post(func() {
				for _, v := range asked {
					if v != nil {
						v.cancel(ctx.Err())
					}
				}
			})
		}
	}
}

// askPower is one power status: login, Get Chassis Status, close, then done.
func (e *engine) askPower(ep Endpoint, limit time.Duration, began time.Time, done func(PowerReading)) *conversation {
	return e.newConversation(ep, limit, func(v *conversation, err error) {
		if err != nil {
			done(PowerReading{Err: err, Elapsed: e.now.Sub(began)})
			return
		}
		v.call(request{command: types.CommandGetChassisStatus}, func(data []byte, err error) {
			state, err := powerState(data, err)
			r := PowerReading{State: state, Err: err, Elapsed: e.now.Sub(began)}
			v.close(func() { done(r) })
		})
	})
}

// powerState reads the reply to Get Chassis Status (§28.2).
func powerState(data []byte, err error) (PowerState, error) {
	switch {
	case err != nil:
		return "", err
	case len(data) < 1:
		return "", errNoStatus
	case data[0]&1 != 0:
		return PowerOn, nil
	}
	return PowerOff, nil
}
