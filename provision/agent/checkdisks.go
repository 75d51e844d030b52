package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
)

const (
	diskChunk    = 1 << 20
	diskDeadline = 60 * time.Second // a healthy disk takes milliseconds; one that retries sectors takes tens of seconds
)

// checkDisks reads the first, middle and last MiB of every disk.
func (fs FS) checkDisks(ctx context.Context) []api.Check {
	var checks []api.Check
	for _, d := range fs.disks() {
		c := api.Check{Name: "disk." + d.Name + ".read", Threshold: "first, middle and last MiB readable in " + diskDeadline.String(), Source: diskSource, Part: diskPart(d)}
		c.Verdict, c.Reading = fs.readDisk(ctx, d)
		checks = append(checks, c)
	}
	if len(checks) == 0 {
		checks = append(checks, api.Check{Name: "disk.read", Verdict: notApplicable, Reading: "no disks", Threshold: "every disk readable", Source: diskSource, Part: "disks"})
	}
	return checks
}

func diskPart(d api.Disk) string {
	part := "disk " + d.Name
	if d.Model != "" {
		part += " " + d.Model
	}
	if d.Serial != "" {
		part += " serial " + d.Serial
	}
	return part
}

// readDisk reads in a goroutine of its own: a read of a dying disk sleeps in
// the kernel where nothing can interrupt it.
func (fs FS) readDisk(ctx context.Context, d api.Disk) (verdict, reading string) {
	if d.Size == 0 {
		return fail, "size 0: the disk does not answer or its slot holds no medium"
	}
	ctx, cancel := context.WithTimeout(ctx, diskDeadline)
	defer cancel()
	done := make(chan error, 1)
	started := time.Now()
	go func() { // ends with the last read; abandoned when that hangs
		done <- readThree(fs.Path("dev/"+d.Name), int64(d.Size))
	}()
	select {
	case err := <-done:
		if errors.Is(err, os.ErrNotExist) {
			return notRun, fmt.Sprintf("there is no %s", fs.Path("dev/"+d.Name))
		}
		if errors.Is(err, os.ErrPermission) { // says nothing of the disk
			return notRun, err.Error() + ": run as root, outside of a container"
		}
		if err != nil {
			return fail, err.Error()
		}
		return pass, fmt.Sprintf("3 MiB read in %s", time.Since(started).Round(time.Millisecond))
	case <-ctx.Done():
		return fail, fmt.Sprintf("still reading after %s", time.Since(started).Round(time.Second))
	}
}

// readThree reads a MiB at the start, the middle and the end of a device of
// size bytes, past the page cache where the device allows it. It opens the
// device for reading only.
func readThree(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(path, os.O_RDONLY, 0)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	buf := aligned(diskChunk)
	for _, at := range []int64{0, size / 2, size - diskChunk} {
		at = max(at, 0) &^ 4095 // O_DIRECT wants offsets of whole blocks
		n, err := f.ReadAt(buf, at)
		want := min(int64(diskChunk), size-at)
		if int64(n) < want && (err == nil || errors.Is(err, io.EOF)) {
			err = io.ErrUnexpectedEOF
		}
		if int64(n) < want {
			return fmt.Errorf("read at byte %d of %d: %w", at, size, err)
		}
	}
	return nil
}

// aligned is a buffer of n bytes at a 4 KiB boundary.
func aligned(n int) []byte {
	const block = 4096
	buf := make([]byte, n+block)
	skip := (block - int(uintptr(unsafe.Pointer(&buf[0]))%block)) % block
	return buf[skip : skip+n]
}
