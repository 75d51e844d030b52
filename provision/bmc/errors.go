package bmc

import (
	"fmt"
	"time"
)

// Named is the BMC an error is about. It holds no credential.
type Named struct {
	Node       string
	Address    string // "10.20.0.11:623"
	DeclaredAt string // "nodes.hcl:12", or ""
	text       string
}

func describe(ep Endpoint) Named {
	return Named{Node: ep.Node, Address: ep.Address.String(), DeclaredAt: ep.DeclaredAt, text: ep.String()}
}

// AuthError says that the BMC does not accept the credential. It was sent once
// and must not be sent again before a person has changed something: BMCs lock
// accounts out.
type AuthError struct {
	Endpoint Named
	Username string
	Reason   string // "wrong user name or password", or what the BMC said
}

// Error names node, address, line and what to do.
func (e *AuthError) Error() string {
	return fmt.Sprintf("%s refused user %q: %s; it was tried once and is not tried again: correct the credential or the bmc's user, then run again",
		e.Endpoint.text, e.Username, e.Reason)
}

func (*AuthError) namesBMC() {}

// NoAnswerError says that nothing valid came from the BMC for the time allowed.
type NoAnswerError struct {
	Endpoint   Named
	After      time.Duration
	PortClosed bool   // the host answered that nothing listens on the port
	Doing      string // what was asked, as "Open Session"
	MayBeDone  bool   // the request may have been carried out: only its reply is missing
}

// Error names node, address, line, how long and what to do.
func (e *NoAnswerError) Error() string {
	if e.PortClosed {
		return fmt.Sprintf("%s does not listen on that UDP port (%s): check the declared address and port, and that IPMI over LAN is enabled on the bmc",
			e.Endpoint.text, e.Doing)
	}
	s := fmt.Sprintf("%s did not answer for %s (%s): check that the bmc has power and its network cable, and the declared address",
		e.Endpoint.text, e.After.Round(10*time.Millisecond), e.Doing)
	if e.MayBeDone {
		s += "; the request may have been carried out, so look at the node before repeating it"
	}
	return s
}

func (*NoAnswerError) namesBMC() {}

// ReadBackError says that the BMC accepted a write and did not keep it.
type ReadBackError struct {
	Endpoint Named
	What     string // "boot override" or "power"
	Wanted   string
	Got      string
	After    time.Duration // how long it was watched; 0: it was read once
}

// Error names node, address, line, both values and what to do.
func (e *ReadBackError) Error() string {
	if e.What == "power" {
		return fmt.Sprintf("%s accepted power %s, and %s later the power is %s: look at the node's console and front panel",
			e.Endpoint.text, e.Wanted, e.After.Round(10*time.Millisecond), e.Got)
	}
	return fmt.Sprintf("%s accepted the %s %q and reads back %q: its firmware did not keep it; set the network first in the firmware's own boot order, or update the bmc",
		e.Endpoint.text, e.What, e.Wanted, e.Got)
}

func (*ReadBackError) namesBMC() {}

// silence is a missing reply, before the BMC's name is put to it.
type silence struct {
	doing      string
	after      time.Duration
	portClosed bool
	mayBeDone  bool
}

func (s *silence) Error() string { return "no answer to " + s.doing }

// refusal is a refused credential, before the BMC's name is put to it.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }
