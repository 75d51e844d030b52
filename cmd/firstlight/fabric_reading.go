package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"firstlight/fabric"
	"firstlight/inventory"
	"firstlight/provision/acceptance"
)

// fabricReading is the last reading of the fabric, as it lies beside the journal
// for the verbs that tell. It is no proof: those are evidence.
type fabricReading struct {
	Read     time.Time      `json:"read"`
	Source   string         `json:"source"`
	Complete bool           `json:"complete"`
	Why      string         `json:"incomplete,omitempty"` // why it is not complete
	Summary  map[string]int `json:"summary"`
	Findings []keptFinding  `json:"findings"`
	NotRead  []string       `json:"not_read"`
}

// keptFinding is a finding with the nodes that it concerns.
type keptFinding struct {
	fabric.Finding
	Nodes []string `json:"nodes"`
}

// Places in .firstlight/fabric.
const (
	readingFile = "reading.json"
	pictureFile = "picture.html"
)

// readingOf is a reading as it is kept.
func readingOf(read *readFabric, j *fabric.Judged, at time.Time) *fabricReading {
	r := &fabricReading{Read: at.UTC(), Source: read.from, Complete: read.err == nil, Summary: verdictSummary(j.Verdict), Findings: []keptFinding{}, NotRead: j.NotRead}
	if read.err != nil {
		r.Why = read.err.Error()
	}
	for i, f := range j.Findings {
		nodes := j.Nodes[i]
		if nodes == nil {
			nodes = []string{}
		}
		r.Findings = append(r.Findings, keptFinding{f, nodes})
	}
	return r
}

// of are the findings that concern a node, by their number in the reading. A nil
// reading has none.
func (r *fabricReading) of(node string) (out []keptFinding) {
	if r == nil {
		return nil
	}
	for _, f := range r.Findings {
		for _, n := range f.Nodes {
			if n == node {
				out = append(out, f)
			}
		}
	}
	return out
}

// keep writes a reading to the state directory.
func (r *fabricReading) keep(s *site) error {
	dir, err := s.mkdir("fabric")
	if err != nil {
		return err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFileAtomic(filepath.Join(dir, readingFile), raw, 0o600)
}

// keepPicture draws the fabric for the report.
func keepPicture(s *site, p fabric.Picture) error {
	dir, err := s.mkdir("fabric")
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := fabric.WritePicture(&page, p); err != nil {
		return err
	}
	return writeFileAtomic(filepath.Join(dir, pictureFile), page.Bytes(), 0o600)
}

// reading is the last reading that was kept; nil without one.
func (s *site) reading() (*fabricReading, error) {
	file := s.path("fabric", readingFile)
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r fabricReading
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%s: damaged: %w; firstlight fabric verify writes a new one", file, err)
	}
	return &r, nil
}

// keepReading keeps what fabric verify read, where nodes are brought up from
// here. Of nodes that were not brought up yet nothing has to be seen. That it
// cannot be kept is no fault of the verb.
func (a *app) keepReading(ctx context.Context, s *site, read *readFabric, declared *fabric.Declared, fabrics []*inventory.Fabric) {
	if _, err := os.Stat(s.path()); err != nil {
		return
	}
	known, err := s.known(ctx)
	if err == nil {
		what := knownOf(s.Cluster, known)
		j := declared.Judge(read.Observed, what)
		err = errors.Join(readingOf(read, j, time.Now()).keep(s), keepPicture(s, read.pictureOf(s, j.Verdict, fabrics, declared, what)))
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "firstlight: not kept for status and report: %v\n", err)
	}
}

// fabricCell is what the last reading found of a node: "swapped-pair", or a number.
func fabricCell(findings []nodeFinding) string {
	switch len(findings) {
	case 0:
		return "-"
	case 1:
		return string(findings[0].Class)
	}
	return fmt.Sprintf("%d findings", len(findings))
}

// toldFindings is how many findings status prints.
const toldFindings = 20

// printReading tells what the last reading of the fabric found.
func (a *app) printReading(r *fabricReading) {
	part := ""
	if !r.Complete {
		part = ", and only in part (" + r.Why + ")"
	}
	v := fabric.Verdict{}
	for _, f := range r.Findings {
		v.Findings = append(v.Findings, f.Finding)
	}
	fmt.Fprintf(a.stdout, "\nfabric: read %s ago from %s%s: %s\n", about(time.Since(r.Read)), r.Source, part, findingCount(v, "nothing found"))
	for i, f := range r.Findings {
		if i == toldFindings {
			fmt.Fprintf(a.stdout, "  and %d more: firstlight fabric verify, or status -json\n", len(r.Findings)-i)
			break
		}
		fmt.Fprintf(a.stdout, "  %s  %s\n      %s\n", f.Class, f.Message, f.Action)
	}
}

// fabricReport is the last reading as the report has it, with its picture; nil
// without one. One that is damaged is left out: the report is of the nodes.
func (s *site) fabricReport() *acceptance.FabricReport {
	r, err := s.reading()
	if err != nil || r == nil {
		return nil
	}
	out := &acceptance.FabricReport{Read: r.Read, Source: r.Source, Complete: r.Complete, Why: r.Why, Summary: r.Summary, NotRead: r.NotRead, Findings: []acceptance.FabricFinding{}}
	for _, f := range r.Findings {
		kept := acceptance.FabricFinding{Class: string(f.Class), Severity: string(f.Severity), Node: f.Node, Nodes: f.Nodes, Declared: f.Declared, Found: f.Found,
			DeclaredAt: f.DeclaredAt, Action: f.Action, Message: f.Message, Ports: []acceptance.FabricPort{}}
		for _, p := range f.Ports {
			kept.Ports = append(kept.Ports, acceptance.FabricPort(p))
		}
		out.Findings = append(out.Findings, kept)
	}
	if page, err := os.ReadFile(s.path("fabric", pictureFile)); err == nil {
		out.Picture = string(page)
	}
	return out
}
