package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// FS is the root of the machine looked at: "/" for the one that the agent
// stands on, a directory for a tree of fixtures. What no file tells (the
// firmware version of a NIC, the BMC) is asked only of "/".
type FS string

// Live says whether fs is the running machine.
func (fs FS) Live() bool { return filepath.Clean(string(fs)) == "/" }

// Path is name, without a leading slash, under the root.
func (fs FS) Path(name string) string { return filepath.Join(string(fs), name) }

func (fs FS) read(name string) ([]byte, error) { return os.ReadFile(fs.Path(name)) }

// line is the trimmed content of a one-line file, "" when it cannot be read:
// sysfs gives EINVAL for what a device does not have.
func (fs FS) line(name string) string {
	b, err := fs.read(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.Trim(string(b), "\x00"))
}

// number is the decimal or 0x number in a one-line file; ok is false when
// there is none.
func (fs FS) number(name string) (n int64, ok bool) {
	n, err := strconv.ParseInt(fs.line(name), 0, 64)
	return n, err == nil
}

// names lists a directory, sorted; nil when it is not there.
func (fs FS) names(dir string) []string {
	entries, err := os.ReadDir(fs.Path(dir))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

// link is the last element of what a symbolic link points to, "" without one.
func (fs FS) link(name string) string {
	to, err := os.Readlink(fs.Path(name))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

func (fs FS) exists(name string) bool {
	_, err := os.Lstat(fs.Path(name))
	return err == nil
}

// uptime is the first field of /proc/uptime, in seconds.
func (fs FS) uptime() float64 {
	first, _, _ := strings.Cut(fs.line("proc/uptime"), " ")
	s, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return s
}

// macs are the addresses of all physical Ethernet interfaces, sorted.
func (fs FS) macs() []string {
	macs := []string{}
	for _, nic := range fs.nics() {
		macs = append(macs, nic.MAC)
	}
	slices.Sort(macs)
	return slices.Compact(macs)
}
