package main

import (
	"errors"
	"fmt"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/bmc/secrets"
)

// passwordsFile holds, in the state directory, the passwords that bmc rotate set.
const passwordsFile = "bmc-passwords"

// credentials knows what to log in to a BMC with.
type credentials struct {
	cluster  *inventory.Cluster
	declared secrets.Reader
	set      secrets.Book // by bmc rotate
}

func (s *site) credentials() (*credentials, error) {
	set, err := secrets.Read(s.path(passwordsFile))
	if err != nil {
		return nil, err
	}
	return &credentials{cluster: s.Cluster, set: set, declared: secrets.Reader{Dir: s.Cluster.Dir, DeclaredAt: s.Cluster.DeclaredAt}}, nil
}

// accountOf is the user of a node's BMC, which is one by both protocols.
func accountOf(n *inventory.Node, b *inventory.BMC) secrets.Account {
	if first := n.BMC; b != first && first.Credential != nil && first.Address == b.Address && first.Credential.Username == b.Credential.Username {
		b = first
	}
	account := secrets.Account{Node: n.Name, Address: b.Address, Username: b.Credential.Username}
	if b.Port != inventory.BMCPort(b.Protocol) {
		account.Port = uint16(b.Port) // several BMCs behind one address
	}
	return account
}

// secret is the password of a node's BMC: the one that bmc rotate set, or the
// declared one. What is wrong with it is a *provision.Refused: only a person can
// set what is not set, and the rest may work at the next apply.
func (c *credentials) secret(n *inventory.Node, b *inventory.BMC) (inventory.Secret, error) {
	about := fmt.Sprintf("BMC %s (%s)", b.Address, c.cluster.DeclaredAt(b.Range))
	if b.Credential == nil {
		return "", &provision.Refused{Reason: about + " has no credential", Person: true}
	}
	password, err := c.recorded(n, b)
	if err == nil && password == "" {
		password, err = c.declared.Password(b.Credential)
	}
	if err != nil {
		return "", &provision.Refused{Reason: about + ": " + err.Error(), Person: errors.Is(err, secrets.ErrNotSet)}
	}
	return password, nil
}

// recorded is the password that bmc rotate set; "" where it set none.
func (c *credentials) recorded(n *inventory.Node, b *inventory.BMC) (inventory.Secret, error) {
	e, _ := c.set.Find(accountOf(n, b))
	return e.Current()
}

// readable reads the secrets that lie in files, or that commands print, of the
// nodes that a plan changes: one that fails is said once, before anything is
// begun, and not of every node.
func (c *credentials) readable(p provision.Plan) error {
	var failed []error
	seen := map[*inventory.Credential]bool{}
	for _, step := range p.Nodes {
		n := c.cluster.Node(step.Name)
		if step.Action == provision.ActionNone || step.Action == provision.ActionHeld || n == nil {
			continue
		}
		for b := n.BMC; b != nil; b = b.Other {
			if b.Credential == nil || b.Credential.Source() == "" || seen[b.Credential] {
				continue
			}
			if set, err := c.recorded(n, b); set != "" || err != nil {
				continue // the declared one is not needed
			}
			seen[b.Credential] = true
			if _, err := c.declared.Password(b.Credential); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}
