package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/agent"
	"firstlight/provision/agent/boot"
)

const checkUsage = `firstlight-agent check: judge this machine's health; reads only

usage: firstlight-agent check [flags]

Every check has a reading, a threshold and the source of the threshold. Where
there are NVIDIA GPUs, firstlight-gpu, which lies beside the agent or in PATH,
reads them: a driver that hangs or crashes costs that and nothing else.

  -gpus 8      how many GPUs there should be; without, what a baseboard of the kind found carries
  -json        print JSON
  -junit FILE  write JUnit XML for a CI

It exits with 0 when every check passes, 1 when one fails, 3 when none fails
but one could not be run.

examples:
  firstlight-agent check
  firstlight-agent check -gpus 8 -json | jq '.checks[] | select(.verdict != "pass")'
`

// check prints the health of fs. In a node that firstlight booted, the boot's
// own facts are at hand.
func check(ctx context.Context, fs agent.FS, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "")
	gpus := flags.Int("gpus", 0, "")
	junit := flags.String("junit", "", "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, checkUsage)
		return exitOK
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unknown argument %q", flags.Arg(0))
	case err == nil && *gpus < 0:
		err = errors.New("-gpus is a number of GPUs")
	}
	if err != nil {
		fmt.Fprintf(stderr, "firstlight-agent check: %v; see firstlight-agent check -help\n", err)
		return exitUsage
	}
	facts, err := boot.ReadFacts(string(fs))
	if err != nil {
		fmt.Fprintf(stderr, "firstlight-agent check: %v\n", err)
		return exitFail
	}
	facts.ReadGPUs = agent.GPUHealth
	facts.GPUs.Count, facts.GPUs.Source = *gpus, "command line"
	began := time.Now()
	report := agent.NewCheckReport(ctx, fs, facts)
	code, known := map[string]int{"pass": exitOK, "not-run": exitNotRun}[report.Verdict()]
	if !known {
		code = exitFail
	}
	if err := writeJUnit(*junit, report, began); err != nil {
		fmt.Fprintf(stderr, "firstlight-agent check: %v\n", err)
		code = exitFail
	}
	if *asJSON {
		if failed := printJSON(report, stdout, stderr); failed != exitOK {
			return failed
		}
		return code
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, c := range report.Checks {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s (want %s)\n", c.Verdict, c.Name, c.Part, c.Reading, c.Threshold)
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(stderr, "firstlight-agent:", err)
		return exitFail
	}
	return code
}

// writeJUnit writes the checks for a CI, where a file is named.
func writeJUnit(file string, report agent.CheckReport, began time.Time) error {
	if file == "" {
		return nil
	}
	var checks []acceptance.Check
	for _, c := range report.Checks {
		checks = append(checks, acceptance.Check{Name: c.Name, Verdict: acceptance.Verdict(c.Verdict), Reading: c.Reading, Threshold: c.Threshold, Source: c.Source, Part: c.Part})
	}
	var buf bytes.Buffer
	if err := acceptance.WriteChecksJUnit(&buf, "node checks", "check", checks, began, time.Since(began)); err != nil {
		return err
	}
	return os.WriteFile(file, buf.Bytes(), 0o644)
}
