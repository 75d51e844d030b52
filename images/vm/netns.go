package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Enter moves the calling goroutine's thread into a lab's network namespace and
// locks the goroutine to it for good. Sockets opened and programs started by
// this goroutine from then on are inside; the rest of the process is not, so a
// caller that is to run in there as a whole follows up with syscall.Exec.
func Enter(name string) error {
	h, err := netns.GetFromName(Namespace(name))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab %s is not up (there is no network namespace %s): run firstlight lab up", name, Namespace(name))
	}
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", Namespace(name), err)
	}
	defer h.Close()
	runtime.LockOSThread()
	if err := netns.Set(h); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s (needs root): %w", Namespace(name), err)
	}
	return nil
}

// nsThread is one OS thread that lives in the lab's namespace from Supervise's
// start to its end. QEMU is started from it: PR_SET_PDEATHSIG fires when the
// thread that forked ends, so it must not be one that the Go runtime may reap.
type nsThread struct {
	jobs chan func()
	done chan struct{}
}

// newNSThread makes the namespace and the thread in it; the thread ends in close.
func newNSThread(name string) (*nsThread, error) {
	t := &nsThread{jobs: make(chan func()), done: make(chan struct{})}
	made := make(chan error)
	go func() {
		defer close(t.done)
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			made <- err
			return
		}
		h, err := netns.NewNamed(Namespace(name))
		if err == nil {
			h.Close()
		}
		made <- err
		for job := range t.jobs {
			job()
		}
		// A thread that found its way home may serve other goroutines again; any
		// other ends with this one.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		home.Close()
	}()
	if err := <-made; err != nil {
		t.close()
		return nil, fmt.Errorf("make network namespace %s: %w", Namespace(name), err)
	}
	return t, nil
}

// do runs f on the thread and waits for it.
func (t *nsThread) do(f func() error) error {
	result := make(chan error, 1)
	t.jobs <- func() { result <- f() }
	return <-result
}

func (t *nsThread) close() {
	close(t.jobs)
	<-t.done
}

// wire makes the lab's bridges with the controller's and the BMCs' addresses.
// It runs inside the namespace.
func (l *Lab) wire() error {
	// No router solicitations and no duplicate address detection: nothing on the
	// lab's wires but what the machines and the controller send.
	for _, scope := range []string{"all", "default"} {
		if err := setSysctl("net/ipv6/conf/"+scope+"/disable_ipv6", "1"); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	networks := map[string]Network{}
	bridges := map[string]netlink.Link{}
	for _, n := range l.Networks {
		networks[n.Name] = n
		br, err := addBridge(n)
		if err != nil {
			return fmt.Errorf("network %s: bridge %s: %w", n.Name, n.bridge(), err)
		}
		bridges[n.Name] = br
	}
	for _, m := range l.Machines {
		n, ok := networkOf(m.BMC.Address, networks)
		if !ok {
			return fmt.Errorf("machine %s: BMC address %s is in none of the lab's networks", m.Name, m.BMC.Address)
		}
		addr, err := netlink.ParseAddr(m.BMC.Address.String() + "/32")
		if err != nil {
			return fmt.Errorf("machine %s: %w", m.Name, err)
		}
		if err := netlink.AddrAdd(bridges[n.Name], addr); err != nil {
			return fmt.Errorf("machine %s: BMC address %s on %s: %w", m.Name, m.BMC.Address, n.bridge(), err)
		}
	}
	return nil
}

// addBridge makes one bridge. The kernel's bridges run no spanning tree unless
// told to, and without it a port forwards from the first packet on: the
// firmware's first DISCOVER is not lost.
func addBridge(n Network) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.bridge()
	snoop := false
	br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snoop}
	if err := netlink.LinkAdd(br); err != nil {
		return nil, err
	}
	addr, err := netlink.ParseAddr(n.Address.String())
	if err != nil {
		return nil, err
	}
	if err := netlink.AddrAdd(br, addr); err != nil {
		return nil, fmt.Errorf("address %s: %w", n.Address, err)
	}
	return br, netlink.LinkSetUp(br)
}

// setSysctl writes below /proc/sys. Its net part belongs to the namespace of
// the thread that opens the file.
func setSysctl(key, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
		return fmt.Errorf("sysctl %s: %w", strings.ReplaceAll(key, "/", "."), err)
	}
	return nil
}

// openTap makes a tap interface on a bridge; it goes away when the file is
// closed. It runs inside the namespace.
func openTap(name, bridge string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("tap %s: open /dev/net/tun: %w (is the tun module there?)", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	// struct ifreq: 16 bytes of name, then the flags.
	var req [40]byte
	copy(req[:maxInterface], name)
	*(*uint16)(unsafe.Pointer(&req[16])) = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&req[0]))); errno != 0 {
		f.Close()
		return nil, fmt.Errorf("tap %s: %w", name, errno)
	}
	link, err := netlink.LinkByName(name)
	if err == nil {
		var br netlink.Link
		if br, err = netlink.LinkByName(bridge); err == nil {
			err = errors.Join(netlink.LinkSetMaster(link, br), netlink.LinkSetUp(link))
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("tap %s on bridge %s: %w", name, bridge, err)
	}
	return f, nil
}

// tapName names a machine's tap after the machine where that fits.
func tapName(machine string, index, nic int) string {
	if name := fmt.Sprintf("%s.%d", machine, nic); len(name) <= maxInterface {
		return name
	}
	return fmt.Sprintf("vm%d.%d", index, nic)
}

// removeNamespace removes a namespace with the links in it. A process that is
// still inside keeps an empty namespace, without a name; its id is returned.
func removeNamespace(name string) (inside []int, err error) {
	path := filepath.Join("/run/netns", Namespace(name))
	h, err := netns.GetFromPath(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		defer h.Close()
		var fs unix.Statfs_t
		if unix.Fstatfs(int(h), &fs) == nil && fs.Type != unix.NSFS_MAGIC {
			return nil, os.Remove(path) // the file without its mount: a crash between the two
		}
		inside = processesIn(h)
		err = removeLinks(h)
	}
	if derr := netns.DeleteNamed(Namespace(name)); derr != nil {
		return inside, fmt.Errorf("remove network namespace %s: %w", Namespace(name), errors.Join(derr, err))
	}
	return inside, nil
}

func removeLinks(h netns.NsHandle) error {
	nl, err := netlink.NewHandleAt(h)
	if err != nil {
		return err
	}
	defer nl.Close()
	links, err := nl.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Attrs().Name != "lo" {
			err = errors.Join(err, nl.LinkDel(link))
		}
	}
	return err
}

// processesIn lists the processes of a namespace.
func processesIn(h netns.NsHandle) []int {
	var want unix.Stat_t
	if unix.Fstat(int(h), &want) != nil {
		return nil
	}
	var pids []int
	for _, p := range allProcesses() {
		var got unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", p), &got) == nil && got.Dev == want.Dev && got.Ino == want.Ino {
			pids = append(pids, p)
		}
	}
	return pids
}
