// Command firstlight takes racks of GPU nodes from bare metal to ready: it
// reads an inventory, plans, and brings nodes up through their BMCs and its own
// boot services.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-ctx.Done()
		stop() // a second Ctrl-C ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// app is what every verb has at hand.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool
	vars           []string
	varFiles       []string
	targets        []string
	entered        bool // this process was started anew inside the lab's namespace
}

// exit is an error that sets the exit status; quiet ones were said already.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// run is main without the process: results to stdout, errors to stderr, the
// exit status as its value.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, entered: os.Getenv(enteredEnv) != ""}
	root := a.root()
	root.SetArgs(doubleDashes(args))
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var ex *exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ex) && ex.err == nil:
		return ex.code
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "firstlight: interrupted; what was done is recorded, run the same command again to go on")
		return 130
	}
	fmt.Fprintln(stderr, "firstlight:", err)
	if ex != nil {
		return ex.code
	}
	return 1
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "firstlight",
		Short: "Bring racks of GPU nodes from bare metal to ready",
		Long: `firstlight takes racks of GPU nodes from bare metal to a verified,
training-ready state. An inventory in HCL says what the racks should be.`,
		Example: `  firstlight init racks/a         # write a starter inventory
  firstlight validate racks/a     # check it, offline
  firstlight plan racks/a         # what apply would do, and why
  firstlight apply racks/a        # do it
  firstlight status racks/a       # where every node stands
  firstlight report racks/a       # the evidence, as a page`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(a.initCommand(), a.validateCommand(), a.fmtCommand(), a.planCommand(), a.applyCommand(), a.showCommand(),
		a.statusCommand(), a.consoleCommand(), a.powerCommand(), a.imageCommand(), a.labCommand(), a.reportCommand(),
		a.quarantineCommand(), a.releaseCommand(), a.versionCommand())
	singleDashUsage(root)
	return root
}

// doubleDashes lets flags be written with one dash (-json) as well as two:
// no flag here has a one-letter form but -h and -o.
func doubleDashes(args []string) []string {
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if len(arg) > 2 && arg[0] == '-' && arg[1] != '-' {
			arg = "-" + arg
		}
		out = append(out, arg)
	}
	return out
}

// singleDashUsage prints flags the way the documents write them.
func singleDashUsage(root *cobra.Command) {
	standard := root.UsageFunc()
	root.SetUsageFunc(func(c *cobra.Command) error {
		var b strings.Builder
		was := c.OutOrStderr()
		c.SetOut(&b)
		c.SetErr(&b)
		err := standard(c)
		c.SetOut(was)
		c.SetErr(was)
		text := strings.ReplaceAll(b.String(), "      --", "  -")
		text = strings.ReplaceAll(text, "  -h, --help", "  -help")
		fmt.Fprint(was, strings.ReplaceAll(text, " --help\"", " -help\""))
		return err
	})
}

// dirArg is the inventory directory: the last argument, or the current one.
func dirArg(args []string, before int) string {
	if len(args) > before {
		return args[len(args)-1]
	}
	return "."
}

// inventoryFlags adds the flags of every verb that reads an inventory.
func (a *app) inventoryFlags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&a.json, "json", false, "print JSON")
	f.StringArrayVar(&a.vars, "var", nil, "set a variable, NAME=VALUE; may be given again")
	f.StringArrayVar(&a.varFiles, "var-file", nil, "read variables from a file; may be given again")
}

// targetFlag adds -target to a verb that can be narrowed.
func (a *app) targetFlag(c *cobra.Command) {
	c.Flags().StringSliceVar(&a.targets, "target", nil, "only these nodes: names, ranges (hnode[001-064]), rack=a01; may be given again")
}
