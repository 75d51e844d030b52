package images

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// testArchive has one of each kind of file, added in no good order.
func testArchive() *archiveBuilder {
	a := newArchive()
	a.file("lib/modules/6.1/kernel/a.ko", 0o644, []byte("module"))
	a.file("init", 0o755, []byte("#!agent"))
	a.dir("tmp", 0o1777)
	a.charDev("dev/console", 0o600, 5, 1)
	a.file("lib-x", 0o644, nil)
	return a
}

func TestArchiveContent(t *testing.T) {
	var buf bytes.Buffer
	if err := testArchive().writeCPIO(&buf); err != nil {
		t.Fatal(err)
	}
	if buf.Len()%512 != 0 {
		t.Errorf("archive has %d bytes; want a multiple of 512", buf.Len())
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(buf.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		data, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %d:%d %d,%d t%d %q", r.Name, r.Mode, r.UID, r.GID, r.Rmajor, r.Rminor, r.MTime, data))
	}
	want := []string{
		`dev 40755 0:0 0,0 t0 ""`,
		`dev/console 20600 0:0 5,1 t0 ""`,
		`init 100755 0:0 0,0 t0 "#!agent"`,
		`lib 40755 0:0 0,0 t0 ""`,
		`lib-x 100644 0:0 0,0 t0 ""`,
		`lib/modules 40755 0:0 0,0 t0 ""`,
		`lib/modules/6.1 40755 0:0 0,0 t0 ""`,
		`lib/modules/6.1/kernel 40755 0:0 0,0 t0 ""`,
		`lib/modules/6.1/kernel/a.ko 100644 0:0 0,0 t0 "module"`,
		`tmp 41777 0:0 0,0 t0 ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

// TestArchiveInterop has cpio(1) read what we write: the library that wrote it
// would share its own mistakes.
func TestArchiveInterop(t *testing.T) {
	needTools(t, "cpio")
	var buf bytes.Buffer
	if err := testArchive().writeCPIO(&buf); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cpio", "--list", "--quiet")
	cmd.Stdin = &buf
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	want := "dev dev/console init lib lib-x lib/modules lib/modules/6.1 lib/modules/6.1/kernel lib/modules/6.1/kernel/a.ko tmp"
	if got := strings.Join(strings.Fields(string(out)), " "); got != want {
		t.Errorf("cpio --list = %s; want %s", got, want)
	}
}

func TestArchiveIsOneFrameAndReproducible(t *testing.T) {
	var one, two bytes.Buffer
	for _, w := range []*bytes.Buffer{&one, &two} {
		if err := testArchive().writeTo(w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two archives of the same files differ")
	}
	var h zstd.Header
	if err := h.Decode(one.Bytes()); err != nil || h.WindowSize > 1<<20 || !h.HasCheckSum {
		t.Errorf("frame header = %+v, %v; want a checksum and a window of at most 1 MiB", h, err)
	}
}

func TestArchiveWriteErrorSurfaces(t *testing.T) {
	if err := testArchive().writeTo(brokenWriter{}); err == nil {
		t.Error("writeTo a broken writer: no error")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
