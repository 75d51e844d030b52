package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
)

// IPMI commands (IPMI 2.0 §20.1, §23.2) and the kernel's interface to them
// (include/uapi/linux/ipmi.h, 64-bit).
const (
	netFnApp, cmdGetDeviceID       = 0x06, 0x01
	netFnTransport, cmdGetLAN      = 0x0c, 0x02
	lanAddress, lanMAC             = 3, 5
	ipmiSendCommand                = 0x8028690d // _IOR('i', 13, struct ipmi_req)
	ipmiReceiveTruncated           = 0xc030690b // _IOWR('i', 11, struct ipmi_recv)
	ipmiSystemInterface            = 0x0c
	ipmiBMCChannel                 = 0x0f
	ipmiTimeout                    = 5 * time.Second
	ipmiDevice                     = "/dev/ipmi0"
	ipmiOK                         = 0x00
	lanChannel                byte = 1
)

type ipmiAddr struct {
	kind    int32
	channel int16
	lun     byte
	_       byte
}

type ipmiMsg struct {
	netFn, cmd byte
	size       uint16
	_          [4]byte
	data       unsafe.Pointer
}

type ipmiReq struct {
	addr     unsafe.Pointer
	addrSize uint32
	_        [4]byte
	id       int64
	msg      ipmiMsg
}

type ipmiRecv struct {
	kind     int32
	_        [4]byte
	addr     unsafe.Pointer
	addrSize uint32
	_        [4]byte
	id       int64
	msg      ipmiMsg
}

// bmcInBand asks the BMC through the kernel's system interface. Both results
// are nil where there is no such interface; an interface that does not answer
// is an error, because a BMC is there and ill.
func bmcInBand(ctx context.Context) (*api.BMC, error) {
	f, err := os.OpenFile(ipmiDevice, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	id, err := ipmiDo(ctx, fd, netFnApp, cmdGetDeviceID, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: get device id: %w", ipmiDevice, err)
	}
	bmc, err := parseDeviceID(id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ipmiDevice, err)
	}
	// Channel 1 may be no LAN channel: then the address stays unknown.
	if b, err := ipmiDo(ctx, fd, netFnTransport, cmdGetLAN, []byte{lanChannel, lanAddress, 0, 0}); err == nil && len(b) >= 5 {
		if a, _ := netip.AddrFromSlice(b[1:5]); !a.IsUnspecified() {
			bmc.Address = a.String()
		}
	}
	if b, err := ipmiDo(ctx, fd, netFnTransport, cmdGetLAN, []byte{lanChannel, lanMAC, 0, 0}); err == nil && len(b) >= 7 {
		bmc.MAC = net.HardwareAddr(b[1:7]).String()
	}
	return &bmc, nil
}

// parseDeviceID reads the answer to Get Device ID, completion code taken off.
func parseDeviceID(b []byte) (api.BMC, error) {
	if len(b) < 11 {
		return api.BMC{}, fmt.Errorf("answer to get device id has %d bytes, want 11 or more", len(b))
	}
	return api.BMC{
		ManufacturerID: int(b[6]) | int(b[7])<<8 | int(b[8]&0x0f)<<16,
		ProductID:      int(binary.LittleEndian.Uint16(b[9:11])),
		Firmware:       fmt.Sprintf("%d.%02x", b[2]&0x7f, b[3]), // the minor revision is BCD
	}, nil
}

// ipmiDo sends one command and returns the answer without its completion code.
func ipmiDo(ctx context.Context, fd int, netFn, cmd byte, data []byte) ([]byte, error) {
	addr := &ipmiAddr{kind: ipmiSystemInterface, channel: ipmiBMCChannel}
	req := &ipmiReq{addr: unsafe.Pointer(addr), addrSize: uint32(unsafe.Sizeof(*addr)), id: 1}
	req.msg = ipmiMsg{netFn: netFn, cmd: cmd, size: uint16(len(data))}
	if len(data) > 0 {
		req.msg.data = unsafe.Pointer(&data[0])
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ipmiSendCommand, uintptr(unsafe.Pointer(req)))
	runtime.KeepAlive(addr)
	runtime.KeepAlive(data)
	if errno != 0 {
		return nil, errno
	}
	until := time.Now().Add(ipmiTimeout)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		left := time.Until(until)
		if left <= 0 {
			return nil, fmt.Errorf("no answer in %s", ipmiTimeout)
		}
		wait := min(left, 200*time.Millisecond)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait/time.Millisecond)+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		if n == 0 || err != nil {
			continue
		}
		answer, mine, err := ipmiReceive(fd, netFn, cmd)
		if err != nil || mine {
			return answer, err
		}
	}
}

// ipmiReceive takes one message; mine is false when it answers another command.
func ipmiReceive(fd int, netFn, cmd byte) (answer []byte, mine bool, err error) {
	addr := new([32]byte)
	buf := make([]byte, 272)
	recv := &ipmiRecv{addr: unsafe.Pointer(addr), addrSize: uint32(len(addr))}
	recv.msg = ipmiMsg{size: uint16(len(buf)), data: unsafe.Pointer(&buf[0])}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ipmiReceiveTruncated, uintptr(unsafe.Pointer(recv)))
	runtime.KeepAlive(addr)
	if errno != 0 {
		return nil, false, errno
	}
	if recv.msg.netFn != netFn|1 || recv.msg.cmd != cmd {
		return nil, false, nil
	}
	buf = buf[:min(int(recv.msg.size), len(buf))]
	if len(buf) == 0 {
		return nil, false, errors.New("empty answer")
	}
	if buf[0] != ipmiOK {
		return nil, false, fmt.Errorf("completion code %#02x", buf[0])
	}
	return buf[1:], true, nil
}
