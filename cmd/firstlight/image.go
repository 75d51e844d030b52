package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"firstlight/images"
	"firstlight/provision"
)

func (a *app) imageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Build and list what nodes boot",
		Example: `  firstlight image build racks/a
  firstlight image list racks/a
  firstlight image verify racks/a`,
	}
	verb := func(use, short string, do func(ctx context.Context, dir string) error) *cobra.Command {
		v := &cobra.Command{Use: use + " [DIR]", Short: short, Args: cobra.MaximumNArgs(1),
			Example: "  firstlight image " + use + " racks/a",
			RunE:    func(c *cobra.Command, args []string) error { return do(c.Context(), dirArg(args, 0)) }}
		a.inventoryFlags(v)
		return v
	}
	c.AddCommand(
		verb("build", "Build the bring-up image and every declared image", a.imageBuild),
		verb("list", "List the catalogue", a.imageList),
		verb("verify", "Read every blob of the catalogue and hold it against its digest", a.imageVerify))
	return c
}

// agentBinary is firstlight-agent beside this program.
func agentBinary() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(self), "firstlight-agent"), nil
}

// build makes sure that the catalogue holds every image, and returns them: the
// bring-up image under images.BringUpName.
func (a *app) build(ctx context.Context, s *site) (map[string]images.Manifest, error) {
	agent, err := agentBinary()
	if err != nil {
		return nil, err
	}
	if _, err := s.mkdir(); err != nil { // for its owner only
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = s.path("cache")
	}
	b := &images.Builder{Store: s.store(), Cache: filepath.Join(cache, "firstlight"), Agent: agent}
	b.Progress = func(step string) {
		if a.json {
			_ = a.event("image", map[string]string{"step": step})
			return
		}
		fmt.Fprintln(a.stderr, "image:", step)
	}
	out := map[string]images.Manifest{}
	if out[images.BringUpName], err = b.BringUp(ctx); err != nil {
		return nil, fmt.Errorf("bring-up image: %w", err)
	}
	var names []string
	for name := range s.Cluster.Images {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		img := s.Cluster.Images[name]
		m, err := b.Image(ctx, name, img.Source)
		if err != nil {
			return nil, fmt.Errorf("image %q (%s): %w", name, s.Cluster.DeclaredAt(img.Range), err)
		}
		if img.Digest != "" && img.Digest != m.Digest() {
			return nil, fmt.Errorf("image %q (%s): its source gives %s, and %s is declared", name, s.Cluster.DeclaredAt(img.Range), m.Digest(), img.Digest)
		}
		out[name] = m
	}
	return out, nil
}

// warnOldImages says which images apply will build anew, because this
// firstlight has another agent than the one in them: their digests change, and
// with them what a plan says of the nodes that run them.
func (a *app) warnOldImages(s *site) {
	agent, err := agentBinary()
	if err != nil {
		return
	}
	binary, err := os.ReadFile(agent)
	if err != nil {
		return // apply says so when it has to build
	}
	sum := sha256.Sum256(binary)
	for name, img := range s.Cluster.Images {
		m, err := s.store().Manifest(name)
		if err == nil && m.Sources["firstlight-agent"] != "sha256:"+hex.EncodeToString(sum[:]) {
			fmt.Fprintf(a.stderr, "firstlight: image %q (%s) holds another firstlight-agent than this one: apply builds it anew, and ready nodes boot it again. To see that here: firstlight image build, then plan\n",
				name, s.Cluster.DeclaredAt(img.Range))
		}
	}
}

// catalogued gives the engine what it boots, from the catalogue.
func catalogued(s *site, e *provision.Engine) error {
	image := func(name string) (provision.Image, error) {
		m, err := s.store().Manifest(name)
		if err != nil {
			return provision.Image{}, err
		}
		img := provision.Image{Name: name, Digest: m.Digest(), Kernel: m.KernelRelease}
		if m.Root != nil {
			img.Root = m.Root.Digest
		}
		return img, nil
	}
	var err error
	if e.BringUp, err = image(images.BringUpName); err != nil {
		return fmt.Errorf("bring-up image: %w", err)
	}
	e.Images = map[string]provision.Image{}
	for name := range s.Cluster.Images {
		if e.Images[name], err = image(name); err != nil {
			return fmt.Errorf("image %q: %w", name, err)
		}
	}
	return nil
}

func (a *app) imageBuild(ctx context.Context, dir string) error {
	s, err := a.load(dir)
	if err != nil {
		return err
	}
	if _, err := a.build(ctx, s); err != nil {
		return err
	}
	return a.printImages(s)
}

func (a *app) imageList(ctx context.Context, dir string) error {
	s, err := a.loadQuietly(dir)
	if err != nil {
		return err
	}
	return a.printImages(s)
}

func (a *app) printImages(s *site) error {
	list, err := s.store().List()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	type row struct {
		Digest string `json:"digest"`
		images.Manifest
	}
	rows := []row{}
	for _, m := range list {
		rows = append(rows, row{m.Digest(), m})
	}
	if a.json {
		return printJSON(a.stdout, map[string]any{"images": rows})
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "IMAGE\tKIND\tKERNEL\tINITRAMFS\tROOT\tDIGEST")
	for _, m := range rows {
		root := "-"
		if m.Root != nil {
			root = megabytes(m.Root.Size)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.Kind, m.KernelRelease, megabytes(m.Initramfs.Size), root, m.Digest[:19])
	}
	return tw.Flush()
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func (a *app) imageVerify(ctx context.Context, dir string) error {
	s, err := a.loadQuietly(dir)
	if err != nil {
		return err
	}
	list, err := s.store().List()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var bad error
	for _, m := range list {
		err := s.store().Verify(ctx, m.Name)
		if err == nil && !a.json {
			fmt.Fprintf(a.stdout, "%s: every blob has the content its digest names\n", m.Name)
		}
		bad = errors.Join(bad, err)
	}
	if a.json {
		text := ""
		if bad != nil {
			text = bad.Error()
		}
		return errors.Join(printJSON(a.stdout, map[string]any{"images": len(list), "ok": bad == nil, "error": text}), bad)
	}
	return bad
}
