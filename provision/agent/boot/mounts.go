package boot

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one line of what every user space has.
type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
	optional             bool
}

var basics = []mount{
	{source: "proc", target: "/proc", kind: "proc", flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{source: "sysfs", target: "/sys", kind: "sysfs", flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{source: "devtmpfs", target: "/dev", kind: "devtmpfs", flags: unix.MS_NOSUID, data: "mode=0755"},
	// /run holds the root file system of the image as well: most of the RAM may go there.
	{source: "tmpfs", target: runDir, kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=0755,size=90%"},
	{source: "tmpfs", target: "/tmp", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777"},
	{source: "efivarfs", target: "/sys/firmware/efi/efivars", kind: "efivarfs", flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, optional: true},
}

const runDir = "/run"

// mountBasics mounts what is not mounted yet: the kernel may have mounted
// /dev, and in the image all but /tmp were moved here.
func (m *machine) mountBasics() error {
	mounted := mountPoints()
	var failed []error
	for _, b := range basics {
		if slices.Contains(mounted, b.target) {
			continue
		}
		if !b.optional {
			// In an image the directory exists; on a read-only root that lacks it mount says so.
			_ = os.MkdirAll(b.target, 0o755)
		}
		err := unix.Mount(b.source, b.target, b.kind, b.flags, b.data)
		if err != nil && !b.optional && !errors.Is(err, unix.EBUSY) {
			failed = append(failed, fmt.Errorf("mount %s on %s: %w", b.kind, b.target, err))
		}
	}
	return errors.Join(failed...)
}

// mountPoints lists /proc/self/mounts in order, nil before /proc is there.
func mountPoints() []string {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 {
			points = append(points, f[1])
		}
	}
	return points
}

// unmountAll unmounts what lies on disks, last first. The rest is memory.
func unmountAll() {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, line := range slices.Backward(lines) {
		f := strings.Fields(line)
		if len(f) > 1 && strings.HasPrefix(f[0], "/dev/") && !strings.HasPrefix(f[0], "/dev/loop") {
			_ = unix.Unmount(f[1], unix.MNT_DETACH) // the power goes next, whatever it says
		}
	}
	unix.Sync()
}
