package mad

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// guestEnv is set in the virtual machine of TestUMADMachine, where this test binary
// is the first process, and childEnv in a process of another user there.
const (
	guestEnv = "MAD_TEST_GUEST"
	childEnv = "MAD_TEST_CHILD"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(childEnv) != "":
		_, err := openUMAD("/dev/infiniband/umad0")
		fmt.Println(err)
	case os.Getenv(guestEnv) != "" && os.Getpid() == 1:
		guest()
	default:
		os.Exit(m.Run())
	}
}

// guestSteps are what a machine with a RoCE adapter of the kernel's own, rdma_rxe,
// shows of ib_umad, in this order.
var guestSteps = []struct {
	name string
	run  func() error
}{
	{"no device before its module", noDevice},
	{"a RoCE port is made", makeRoCE},
	{"the port is found", findRoCE},
	{"a RoCE port is refused by its name", refusedByName},
	{"subnet management cannot be registered", noSubnetManagement},
	{"a failed open gives everything back", givesBack},
	{"the header cannot be changed late", lateHeader},
	{"performance management is registered and answered", answered},
	{"the vendor's class is registered and answered", vendorAnswered},
	{"what nobody answers comes back", timedOut},
	{"a deadline ends a receive", deadline},
	{"another user is refused", otherUser},
	{"the file is not there", noFile},
	{"the device goes away", goesAway},
}

// guest runs all steps, says how each ended on the console, and ends the machine.
func guest() {
	err := mountAll()
	for _, s := range guestSteps {
		if err == nil {
			err = s.run()
		}
		if err != nil {
			fmt.Printf("step %s: %v\n", s.name, err)
			break
		}
		fmt.Printf("step %s: ok\n", s.name)
	}
	time.Sleep(100 * time.Millisecond) // for the serial port
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func mountAll() error {
	for _, m := range []struct{ what, where string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(m.where, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.where, m.what, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%s: %w", m.where, err)
		}
	}
	return nil
}

// says wants an error that holds all of these.
func says(err error, want ...string) error {
	if err == nil {
		return fmt.Errorf("no error; want %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			return fmt.Errorf("it says %q; want %q", err, w)
		}
	}
	return nil
}

func noDevice() error {
	_, err := FS("/").Open("rxe0")
	return says(err, "rxe0: no InfiniBand port is on this machine", "modprobe ib_umad")
}

// The Ethernet device of the adapter, its address, and that of a neighbour who is
// not there. By IPv4 the kernel would not take an answer for that of its question.
const (
	roceNet  = "dummy0"
	roceSelf = "fd98::1"
	roceGone = "fd98::9"
)

func makeRoCE() error {
	for _, name := range guestModules {
		f, err := os.Open("/modules/" + name + ".ko")
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: roceNet}}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: %w", roceNet, err)
	}
	link, err := netlink.LinkByName(roceNet)
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(roceSelf + "/64")
	if err != nil {
		return err
	}
	address.Flags = unix.IFA_F_NODAD
	if err := errors.Join(netlink.AddrAdd(link, address), netlink.LinkSetUp(link)); err != nil {
		return err
	}
	if err := netlink.RdmaLinkAdd("rxe0", "rxe", roceNet); err != nil {
		return fmt.Errorf("rdma link add rxe0: %w", err)
	}
	for range 100 { // devtmpfs makes the file by itself
		if _, err = os.Stat("/dev/infiniband/umad0"); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

func findRoCE() error {
	all, err := FS("/").Devices()
	if err != nil {
		return err
	}
	if len(all) != 1 || all[0].UMAD != "umad0" || all[0].Adapter != "rxe0" || all[0].Port != 1 || !all[0].Ethernet() || !all[0].Active() {
		return fmt.Errorf("devices are %+v", all)
	}
	return nil
}

func refusedByName() error {
	for _, name := range []string{"rxe0", "rxe0/1", "umad0", "/dev/infiniband/umad0"} {
		_, err := FS("/").Open(name)
		if err := says(err, "umad0 (port 1 of adapter rxe0) is an Ethernet (RoCE) port, which has no subnet management interface"); err != nil {
			return err
		}
	}
	return nil
}

// noSubnetManagement opens the device whatever its link layer is: the kernel says
// that it has no queue pair 0.
func noSubnetManagement() error {
	_, err := openUMAD("/dev/infiniband/umad0")
	return says(err, "/dev/infiniband/umad0: register for subnet management", "a port of an Ethernet (RoCE) adapter has none")
}

func descriptors() (int, error) {
	all, err := os.ReadDir("/proc/self/fd")
	return len(all), err
}

func givesBack() error {
	before, err := descriptors()
	if err != nil {
		return err
	}
	for range 200 {
		if err := noSubnetManagement(); err != nil {
			return err
		}
	}
	if after, err := descriptors(); err != nil || after != before {
		return fmt.Errorf("%d files are open after 200 failures, %d before: %v", after, before, err)
	}
	return nil
}

func lateHeader() error {
	fd, err := syscall.Open("/dev/infiniband/umad0", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if _, err := register(fd, QPGeneral, ClassPerf); err != nil {
		return err
	}
	err = (&UMAD{}).setUp(fd)
	return says(err, "enable P_Key index: invalid argument", "is this a umad device?")
}

// openPerf is openUMAD without subnet management, which RoCE has not.
func openPerf() (*UMAD, error) {
	fd, err := syscall.Open("/dev/infiniband/umad0", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	u := &UMAD{}
	if err = ioctl(fd, umadEnablePKey, nil); err == nil {
		u.perf, err = register(fd, QPGeneral, ClassPerf)
	}
	if err == nil {
		u.vendor, err = register(fd, QPGeneral, ClassVendor)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	u.file = os.NewFile(uintptr(fd), "umad0")
	return u, nil
}

// The parts of the header that only a RoCE port needs: the way is a GID.
const (
	umadGRH = 32 // present, GID index, hop limit, traffic class, GID
	umadGID = 36
)

// sendTo is Send by a global route, as RoCE has it.
func (u *UMAD) sendTo(gid string, p *Packet) error {
	agent := u.perf
	if Class(p.MAD[1]) == ClassVendor {
		agent = u.vendor
	}
	putUMAD(&u.out, agent, p)
	index, err := gidIndex()
	if err != nil {
		return err
	}
	u.out[umadGRH], u.out[umadGRH+1], u.out[umadGRH+2] = 1, index, 1
	raw := netip.MustParseAddr(gid).As16()
	copy(u.out[umadGID:], raw[:])
	_, err = u.file.Write(u.out[:])
	return err
}

// gidIndex finds the port's own address in its table, where it comes after a while.
func gidIndex() (byte, error) {
	self := netip.MustParseAddr(roceSelf)
	for range 100 {
		for i := range 16 {
			text, err := os.ReadFile(fmt.Sprintf("/sys/class/infiniband/rxe0/ports/1/gids/%d", i))
			if err != nil {
				return 0, err
			}
			if own, err := netip.ParseAddr(strings.TrimSpace(string(text))); err == nil && own == self {
				return byte(i), nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0, errors.New("the port has no GID of that address")
}

func perfGet(tid uint64, wait time.Duration) *Packet {
	p := &Packet{QP: QPGeneral, Timeout: wait}
	PutPerfGet(&p.MAD, tid, AttrPortCounters, 1)
	return p
}

// answered has the port ask itself: rdma_rxe has no counters, and the kernel
// answers for it that it does not know them.
func answered() error {
	return selfAnswer(perfGet(0x1122, 5*time.Second), 0x1122, ClassPerf, AttrPortCounters)
}

// vendorAnswered is the same of the vendor's class, which rdma_rxe has not either.
func vendorAnswered() error {
	p := &Packet{QP: QPGeneral, Timeout: 5 * time.Second}
	PutVendorGet(&p.MAD, 0x5566, AttrGeneralInfo)
	return selfAnswer(p, 0x5566, ClassVendor, AttrGeneralInfo)
}

func selfAnswer(p *Packet, tid uint64, class Class, attr Attribute) error {
	u, err := openPerf()
	if err != nil {
		return err
	}
	defer u.Close()
	if err := u.sendTo(roceSelf, p); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := u.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	var got Packet
	if err := u.Receive(&got); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	h, err := ParseHeader(got.MAD[:])
	if err != nil {
		return err
	}
	if got.TimedOut || got.QP != QPGeneral || h.Method != MethodGetResp || h.Class != class || h.Attribute != attr || h.TID&TIDMask != tid || !h.Status.Unsupported() {
		return fmt.Errorf("the answer is %+v of %+v; want one that it is not supported", h, got)
	}
	return nil
}

// timedOut asks a neighbour that is not there.
func timedOut() error {
	u, err := openPerf()
	if err != nil {
		return err
	}
	defer u.Close()
	link, err := netlink.LinkByName(roceNet)
	if err != nil {
		return err
	}
	if err := netlink.NeighAdd(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(roceGone), HardwareAddr: []byte{2, 0, 0, 0, 0, 9}}); err != nil {
		return fmt.Errorf("neighbour: %w", err)
	}
	asked := perfGet(0x3344, 200*time.Millisecond)
	if err := u.sendTo(roceGone, asked); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := u.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	var got Packet
	if err := u.Receive(&got); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	if tid := binary.BigEndian.Uint64(got.MAD[8:]); !got.TimedOut || tid&TIDMask != 0x3344 {
		return fmt.Errorf("it is %+v, transaction %#x; want the question, timed out", got, tid)
	}
	return nil
}

func deadline() error {
	u, err := openPerf()
	if err != nil {
		return err
	}
	defer u.Close()
	for _, at := range []time.Time{time.Unix(1, 0), time.Now().Add(20 * time.Millisecond)} {
		if err := u.SetDeadline(at); err != nil {
			return err
		}
		if err := u.Receive(&Packet{}); !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("receive gives %v; want that the deadline is over", err)
		}
	}
	return nil
}

func otherUser() error {
	if err := os.Chmod("/dev/infiniband/umad0", 0o600); err != nil {
		return err
	}
	c := exec.Command("/init")
	c.Env = []string{childEnv + "=1"}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.Output()
	if err != nil {
		return err
	}
	return says(errors.New(string(out)), "/dev/infiniband/umad0: permission denied: run as root, or give the group of /dev/infiniband/umad0 to this user")
}

func noFile() error {
	if err := os.Rename("/dev/infiniband/umad0", "/dev/infiniband/away"); err != nil {
		return err
	}
	_, err := openUMAD("/dev/infiniband/umad0")
	if err := says(err, "/dev/infiniband/umad0 is not there: load the kernel module ib_umad (modprobe ib_umad)"); err != nil {
		return err
	}
	return os.Rename("/dev/infiniband/away", "/dev/infiniband/umad0")
}

// goesAway takes the adapter away from a receive that waits.
func goesAway() error {
	u, err := openPerf()
	if err != nil {
		return err
	}
	defer u.Close()
	ended := make(chan error, 1)
	go func() { ended <- u.Receive(&Packet{}) }() // ends with the device
	if err := netlink.RdmaLinkDel("rxe0"); err != nil {
		return err
	}
	select {
	case err := <-ended:
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("receive gives %v; want that the device is gone", err)
		}
	case <-time.After(20 * time.Second):
		return errors.New("receive waits on for a device that is gone")
	}
	if err := u.Send(perfGet(1, time.Second)); err == nil {
		return errors.New("a device that is gone takes a packet")
	}
	_, err = FS("/").Open("rxe0")
	return says(err, "rxe0: no InfiniBand port is on this machine")
}
