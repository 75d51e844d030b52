package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"firstlight/fabric"
	"firstlight/inventory"
	"firstlight/inventory/importer"
)

// importFlags are the flags of the import verb.
type importFlags struct {
	assets, fabric, hardware, image, cluster string
	columns                                  []string
}

func (a *app) importCommand() *cobra.Command {
	var in importFlags
	c := &cobra.Command{
		Use:   "import [DIR]",
		Short: "Write an inventory from an asset list and a fabric dump",
		Long: `Write a first inventory from what a site has: a CSV of its machines, and what
ibnetdiscover prints of its running fabric. Either alone will do. What is in
neither is left out, or guessed and marked so. Files that exist are never
overwritten.

The asset list is separated by commas, semicolons or tabs. Its columns are
known by their headers, in many spellings; what is not clear is asked for by
-column. Needed are the host name, the BMC's address and the boot NIC's MAC
address. Known besides are serial number, rack, rack unit, address, model, BMC
MAC address and the GUIDs of adapters ("mlx5_0 GUID").

The fabric is the output of ibnetdiscover or of ibnetdiscover -p; where rails are
fabrics of their own, the outputs of all, one behind the other. A fabric alone
gives switches and cables, and nodes.todo.csv: an asset list to fill in.`,
		Example: `  firstlight import -assets machines.csv racks/a
  firstlight import -assets machines.csv -column serial=S/N racks/a
  ibnetdiscover > fabric.txt; firstlight import -assets machines.csv -fabric fabric.txt racks/a
  ssh head ibnetdiscover | firstlight import -fabric - racks/a
  firstlight import -assets machines.csv -hardware racks/b/hardware.hcl -image images/compute racks/a`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeDirs,
		RunE: func(c *cobra.Command, args []string) error {
			return a.importInto(dirArg(args, 0), in)
		},
	}
	f := c.Flags()
	f.StringVar(&in.assets, "assets", "", "CSV `FILE` of machines; - is standard input")
	f.StringVar(&in.fabric, "fabric", "", "`FILE` with the output of ibnetdiscover, with or without -p; - is standard input")
	f.StringArrayVar(&in.columns, "column", nil, "which column of the asset list is what, as `NAME=HEADER`; an empty HEADER leaves it out; may be given again")
	f.StringVar(&in.hardware, "hardware", "", "HCL `FILE` with the hardware blocks of the nodes, and an acceptance block; they are taken over")
	f.StringVar(&in.cluster, "cluster", "", "`NAME` of the cluster; by default that of the directory")
	f.StringVar(&in.image, "image", "", "`DIR` of an image that there is already; by default a starter's is written")
	f.BoolVar(&a.json, "json", false, "print JSON")
	complete := map[string]func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective){
		"column": func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var out []string
			for _, n := range importer.ColumnNames() {
				out = append(out, n+"=")
			}
			return out, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
		},
		"image": completeDirs, "cluster": cobra.NoFileCompletions,
	}
	for name, fn := range complete {
		if err := c.RegisterFlagCompletionFunc(name, fn); err != nil {
			panic(err) // the flag was defined above
		}
	}
	return c
}

func (a *app) importInto(dir string, in importFlags) error {
	if in.assets == "" && in.fabric == "" {
		return errors.New("import needs -assets FILE, a CSV of machines, or -fabric FILE, what ibnetdiscover prints; see firstlight import -help")
	}
	if in.assets == "-" && in.fabric == "-" {
		return errors.New("only one of -assets and -fabric can be read from standard input")
	}
	if in.assets == "" && (len(in.columns) > 0 || in.hardware != "" || in.image != "") {
		return errors.New("-column, -hardware and -image are about nodes, and a fabric alone gives none: give -assets FILE too")
	}
	src, observed, err := a.importSources(dir, in)
	if err != nil {
		return err
	}
	made, err := importer.Make(src)
	if err != nil {
		return err
	}
	if err := nothingThere(dir, made.Files); err != nil {
		return err
	}
	warnings, err := a.tryOut(src, made.Files)
	if err != nil {
		return err
	}
	names, err := writeNew(dir, made.Files)
	if err != nil {
		return err
	}
	return a.tellImport(dir, names, made, observed, warnings)
}

// importSources reads what an inventory is made from.
func (a *app) importSources(dir string, in importFlags) (importer.Sources, *fabric.Observed, error) {
	src := importer.Sources{Cluster: in.cluster}
	if src.Cluster == "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return src, nil, err
		}
		src.Cluster = filepath.Base(abs)
	}
	if !inventory.IsHostName(src.Cluster) {
		return src, nil, fmt.Errorf("%q cannot be the name of a cluster: give one with -cluster NAME", src.Cluster)
	}
	columns := map[string]string{}
	for _, c := range in.columns {
		name, header, ok := strings.Cut(c, "=")
		if !ok {
			return src, nil, fmt.Errorf("-column %s: a column is given as NAME=HEADER; the names are %s", c, strings.Join(importer.ColumnNames(), ", "))
		}
		columns[name] = header
	}
	if in.image != "" {
		var err error
		if src.Image, err = imageFrom(dir, in.image); err != nil {
			return src, nil, err
		}
	}
	if in.hardware != "" {
		text, err := os.ReadFile(in.hardware)
		if err == nil {
			src.Classes, err = importer.ReadClasses(in.hardware, text)
		}
		if err != nil {
			return src, nil, err
		}
	}
	if in.assets != "" {
		name, raw, err := a.slurp(in.assets)
		if err == nil {
			src.Assets, err = importer.ReadAssets(name, raw, columns)
		}
		if err != nil {
			return src, nil, err
		}
	}
	if in.fabric == "" {
		return src, nil, nil
	}
	name, raw, err := a.slurp(in.fabric)
	if err != nil {
		return src, nil, err
	}
	observed, err := fabric.ParseNetDiscover(bytes.NewReader(raw))
	if err != nil {
		return src, nil, fmt.Errorf("%s: %w", name, err)
	}
	src.Fabric = neutral(filepath.Base(name), observed)
	return src, observed, nil
}

// slurp reads a file, or standard input for "-", and says what to call it.
func (a *app) slurp(name string) (string, []byte, error) {
	if name == "-" {
		raw, err := io.ReadAll(a.stdin)
		return "standard input", raw, err
	}
	raw, err := os.ReadFile(name)
	return name, raw, err
}

// imageFrom is how an inventory in dir names an image's directory.
func imageFrom(dir, image string) (string, error) {
	if info, err := os.Stat(image); err != nil {
		return "", err
	} else if !info.IsDir() {
		return "", fmt.Errorf("%s is not the directory of an image", image)
	}
	from, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	to, err := filepath.Abs(image)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(from, to)
	if err != nil {
		return to, nil
	}
	if !strings.HasPrefix(rel, "..") {
		rel = "./" + rel
	}
	return filepath.ToSlash(rel), nil
}

// neutral is an observed fabric in the importer's terms.
func neutral(name string, o *fabric.Observed) *importer.Fabric {
	f := &importer.Fabric{Name: name}
	at := map[*fabric.Node]int{}
	for i, n := range o.Nodes {
		at[n] = i
		guid := n.GUID
		if guid == 0 {
			guid = n.PortGUID
		}
		d := importer.Device{Switch: n.Kind == fabric.Switch, GUID: guid, SystemGUID: n.SystemGUID,
			Description: n.Description, Ports: n.NumPorts, DeviceID: n.DeviceID}
		if n.Kind != fabric.Switch && len(n.Ports) > 0 {
			d.PortGUID = n.Ports[0].GUID
		}
		f.Devices = append(f.Devices, d)
	}
	for _, l := range o.Links() {
		f.Links = append(f.Links, importer.Link{A: at[l.A.Node], APort: l.A.Num, B: at[l.B.Node], BPort: l.B.Num, Rate: l.A.Rate()})
	}
	return f
}

// nothingThere wants no file to be overwritten and no inventory to be added to.
func nothingThere(dir string, files map[string][]byte) error {
	for _, name := range fileNames(files) {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s exists already and is left alone; nothing was written", filepath.Join(dir, name))
		}
	}
	if old, _ := filepath.Glob(filepath.Join(dir, "*.hcl*")); len(old) > 0 {
		return fmt.Errorf("%s holds an inventory already (%s); nothing was written", dir, filepath.Base(old[0]))
	}
	return nil
}

func fileNames(files map[string][]byte) []string {
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// tryOut loads the inventory from a directory that is thrown away: what is
// written is valid, or nothing is. It returns the warnings.
func (a *app) tryOut(src importer.Sources, files map[string][]byte) ([]string, error) {
	dir, err := os.MkdirTemp("", "firstlight-import-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if src.Image != "" { // it is named from the inventory's own directory
		src.Image = "./image"
		elsewhere, err := importer.Make(src)
		if err := errors.Join(err, os.MkdirAll(filepath.Join(dir, "image"), 0o755)); err != nil {
			return nil, err
		}
		files = elsewhere.Files
	}
	if _, err := writeNew(dir, files); err != nil {
		return nil, err
	}
	_, source, diags := inventory.Load(dir, inventory.Options{Env: func(name string) (string, bool) { return "", false }})
	var warnings []string
	for _, d := range inventory.Report(diags) {
		if d.Severity == "warning" {
			warnings = append(warnings, d.Summary+": "+d.Detail)
		}
	}
	if !diags.HasErrors() {
		return warnings, nil
	}
	diags = slices.DeleteFunc(diags, func(d *hcl.Diagnostic) bool { return d.Severity != hcl.DiagError })
	var text bytes.Buffer
	if err := source.WriteText(&text, diags, false, width(a.stderr)); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("what would be written is not valid, so nothing was:\n\n%s", strings.ReplaceAll(text.String(), dir+string(filepath.Separator), ""))
}

// writeNew writes files that are not there yet, and returns their names. What
// was written before an error is taken back.
func writeNew(dir string, files map[string][]byte) (names []string, err error) {
	names = fileNames(files)
	var done []string
	defer func() {
		if err != nil {
			for _, f := range done {
				os.Remove(f)
			}
		}
	}()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, err
		}
		done = append(done, path)
		_, err = f.Write(files[name])
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// maxDoubts is how many inconsistencies of a dump are printed for a person.
const maxDoubts = 20

// tellImport prints what was written, what was guessed and what is left.
func (a *app) tellImport(dir string, names []string, made *importer.Result, o *fabric.Observed, warnings []string) error {
	doubts := []string{}
	if o != nil {
		for _, d := range o.Inconsistencies {
			doubts = append(doubts, d.String())
		}
	}
	if a.json {
		return printJSON(a.stdout, map[string]any{
			"directory": dir, "files": names, "found": made.Found, "guessed": noneAsEmpty(made.Guessed),
			"todo": noneAsEmpty(made.Todo), "inconsistencies": doubts, "warnings": noneAsEmpty(warnings),
		})
	}
	for _, n := range names {
		fmt.Fprintln(a.stdout, "wrote", filepath.Join(dir, n))
	}
	found := made.Found
	fmt.Fprintf(a.stdout, "\n%d %s in %d %s, %d %s, %d %s\n", found.Nodes, plural(found.Nodes, "node", "nodes"), found.Racks, plural(found.Racks, "rack", "racks"),
		found.Switches, plural(found.Switches, "switch", "switches"), found.Cables, plural(found.Cables, "cable", "cables"))
	shown := doubts
	if len(doubts) > maxDoubts {
		shown = append(slices.Clone(doubts[:maxDoubts]), fmt.Sprintf("%d more: see -json", len(doubts)-maxDoubts))
	}
	a.list("The fabric dump contradicts itself:", shown)
	a.list("Guessed, and marked so:", made.Guessed)
	a.list("Left to you:", made.Todo)
	fmt.Fprintf(a.stdout, "\nnext: look through them, then firstlight validate %s\n", dir)
	return nil
}

func (a *app) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(a.stdout, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(a.stdout, "  - %s\n", l)
	}
}

func noneAsEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
