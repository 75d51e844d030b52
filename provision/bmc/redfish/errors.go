package redfish

import (
	"fmt"

	"firstlight/provision/bmc"
)

func describe(ep Endpoint) bmc.Named {
	return bmc.Named{Node: ep.Node, PDU: ep.PDU, Address: ep.Address.String(), DeclaredAt: ep.DeclaredAt}
}

// CertificateError says that the BMC showed another certificate than the one
// known of its address. Nothing was sent to it.
type CertificateError struct {
	bmc.Named
	Pinned string // SHA-256 of the one known
	Found  string // SHA-256 of the one shown
	File   string // where it is known; "" when in memory only
}

// Error names node, address, both fingerprints and how to accept the new one.
func (e *CertificateError) Error() string {
	s := fmt.Sprintf("%s shows another certificate than before: known %s, found %s; nothing was sent to it. If the bmc was exchanged or got a new certificate",
		e.Named, e.Pinned, e.Found)
	if e.File == "" {
		return s + ", run again; if not, something else answers at its address"
	}
	return fmt.Sprintf("%s, remove the line of %s from %s and run again; if not, something else answers at its address",
		s, e.Address, e.File)
}

// StatusError is an answer that is an error. What the BMC said is printable,
// short, and without the secrets of the session.
type StatusError struct {
	bmc.Named
	Doing     string // "POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset"
	Status    int    // of HTTP
	Said      string
	MayBeDone bool // the request may have been carried out all the same
}

// Error names node, address, line, what was asked and what was answered.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s answered %d to %s", e.Named, e.Status, e.Doing)
	if e.Said != "" {
		s += ": " + e.Said
	}
	if e.MayBeDone {
		s += bmc.Uncertain
	}
	return s
}

// InDoubt is MayBeDone.
func (e *StatusError) InDoubt() bool { return e.MayBeDone }
