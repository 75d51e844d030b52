package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"firstlight/provision/burnin/nvml"
)

const healthUsage = `firstlight-gpu health: read the state of all GPUs

usage: firstlight-gpu health [-interval DURATION] [-limit DURATION] [-one-by-one]

It prints what the driver's management library (NVML) says of every GPU as one
JSON object, raw; firstlight-agent check judges it. A GPU whose calls hang is
named in "stuck", and the others are read. On standard error it tells of each
call before it makes it: the last line of a process that died says in which.
The exit code is 0 whatever was found: read the object.

example:
  firstlight-gpu health 2>/dev/null | jq '.gpus[] | {index, pci, links: .first.nvlinks_active}'

flags:
`

func health(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("health", flag.ContinueOnError)
	flags.SetOutput(stderr)
	interval := flags.Duration("interval", nvml.DefaultInterval, "time between the two readings of what counts")
	limit := flags.Duration("limit", nvml.DefaultLimit, "how long one call may take before it counts as hung")
	oneByOne := flags.Bool("one-by-one", false, "read one GPU after the other: slower, but a crash is in the call told of last")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), healthUsage)
		flags.PrintDefaults()
	}
	for _, a := range args {
		if a == "-h" || a == "-help" || a == "--help" {
			flags.SetOutput(stdout)
		}
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0 || *interval <= 0 || *limit <= 0:
		flags.Usage()
		return exitUsage
	}
	found := nvml.Read(nvml.Options{Interval: *interval, Limit: *limit, OneByOne: *oneByOne, Progress: stderr})
	if err := json.NewEncoder(stdout).Encode(found); err != nil {
		fmt.Fprintln(stderr, "firstlight-gpu:", err)
		return exitFail
	}
	return exitOK
}
