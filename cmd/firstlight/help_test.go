package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// TestHelp holds that every verb explains itself, with examples that it would
// understand, under -help, --help and help.
func TestHelp(t *testing.T) {
	root := (&app{}).root()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		path := strings.Fields(c.CommandPath())[1:]
		if c.Hidden || c.Name() == "help" || c.HasParent() && c.Parent().Name() == "completion" {
			return
		}
		t.Run(c.CommandPath(), func(t *testing.T) {
			var first string
			for _, args := range [][]string{append(path, "-help"), append(path, "--help"), append(path, "-h"), append([]string{"help"}, path...)} {
				out, errs, code := inProcess(t, args...)
				if code != 0 || errs != "" || !strings.Contains(out, "\nExamples:\n  ") || !strings.Contains(out, "\nUsage:\n  "+c.CommandPath()) {
					t.Errorf("%q exits %d with stderr %q and says:\n%s\nwant 0, usage and examples", args, code, errs, out)
				}
				if regexp.MustCompile(` --\w`).MatchString(out) {
					t.Errorf("%q shows flags with two dashes:\n%s", args, out)
				}
				if first == "" {
					first = out
				}
				if diff := cmp.Diff(first, out); diff != "" {
					t.Errorf("%q differs from -help (-was +is):\n%s", args, diff)
				}
			}
		})
		t.Run(c.CommandPath()+" examples", func(t *testing.T) {
			for line := range strings.SplitSeq(c.Example, "\n") {
				understood(t, "example", line)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// understood holds that a line of shell names verbs and flags that exist, with
// as many arguments as they take.
func understood(t *testing.T, where, line string) {
	t.Helper()
	line, _, _ = strings.Cut(line, " #")
	for _, command := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("|&;()", r) }) {
		command, _, _ = strings.Cut(command, " > ") // a file for the output is the shell's affair
		words := shellWords(command)
		if len(words) > 0 && words[0] == "$" {
			words = words[1:]
		}
		if len(words) < 2 || words[0] != "firstlight" && words[0] != "bin/firstlight" {
			continue
		}
		root := (&app{}).root()
		sub, rest, err := root.Find(doubleDashes(words[1:]))
		if err == nil && sub == root {
			err = errors.New("no such verb")
		}
		if err == nil {
			err = sub.ParseFlags(rest)
		}
		// A verb by itself, in a sentence, only names it.
		if err == nil && len(sub.Flags().Args()) > 0 {
			err = sub.ValidateArgs(sub.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: %q: %v", where, strings.TrimSpace(command), err)
		}
	}
}

// shellWords splits a command where quotes are whole words.
func shellWords(command string) []string {
	var out []string
	for _, w := range regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`).FindAllString(command, -1) {
		out = append(out, strings.Trim(w, `"'`))
	}
	return out
}

// TestDocumentedCommands holds that every firstlight command in README, docs
// and the examples' own pages is one: in blocks, and in code spans.
func TestDocumentedCommands(t *testing.T) {
	span := regexp.MustCompile("`(firstlight [^`]+)`")
	var pages []string
	for _, pattern := range []string{"README.md", "docs/*.md", "examples/*/README.md"} {
		found, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v; want pages", pattern, found, err)
		}
		pages = append(pages, found...)
	}
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		fenced := false
		for line := range strings.SplitSeq(string(raw), "\n") {
			switch {
			case strings.HasPrefix(line, "```"):
				fenced = !fenced
			case fenced || strings.HasPrefix(line, "    "):
				understood(t, page, line)
			default:
				for _, m := range span.FindAllStringSubmatch(line, -1) {
					understood(t, page, m[1])
				}
			}
		}
	}
}

// TestDocumentedPlans holds the plan lines of README and docs against what plan
// prints for that example now.
func TestDocumentedPlans(t *testing.T) {
	command := regexp.MustCompile(`(?m)^ *\$ firstlight plan (examples/\S+)$`)
	for _, page := range []string{"../../README.md", "../../docs/operations.md"} {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		for _, m := range command.FindAllStringSubmatchIndex(text, -1) {
			dir := text[m[2]:m[3]]
			shown, _, _ := strings.Cut(text[m[1]:], "$ firstlight")
			_, shown, ok := strings.Cut(shown, "Plan: ")
			if !ok {
				continue // it shows that there is nothing to do
			}
			shown, _, _ = strings.Cut(shown, "\n")
			copied := filepath.Join(t.TempDir(), "site")
			if err := os.CopyFS(copied, withoutState{os.DirFS(filepath.Join("../..", dir))}); err != nil {
				t.Fatal(err)
			}
			out, errs, code := inProcess(t, "plan", copied)
			if code != 0 || !strings.Contains(out, "Plan: "+shown+"\n") {
				t.Errorf("%s shows %q for %s; plan exits %d and prints:\n%s%s", page, "Plan: "+shown, dir, code, out, errs)
			}
		}
	}
}
