package images

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// digestPrefix starts every digest; SHA-256 is the only algorithm.
const digestPrefix = "sha256:"

// tempPrefix starts the name of a file that is being written. Such a file is
// never opened by a reader; one left by a crash is removed by Prune.
const tempPrefix = ".tmp-"

// Store is a catalogue of images in a directory:
//
//	blobs/sha256/<hex>     content, named by its digest
//	manifests/<name>.json  the manifest that a name means now
//
// A manifest is a blob too, so that one that its name no longer means is still
// found by digest until Prune. Every file is written beside its place, synced
// and renamed: a reader sees the old content or the new, and one that has the
// old content open keeps it. Several processes may use a Store at once.
type Store struct {
	Dir string // made on the first write
}

// Blob names content.
type Blob struct {
	Digest string `json:"digest"` // "sha256:<64 lower-case hex digits>"
	Size   int64  `json:"size"`   // bytes
}

// CorruptError says that a file of the catalogue or the cache does not have
// the content that its name promises.
type CorruptError struct {
	File string // path
	Want string // the digest expected, "sha256:<hex>"
	Got  string // the digest found
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is corrupt: expected %s, found %s; build the image again to replace it", e.File, e.Want, e.Got)
}

// parseDigest returns the hex part of a digest.
func parseDigest(digest string) (string, error) {
	h, ok := strings.CutPrefix(digest, digestPrefix)
	if !ok || len(h) != hex.EncodedLen(sha256.Size) || strings.Trim(h, "0123456789abcdef") != "" {
		return "", fmt.Errorf("digest %q is not of the form sha256:<64 lower-case hex digits>", digest)
	}
	return h, nil
}

func (s Store) blobDir() string     { return filepath.Join(s.Dir, "blobs", "sha256") }
func (s Store) manifestDir() string { return filepath.Join(s.Dir, "manifests") }

// Path returns where the blob of that digest lies, whether it is there or not.
func (s Store) Path(digest string) (string, error) {
	h, err := parseDigest(digest)
	if err != nil {
		return "", err
	}
	return filepath.Join(s.blobDir(), h), nil
}

// Open opens a blob for reading. Its content is not hashed again; Verify does
// that. The error wraps fs.ErrNotExist when the catalogue has no such blob.
func (s Store) Open(digest string) (*os.File, error) {
	path, err := s.Path(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s is not in the catalogue %s (build its image again): %w", digest, s.Dir, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	return f, nil
}

// Put stores what r yields. When it fails, nothing of it stays behind. A blob
// that is already there is replaced by the same, now verified, content.
func (s Store) Put(r io.Reader) (Blob, error) {
	var b Blob
	h := sha256.New()
	err := writeAtomic(s.blobDir(), func(w io.Writer) (string, error) {
		n, err := io.Copy(io.MultiWriter(w, h), r)
		if err != nil {
			return "", err
		}
		sum := hex.EncodeToString(h.Sum(nil))
		b = Blob{Digest: digestPrefix + sum, Size: n}
		return sum, nil
	})
	if err != nil {
		return Blob{}, fmt.Errorf("store a blob in %s: %w", s.Dir, err)
	}
	return b, nil
}

// verifyBlob hashes a blob again.
func (s Store) verifyBlob(b Blob) error {
	f, err := s.Open(b.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := digestOf(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if got.Digest != b.Digest {
		return &CorruptError{File: f.Name(), Want: b.Digest, Got: got.Digest}
	}
	return nil
}

// Pruned says what Prune removed.
type Pruned struct {
	Files int
	Bytes int64
}

// Prune removes the blobs that no manifest of the catalogue refers to, and
// what interrupted writes left. Manifests whose digests are in keep, and their
// parts, stay even when no name means them any more. Files younger than grace
// stay too: a build that is under way has stored blobs and not yet its
// manifest.
func (s Store) Prune(keep []string, grace time.Duration) (Pruned, error) {
	live, err := s.live(keep)
	if err != nil {
		return Pruned{}, fmt.Errorf("prune %s: %w; nothing was removed", s.Dir, err)
	}
	var p Pruned
	for _, dir := range []string{s.blobDir(), s.manifestDir()} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, fmt.Errorf("prune: %w", err)
		}
		for _, e := range entries {
			temp := strings.HasPrefix(e.Name(), tempPrefix)
			if !temp && (dir == s.manifestDir() || live[e.Name()]) {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) || err == nil && time.Since(info.ModTime()) < grace {
				continue
			}
			if err != nil {
				return p, fmt.Errorf("prune: %w", err)
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return p, fmt.Errorf("prune: %w", err)
			}
			p.Files++
			p.Bytes += info.Size()
		}
	}
	return p, nil
}

// live returns the hex names of the blobs that Prune must leave.
func (s Store) live(keep []string) (map[string]bool, error) {
	manifests, err := s.List()
	if err != nil {
		return nil, err
	}
	for _, d := range keep {
		m, err := s.ByDigest(d)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, m)
	}
	live := map[string]bool{}
	for _, m := range manifests {
		live[strings.TrimPrefix(m.Digest(), digestPrefix)] = true
		for _, b := range m.Blobs() {
			live[strings.TrimPrefix(b.Digest, digestPrefix)] = true
		}
	}
	return live, nil
}

// digestOf hashes r.
func digestOf(r io.Reader) (Blob, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return Blob{}, err
	}
	return Blob{Digest: digestPrefix + hex.EncodeToString(h.Sum(nil)), Size: n}, nil
}

// digestOfFile hashes the file at path.
func digestOfFile(path string) (Blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return Blob{}, err
	}
	defer f.Close()
	return digestOf(f)
}

// writeAtomic makes a file in dir: write fills it and returns its base name.
// The file takes its name, in place of one that has it, only when every byte is
// on the disk; after an error there is no trace of it.
func writeAtomic(dir string, write func(io.Writer) (string, error)) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// The first error is the one to tell; f may be closed already.
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	name, err := write(f)
	if err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes renames in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
