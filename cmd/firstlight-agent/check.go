package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"

	"firstlight/provision/agent"
	"firstlight/provision/agent/boot"
)

const checkUsage = `firstlight-agent check: judge this machine's health; reads only

usage: firstlight-agent check [flags]

Every check has a reading, a threshold and the source of the threshold. Where
there are NVIDIA GPUs, firstlight-gpu, which lies beside the agent or in PATH,
reads them: a driver that hangs or crashes costs that and nothing else.

  -gpus 8   how many GPUs there should be; without, what a baseboard of the kind found carries
  -json     print JSON

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
	report := agent.NewCheckReport(ctx, fs, facts)
	code, known := map[string]int{"pass": exitOK, "not-run": exitNotRun}[report.Verdict()]
	if !known {
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
