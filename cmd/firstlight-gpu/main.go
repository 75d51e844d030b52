// Command firstlight-gpu works with a node's NVIDIA GPUs through the libraries
// of their driver. It is a program of its own, linked to the C library, so that
// firstlight-agent needs none; the agent starts it, once for each GPU or once for
// all, and reads what it tells.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitOK    = 0
	exitFail  = 1 // the GPU failed, or an error
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `firstlight-gpu: what works with a node's GPUs, for firstlight-agent

usage: firstlight-gpu burn     carry out an order, one JSON object on standard input
       firstlight-gpu health   read the state of all GPUs, as one JSON object
       firstlight-gpu --help   print this

firstlight-gpu burn -help says what an order is, firstlight-gpu health -help what is read.
`

// run is the command without the process around it. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	verb, rest := "", args
	if len(args) > 0 {
		verb, rest = args[0], args[1:]
	}
	switch verb {
	case "burn":
		return burn(ctx, rest, stdin, stdout, stderr)
	case "health":
		return health(rest, stdout, stderr)
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	fmt.Fprint(stderr, usage)
	return exitUsage
}
