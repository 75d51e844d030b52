package mad

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// UMAD is a local port of an InfiniBand adapter, through the kernel's ib_umad
// (include/uapi/rdma/ib_user_mad.h). One goroutine may send while another
// receives. The kernel keeps the time of each request, and gives back those
// that were not answered.
type UMAD struct {
	Device Device
	file   *os.File
	subnet uint32 // agents, as the kernel numbers them
	perf   uint32
	vendor uint32
	out    [umadHeader + Size]byte // only Send uses it
	in     [umadHeader + Size]byte // only Receive uses it
}

// The interface of ib_umad. Its header is in the byte order of the machine but
// for what is marked as big endian.
const (
	umadRegister   = 0xc01c1b01 // _IOWR(0x1b, 1, 28 bytes)
	umadEnablePKey = 0x1b03     // _IO(0x1b, 3): headers of 64 bytes, with a P_Key index

	umadRegisterSize = 28 // agent, 4 words of methods, qpn, class, version, oui[3], rmpp version

	umadHeader  = 64
	umadAgent   = 0
	umadStatus  = 4
	umadTimeout = 8 // ms
	umadLength  = 16
	umadQPN     = 20 // big endian
	umadQKey    = 24 // big endian
	umadLID     = 28 // 16 bits, big endian
)

// Open opens the local port of a name: of its umad device, as umad0 or
// /dev/infiniband/umad0, or of its adapter, as mlx5_0, with its port where the
// adapter has more than one, as mlx5_0/2.
func (f FS) Open(name string) (*UMAD, error) {
	d, err := f.Find(name)
	if err != nil {
		return nil, err
	}
	if d.Ethernet() {
		return nil, fmt.Errorf("%s is an Ethernet (RoCE) port, which has no subnet management interface: name an InfiniBand port", d)
	}
	u, err := openUMAD(f.path("dev/infiniband/" + d.UMAD))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	u.Device = d
	return u, nil
}

func openUMAD(path string) (*UMAD, error) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, syscall.ENOENT):
		return nil, fmt.Errorf("%s is not there: load the kernel module ib_umad (modprobe ib_umad)", path)
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM):
		return nil, fmt.Errorf("%s: %w: run as root, or give the group of %[1]s to this user", path, err)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	u := &UMAD{}
	if err = u.setUp(fd); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	u.file = os.NewFile(uintptr(fd), path)
	return u, nil
}

// setUp switches the device to the header with a P_Key index, which must come
// first, and registers for replies of all kinds.
func (u *UMAD) setUp(fd int) (err error) {
	if err := ioctl(fd, umadEnablePKey, nil); err != nil {
		return fmt.Errorf("enable P_Key index: %w: is this a umad device?", err)
	}
	if u.subnet, err = register(fd, QPSubnet, ClassSubnDirected); err != nil {
		return fmt.Errorf("register for subnet management: %w: a port of an Ethernet (RoCE) adapter has none", err)
	}
	if u.perf, err = register(fd, QPGeneral, ClassPerf); err != nil {
		return fmt.Errorf("register for performance management: %w", err)
	}
	if u.vendor, err = register(fd, QPGeneral, ClassVendor); err != nil {
		return fmt.Errorf("register for the vendor's class: %w", err)
	}
	return nil
}

// register returns the number of a new agent of one class, for replies only.
func register(fd int, qp uint32, class Class) (uint32, error) {
	var req [umadRegisterSize / 4]uint32
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&req[0])), umadRegisterSize), registration(qp, class))
	if err := ioctl(fd, umadRegister, unsafe.Pointer(&req[0])); err != nil {
		return 0, err
	}
	return req[0], nil
}

// registration is the request of umadRegister.
func registration(qp uint32, class Class) []byte {
	b := make([]byte, umadRegisterSize)
	b[20] = byte(qp)
	b[21] = byte(class)
	b[22] = 1 // the version of all classes here
	return b
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// Send hands a request to the kernel.
func (u *UMAD) Send(p *Packet) error {
	agent := u.perf
	switch {
	case p.QP == QPSubnet:
		agent = u.subnet
	case Class(p.MAD[1]) == ClassVendor:
		agent = u.vendor
	}
	putUMAD(&u.out, agent, p)
	_, err := u.file.Write(u.out[:])
	if errors.Is(err, syscall.EINVAL) {
		// It still waits for the end of the same transaction, which will come.
		return nil
	}
	return err
}

// putUMAD writes the kernel's form of a packet.
func putUMAD(b *[umadHeader + Size]byte, agent uint32, p *Packet) {
	clear(b[:umadHeader])
	binary.NativeEndian.PutUint32(b[umadAgent:], agent)
	// Part of a millisecond would be none, and none is for what has no reply.
	ms := max(1, uint32(p.Timeout.Milliseconds()))
	binary.NativeEndian.PutUint32(b[umadTimeout:], ms)
	binary.NativeEndian.PutUint32(b[umadLength:], Size)
	binary.BigEndian.PutUint32(b[umadQPN:], p.QP)
	if p.QP == QPGeneral {
		binary.BigEndian.PutUint32(b[umadQKey:], QKey)
	}
	binary.BigEndian.PutUint16(b[umadLID:], p.LID)
	copy(b[umadHeader:], p.MAD[:])
}

// Receive waits for a reply, or for a request that was not answered.
func (u *UMAD) Receive(p *Packet) error {
	n, err := u.file.Read(u.in[:])
	if err != nil {
		return err
	}
	return parseUMAD(u.in[:n], p)
}

// parseUMAD reads the kernel's form of a packet. Of a request that it gives back it
// keeps the header of the MAD only.
func parseUMAD(b []byte, p *Packet) error {
	// ETIMEDOUT where nothing came, others where it could not be sent.
	back := len(b) >= umadHeader && binary.NativeEndian.Uint32(b[umadStatus:]) != 0
	if len(b) != umadHeader+Size && !(back && len(b) == umadHeader+headerSize) {
		return fmt.Errorf("%w: %d bytes from ib_umad, not %d", ErrForeign, len(b), umadHeader+Size)
	}
	*p = Packet{LID: binary.BigEndian.Uint16(b[umadLID:]), QP: binary.BigEndian.Uint32(b[umadQPN:]), TimedOut: back}
	copy(p.MAD[:], b[umadHeader:])
	return nil
}

// SetDeadline ends Sends and Receives that wait, with os.ErrDeadlineExceeded.
func (u *UMAD) SetDeadline(t time.Time) error { return u.file.SetDeadline(t) }

// Close gives the device back; the kernel forgets the agents and what they wait for.
func (u *UMAD) Close() error { return u.file.Close() }

func (u *UMAD) String() string { return u.Device.String() }
