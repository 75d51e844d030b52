package main

import (
	"errors"
	"fmt"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/bmc/secrets"
)

// credentials knows what to log in to a BMC with.
type credentials struct {
	cluster  *inventory.Cluster
	declared secrets.Reader
}

func (s *site) credentials() *credentials {
	return &credentials{cluster: s.Cluster, declared: secrets.Reader{Dir: s.Cluster.Dir, DeclaredAt: s.Cluster.DeclaredAt}}
}

// secret is the password of a node's BMC. What is wrong with it is a
// *provision.Refused: only a person can set what is not set, and a file or a
// command may work at the next apply.
func (c *credentials) secret(node string, b *inventory.BMC) (inventory.Secret, error) {
	about := fmt.Sprintf("BMC %s (%s)", b.Address, c.cluster.DeclaredAt(b.Range))
	if b.Credential == nil {
		return "", &provision.Refused{Reason: about + " has no credential", Person: true}
	}
	secret, err := c.declared.Password(b.Credential)
	if err != nil {
		return "", &provision.Refused{Reason: about + ": " + err.Error(), Person: errors.Is(err, secrets.ErrNotSet)}
	}
	return secret, nil
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
			seen[b.Credential] = true
			if _, err := c.declared.Password(b.Credential); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}
