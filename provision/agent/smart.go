package agent

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"firstlight/provision/agent/api"
)

// smartDeadline is for one disk: a dying one does not answer.
const smartDeadline = 10 * time.Second

// smart is what is judged of a disk's SMART / Health Information.
type smart struct {
	warning   byte   // critical warning bits
	spare     byte   // per cent
	threshold byte   // of the spare, per cent
	used      byte   // per cent of the rated life; can pass 100
	errors    uint64 // media and data integrity errors
}

// parseSMART reads log page 02h, 512 bytes (NVM Express Base Specification).
func parseSMART(b []byte) (smart, error) {
	if len(b) < 512 {
		return smart{}, fmt.Errorf("SMART log of %d bytes, not 512", len(b))
	}
	s := smart{warning: b[0], spare: b[3], threshold: b[4], used: b[5], errors: binary.LittleEndian.Uint64(b[160:])}
	if binary.LittleEndian.Uint64(b[168:]) > 0 { // the counter has 128 bits
		s.errors = 1<<64 - 1
	}
	return s, nil
}

// checkSMART asks every NVMe disk how it is.
func (fs FS) checkSMART() []api.Check {
	var checks []api.Check
	for _, d := range fs.disks() {
		if d.Transport != "nvme" {
			continue
		}
		c := api.Check{Name: "disk." + d.Name + ".smart", Verdict: pass, Threshold: "no critical warning, no media error, spare above its threshold, less than 100 % used", Source: smartSource, Part: diskPart(d)}
		controller, _, _ := strings.Cut(strings.TrimPrefix(d.Name, "nvme"), "n")
		raw, err := fs.smartLog("nvme" + controller)
		s, parseErr := parseSMART(raw)
		switch {
		case err != nil:
			c.Verdict, c.Reading = notRun, err.Error()
		case parseErr != nil:
			c.Verdict, c.Reading = notRun, parseErr.Error()
		default:
			c.Reading = fmt.Sprintf("warning 0x%02x, %d media errors, spare %d %% (threshold %d %%), %d %% used", s.warning, s.errors, s.spare, s.threshold, s.used)
			if s.warning != 0 || s.errors > 0 || s.spare <= s.threshold || s.used >= 100 {
				c.Verdict = fail
			}
		}
		checks = append(checks, c)
	}
	return checks
}

// smartLog asks a controller for its SMART log; in a tree of fixtures that is a
// file beside the device's name, with ".smart".
func (fs FS) smartLog(controller string) ([]byte, error) {
	if !fs.Live() {
		return fs.read("dev/" + controller + ".smart")
	}
	type answer struct {
		log []byte
		err error
	}
	done := make(chan answer, 1)
	go func() { // ends when the disk answers; abandoned when it does not
		log, err := nvmeSMART("/dev/" + controller)
		done <- answer{log, err}
	}()
	select {
	case a := <-done:
		return a.log, a.err
	case <-time.After(smartDeadline):
		return nil, fmt.Errorf("%s did not answer within %s", controller, smartDeadline)
	}
}

// nvmeCommand is struct nvme_passthru_cmd of linux/nvme_ioctl.h.
type nvmeCommand struct {
	opcode, flags         uint8
	_                     uint16
	nsid                  uint32
	_, _                  uint32
	_                     uint64
	addr                  uint64
	metadataLen, dataLen  uint32
	cdw10, _, _, _, _, _  uint32
	timeoutMillis, result uint32
}

const (
	nvmeAdminIoctl = 0xc0484e41 // _IOWR('N', 0x41, struct nvme_passthru_cmd), 72 bytes
	nvmeGetLogPage = 0x02
	nvmeSMARTPage  = 0x02
)

// nvmeSMART reads the log page of a controller. It changes nothing on it.
func nvmeSMART(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, 512)
	c := nvmeCommand{opcode: nvmeGetLogPage, nsid: 0xffffffff, addr: uint64(uintptr(unsafe.Pointer(&buf[0]))), dataLen: uint32(len(buf)),
		cdw10: nvmeSMARTPage | uint32(len(buf)/4-1)<<16, timeoutMillis: uint32(smartDeadline.Milliseconds() / 2)}
	status, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), nvmeAdminIoctl, uintptr(unsafe.Pointer(&c)))
	runtime.KeepAlive(buf)
	switch {
	case errno != 0:
		return nil, &os.PathError{Op: "get SMART log of", Path: path, Err: errno}
	case status != 0:
		return nil, fmt.Errorf("%s: NVMe status 0x%x", path, status)
	}
	return buf, nil
}
