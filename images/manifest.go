package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"firstlight/provision/agent/api"
)

// Manifest says what a node boots. It holds no time and no place, so that the
// same build gives the same manifest everywhere.
type Manifest struct {
	Name          string            `json:"name"`
	Kind          string            `json:"kind"`           // api.BootBringUp or api.BootImage
	KernelRelease string            `json:"kernel_release"` // as uname -r prints it
	Kernel        Blob              `json:"kernel"`         // vmlinuz, as the Debian package has it
	Initramfs     Blob              `json:"initramfs"`
	Root          *Blob             `json:"root,omitempty"`    // squashfs; nil: the image is its initramfs
	Args          []string          `json:"args,omitempty"`    // kernel command line
	Sources       map[string]string `json:"sources,omitempty"` // Debian package -> version; "firstlight-agent" -> digest of the binary
	Inputs        string            `json:"inputs"`            // digest over all that went into the build, "sha256:<hex>"
}

// namePattern is what an image may be called: it becomes a file name and part
// of messages and URLs.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("image name %q: use 1 to 64 lower-case letters, digits, '.', '_' and '-', beginning and ending with a letter or digit", name)
	}
	return nil
}

// canonical is the one encoding of m that is hashed and stored: JSON with the
// fields in the order of the type, map keys sorted, no white space.
func (m Manifest) canonical() []byte {
	data, err := json.Marshal(m)
	if err != nil {
		panic("images: a manifest of strings and numbers does not encode: " + err.Error())
	}
	return data
}

// Digest identifies the manifest and, through it, every byte of the image:
// "sha256:<hex>" of its canonical JSON.
func (m Manifest) Digest() string {
	sum := sha256.Sum256(m.canonical())
	return digestPrefix + hex.EncodeToString(sum[:])
}

// Blobs returns the parts of the image.
func (m Manifest) Blobs() []Blob {
	b := []Blob{m.Kernel, m.Initramfs}
	if m.Root != nil {
		b = append(b, *m.Root)
	}
	return b
}

// parseManifest decodes a manifest that file holds and checks it.
func parseManifest(file string, data []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: %w; build the image again", file, err)
	}
	if m.Kind != api.BootBringUp && m.Kind != api.BootImage {
		return Manifest{}, fmt.Errorf("manifest %s: kind is %q, want %q or %q", file, m.Kind, api.BootBringUp, api.BootImage)
	}
	if err := checkName(m.Name); err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: %w", file, err)
	}
	for _, b := range m.Blobs() {
		if _, err := parseDigest(b.Digest); err != nil {
			return Manifest{}, fmt.Errorf("manifest %s: %w", file, err)
		}
	}
	return m, nil
}

// Manifest returns what name means now. The error wraps fs.ErrNotExist when
// no image of that name was built.
func (s Store) Manifest(name string) (Manifest, error) {
	if err := checkName(name); err != nil {
		return Manifest{}, err
	}
	file := filepath.Join(s.manifestDir(), name+".json")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("image %s is not in the catalogue %s (build it first): %w", name, s.Dir, fs.ErrNotExist)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("image %s: %w", name, err)
	}
	return parseManifest(file, data)
}

// ByDigest returns the manifest of that digest, whether or not a name still
// means it. The error wraps fs.ErrNotExist when the catalogue does not have
// it, and is a *CorruptError when its file has other content.
func (s Store) ByDigest(digest string) (Manifest, error) {
	f, err := s.Open(digest)
	if err != nil {
		return Manifest{}, err
	}
	defer f.Close()
	// A digest of a whole root file system would be megabytes; a manifest is not.
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	m, err := parseManifest(f.Name(), data)
	if err != nil {
		return Manifest{}, err
	}
	if sum := sha256.Sum256(data); digestPrefix+hex.EncodeToString(sum[:]) != digest {
		return Manifest{}, &CorruptError{File: f.Name(), Want: digest, Got: digestPrefix + hex.EncodeToString(sum[:])}
	}
	return m, nil
}

// PutManifest makes m.Name mean m. Its parts must be in the catalogue already.
func (s Store) PutManifest(m Manifest) error {
	if err := checkName(m.Name); err != nil {
		return err
	}
	for _, b := range m.Blobs() {
		f, err := s.Open(b.Digest)
		if err != nil {
			return fmt.Errorf("image %s: %w", m.Name, err)
		}
		f.Close()
	}
	data := m.canonical()
	if _, err := s.Put(bytes.NewReader(data)); err != nil {
		return err
	}
	err := writeAtomic(s.manifestDir(), func(w io.Writer) (string, error) {
		_, err := w.Write(data)
		return m.Name + ".json", err
	})
	if err != nil {
		return fmt.Errorf("store manifest of image %s in %s: %w", m.Name, s.Dir, err)
	}
	return nil
}

// List returns the manifest of every name, in order of name.
func (s Store) List() ([]Manifest, error) {
	entries, err := os.ReadDir(s.manifestDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var ms []Manifest
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		m, err := s.Manifest(name)
		if err != nil {
			return nil, err
		}
		ms = append(ms, m)
	}
	return ms, nil
}

// Verify hashes every part of the image again. A part that is not what its
// digest says is a *CorruptError; all of them are joined.
func (s Store) Verify(ctx context.Context, name string) error {
	m, err := s.Manifest(name)
	if err != nil {
		return err
	}
	return s.verify(ctx, m)
}

func (s Store) verify(ctx context.Context, m Manifest) error {
	var errs []error
	blobs := append(m.Blobs(), Blob{Digest: m.Digest()})
	for _, b := range blobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.verifyBlob(b); err != nil {
			errs = append(errs, fmt.Errorf("image %s: %w", m.Name, err))
		}
	}
	return errors.Join(errs...)
}
