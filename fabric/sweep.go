package fabric

import (
	"context"
	"errors"
	"fmt"
	"time"

	"firstlight/fabric/mad"
)

// Transport is a local port that MADs go out by and come back. One goroutine
// sends while another receives. SetDeadline with a time that is past ends both
// with an error; the zero time lets them go on.
type Transport interface {
	Send(*mad.Packet) error
	Receive(*mad.Packet) error
	SetDeadline(time.Time) error
}

// Sweep reads a fabric from one local port or several. Its zero value, but for
// Transports, reads the topology.
type Sweep struct {
	// Transports are the local ports, as one for each rail. Each reads what it
	// reaches first; where the rails are one fabric they share the work.
	Transports []Transport
	// Counters reads those of every connected port as well. It needs a subnet
	// manager: performance management goes by LID.
	Counters bool
	// Modules reads temperatures, forward error correction and bit error rates of
	// connected ports, from devices that know NVIDIA's class. By LID, as Counters.
	Modules bool
	// PKeys reads the partition keys of the adapters' ports, too.
	PKeys bool
	// Timeout is how long one answer is waited for; 0 is a second.
	Timeout time.Duration
	// Attempts is how often a question is put before it counts as unanswered; 0 is 3, 100 the most.
	Attempts int
	// MaxHops is how far from the local port it looks; 0 is mad.MaxHops.
	MaxHops int
	// Deadline ends the sweep with what was found by then; 0 is two minutes.
	Deadline time.Duration
	// Progress is called now and then while it runs; nil is not called.
	Progress func(Progress)
}

// Progress is how far a sweep is.
type Progress struct {
	Switches, HCAs, Links int
	Counters              int // ports whose counters were read
	Waiting               int // questions to put or on the way
	Elapsed               time.Duration
}

// Swept is what a sweep found.
type Swept struct {
	*Observed
	// Unanswered is what was asked in vain: the fabric is known but for this.
	Unanswered []Unanswered
	Stats      Stats
}

// Unanswered is a question that was asked in vain, and of whom.
type Unanswered struct {
	Node *Node  // nil: the local port
	Port int    // of the node; 0: the question is about the node
	What string // "NodeInfo": the attribute
	Why  string
}

func (u Unanswered) String() string {
	switch {
	case u.Node == nil:
		return fmt.Sprintf("the local port: %s: %s", u.What, u.Why)
	case u.Port == 0:
		return fmt.Sprintf("%s: %s: %s", u.Node.Label(), u.What, u.Why)
	case u.What == mad.AttrNodeInfo.String():
		return fmt.Sprintf("what is behind %s port %d is not known: %s", u.Node.Label(), u.Port, u.Why)
	}
	return fmt.Sprintf("%s port %d: %s: %s", u.Node.Label(), u.Port, u.What, u.Why)
}

// Stats says what a sweep cost.
type Stats struct {
	Requests int // each once, however often it was sent
	Repeats  int // requests sent again
	Late     int // answers to what had been given up, or was answered already
	Foreign  int // packets that answer nothing that was asked
	// MostSMPs and MostGMPs are the largest windows, of any local port.
	MostSMPs, MostGMPs int
	Discovery, Elapsed time.Duration
}

// Counters are those of one port.
type Counters struct {
	At       time.Time // when they arrived
	Counters mad.PortCounters
	Extended *mad.PortCountersExtended // nil: the node has none
	// HasWait reports that PortXmitWait counts, HasExtendedErrors that the errors
	// of Extended do.
	HasWait, HasExtendedErrors bool
}

// maxNodes is more than a subnet can have: it has 49,151 unicast LIDs (IBTA
// §4.1.3), and switches take one each.
const maxNodes = 49151

// maxPorts bounds the memory that a fabric which makes itself up can take.
const maxPorts = 2 << 20

// sameGUID is how many nodes of one GUID are told apart: more are a fabric
// that makes them up.
const sameGUID = 8

func (s Sweep) withDefaults() Sweep {
	if s.Timeout == 0 {
		s.Timeout = time.Second
	}
	if s.Attempts == 0 {
		s.Attempts = 3
	}
	s.Attempts = min(s.Attempts, 100)
	if s.MaxHops == 0 || s.MaxHops > mad.MaxHops {
		s.MaxHops = mad.MaxHops
	}
	if s.Deadline == 0 {
		s.Deadline = 2 * time.Minute
	}
	return s
}

// Run reads the fabric. With an error it returns what was found until then,
// where anything was: also after the deadline, or when ctx was cancelled.
func (s Sweep) Run(ctx context.Context) (*Swept, error) {
	if len(s.Transports) == 0 {
		return nil, errors.New("no local port to read the fabric from")
	}
	s = s.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, s.Deadline,
		fmt.Errorf("the fabric was not read within %v", s.Deadline))
	defer cancel()
	e := newEngine(s)
	for _, t := range s.Transports {
		if err := t.SetDeadline(time.Time{}); err != nil {
			return nil, err
		}
	}
	e.begin()
	stopped := e.start()
	select {
	case <-e.done:
	case <-ctx.Done():
	}
	e.stop()
	for _, t := range s.Transports {
		if err := t.SetDeadline(time.Unix(1, 0)); err != nil {
			return nil, err // it would wait for ever
		}
	}
	stopped.Wait()
	found := e.result()
	if len(found.Nodes) == 0 {
		why := context.Cause(ctx)
		if len(found.Unanswered) > 0 {
			why = errors.New(found.Unanswered[0].String())
		}
		return nil, fmt.Errorf("nothing of the fabric answered: %w", why)
	}
	if err := e.failed(); err != nil {
		return found, fmt.Errorf("the fabric was read in part: %w", err)
	}
	select {
	case <-e.done:
		return found, nil
	default:
		return found, fmt.Errorf("%w: %d questions are open", context.Cause(ctx), e.open)
	}
}
