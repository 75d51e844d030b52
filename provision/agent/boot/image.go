package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
)

// Where the image's parts lie. All is below /run, which moves into the new
// root, so that nothing of the initramfs has to stay.
const (
	imageDir  = runDir + "/firstlight"
	rootFile  = imageDir + "/root.squashfs"
	lowerDir  = imageDir + "/lower"
	writeDir  = imageDir + "/rw"
	newRoot   = "/newroot"
	imageInit = "/sbin/init"
)

// digestError: the root file system is not the one that the manifest names.
type digestError struct{ got, want string }

func (e *digestError) Error() string {
	return fmt.Sprintf("root file system digest is %s, manifest says %s", e.got, e.want)
}

// reportOf is what the controller is told when an image cannot be entered.
func reportOf(err error) api.Report {
	r := api.Report{Kind: api.ReportBootFailed, Message: err.Error()}
	var digest *digestError
	if errors.As(err, &digest) {
		r.Kind = api.ReportDigestMismatch // booting it again is no use
	}
	return r
}

// enterImage fetches, verifies and mounts the root file system of the image
// and becomes its init. It returns only when that failed, with the reason;
// the initramfs is then still whole, and can take orders.
func (m *machine) enterImage(ctx context.Context) error {
	if err := os.MkdirAll(imageDir, 0o700); err != nil {
		return err
	}
	digest, err := m.fetchRoot(ctx)
	if err != nil {
		return err
	}
	if digest != m.args.Root {
		_ = os.Remove(rootFile) // frees memory; a second try truncates it anyway
		return &digestError{got: digest, want: m.args.Root}
	}
	if err := mountImage(); err != nil {
		return fmt.Errorf("mount the image's root file system: %w", err)
	}
	h := Handover{Args: m.args, Token: m.token, Address: m.address, RootDigest: digest}
	if err := h.write(); err != nil {
		return err
	}
	m.log.Info("root file system verified; entering the image", "digest", digest)
	text, _ := m.buffer.Bytes()
	if err := os.WriteFile(bootLogPath, text, 0o600); err != nil {
		m.log.Warn("the log of the initramfs is lost to the image", "err", err)
	}
	err = switchRoot()
	_ = os.Remove(handoverPath) // this process keeps the token, and is not the image
	return err
}

// fetchRoot downloads the root file system and returns its digest.
func (m *machine) fetchRoot(ctx context.Context) (string, error) {
	hex := strings.TrimPrefix(m.args.Root, "sha256:")
	f := fetcher{http: &http.Client{Transport: &http.Transport{DisableCompression: true}}, log: m.log, pause: 500 * time.Millisecond}
	sum, err := f.fetch(ctx, m.args.Controller+api.BlobPath+hex, rootFile)
	if err != nil {
		return "", fmt.Errorf("fetch root file system %s: %w", m.args.Root, err)
	}
	return "sha256:" + sum, nil
}

// mountImage mounts the squashfs read-only and an overlay in memory over it.
func mountImage() error {
	for _, dir := range []string{lowerDir, writeDir + "/upper", writeDir + "/work", newRoot} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	device, err := attachLoop(rootFile)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, lowerDir, "squashfs", unix.MS_RDONLY|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount %s as squashfs: %w", device, err)
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lowerDir, writeDir, writeDir)
	if err := unix.Mount("overlay", newRoot, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return checkInit(newRoot)
}

// checkInit holds that a root has an init that can be started. Links are
// followed inside the root, as they will be once it is the root: images link
// /sbin/init by an absolute path.
func checkInit(root string) error {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, strings.TrimPrefix(imageInit, "/"), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return fmt.Errorf("image has no %s: %w", imageInit, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("image's %s: %w", imageInit, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return fmt.Errorf("image's %s is not an executable file (mode %o)", imageInit, st.Mode)
	}
	return nil
}

// attachLoop makes file a read-only block device for as long as the node is
// up.
func attachLoop(file string) (string, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("%w: is the loop module in the initramfs?", err)
	}
	defer control.Close()
	back, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer back.Close()
	for range 16 { // another process may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("find a free loop device: %w", err)
		}
		device := fmt.Sprintf("/dev/loop%d", n)
		loop, err := openSoon(device)
		if err != nil {
			return "", err
		}
		defer loop.Close() // stays attached: autoclear is not set
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &unix.LoopConfig{
			Fd:   uint32(back.Fd()),
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY},
		})
		if err == nil {
			return device, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return "", fmt.Errorf("attach %s to %s: %w", file, device, err)
		}
	}
	return "", errors.New("every loop device is taken as soon as it is free")
}

// openSoon waits for devtmpfs to have the node.
func openSoon(device string) (*os.File, error) {
	for attempt := 0; ; attempt++ {
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err == nil || !errors.Is(err, os.ErrNotExist) || attempt == 100 {
			return f, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// switchRoot makes newRoot the root, frees the memory of the initramfs and
// runs the image's init in place of this process.
func switchRoot() error {
	for _, dir := range []string{"/dev", "/proc", "/sys", runDir} {
		to := newRoot + dir
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(dir, to, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := removeInitramfs(); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the new root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", imageInit, unix.Exec(imageInit, []string{imageInit}, os.Environ()))
}

// removeInitramfs deletes everything on the root's own file system. It
// refuses when that is not the kernel's in-memory root.
func removeInitramfs() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil {
		return err
	}
	if st.Type != unix.RAMFS_MAGIC && st.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("root is no initramfs (file system type %#x): not deleting it", st.Type)
	}
	var root unix.Stat_t
	if err := unix.Lstat("/", &root); err != nil {
		return err
	}
	var files, dirs []string
	err := filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone already, or unreadable: it only costs memory
		}
		var s unix.Stat_t
		if unix.Lstat(path, &s) != nil || s.Dev != root.Dev {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			dirs = append(dirs, path)
		} else {
			files = append(files, path)
		}
		return nil
	})
	for _, f := range files {
		_ = unix.Unlink(f) // what stays only costs memory
	}
	for i := len(dirs) - 1; i > 0; i-- {
		_ = unix.Rmdir(dirs[i]) // mount points stay
	}
	return err
}
