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
	exclude        []string
	replace        []string
	burn           bool // plans burn nodes in, and do nothing else
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
	root.AddCommand(a.initCommand(), a.importCommand(), a.validateCommand(), a.fmtCommand(), a.planCommand(), a.applyCommand(), a.burninCommand(), a.showCommand(),
		a.statusCommand(), a.consoleCommand(), a.powerCommand(), a.imageCommand(), a.labCommand(), a.reportCommand(),
		a.quarantineCommand(), a.releaseCommand(), a.fabricCommand(), a.bmcCommand(), a.versionCommand())
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Example = "  source <(firstlight completion bash)"
		}
	}
	sayWhatWasMeant(root)
	singleDashUsage(root)
	return root
}

// dirArg is the inventory directory: the last argument, or the current one.
func dirArg(args []string, before int) string {
	if len(args) > before {
		return args[len(args)-1]
	}
	return "."
}

// inventoryFlags adds the flags of every verb that reads an inventory, and the
// completion of its directory where the verb has none of its own.
func (a *app) inventoryFlags(c *cobra.Command) {
	if c.ValidArgs == nil && c.ValidArgsFunction == nil {
		c.ValidArgsFunction = completeDirs
	}
	f := c.Flags()
	f.BoolVar(&a.json, "json", false, "print JSON")
	f.StringArrayVar(&a.vars, "var", nil, "set a variable, as `NAME=VALUE`; may be given again")
	f.StringArrayVar(&a.varFiles, "var-file", nil, "read variables from a `FILE`; may be given again")
}

// targetFlag adds -target and -exclude to a verb that can be narrowed.
func (a *app) targetFlag(c *cobra.Command) {
	// Arrays, not slices: hnode[001-003,007] is one value.
	c.Flags().StringArrayVar(&a.targets, "target", nil, "only these `NODES`: names, ranges (hnode[001-064,070]), rack=a01, hardware=h200x8, image=compute; may be given again")
	c.Flags().StringArrayVar(&a.exclude, "exclude", nil, "not these `NODES`, written as for -target; may be given again")
	a.completeNodeFlags(c, "target", "exclude")
}

// replaceFlag adds -replace to a verb that plans.
func (a *app) replaceFlag(c *cobra.Command) {
	c.Flags().StringArrayVar(&a.replace, "replace", nil, "prove these `NODES` anew from the BMC up, written as for -target; may be given again")
	a.completeNodeFlags(c, "replace")
}

func (a *app) completeNodeFlags(c *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := c.RegisterFlagCompletionFunc(f, a.completeTargets); err != nil {
			panic(err) // the flag was defined on the line before
		}
	}
}
