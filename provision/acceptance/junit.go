package acceptance

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Skipped   int         `xml:"skipped,attr"`
	Time      string      `xml:"time,attr"`
	Timestamp string      `xml:"timestamp,attr,omitempty"`
	Cases     []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
	Skipped *junitSkipped `xml:"skipped"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

// WriteJUnit writes the report for CI: a suite per node, a case per state with
// the time it took, one per check, and one, "node ready", for the outcome. A
// check that was not run is skipped, never passed.
func (r Report) WriteJUnit(w io.Writer) error {
	out := junitSuites{Name: r.Cluster}
	if r.Lab {
		out.Name += " (LAB)"
	}
	var suites []junitSuite
	for _, n := range r.Nodes {
		suites = append(suites, n.junit())
	}
	if r.Fabric != nil {
		suites = append(suites, r.Fabric.junit())
	}
	if r.BurnIn != nil {
		suites = append(suites, r.BurnIn.junit(r.Made))
	}
	for _, s := range suites {
		out.Suites = append(out.Suites, s)
		out.Tests += s.Tests
		out.Failures += s.Failures
		out.Skipped += s.Skipped
	}
	return writeSuites(w, out)
}

func (n NodeReport) junit() junitSuite {
	s := junitSuite{Name: n.Name}
	total := 0.0
	for i, span := range n.History {
		if i == 0 {
			s.Timestamp = span.Entered.UTC().Format("2006-01-02T15:04:05")
		}
		total += span.Seconds
		c := junitCase{Class: n.Name, Name: "state " + span.State, Time: fmt.Sprintf("%.3f", span.Seconds)}
		if span.State == stateFailed || span.State == stateQuarantined {
			c.Failure = &junitFailure{Message: span.Reason}
		}
		s.Cases = append(s.Cases, c)
		if span.Proof != nil {
			for _, check := range span.Proof.Checks {
				s.Cases = append(s.Cases, check.junit(n.Name+"."+span.Proof.State))
			}
		}
	}
	outcome := junitCase{Class: n.Name, Name: "node ready", Time: "0.000"}
	switch {
	case n.State == stateReady:
	case n.Failed():
		outcome.Failure = &junitFailure{Message: strings.TrimSuffix(n.State+": "+n.Reason, ": ")}
	default:
		outcome.Skipped = &junitSkipped{Message: strings.TrimSuffix("not finished: "+n.State+": "+n.Reason, ": ")}
	}
	s.Cases = append(s.Cases, outcome)
	s.Time = fmt.Sprintf("%.3f", total)
	s.count()
	return s
}

// count adds up the cases.
func (s *junitSuite) count() {
	s.Tests = len(s.Cases)
	for _, c := range s.Cases {
		if c.Failure != nil {
			s.Failures++
		}
		if c.Skipped != nil {
			s.Skipped++
		}
	}
}

func (c Check) junit(class string) junitCase {
	out := junitCase{Class: class, Name: c.Name, Time: "0.000"}
	if c.Part != "" {
		out.Name += " (" + c.Part + ")"
	}
	message := fmt.Sprintf("found %s, required %s (%s)", orNone(c.Reading), orNone(c.Threshold), orNone(c.Source))
	switch c.Verdict {
	case Pass:
	case NotApplicable:
		out.Skipped = &junitSkipped{Message: "not applicable: " + orNone(c.Reading)}
	case Fail:
		out.Failure = &junitFailure{Message: c.Part + ": " + message, Text: "Check " + c.Name + ": " + message + "\nLook at: " + c.Part + "\n"}
	default:
		out.Skipped = &junitSkipped{Message: "not run: " + message}
	}
	return out
}

// WriteChecksJUnit writes the checks of one run for CI: a suite with a case for
// each. A check that was not run is skipped, never passed.
func WriteChecksJUnit(w io.Writer, name, class string, checks []Check, began time.Time, took time.Duration) error {
	s := junitSuite{Name: name, Time: fmt.Sprintf("%.3f", took.Seconds()), Timestamp: began.UTC().Format("2006-01-02T15:04:05")}
	for _, c := range checks {
		s.Cases = append(s.Cases, c.junit(class))
	}
	s.count()
	return writeSuites(w, junitSuites{Name: name, Tests: s.Tests, Failures: s.Failures, Skipped: s.Skipped, Suites: []junitSuite{s}})
}

func writeSuites(w io.Writer, out junitSuites) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(out); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	return nil
}
