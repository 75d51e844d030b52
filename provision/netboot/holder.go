package netboot

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// portError says which port could not be opened and who holds it.
func portError(service, network string, at netip.AddrPort, ifname string, err error) error {
	what := fmt.Sprintf("%s: %s port %d on %s", service, strings.ToUpper(network), at.Port(), ifname)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		if who := portHolder(procFS("/proc"), network, at); who != "" {
			return fmt.Errorf("%s is in use by %s: stop it, or serve another interface or port: %w", what, who, err)
		}
		return fmt.Errorf("%s is in use: find who with `ss -lp`, as root: %w", what, err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s needs CAP_NET_BIND_SERVICE and CAP_NET_RAW: run as root: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// procFS is the root of a proc file system.
type procFS string

// portHolder returns "name (pid N)" of the process that listens on a port that
// conflicts with at, or "" when /proc does not tell.
func portHolder(proc procFS, network string, at netip.AddrPort) string {
	for _, inode := range proc.listeners(network, at) {
		if pid := proc.ownerOf(inode); pid != 0 {
			name, err := os.ReadFile(proc.path(strconv.Itoa(pid), "comm"))
			if err != nil {
				return fmt.Sprintf("process %d", pid)
			}
			return fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(name)), pid)
		}
	}
	return ""
}

func (p procFS) path(elem ...string) string { return filepath.Join(string(p), filepath.Join(elem...)) }

// listeners reads net/udp or net/tcp (proc_pid_net(5)) for the inodes of
// sockets bound to the port, at the address or at any.
func (p procFS) listeners(network string, at netip.AddrPort) []string {
	var inodes []string
	for _, file := range []string{network, network + "6"} {
		f, err := os.Open(p.path("self", "net", file))
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
			fields := strings.Fields(sc.Text())
			if len(fields) < 10 || (network == "tcp" && fields[3] != "0A") {
				continue
			}
			local, ok := parseProcAddr(fields[1])
			if !ok || local.Port() != at.Port() {
				continue
			}
			a := local.Addr().Unmap()
			if a.IsUnspecified() || at.Addr().IsUnspecified() || a == at.Addr() {
				inodes = append(inodes, fields[9])
			}
		}
		f.Close()
	}
	return inodes
}

// parseProcAddr parses "0100007F:0045": the address is 32-bit words in the
// machine's byte order, the port is in network order.
func parseProcAddr(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(n)), ok
}

// ownerOf looks through every process's descriptors for a socket; 0 when
// there is none that we may see.
func (p procFS) ownerOf(inode string) int {
	want := "socket:[" + inode + "]"
	fds, err := filepath.Glob(p.path("[0-9]*", "fd", "*"))
	if err != nil {
		return 0
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target == want {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(fd))))
			return pid
		}
	}
	return 0
}
