package journal

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSocketPath is below sun_path's 108 bytes with its terminating zero.
const maxSocketPath = 107

// dirOwner is what the process that serves a state directory writes into the
// directory's lock file.
type dirOwner struct {
	PID    int    `json:"pid"`
	Socket string `json:"socket"`
	Ready  bool   `json:"ready"` // the socket may be used
}

// dirLock is the right to serve a state directory, held until Close or death.
type dirLock struct {
	file    *os.File
	socket  string
	tempDir string // holds the socket when the state directory's path is too long
}

// initialised says whether a member has ever been started in a directory.
func initialised(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "lock"))
	return err == nil
}

// takeDir takes the lock file of a directory. It returns nil and the owner
// when another process (or another Journal of this one) has it.
func takeDir(dir string) (*dirLock, dirOwner, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, dirOwner{}, err
	}
	var owner dirOwner
	raw, err := io.ReadAll(io.LimitReader(f, 4096))
	if err == nil {
		_ = json.Unmarshal(raw, &owner) // half written or empty: the owner is starting; the caller tries again
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
	case unix.EWOULDBLOCK:
		_ = f.Close()
		return nil, owner, nil
	default:
		_ = f.Close()
		return nil, dirOwner{}, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	l := &dirLock{file: f, socket: filepath.Join(dir, "client.sock")}
	removeLeftSocket(owner.Socket)
	if len(l.socket) > maxSocketPath {
		l.tempDir, err = os.MkdirTemp("", "firstlight-")
		if err != nil {
			l.release()
			return nil, dirOwner{}, fmt.Errorf("directory for the client socket: %w", err)
		}
		l.socket = filepath.Join(l.tempDir, "client.sock")
	}
	if err := l.announce(false); err != nil {
		l.release()
		return nil, dirOwner{}, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return l, owner, nil
}

// removeLeftSocket removes the socket of an owner that was killed, with its
// directory if that was a temporary one of ours.
func removeLeftSocket(socket string) {
	if filepath.Base(socket) != "client.sock" {
		return
	}
	_ = os.Remove(socket)
	if parent := filepath.Dir(socket); strings.HasPrefix(filepath.Base(parent), "firstlight-") {
		_ = os.Remove(parent) // fails, rightly, when it holds anything else
	}
}

// announce writes into the lock file who holds the directory and whether
// others may use its socket yet.
func (l *dirLock) announce(ready bool) error {
	raw, err := json.Marshal(dirOwner{PID: os.Getpid(), Socket: l.socket, Ready: ready})
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	// A reader in between sees text that is no JSON, and looks again.
	if _, err := l.file.WriteAt(raw, 0); err != nil {
		return err
	}
	return l.file.Truncate(int64(len(raw)))
}

// release gives the directory back.
func (l *dirLock) release() {
	if l.tempDir != "" {
		_ = os.RemoveAll(l.tempDir)
	}
	_ = l.file.Close()
}

// free returns the bytes an ordinary user may still write below a path.
func free(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// checkSpace refuses when less than floor bytes are free. etcd ends the whole
// process when a write of its log fails, so that must never be reached.
func checkSpace(dir string, floor uint64) error {
	n, err := free(dir)
	if err != nil {
		return fmt.Errorf("read free space: %w", err)
	}
	if n < floor {
		return fmt.Errorf("its disk has %d MiB free and %d MiB are kept in reserve: free some and run the command again: %w",
			n>>20, floor>>20, unix.ENOSPC)
	}
	return nil
}
