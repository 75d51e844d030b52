package bmc

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Named is the BMC an error is about. It holds no credential.
type Named struct {
	Node       string
	PDU        string // it is no BMC but the PDU of that name
	Address    string // "10.20.0.11:623"
	DeclaredAt string // "nodes.hcl:12", or ""
}

// String names the BMC as error messages do.
func (n Named) String() string {
	what := "bmc"
	if n.PDU != "" {
		what = "pdu " + n.PDU
	}
	s := fmt.Sprintf("node %s: %s %s", n.Node, what, n.Address)
	if n.DeclaredAt != "" {
		s += " (" + n.DeclaredAt + ")"
	}
	return s
}

// BMC makes an error that embeds a Named one that NamesBMC knows.
func (n Named) BMC() Named { return n }

// NamesBMC says that err names its BMC itself.
func NamesBMC(err error) bool {
	var named interface{ BMC() Named }
	return errors.As(err, &named)
}

func describe(ep Endpoint) Named {
	return Named{Node: ep.Node, Address: ep.Address.String(), DeclaredAt: ep.DeclaredAt}
}

// AuthError says that the BMC does not accept the credential. It must not be
// sent again before a person has changed something: BMCs lock accounts out.
type AuthError struct {
	Named
	Username string
	Reason   string // "wrong user name or password", or what the BMC said
	Tries    int    // how often it was sent
}

// Error names node, address, line and what to do.
func (e *AuthError) Error() string {
	tried := "tried once"
	if e.Tries > 1 {
		tried = fmt.Sprintf("tried %d times, because BMCs of this make refuse good ones at times,", e.Tries)
	}
	return fmt.Sprintf("%s refused user %q: %s; it was %s and is not tried again: correct the credential or the bmc's user, then run again",
		e.Named, e.Username, e.Reason, tried)
}

// NoAnswerError says that nothing valid came from the BMC for the time allowed.
type NoAnswerError struct {
	Named
	After      time.Duration
	PortClosed bool   // the host answered that nothing listens on the port
	Service    string // what should listen there, as "HTTPS"; "": IPMI over LAN
	Broken     string // how the connection ended, when it did
	Doing      string // what was asked, as "Open Session"
	MayBeDone  bool   // the request may have been carried out: only its reply is missing
	Cause      error  // the context's error, when that ended the wait
}

// Error names node, address, line, how long and what to do.
func (e *NoAnswerError) Error() string {
	if e.PortClosed {
		port, service := "UDP", "IPMI over LAN"
		if e.Service != "" {
			port, service = "TCP", e.Service
		}
		return fmt.Sprintf("%s does not listen on that %s port (%s): check the declared address and port, and that %s is enabled on the bmc",
			e.Named, port, e.Doing, service)
	}
	s := fmt.Sprintf("%s did not answer for %s (%s)", e.Named, e.After.Round(10*time.Millisecond), e.Doing)
	if e.Broken != "" {
		s = fmt.Sprintf("%s broke off (%s: %s)", e.Named, e.Doing, e.Broken)
	}
	s += ": check that the bmc has power and its network cable, and the declared address"
	if e.MayBeDone {
		s += Uncertain
	}
	return s
}

// Unwrap gives the context's error.
func (e *NoAnswerError) Unwrap() error { return e.Cause }

// InDoubt is MayBeDone.
func (e *NoAnswerError) InDoubt() bool { return e.MayBeDone }

// Uncertain ends the text of an error about a request of unknown outcome.
const Uncertain = "; the request may have been carried out, so look at the node before repeating it"

// MayBeDone says that a request was sent and what became of it is not known.
func MayBeDone(err error) bool {
	var doubt interface{ InDoubt() bool }
	return errors.As(err, &doubt) && doubt.InDoubt()
}

// ReadBackError says that the BMC accepted a write and did not keep it.
type ReadBackError struct {
	Named
	What   string // "boot override", "power", "restart", "outlet", "password" or "virtual media"
	Wanted string
	Got    string
	After  time.Duration // how long it was watched; 0: it was read once
	Tried  []string      // the ways in which it was written, when there are several
}

// Error names node, address, line, both values and what to do.
func (e *ReadBackError) Error() string {
	after := e.After.Round(10 * time.Millisecond)
	switch e.What {
	case "power":
		return fmt.Sprintf("%s accepted power %s, and %s later the power is %s: look at the node's console and front panel",
			e.Named, e.Wanted, after, e.Got)
	case "outlet":
		return fmt.Sprintf("%s accepted outlet %s, and %s later it is %s: look at the pdu", e.Named, e.Wanted, after, e.Got)
	case "restart":
		return fmt.Sprintf("%s accepted a restart of itself, and %s later still knows %s: it did not restart; cut its power", e.Named, after, e.Got)
	case "boot override":
		tried := ""
		if n := len(e.Tried); n > 1 {
			tried = fmt.Sprintf(" (written to %s and %s)", strings.Join(e.Tried[:n-1], ", "), e.Tried[n-1])
		} else if n == 1 {
			tried = fmt.Sprintf(" (written to %s)", e.Tried[0])
		}
		return fmt.Sprintf("%s accepted the boot override %q and reads back %q%s: its firmware did not keep it; set the network first in the firmware's own boot order, or update the bmc",
			e.Named, e.Wanted, e.Got, tried)
	}
	return fmt.Sprintf("%s accepted the %s %q and reads back %q after %s: update the bmc", e.Named, e.What, e.Wanted, e.Got, after)
}

// silence is a missing reply, before the BMC's name is put to it.
type silence struct {
	doing      string
	after      time.Duration
	portClosed bool
	mayBeDone  bool
}

func (s *silence) Error() string { return "no answer to " + s.doing }

// refusal is a refused credential, before the BMC's name is put to it.
type refusal struct {
	reason string
	role   bool // of the privilege, not of the password
}

func (r *refusal) Error() string { return r.reason }
