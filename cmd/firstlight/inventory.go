package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"firstlight/images"
	"firstlight/inventory"
)

func (a *app) initCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a commented starter inventory",
		Long:  "Write a commented starter inventory. Files that exist are never overwritten.",
		Example: `  firstlight init racks/a
  firstlight validate racks/a`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.starter(dirArg(args, 0))
		},
	}
	c.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return c
}

func (a *app) starter(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	files := inventory.Starter(filepath.Base(abs))
	var names []string
	for name := range files {
		names = append(names, name)
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s exists already and is left alone; nothing was written", filepath.Join(dir, name))
		}
	}
	if old, _ := filepath.Glob(filepath.Join(dir, "*.hcl")); len(old) > 0 {
		return fmt.Errorf("%s holds an inventory already (%s); nothing was written", dir, filepath.Base(old[0]))
	}
	sort.Strings(names)
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, files[name], 0o644); err != nil {
			return err
		}
		if !a.json {
			fmt.Fprintln(a.stdout, "wrote", file)
		}
	}
	if a.json {
		return printJSON(a.stdout, map[string]any{"directory": dir, "files": names})
	}
	fmt.Fprintf(a.stdout, "next: edit them, then firstlight validate %s\n", dir)
	return nil
}

func (a *app) validateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "validate [DIR]",
		Short: "Check an inventory, offline",
		Long:  "Check an inventory without touching any machine. Every mistake is reported, not only the first. Exits 1 when there is an error.",
		Example: `  firstlight validate racks/a
  firstlight validate -json racks/a | jq .diagnostics`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.validate(dirArg(args, 0))
		},
	}
	a.inventoryFlags(c)
	return c
}

func (a *app) validate(dir string) error {
	cluster, src, diags := a.read(dir)
	diags = append(diags, imageMistakes(cluster)...)
	if a.json {
		found := inventory.Report(diags)
		if found == nil {
			found = []inventory.Diagnostic{}
		}
		if err := printJSON(a.stdout, map[string]any{"valid": !diags.HasErrors(), "diagnostics": found}); err != nil {
			return err
		}
	} else if len(diags) > 0 {
		src.WriteText(a.stderr, diags, colour(a.stderr), width(a.stderr))
	}
	if diags.HasErrors() {
		return &exit{code: 1}
	}
	if !a.json {
		nodes, racks := len(cluster.Nodes), len(cluster.Racks)
		fmt.Fprintf(a.stdout, "%s is valid: cluster %s, %d %s in %d %s\n", dir, cluster.Name,
			nodes, plural(nodes, "node", "nodes"), racks, plural(racks, "rack", "racks"))
	}
	return nil
}

// imageMistakes are those in the image.hcl of every declared image. What an
// inventory itself gets wrong about its images is not said again.
func imageMistakes(c *inventory.Cluster) hcl.Diagnostics {
	var diags hcl.Diagnostics
	if c == nil {
		return diags
	}
	for _, name := range slices.Sorted(maps.Keys(c.Images)) {
		img := c.Images[name]
		dir := img.Source
		diags = append(diags, digestMistake(c, img)...)
		if _, err := os.Stat(filepath.Join(dir, images.SpecFile)); err != nil {
			continue
		}
		_, more := images.ReadSpec(dir)
		diags = append(diags, more...)
	}
	return diags
}

// digestMistake is that an image's pinned digest is not what the catalogue has
// of it. An image that was never built has none to compare.
func digestMistake(c *inventory.Cluster, img *inventory.Image) hcl.Diagnostics {
	if img.Digest == "" {
		return nil
	}
	store := (&site{Cluster: c}).store()
	built, err := store.Manifest(img.Name)
	if err != nil || built.Digest() == img.Digest {
		return nil
	}
	return hcl.Diagnostics{{
		Severity: hcl.DiagWarning, Summary: "Another image digest", Subject: &img.DigestRange,
		Detail: fmt.Sprintf("Image %q pins %s, and its source gave %s when it was built last. `firstlight image build` builds it again; `apply` refuses while they differ.", img.Name, img.Digest, built.Digest()),
	}}
}

func (a *app) fmtCommand() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "fmt [DIR|FILE]",
		Short: "Rewrite inventory files in canonical form",
		Long:  "Rewrite inventory files in canonical form and print the names of those that changed. A file with a syntax error is reported and left alone.",
		Example: `  firstlight fmt racks/a
  firstlight fmt -check racks/a   # change nothing; exit 3 if something would`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.format(dirArg(args, 0), check)
		},
	}
	c.Flags().BoolVar(&check, "check", false, "change nothing; exit 3 if a file is not in canonical form")
	c.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return c
}

func (a *app) format(path string, check bool) error {
	files, err := hclFiles(path)
	if err != nil {
		return err
	}
	changed, broken := []string{}, []string{}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		out, diags := inventory.Format(src, file)
		if diags.HasErrors() {
			broken = append(broken, file)
			for _, d := range diags {
				if filepath.Ext(file) == ".flvars" {
					d.Detail = "The line is not shown here, because variable files hold secrets."
				}
				fmt.Fprintf(a.stderr, "firstlight: %s\n", d.Error())
			}
			continue
		}
		if bytes.Equal(src, out) {
			continue
		}
		changed = append(changed, file)
		if !check {
			if err := rewriteFile(file, out); err != nil {
				return err
			}
		}
	}
	if a.json {
		if err := printJSON(a.stdout, map[string]any{"changed": changed, "broken": broken}); err != nil {
			return err
		}
	} else if len(changed) > 0 {
		fmt.Fprintln(a.stdout, strings.Join(changed, "\n"))
	}
	switch {
	case len(broken) > 0:
		return &exit{code: 1}
	case check && len(changed) > 0:
		return &exit{code: 3}
	}
	return nil
}

// rewriteFile replaces the content of a file and keeps its mode. Of a link it
// is the file behind it that changes.
func rewriteFile(file string, content []byte) error {
	file, err := filepath.EvalSymlinks(file)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return writeFileAtomic(file, content, info.Mode().Perm())
}

// hclFiles are the native-syntax files of an inventory, its images and
// variable files included.
func hclFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != path && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !d.IsDir() && (filepath.Ext(p) == ".hcl" || filepath.Ext(p) == ".flvars"):
			files = append(files, p)
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = errors.New(path + ": no .hcl files here")
	}
	return files, err
}
