// Command firstlight-agent runs on a node. As PID 1 of the bring-up initramfs
// or of a node image it carries out the controller's orders; from a shell it
// inspects and checks the machine that it stands on.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"firstlight/provision/agent/boot"
)

func main() {
	if boot.IsInit(os.Args) {
		boot.Main(version())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK     = 0
	exitFail   = 1 // a check failed, or an error
	exitUsage  = 2
	exitNotRun = 3 // no check failed, but one could not be run
)

const usage = `firstlight-agent: what runs on a node

usage: firstlight-agent inspect [-json]   show what hardware this machine has
       firstlight-agent check [flags]     judge this machine's health; reads only
       firstlight-agent burnin [flags]    put the GPUs under load and check every result
       firstlight-agent version           print the version
       firstlight-agent --help            print this

check and burnin exit with 0 when every check passes, 1 when one fails, 3 when
none fails but one could not be run. firstlight-agent burnin -help has the flags.

As PID 1 (/init of the bring-up initramfs, /sbin/init of a node image) it
needs no verb and takes its orders from the controller named on the kernel
command line.

examples:
  firstlight-agent inspect -json | jq '.disks'
  firstlight-agent check || echo "do not hand this node over"
  firstlight-agent burnin -gpus 8 -soak 24h -state burnin.json
`

// run is the command without the process around it. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	verb, rest := "", args
	if len(args) > 0 {
		verb, rest = args[0], args[1:]
	}
	switch verb { // those with flags of their own
	case "check":
		return check(ctx, "/", rest, stdout, stderr)
	case "burnin":
		return burnIn(ctx, "/", rest, stdout, stderr)
	case "burn":
		return burnWorker(ctx, rest, stdin, stdout, stderr)
	}
	asJSON := false
	for _, a := range rest {
		switch a {
		case "-json", "--json":
			asJSON = true
		case "-h", "-help", "--help":
			verb = "help"
		default:
			fmt.Fprintf(stderr, "firstlight-agent %s: unknown argument %q; see firstlight-agent --help\n", verb, a)
			return exitUsage
		}
	}
	switch verb {
	case "inspect":
		return inspect(ctx, "/", asJSON, stdout, stderr)
	case "version", "-version", "--version":
		fmt.Fprintln(stdout, "firstlight-agent", version())
		return exitOK
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	case "":
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	fmt.Fprintf(stderr, "firstlight-agent: unknown verb %q; see firstlight-agent --help\n", verb)
	return exitUsage
}

// version is the module version or the revision that this was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			revision = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	if revision == "" {
		return info.Main.Version
	}
	return revision + dirty
}
