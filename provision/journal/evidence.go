package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Evidence keeps bulk evidence (samples, console logs, reports) as files
// below Dir named by the SHA-256 of what they hold; the journal holds the
// digests. Dir is created when first needed.
type Evidence struct{ Dir string }

// ErrNoEvidence says that no file of that digest is kept.
var ErrNoEvidence = errors.New("no evidence of this digest is kept")

func (e Evidence) path(digest string) (string, error) {
	h, ok := strings.CutPrefix(digest, "sha256:")
	raw, err := hex.DecodeString(h)
	if !ok || err != nil || len(raw) != sha256.Size || h != strings.ToLower(h) {
		return "", fmt.Errorf("evidence digest %q is not of the form sha256:<64 hex digits>", digest)
	}
	return filepath.Join(e.Dir, h[:2], h), nil
}

// Put keeps data and returns its digest, "sha256:<hex>". When it returns, the
// data is on the disk; the same data twice is one file.
func (e Evidence) Put(data []byte) (digest string, err error) {
	sum := sha256.Sum256(data)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	path, err := e.path(digest)
	if err != nil {
		return "", err
	}
	if _, err := e.Get(digest); err == nil {
		return digest, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep evidence: %w", err)
	}
	if err := writeFile(path, data); err != nil {
		return "", fmt.Errorf("keep evidence: %w", err)
	}
	return digest, nil
}

// writeFile makes path hold data, wholly or not at all, also after a crash.
func writeFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		err = d.Sync() // the name, too, must survive
		_ = d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Get returns what was kept under a digest. A file whose content no longer
// has that digest is an error that names it.
func (e Evidence) Get(digest string) ([]byte, error) {
	path, err := e.path(digest)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoEvidence, digest)
	}
	if err != nil {
		return nil, fmt.Errorf("read evidence: %w", err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != digest[len("sha256:"):] {
		return nil, fmt.Errorf("evidence file %s was altered: its content no longer has its digest", path)
	}
	return data, nil
}
