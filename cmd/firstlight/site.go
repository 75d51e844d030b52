package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"firstlight/images"
	"firstlight/inventory"
	"firstlight/provision"
	"firstlight/provision/journal"
)

// site is one inventory with the state that lies beside it, in .firstlight.
type site struct {
	Cluster *inventory.Cluster
	Source  *inventory.Source
}

// load reads the inventory; what is wrong with it is printed and ends the verb.
func (a *app) load(dir string) (*site, error) { return a.loadAnd(dir, true) }

// loadQuietly is load without warnings, for verbs that touch no machine and
// plan nothing: a password that is not set is nothing to them.
func (a *app) loadQuietly(dir string) (*site, error) { return a.loadAnd(dir, false) }

func (a *app) loadAnd(dir string, warn bool) (*site, error) {
	c, src, diags := a.read(dir)
	if diags.HasErrors() || warn && len(diags) > 0 {
		src.WriteText(a.stderr, diags, colour(a.stderr), width(a.stderr))
	}
	if diags.HasErrors() {
		return nil, &exit{code: 1}
	}
	return &site{Cluster: c, Source: src}, nil
}

func (a *app) read(dir string) (*inventory.Cluster, *inventory.Source, hcl.Diagnostics) {
	opt := inventory.Options{Vars: map[string]string{}, VarFiles: a.varFiles, Env: os.LookupEnv}
	for _, v := range a.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			return nil, nil, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Not a variable", Detail: "A value of -var is written NAME=VALUE."}}
		}
		opt.Vars[name] = value
	}
	return inventory.Load(dir, opt)
}

// path is a place in the state directory.
func (s *site) path(parts ...string) string {
	return filepath.Join(append([]string{s.Cluster.Dir, ".firstlight"}, parts...)...)
}

// mkdir makes a place in the state directory, for its owner only.
func (s *site) mkdir(parts ...string) (string, error) {
	p := s.path(parts...)
	return p, os.MkdirAll(p, 0o700)
}

func (s *site) store() images.Store        { return images.Store{Dir: s.path("images")} }
func (s *site) evidence() journal.Evidence { return journal.Evidence{Dir: s.path("evidence")} }

// key returns the secret key of that name, made at first use. Each purpose has
// a key of its own.
func (s *site) key(name string) ([]byte, error) {
	key, err := s.keyIfAny(name)
	if err != nil || key != nil {
		return key, err
	}
	dir, err := s.mkdir("keys")
	if err != nil {
		return nil, err
	}
	key = make([]byte, sha256.Size)
	rand.Read(key)
	return key, writeFileAtomic(filepath.Join(dir, name), key, 0o600)
}

// keyIfAny is the key of that name, or nil when none was made yet.
func (s *site) keyIfAny(name string) ([]byte, error) {
	file := s.path("keys", name)
	key, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case len(key) != sha256.Size:
		return nil, fmt.Errorf("%s: is %d bytes long, a key has %d; restore it, or remove it, and BMC passwords will count as changed", file, len(key), sha256.Size)
	}
	return key, nil
}

// writeFileAtomic replaces a file as a whole or not at all.
func writeFileAtomic(file string, content []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it is renamed
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file)) // or a power cut takes the new name back
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// want is what a plan aims at. Images that were not built yet have no digest.
// Planning reads the fingerprints' key (keyIfAny), for it writes nothing;
// apply makes one (key).
func (s *site) want(fingerprint func(name string) ([]byte, error)) (provision.Want, error) {
	w := provision.Want{Cluster: s.Cluster, Images: map[string]string{}}
	key, err := fingerprint("fingerprint")
	if err != nil {
		return w, err
	}
	w.Key = key
	for name := range s.Cluster.Images {
		if m, err := s.store().Manifest(name); err == nil {
			w.Images[name] = m.Digest()
		} else if !errors.Is(err, fs.ErrNotExist) {
			return w, err
		}
	}
	return w, nil
}

// targetNodes resolves -target and -exclude; nil means all.
func (a *app) targetNodes(s *site) ([]*inventory.Node, error) {
	if len(a.targets)+len(a.exclude) == 0 {
		return nil, nil
	}
	nodes, err := s.Cluster.Select(a.targets)
	if err != nil {
		return nil, err
	}
	return s.Cluster.Without(nodes, a.exclude)
}

// chosenNodes are those that -target and -exclude leave, or all.
func (a *app) chosenNodes(s *site) ([]*inventory.Node, error) {
	nodes, err := a.targetNodes(s)
	if err == nil && nodes == nil {
		nodes = s.Cluster.Nodes
	}
	return nodes, err
}

// recall reads the inventory and what the journal knows of it, for verbs that
// only tell.
func (a *app) recall(ctx context.Context, dir string) (*site, provision.Known, error) {
	s, err := a.loadQuietly(dir)
	if err != nil {
		return nil, provision.Known{}, err
	}
	known, err := s.known(ctx)
	return s, known, err
}

// newID is the identity of a boot: 16 hex digits from the system's randomness.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// printJSON writes one indented JSON value.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
