package images

import (
	"fmt"
	"io"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// archiveBuilder collects the files of one cpio archive. Parent directories
// are made as needed; the order written is that of the names.
type archiveBuilder struct {
	records map[string]cpio.Record
}

func newArchive() *archiveBuilder { return &archiveBuilder{records: map[string]cpio.Record{}} }

func (a *archiveBuilder) add(r cpio.Record) {
	for d := path.Dir(r.Name); d != "."; d = path.Dir(d) {
		if _, ok := a.records[d]; !ok {
			a.records[d] = cpio.Directory(d, 0o755)
		}
	}
	a.records[r.Name] = r
}

func (a *archiveBuilder) dir(name string, mode uint64) { a.add(cpio.Directory(name, mode)) }
func (a *archiveBuilder) charDev(name string, mode, maj, minor uint64) {
	a.add(cpio.CharDev(name, mode, maj, minor))
}

func (a *archiveBuilder) file(name string, mode uint64, content []byte) {
	a.add(cpio.StaticRecord(content, cpio.Info{Name: name, Mode: cpio.S_IFREG | mode}))
}

// writeTo writes the archive, compressed, as one zstd frame. The kernel takes
// several such archives one after another (Documentation/driver-api/
// early-userspace/buffer-format.rst) and the boot loader appends one more, with
// the token, that is not compressed: the kernel finds it only on a multiple of 4
// bytes, so the frame is padded to one.
func (a *archiveBuilder) writeTo(w io.Writer) error {
	framed := &countingWriter{w: w}
	// Concurrency must not change the bytes. A window of 1 MiB makes the archive
	// an eighth larger than one of 8 MiB does, and the kernel unpack it in half
	// the time under emulation (0.6 s for 1.2 s), where memory accesses are dear.
	z, err := zstd.NewWriter(framed, zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(true))
	if err != nil {
		return err
	}
	if err := a.writeCPIO(z); err != nil {
		_ = z.Close() // the first error is the one to tell
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	// The encoder has taken 34 MB, and the process that builds goes on to be
	// the controller for hours: give it back.
	z = nil
	debug.FreeOSMemory()
	return padTo(w, framed.n, 4)
}

// padTo fills up with zeros, which the kernel passes over, to a multiple.
func padTo(w io.Writer, written, multiple int64) error {
	if rest := written % multiple; rest != 0 {
		if _, err := w.Write(make([]byte, multiple-rest)); err != nil {
			return fmt.Errorf("initramfs: %w", err)
		}
	}
	return nil
}

// writeCPIO writes the archive in newc format, padded to 512 bytes as cpio(1)
// does.
func (a *archiveBuilder) writeCPIO(w io.Writer) error {
	counted := &countingWriter{w: w}
	rec := cpio.Newc.Writer(counted)
	names := make([]string, 0, len(a.records))
	for n := range a.records {
		names = append(names, n)
	}
	// A directory's name is a prefix of its members' names, so it comes first.
	slices.SortFunc(names, strings.Compare)
	for i, n := range names {
		r := a.records[n]
		// Files of one inode number are hard links to the kernel.
		r.Ino = uint64(i + 1)
		r.UID, r.GID, r.MTime, r.NLink = 0, 0, 0, 1
		if err := rec.WriteRecord(r); err != nil {
			return fmt.Errorf("initramfs: %s: %w", n, err)
		}
	}
	if err := cpio.WriteTrailer(rec); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	return padTo(w, counted.n, 512)
}

// countingWriter counts what goes through it.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
