package acceptance

import (
	"fmt"
	"strings"
	"time"
)

// FabricReport is what the last reading of the fabric found. It is no evidence of
// a node: it may be younger than that, and older than the report.
type FabricReport struct {
	Read     time.Time       `json:"read"`
	Source   string          `json:"source"`               // what it was read through
	Complete bool            `json:"complete"`             // all of it answered
	Why      string          `json:"incomplete,omitempty"` // why it is not complete
	Summary  map[string]int  `json:"summary"`              // switches, hcas, links, findings
	Findings []FabricFinding `json:"findings"`
	NotRead  []string        `json:"not_read,omitempty"` // what could not be judged
	Picture  string          `json:"-"`                  // an HTML page; "": none was drawn
}

// FabricFinding is one thing to do about the fabric, as firstlight fabric verify
// prints it.
type FabricFinding struct {
	Class      string       `json:"class"`
	Severity   string       `json:"severity"`
	Node       string       `json:"node"`
	Nodes      []string     `json:"nodes"` // those that it concerns
	Ports      []FabricPort `json:"ports"`
	Declared   string       `json:"declared"`
	Found      string       `json:"found"`
	DeclaredAt string       `json:"declared_at"`
	Action     string       `json:"action"`
	Message    string       `json:"message"`
}

// FabricPort is a port as an engineer finds it.
type FabricPort struct {
	Name  string `json:"name"`
	Port  string `json:"port"`
	Rack  string `json:"rack"`
	Unit  int    `json:"unit"`
	Label string `json:"label"`
}

// severityError is that of a finding by which traffic does not flow as planned.
const severityError = "error"

// Where is where to go: "a01 u41".
func (f FabricFinding) Where() string {
	if len(f.Ports) == 0 || f.Ports[0].Rack == "" {
		return ""
	}
	if p := f.Ports[0]; p.Unit > 0 {
		return fmt.Sprintf("%s u%d", p.Rack, p.Unit)
	}
	return f.Ports[0].Rack
}

// Error reports a finding that is more than a warning.
func (f FabricFinding) Error() bool { return f.Severity == severityError }

// Concerned names the nodes, as far as there is room.
func (f FabricFinding) Concerned() string {
	const most = 4
	if len(f.Nodes) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(f.Nodes[:most], ", "), len(f.Nodes)-most)
	}
	return strings.Join(f.Nodes, ", ")
}

// of are the findings that concern a node.
func (f *FabricReport) of(node string) (out []FabricFinding) {
	if f == nil {
		return nil
	}
	for _, finding := range f.Findings {
		for _, n := range finding.Nodes {
			if n == node {
				out = append(out, finding)
			}
		}
	}
	return out
}

// junit makes a suite of the fabric: a case for its reading, and one for each
// finding. A warning is a case that was skipped.
func (f *FabricReport) junit() junitSuite {
	s := junitSuite{Name: "fabric", Time: "0.000", Timestamp: f.Read.UTC().Format("2006-01-02T15:04:05")}
	read := junitCase{Class: "fabric", Name: "read from " + orNone(f.Source), Time: "0.000"}
	if !f.Complete {
		read.Skipped = &junitSkipped{Message: "not run: read only in part: " + orNone(f.Why)}
	}
	s.Cases = append(s.Cases, read)
	for _, finding := range f.Findings {
		c := junitCase{Class: "fabric." + finding.Class, Name: finding.Message, Time: "0.000"}
		if finding.Error() {
			c.Failure = &junitFailure{Message: finding.Action, Text: finding.Message + "\n" + finding.Action + "\n"}
		} else {
			c.Skipped = &junitSkipped{Message: "warning: " + finding.Message + ": " + finding.Action}
		}
		s.Cases = append(s.Cases, c)
	}
	s.count()
	return s
}
