package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
	"firstlight/provision/bmc/secrets"
)

// rotateOptions are the flags of bmc rotate.
type rotateOptions struct {
	passwordFile  string
	declared      bool
	retry, forget bool
	autoApprove   bool
}

func (a *app) bmcRotateCommand() *cobra.Command {
	var opt rotateOptions
	c := &cobra.Command{
		Use:   "rotate [DIR]",
		Short: "Change the passwords of the BMCs' users",
		Long: `Change the password of the declared user on every BMC, each to one of its own
that is made at random. The new one is written to DIR/.firstlight/bmc-passwords,
readable by its owner only, before anything is sent; the BMC sets it; a login
shows that it did. From then on every verb logs in with what that file says, and
the credential in the inventory says no more than the user: back the file up.

Killed or interrupted at any point, run it again: it finds out what each BMC has,
with one login for each password at most, and finishes. It begins nothing else
in that run. A BMC that accepts neither is left alone, so that its account is not
locked: correct it, and give -retry; or -forget, when the BMC was exchanged and
has the declared password.

Exits 1 when a password was not changed.`,
		Example: `  firstlight bmc rotate racks/a
  firstlight bmc rotate -auto-approve -target rack=a01 racks/a
  firstlight bmc rotate -password-file new-password racks/a   # the same one for all
  firstlight bmc rotate -declared racks/a                     # back to the inventory's
  firstlight bmc rotate -forget -target hnode017 racks/a      # it got another BMC`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.rotate(c.Context(), dirArg(args, 0), opt)
		},
	}
	a.inventoryFlags(c)
	a.targetFlag(c)
	f := c.Flags()
	f.StringVar(&opt.passwordFile, "password-file", "", "give all the password in this `FILE`, readable by its owner only; - reads standard input")
	f.BoolVar(&opt.declared, "declared", false, "give them the password that the inventory declares, and record nothing any more")
	f.BoolVar(&opt.retry, "retry", false, "try those again that refused both passwords: a person has corrected them")
	f.BoolVar(&opt.forget, "forget", false, "only forget recorded passwords, so that the declared ones are used again; nothing is sent")
	f.BoolVar(&opt.autoApprove, "auto-approve", false, "do not ask")
	c.MarkFlagsMutuallyExclusive("password-file", "declared", "forget")
	c.MarkFlagsMutuallyExclusive("retry", "forget")
	return c
}

func (a *app) rotate(ctx context.Context, dir string, opt rotateOptions) error {
	s, err := a.load(dir)
	if err != nil {
		return err
	}
	nodes, err := a.chosenNodes(s)
	if err != nil {
		return err
	}
	if !opt.forget && !a.entered {
		if err := a.labIsUp(ctx, s); err != nil {
			return err
		}
	}
	if err := a.enterLab(s); err != nil {
		return err
	}
	fixed, err := a.suppliedPassword(opt, nodes)
	if err != nil {
		return err
	}
	// The lock keeps apply away: it would log in with what is no longer so.
	j, unlock, err := s.openLocked(ctx, "bmc rotate")
	if err != nil {
		return err
	}
	defer j.Close()
	defer unlock()
	boards, err := s.newBoards(nil)
	if err != nil {
		return err
	}
	defer boards.Close()
	jobs := boards.rotations(nodes, opt, fixed)
	if len(jobs) == 0 {
		return errors.New("there is nothing to change: no password of these BMCs is recorded, so they have the declared ones")
	}
	if err := a.askRotation(opt, jobs); err != nil {
		return err
	}
	store, err := secrets.Open(s.path(passwordsFile))
	if err != nil {
		return err
	}
	if opt.forget {
		err = a.forget(store, jobs)
	} else {
		err = a.carryOutRotation(ctx, s, store, jobs, opt)
	}
	if closing := store.Close(); closing != nil {
		return closing
	}
	return err
}

// suppliedPassword is the one that all BMCs are to get; "" for one each.
func (a *app) suppliedPassword(opt rotateOptions, nodes []*inventory.Node) (inventory.Secret, error) {
	if opt.passwordFile == "" {
		return "", nil
	}
	password, err := secrets.FromFile(opt.passwordFile, a.stdin)
	if err != nil {
		return "", fmt.Errorf("-password-file %s: %w", opt.passwordFile, err)
	}
	for _, n := range nodes {
		if n.BMC.By("ipmi") != nil && len(password) > bmc.MaxPassword {
			return "", fmt.Errorf("-password-file %s: the password has %d bytes, and %s is reached by IPMI, which allows %d", opt.passwordFile, len(password), n.Name, bmc.MaxPassword)
		}
	}
	return password, nil
}

// askRotation asks before passwords are changed or forgotten.
func (a *app) askRotation(opt rotateOptions, jobs []secrets.Job) error {
	if opt.autoApprove {
		return nil
	}
	if !a.watched() || opt.passwordFile == "-" {
		return errors.New("nobody is there to ask: give -auto-approve")
	}
	what := fmt.Sprintf("Change the password of %d %s", len(jobs), plural(len(jobs), "BMC", "BMCs"))
	if opt.forget {
		what = fmt.Sprintf("Forget the recorded password of %d %s, for good", len(jobs), plural(len(jobs), "BMC", "BMCs"))
	}
	fmt.Fprintf(a.stderr, "%s (%s)? Only \"yes\" is taken as yes: ", what, inventory.Fold(jobNames(jobs)))
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "yes" {
		return errors.New("not agreed; nothing was done")
	}
	return nil
}

func jobNames(jobs []secrets.Job) []string {
	var names []string
	for _, j := range jobs {
		names = append(names, j.Node)
	}
	return names
}

// rotations are the changes of the BMCs' passwords, one for each user of a BMC.
func (b *boards) rotations(nodes []*inventory.Node, opt rotateOptions, fixed inventory.Secret) []secrets.Job {
	var jobs []secrets.Job
	seen := map[secrets.Account]bool{}
	for _, n := range nodes {
		for d := n.BMC; d != nil; d = d.Other {
			if d.Credential == nil {
				continue
			}
			j := secrets.Job{Account: accountOf(n, d), BMC: b.changer(n, d)}
			_, recorded := b.credentials.set.Find(j.Account)
			if seen[j.Account] || opt.declared && !recorded {
				continue // by both protocols it is one user; or it has the declared one
			}
			seen[j.Account] = true
			credential := d.Credential
			j.Declared = func() (inventory.Secret, error) { return b.credentials.declared.Password(credential) }
			j.Next = func() (inventory.Secret, bool, error) {
				switch {
				case opt.declared:
					password, err := j.Declared()
					return password, true, err
				case fixed != "":
					return fixed, false, nil
				}
				return secrets.Generate(), false, nil
			}
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// changer changes the password of a BMC's user by the protocol it is declared by.
func (b *boards) changer(n *inventory.Node, d *inventory.BMC) secrets.BMC {
	at, user := b.cluster.DeclaredAt(d.Range), d.Credential.Username
	if d.Protocol == "redfish" {
		return secrets.Redfish{Client: b.redfish, Endpoint: redfish.Endpoint{Node: n.Name, Address: bmcAddress(d), Username: user, DeclaredAt: at}}
	}
	return secrets.IPMI{Client: b.ipmi, Endpoint: bmc.Endpoint{Node: n.Name, Address: bmcAddress(d), Username: user, DeclaredAt: at}}
}

func (a *app) forget(store *secrets.Store, jobs []secrets.Job) error {
	accounts := make([]secrets.Account, len(jobs))
	for i, j := range jobs {
		accounts[i] = j.Account
	}
	known := store.Book()
	if err := store.Forget(accounts); err != nil {
		return err
	}
	rows := []rotateRow{}
	for _, account := range accounts {
		outcome := "not recorded"
		if _, ok := known.Find(account); ok {
			outcome = "forgotten"
		}
		rows = append(rows, rotateRow{Name: account.Node, BMC: account.Address.String(), Username: account.Username, Outcome: outcome})
	}
	return a.printRotation(rows, "")
}

// carryOutRotation changes the passwords and says what came of it.
func (a *app) carryOutRotation(ctx context.Context, s *site, store *secrets.Store, jobs []secrets.Job, opt rotateOptions) error {
	if opt.retry {
		accounts := make([]secrets.Account, len(jobs))
		for i, j := range jobs {
			accounts[i] = j.Account
		}
		if err := store.Retry(accounts); err != nil {
			return err
		}
	}
	shown := a.newCounter(len(jobs))
	rotation := secrets.Rotation{Store: store, Concurrency: s.Cluster.Settings.BMCConcurrency, Done: func(r secrets.Result) { shown.answered(r.Outcome) }}
	results, err := rotation.Run(ctx, jobs)
	shown.clear()
	if err != nil {
		return fmt.Errorf("%w; nothing was sent", err)
	}
	rows := make([]rotateRow, len(results))
	for i, r := range results {
		rows[i] = rotateRow{Name: r.Node, BMC: r.Address.String(), Username: r.Username, Outcome: r.Outcome, Resumed: r.Resumed}
		if r.Err != nil {
			rows[i].Error = strings.ReplaceAll(r.Err.Error(), "\n", "; ")
		}
	}
	err = a.printRotation(rows, s.path(passwordsFile))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// rotateRow is a row of bmc rotate -json.
type rotateRow struct {
	Name     string `json:"name"`
	BMC      string `json:"bmc"`
	Username string `json:"username"`
	Outcome  string `json:"outcome"` // "changed", "unchanged", "unknown", "refused", "left", "forgotten" or "not recorded"
	Resumed  bool   `json:"resumed"` // an earlier run had begun it
	Error    string `json:"error"`
}

func (a *app) printRotation(rows []rotateRow, file string) error {
	groups := map[string][]string{}
	bad, resumed := 0, 0
	for _, r := range rows {
		groups[r.Outcome] = append(groups[r.Outcome], r.Name)
		if r.Error != "" {
			bad++
		}
		if r.Resumed {
			resumed++
		}
	}
	if a.json {
		if err := printJSON(a.stdout, map[string]any{"nodes": rows, "file": file}); err != nil {
			return err
		}
	} else {
		for _, outcome := range []string{secrets.Changed, "forgotten", "not recorded", secrets.Unchanged, secrets.Unknown, secrets.Refusal, secrets.Left} {
			if names := groups[outcome]; len(names) > 0 {
				fmt.Fprintf(a.stdout, "%s: %s\n", outcome, inventory.Fold(names))
			}
		}
		for _, r := range rows {
			if r.Error != "" {
				fmt.Fprintf(a.stderr, "%s: %s: %s\n", r.Name, r.Outcome, r.Error)
			}
		}
		if resumed > 0 {
			fmt.Fprintf(a.stderr, "an earlier run had begun %d of these; that was finished and nothing else was begun: run it again to change the others\n", resumed)
		}
		if n := len(groups[secrets.Changed]); n > 0 && file != "" {
			fmt.Fprintf(a.stderr, "%d of %d changed; what firstlight logs in with from now on is in %s: back it up\n", n, len(rows), file)
		}
	}
	if bad > 0 {
		return &exit{code: 1}
	}
	return nil
}
