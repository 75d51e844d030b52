package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

const (
	ipmiPort = 623
	httpPort = 80
)

func (a *app) bmcAuditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit [NODE...] [DIR]",
		Short: "Look for ways in that the BMCs leave open",
		Long: `Look for ways in that the nodes' BMCs leave open: cipher suite 0, logins without a
name, users and passwords that BMCs are delivered with, no key K_g, IPMI 1.5, old
cipher suites, firmware with known holes, Redfish without TLS. Nothing is changed,
and no password but the declared one is sent, once: no account is locked. What
could not be checked is said. A last argument that is a directory is the inventory.
Exits 1 when there are findings or a BMC did not answer.`,
		Example: `  firstlight bmc audit racks/a
  firstlight bmc audit hnode017 racks/a
  firstlight bmc audit -json racks/a | jq '.nodes[] | select(.findings != [])'`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.bmcAudit(c.Context(), args)
		},
	}
	a.bmcFlags(c)
	return c
}

// auditRow is one node's audit.
type auditRow struct {
	Name      string          `json:"name"`
	Findings  []bmc.Finding   `json:"findings"`
	Unchecked []bmc.Unchecked `json:"unchecked"`
	Error     string          `json:"error"`
}

func (a *app) bmcAudit(ctx context.Context, args []string) error {
	boards, nodes, err := a.openBoards(ctx, args)
	if err != nil {
		return err
	}
	defer boards.Close()
	answers := askBMCs(ctx, a, boards, nodes, boards.audit)
	rows := make([]auditRow, len(answers))
	findings, critical, unchecked := 0, 0, 0
	for i := range answers {
		found, not := answers[i].value.Findings()
		if answers[i].node.BMC == nil {
			found, not = nil, nil
		}
		rows[i] = auditRow{answers[i].node.Name, append([]bmc.Finding{}, found...), append([]bmc.Unchecked{}, not...), answers[i].failure()}
		findings, unchecked = findings+len(found), unchecked+len(not)
		for _, f := range found {
			if f.Severity == "critical" {
				critical++
			}
		}
	}
	if a.json {
		summary := map[string]int{"nodes": len(rows), "findings": findings, "critical": critical, "unchecked": unchecked}
		if err := printJSON(a.stdout, map[string]any{"summary": summary, "nodes": rows}); err != nil {
			return err
		}
	} else {
		a.printAudit(rows)
		fmt.Fprintf(a.stdout, "%d %s on %d %s, %d of them critical\n", findings, plural(findings, "finding", "findings"), len(rows), plural(len(rows), "node", "nodes"), critical)
	}
	if err := failures(a, answers); err != nil || findings == 0 {
		return err
	}
	return &exit{code: 1}
}

// audit asks one node's BMC, by each protocol that is declared. It logs in once by
// each; everything else needs no password.
func (b *boards) audit(ctx context.Context, n *inventory.Node) (bmc.Audit, error) {
	x := bmc.Audit{Reasons: map[string]string{}}
	overIPMI, overRedfish := n.BMC.By("ipmi"), n.BMC.By("redfish")
	at := cmp.Or(overIPMI, n.BMC)
	if c := at.Credential; c != nil {
		x.Username = c.Username
		x.Password, _ = b.credentials.secret(n, at) // the login says what is wrong with it
	}
	open := bmc.Endpoint{Node: n.Name, Address: bmcAddress(at), Username: x.Username, DeclaredAt: b.cluster.DeclaredAt(at.Range)}
	if overIPMI == nil {
		open.Address = netip.AddrPortFrom(at.Address, ipmiPort)
	}
	if e, err := b.ipmi.Expose(ctx, open); err != nil {
		x.Reasons["ipmi"] = err.Error()
	} else {
		x.Exposure = &e
	}
	plain := []netip.AddrPort{netip.AddrPortFrom(at.Address, httpPort)}
	if overRedfish != nil {
		plain = append(plain, bmcAddress(overRedfish))
	}
	served := false
	for _, addr := range plain {
		yes, err := redfish.ServesPlain(ctx, addr)
		if err != nil {
			return x, err
		}
		served = served || yes
	}
	x.Plain = &served
	return x, b.auditInside(ctx, n, overIPMI, overRedfish, &x)
}

// auditInside asks what wants a login.
func (b *boards) auditInside(ctx context.Context, n *inventory.Node, overIPMI, overRedfish *inventory.BMC, x *bmc.Audit) error {
	var errs [2]error
	if overRedfish != nil {
		errs[0] = b.over(ctx, n, overRedfish, nil, func(s *redfish.Session) error {
			id, err := s.Identity(ctx)
			if err != nil {
				return err
			}
			x.Identity = &bmc.Identity{Manufacturer: id.Manufacturer, Product: id.Model, Firmware: id.Firmware}
			users, err := s.Users(ctx)
			if err != nil && ctx.Err() == nil {
				x.Reasons["users"] = err.Error()
				return nil
			}
			x.Access = &bmc.Access{Users: redfishUsers(users)}
			return err
		})
	}
	if overIPMI != nil {
		errs[1] = b.over(ctx, n, overIPMI, func(s *bmc.Session) error {
			id, err := s.Identity(ctx)
			if err != nil {
				return err
			}
			if x.Identity == nil { // Redfish tells more of the firmware
				x.Identity = &id
			}
			access, err := s.Access(ctx)
			if err != nil {
				return err
			}
			if x.Access != nil { // those of Redfish besides
				for _, u := range x.Access.Users {
					if !slices.ContainsFunc(access.Users, func(known bmc.User) bool { return known.Name == u.Name }) {
						access.Users = append(access.Users, u)
					}
				}
			}
			x.Access = &access
			return nil
		}, nil)
	}
	for _, what := range []string{"users", "firmware"} {
		if errors.Join(errs[:]...) != nil {
			x.Reasons[what] = cmp.Or(x.Reasons[what], "the bmc was not logged in to")
		}
	}
	return errors.Join(errs[:]...)
}

// redfishUsers are the accounts that are in use, in the terms of IPMI.
func redfishUsers(all []redfish.User) (out []bmc.User) {
	for _, u := range all {
		if u.Name != "" {
			id, _ := strconv.ParseUint(u.ID, 10, 8) // 0 where it is no number
			out = append(out, bmc.User{ID: uint8(id), Name: u.Name, Enabled: u.Enabled, Messaging: u.Enabled, Privilege: strings.ToLower(u.Role)})
		}
	}
	return out
}

// printAudit prints each finding once, with the nodes that have it.
func (a *app) printAudit(rows []auditRow) {
	type group[T comparable] struct {
		what  T
		nodes []string
	}
	var findings []group[bmc.Finding]
	var unchecked []group[bmc.Unchecked]
	for _, r := range rows {
		for _, f := range r.Findings {
			i := slices.IndexFunc(findings, func(g group[bmc.Finding]) bool { return g.what == f })
			if i < 0 {
				i, findings = len(findings), append(findings, group[bmc.Finding]{what: f})
			}
			findings[i].nodes = append(findings[i].nodes, r.Name)
		}
		for _, u := range r.Unchecked {
			i := slices.IndexFunc(unchecked, func(g group[bmc.Unchecked]) bool { return g.what == u })
			if i < 0 {
				i, unchecked = len(unchecked), append(unchecked, group[bmc.Unchecked]{what: u})
			}
			unchecked[i].nodes = append(unchecked[i].nodes, r.Name)
		}
	}
	slices.SortStableFunc(findings, func(a, b group[bmc.Finding]) int { return cmp.Compare(a.what.Severity, b.what.Severity) })
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, g := range findings {
		what := g.what.What
		if g.what.CVE != "" {
			what += " (" + g.what.CVE + ")"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n\t\t\t-> %s\n", g.what.Severity, g.what.Class, inventory.Fold(g.nodes), what, g.what.Action)
	}
	tw.Flush()
	for _, g := range unchecked {
		fmt.Fprintf(a.stdout, "not checked on %s: %s: %s\n", inventory.Fold(g.nodes), g.what.What, g.what.Reason)
	}
	if len(findings)+len(unchecked) > 0 {
		fmt.Fprintln(a.stdout)
	}
}
