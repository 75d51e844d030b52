package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process names one process beyond doubt: ids are used again, start times of
// the same id are not.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
	Exe   string `json:"exe"`   // target of /proc/PID/exe
}

// identify reads what makes a living process unmistakable.
func identify(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The second field is the command in parentheses, which may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return process{}, fmt.Errorf("process %d has ended", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("process %d: start time: %w", pid, err)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return process{PID: pid, Start: start, Exe: exe}, err
}

// alive says whether the process still runs, and not another of its id.
func (p process) alive() bool {
	now, err := identify(p.PID)
	return err == nil && now == p
}

// kill ends the process and waits until it is gone.
func (p process) kill() error {
	for range 500 { // 5 s
		if !p.alive() {
			return nil
		}
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end process %d: %w", p.PID, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("process %d does not end", p.PID)
}

// allProcesses lists the ids in /proc.
func allProcesses() []int {
	entries, _ := os.ReadDir("/proc") // none is as good an answer as any
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// record is what a lab leaves for the next one, should it crash. It is written
// before what it names is made.
type record struct {
	Lab        string    `json:"lab"`
	Supervisor process   `json:"supervisor"`
	Since      time.Time `json:"since"`
	Machines   []process `json:"machines,omitempty"`
	Files      []string  `json:"files"`       // to be removed
	Dirs       []string  `json:"directories"` // to be removed when empty, inner ones first
}

func recordPath(name string) string { return filepath.Join(labDir(name), "lab.json") }

func readRecord(name string) (*record, error) {
	data, err := os.ReadFile(recordPath(name))
	if err != nil {
		return nil, err
	}
	r := new(record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", recordPath(name), err)
	}
	return r, nil
}

// write replaces the record in one step.
func (r *record) write() error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp := recordPath(r.Lab) + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, recordPath(r.Lab))
}

// UpError says that a lab of that name is up already.
type UpError struct {
	Lab   string
	PID   int // 0: it is just coming up
	Since time.Time
}

func (e *UpError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("lab %s is just coming up or going down", e.Lab)
	}
	return fmt.Sprintf("lab %s is already up since %s (process %d): firstlight lab down ends it",
		e.Lab, e.Since.Format(time.DateTime), e.PID)
}

// ErrNotUp says that there is no such lab, nor anything left of one.
var ErrNotUp = errors.New("lab is not up")

// lock takes a lab's name. The kernel lets go of it when the holder dies, which
// is how a crash is told from a lab that is up.
func lock(name string) (*os.File, error) {
	if err := os.MkdirAll(labDir(name), 0o755); err != nil {
		return nil, fmt.Errorf("lab %s: %w", name, err)
	}
	path := filepath.Join(labDir(name), "lock")
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) { // the last holder removed the directory between the two steps
			if err = os.MkdirAll(labDir(name), 0o755); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, fmt.Errorf("lab %s: %w", name, err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lab %s: lock %s: %w", name, path, err)
			}
			up := &UpError{Lab: name}
			if r, err := readRecord(name); err == nil {
				up.PID, up.Since = r.Supervisor.PID, r.Since
			}
			return nil, up
		}
		// The holder before us removes the file as its last act; a lock on what
		// is no longer there is worth nothing.
		var held, there unix.Stat_t
		if unix.Fstat(int(f.Fd()), &held) == nil && unix.Stat(path, &there) == nil && held.Ino == there.Ino && held.Dev == there.Dev {
			return f, nil
		}
		f.Close()
	}
}

// lockIfThere is lock, but nil when nothing is left of such a lab.
func lockIfThere(name string) (*os.File, error) {
	if _, err := os.Lstat(labDir(name)); errors.Is(err, fs.ErrNotExist) && !remains(name) {
		return nil, nil
	}
	return lock(name)
}

// unlock removes what is left of the lab's run directory, the lock last.
func unlock(name string, f *os.File) error {
	err := errors.Join(os.RemoveAll(labDir(name)), f.Close())
	os.Remove(runDir) // only when it was the last lab
	return err
}

// remains says whether anything is left of a lab that is not up.
func remains(name string) bool {
	for _, path := range []string{recordPath(name), filepath.Join("/run/netns", Namespace(name))} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

// clear removes what a lab made: its machines' processes, its namespace, its
// files. The caller holds the lock. It goes on after an error, to leave as
// little as it can. inside are processes that were in the namespace beside the
// lab's own; they are left alone.
func clear(name string) (inside []int, err error) {
	r, rerr := readRecord(name)
	if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = fmt.Errorf("what a crashed lab left cannot be told: %w", rerr)
	}
	var own []int
	if r != nil {
		own = append(own, r.Supervisor.PID)
		for _, p := range r.Machines {
			own = append(own, p.PID)
			err = errors.Join(err, p.kill())
		}
	}
	inside, nerr := removeNamespace(name)
	inside = slices.DeleteFunc(inside, func(pid int) bool { return slices.Contains(own, pid) })
	err = errors.Join(err, nerr)
	if r != nil {
		for _, f := range r.Files {
			if rmErr := os.Remove(f); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
				err = errors.Join(err, rmErr)
			}
		}
		for _, d := range r.Dirs {
			os.Remove(d) // stays when somebody else put something there
		}
	}
	if err != nil {
		return inside, err // the record is kept for another try
	}
	return inside, clearRunDir(name)
}

// clearRunDir removes record and sockets, and leaves the lock.
func clearRunDir(name string) error {
	entries, err := os.ReadDir(labDir(name))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "lock" {
			err = errors.Join(err, os.Remove(filepath.Join(labDir(name), e.Name())))
		}
	}
	return err
}
