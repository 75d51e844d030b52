package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/acceptance"
)

func (a *app) reportCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "report [DIR]",
		Short: "Write the evidence as a page, JSON and JUnit",
		Long: `Write what is known of every node: its states with times, the evidence with
threshold, source and verdict, what was slow, and what failed. One HTML page
that needs nothing beside it, the same as JSON, and JUnit XML for CI.`,
		Example: `  firstlight report racks/a              # into racks/a/.firstlight/report
  firstlight report -out handover racks/a
  firstlight report -json racks/a | jq .counts`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.report(c.Context(), dirArg(args, 0), out)
		},
	}
	a.inventoryFlags(c)
	c.Flags().StringVar(&out, "out", "", "`DIR` to write to; default .firstlight/report beside the inventory")
	return c
}

func (a *app) report(ctx context.Context, dir, out string) error {
	s, known, err := a.recall(ctx, dir)
	if err != nil {
		return err
	}
	if a.json {
		if out != "" {
			if _, err := a.writeReport(s, known, out); err != nil {
				return err
			}
		}
		return s.report(known).WriteJSON(a.stdout)
	}
	page, err := a.writeReport(s, known, out)
	if err == nil {
		fmt.Fprintln(a.stdout, page)
	}
	return err
}

// writeReport writes all forms of the report and returns the page's path.
func (a *app) writeReport(s *site, known provision.Known, dir string) (string, error) {
	if dir == "" {
		if _, err := s.mkdir(); err != nil { // for its owner only
			return "", err
		}
		dir = s.path("report")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	r := s.report(known)
	s.addCharts(&r)
	page := filepath.Join(dir, "index.html")
	for file, write := range map[string]func(io.Writer) error{
		page: r.WriteHTML, filepath.Join(dir, "report.json"): r.WriteJSON, filepath.Join(dir, "junit.xml"): r.WriteJUnit,
	} {
		if err := writeReportFile(file, write); err != nil {
			return "", fmt.Errorf("report %s: %w", file, err)
		}
	}
	return page, nil
}

func writeReportFile(file string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// report gathers what the journal and the evidence say of every declared node.
func (s *site) report(known provision.Known) acceptance.Report {
	r := acceptance.Report{Cluster: s.Cluster.Name, Lab: s.Cluster.Lab != nil, Inventory: s.Cluster.Digest, Serial: known.Serial,
		Made: time.Now().UTC(), By: "firstlight " + version}
	for _, n := range s.Cluster.Nodes {
		r.Nodes = append(r.Nodes, s.nodeReport(n, known.Node(n.Name)))
	}
	for _, d := range discoveries(known) {
		r.Discovered = append(r.Discovered, acceptance.Discovered{MAC: d.MAC, Seen: d.Last, Detail: d.Detail})
	}
	r.Fabric = s.fabricReport()
	s.judgeBurnIns(&r)
	return r
}

func (s *site) nodeReport(n *inventory.Node, k provision.Node) acceptance.NodeReport {
	out := acceptance.NodeReport{Name: n.Name, Unit: n.Unit, Serial: n.Serial, Power: k.Power, State: string(k.State), Reason: k.Reason}
	if n.Rack != nil {
		out.Rack = n.Rack.Name
	}
	if n.Image != nil {
		out.Image = n.Image.Name
		if p, ok := k.Proofs[provision.Provisioned]; ok {
			out.Image += " " + p.Facets["image.digest"]
		}
	}
	if p, ok := k.Proofs[provision.Ready]; ok {
		out.Record = p.Evidence
	}
	out.History = s.keptProofs(k)
	last := time.Time{}
	for _, e := range k.History {
		span := acceptance.Span{State: string(e.State), Entered: e.At, Reason: e.Reason, Evidence: e.Evidence}
		if !last.IsZero() {
			span.Seconds = e.At.Sub(last).Seconds()
		}
		last = e.At
		if st, ok := provision.StageOf(e.State); ok && st.Activity != "" {
			span.Deadline = s.deadline(st).Seconds()
			if st.State == provision.Validated {
				span.Deadline += provision.FabricWindow(n).Seconds()
			}
			span.Attempts = k.Attempts[e.State]
		}
		span.Proof = s.proof(e.Evidence)
		out.History = append(out.History, span)
	}
	return out
}

// keptProofs are those that an earlier bring-up found and the last one did not
// have to seek anew.
func (s *site) keptProofs(k provision.Node) []acceptance.Span {
	var out []acceptance.Span
	for _, st := range provision.Chain {
		p, ok := k.Proofs[st.State]
		if !ok || len(k.History) == 0 || !p.At.Before(k.History[0].At) {
			continue
		}
		out = append(out, acceptance.Span{State: string(st.State), Entered: p.At, Evidence: p.Evidence, Proof: s.proof(p.Evidence)})
	}
	return out
}

func (s *site) deadline(st provision.Stage) time.Duration {
	if d, ok := s.Cluster.Settings.Deadlines[string(st.State)]; ok {
		return d
	}
	return st.Deadline
}

// proof is the evidence of a digest; nil when it is not a table of checks.
func (s *site) proof(digest string) *acceptance.Evidence {
	if digest == "" {
		return nil
	}
	raw, err := s.evidence().Get(digest)
	if err != nil {
		return nil
	}
	var ev acceptance.Evidence
	if json.Unmarshal(raw, &ev) != nil || ev.Checks == nil {
		return nil
	}
	return &ev
}

// signRecord is the engine's signer.
func signRecord(key ed25519.PrivateKey, r acceptance.Record) ([]byte, error) {
	signed, err := acceptance.Sign(key, r)
	if err != nil {
		return nil, err
	}
	return signed.JSON()
}
