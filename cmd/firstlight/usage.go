package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// doubleDashes lets flags be written with one dash (-json, -o) as well as two:
// no flag here has a short form of another name but -h.
func doubleDashes(args []string) []string {
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if len(arg) > 1 && arg[0] == '-' && arg[1] != '-' && arg != "-h" {
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
		text := b.String()
		if c.HasSubCommands() { // run by itself it only prints this
			text = strings.Replace(text, "  "+c.UseLine()+"\n", "", 1)
		}
		text = strings.ReplaceAll(text, "      --", "  -")
		text = strings.ReplaceAll(text, "  -o, --o ", "  -o ") // completion finds one letter only as a short form
		text = strings.ReplaceAll(text, "  -h, --help", "  -help")
		fmt.Fprint(was, strings.ReplaceAll(text, " --help\"", " -help\""))
		return err
	})
}

// sayWhatWasMeant makes every mistake on the command line into one line that
// says what is wrong and what was probably meant, for all verbs.
func sayWhatWasMeant(c *cobra.Command) {
	c.DisableFlagsInUseLine = true
	c.SetFlagErrorFunc(flagMistake)
	if c.HasSubCommands() {
		c.Args = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return verbMistake(c, args[0])
			}
			return nil
		}
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	} else if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if check(c, args) == nil {
				return nil
			}
			return fmt.Errorf("%s was given %d %s; usage: %s; examples: %s -help", verbOf(c), len(args),
				plural(len(args), "argument", "arguments"), c.UseLine(), c.CommandPath())
		}
	}
	for _, sub := range c.Commands() {
		sayWhatWasMeant(sub)
	}
}

// verbOf is a command's name without the program's: "image list".
func verbOf(c *cobra.Command) string { return strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ") }

func verbMistake(c *cobra.Command, verb string) error {
	var verbs []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			verbs = append(verbs, sub.Name())
		}
	}
	path := ""
	if c.HasParent() {
		path = verbOf(c) + " "
	}
	if meant := closest(verb, verbs); meant != "" {
		return fmt.Errorf("unknown command %q; did you mean %q?", path+verb, path+meant)
	}
	return fmt.Errorf("unknown command %q; there are %s", path+verb, strings.Join(verbs, ", "))
}

func flagMistake(c *cobra.Command, err error) error {
	if rest := c.Flags().Args(); c.HasSubCommands() && len(rest) > 0 {
		return verbMistake(c, rest[0]) // its flags are unknown because the verb is
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var flags []string
		c.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
		name := unknown.GetSpecifiedName()
		if meant := closest(name, flags); meant != "" {
			return fmt.Errorf("%s has no flag -%s; did you mean -%s?", verbOf(c), name, meant)
		}
		return fmt.Errorf("%s has no flag -%s; see %s -help", verbOf(c), name, c.CommandPath())
	}
	var bare *pflag.ValueRequiredError
	if errors.As(err, &bare) {
		return fmt.Errorf("-%s needs a value; see %s -help", bare.GetSpecifiedName(), c.CommandPath())
	}
	return errors.New(strings.ReplaceAll(err.Error(), "--", "-"))
}

// closest is the name that was probably meant, or "".
func closest(given string, names []string) string {
	best, least := "", 3 // at most two letters apart, and not every letter
	for _, name := range names {
		d := levenshtein.Distance(given, name, nil)
		if strings.HasPrefix(name, given) && given != "" {
			d = min(d, 1)
		}
		if d < least && d < len(name) {
			best, least = name, d
		}
	}
	return best
}

// completeDirs completes a verb's one argument, the inventory directory.
func completeDirs(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeNodes completes a first argument that names nodes, of the inventory
// in the current directory, and then the directory.
func (a *app) completeNodes(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return completeDirs(c, args[1:], typed)
	}
	nodes, _ := a.namesIn(".")
	return nodes, cobra.ShellCompDirectiveNoFileComp
}

// completeShow completes a node or a file with a saved plan.
func (a *app) completeShow(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.completeNodes(c, args, typed)
	if len(args) == 0 {
		directive = cobra.ShellCompDirectiveDefault
	}
	return names, directive
}

// completePower completes what is done to the power, and then the directory.
func completePower(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return []string{"on", "off", "soft", "cycle", "reset", "status"}, cobra.ShellCompDirectiveNoFileComp
	}
	return completeDirs(c, args[1:], typed)
}

// completeTargets completes flags that name nodes from the directory given, or
// the current one.
func (a *app) completeTargets(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	nodes, others := a.namesIn(dirArg(args, 0))
	return append(nodes, others...), cobra.ShellCompDirectiveNoFileComp
}

// namesIn are the nodes of an inventory and what else selects nodes of it; none
// where there is no good one.
func (a *app) namesIn(dir string) (nodes, others []string) {
	cluster, _, diags := a.read(dir)
	if diags.HasErrors() {
		return nil, nil
	}
	for _, n := range cluster.Nodes {
		nodes = append(nodes, n.Name)
	}
	return nodes, cluster.Selectors()
}
