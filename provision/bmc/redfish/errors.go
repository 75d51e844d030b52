package redfish

import (
	"fmt"
	"time"
)

// Named is the BMC an error is about. It holds no credential.
type Named struct {
	Node       string
	Address    string // "10.20.0.11:443"
	DeclaredAt string // "nodes.hcl:12", or ""
	text       string
}

func describe(ep Endpoint) Named {
	return Named{Node: ep.Node, Address: ep.Address.String(), DeclaredAt: ep.DeclaredAt, text: ep.String()}
}

// AuthError says that the BMC does not accept the credential. It must not be
// sent again before a person has changed something: BMCs lock accounts out.
type AuthError struct {
	Endpoint Named
	Username string
	Reason   string // "wrong user name or password", with what the BMC said
	Tries    int    // how often it was sent
}

// Error names node, address, line and what to do.
func (e *AuthError) Error() string {
	tried := "tried once"
	if e.Tries > 1 {
		tried = fmt.Sprintf("tried %d times, because BMCs of this make refuse good ones at times,", e.Tries)
	}
	return fmt.Sprintf("%s refused user %q: %s; it was %s and is not tried again: correct the credential or the bmc's user, then run again",
		e.Endpoint.text, e.Username, e.Reason, tried)
}

// CertificateError says that the BMC showed another certificate than the one
// known of its address. Nothing was sent to it.
type CertificateError struct {
	Endpoint Named
	Pinned   string // SHA-256 of the one known
	Found    string // SHA-256 of the one shown
	File     string // where it is known; "" when in memory only
}

// Error names node, address, both fingerprints and how to accept the new one.
func (e *CertificateError) Error() string {
	s := fmt.Sprintf("%s shows another certificate than before: known %s, found %s; nothing was sent to it. If the bmc was exchanged or got a new certificate",
		e.Endpoint.text, e.Pinned, e.Found)
	if e.File == "" {
		return s + ", run again; if not, something else answers at its address"
	}
	return fmt.Sprintf("%s, remove the line of %s from %s and run again; if not, something else answers at its address",
		s, e.Endpoint.Address, e.File)
}

// NoAnswerError says that no answer came from the BMC in the time allowed.
type NoAnswerError struct {
	Endpoint   Named
	After      time.Duration
	PortClosed bool   // the host answered that nothing listens on the port
	Broken     string // how the connection ended, when it did
	Doing      string // what was asked, as "GET /redfish/v1/Systems/1"
	MayBeDone  bool   // the request may have been carried out: only its answer is missing
	cause      error  // the context's error, when that ended the wait
}

// Error names node, address, line, how long and what to do.
func (e *NoAnswerError) Error() string {
	if e.PortClosed {
		return fmt.Sprintf("%s does not listen on that TCP port (%s): check the declared address and port, and that HTTPS is enabled on the bmc",
			e.Endpoint.text, e.Doing)
	}
	s := fmt.Sprintf("%s did not answer for %s (%s)", e.Endpoint.text, e.After.Round(10*time.Millisecond), e.Doing)
	if e.Broken != "" {
		s = fmt.Sprintf("%s broke off (%s: %s)", e.Endpoint.text, e.Doing, e.Broken)
	}
	s += ": check that the bmc has power and its network cable, and the declared address"
	if e.MayBeDone {
		s += "; the request may have been carried out, so look at the node before repeating it"
	}
	return s
}

func (e *NoAnswerError) Unwrap() error { return e.cause }

// StatusError is an answer that is an error. What the BMC said is printable,
// short, and without the secrets of the session.
type StatusError struct {
	Endpoint  Named
	Doing     string // "POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset"
	Status    int    // of HTTP
	Said      string
	MayBeDone bool // the request may have been carried out all the same
}

// Error names node, address, line, what was asked and what was answered.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s answered %d to %s", e.Endpoint.text, e.Status, e.Doing)
	if e.Said != "" {
		s += ": " + e.Said
	}
	if e.MayBeDone {
		s += "; the request may have been carried out, so look at the node before repeating it"
	}
	return s
}

// ReadBackError says that the BMC accepted a write and did not keep it.
type ReadBackError struct {
	Endpoint Named
	What     string // "boot override", "power" or "virtual media"
	Wanted   string
	Got      string
	After    time.Duration
	Tried    []string // the ways in which a boot override was written
}

// Error names node, address, line, both values and what to do.
func (e *ReadBackError) Error() string {
	after := e.After.Round(10 * time.Millisecond)
	switch e.What {
	case "power":
		return fmt.Sprintf("%s accepted power %s, and %s later the power is %s: look at the node's console and front panel",
			e.Endpoint.text, e.Wanted, after, e.Got)
	case "boot override":
		return fmt.Sprintf("%s accepted the boot override %q and reads back %q (written to %s): its firmware did not keep it; set the network first in the firmware's own boot order, or update the bmc",
			e.Endpoint.text, e.Wanted, e.Got, list(e.Tried))
	}
	return fmt.Sprintf("%s accepted the %s %q and reads back %q after %s: update the bmc", e.Endpoint.text, e.What, e.Wanted, e.Got, after)
}

func list(items []string) string {
	s := ""
	for i, item := range items {
		switch {
		case i == 0:
		case i == len(items)-1:
			s += " and "
		default:
			s += ", "
		}
		s += item
	}
	return s
}

// named are the errors that name their BMC themselves.
func (*AuthError) namesBMC()        {}
func (*CertificateError) namesBMC() {}
func (*NoAnswerError) namesBMC()    {}
func (*StatusError) namesBMC()      {}
func (*ReadBackError) namesBMC()    {}
