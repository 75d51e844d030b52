package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"firstlight/provision/burnin/cuda"
)

const burnUsage = `firstlight-gpu burn: load one GPU and check every bit of what it does

usage: firstlight-gpu burn [-patience DURATION] <ORDER

The order is one JSON object; what comes of it is told as JSON lines. Standard
input stays open: its end stops the work, which is then reported. The exit code
is 0 when the order was carried out, whatever it found: read the events. It is 1
after an event "error", when the GPU could not be worked with.

examples, for ten seconds of exact products, and one sweep of the whole memory:
  (echo '{"version":1,"engine":"cuda","load":"gemm","seed":7,"seconds":10,"prove":true}'; sleep 60) | firstlight-gpu burn
  (echo '{"version":1,"engine":"cuda","load":"memory","seed":7}'; sleep 60) | firstlight-gpu burn

flags:
`

func burn(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("burn", flag.ContinueOnError)
	flags.SetOutput(stderr)
	patience := flags.Duration("patience", time.Minute, "how long one call of the CUDA driver may take before the GPU counts as hung")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), burnUsage)
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
	case flags.NArg() > 0 || *patience <= 0:
		flags.Usage()
		return exitUsage
	}
	if err := (cuda.Worker{Patience: *patience}).Serve(ctx, stdin, stdout); err != nil {
		fmt.Fprintln(stderr, "firstlight-gpu:", err)
		return exitFail
	}
	return exitOK
}
