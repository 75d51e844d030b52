package boot

import (
	"bytes"
	"io"
	"log/slog"
	"os"
)

// openLog sends the log to the console, the kernel's ring and the buffer
// that is streamed to the controller.
func (m *machine) openLog() {
	// Else the kernel drops all but ten records each 5 s.
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0)
	outs := writers{m.buffer}
	if f, err := os.OpenFile("/dev/console", os.O_WRONLY, 0); err == nil {
		outs = append(outs, console{f})
	}
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		outs = append(outs, kmsg{f})
	}
	m.log = slog.New(slog.NewTextHandler(outs, nil))
	if old, err := os.ReadFile(bootLogPath); err == nil {
		_, _ = m.buffer.Write(old) // what the initramfs said; Write never fails
		_ = os.Remove(bootLogPath)
	}
}

// writers writes to all and ignores what fails: a log must not stop a boot.
type writers []io.Writer

func (w writers) Write(p []byte) (int, error) {
	for _, to := range w {
		_, _ = to.Write(p)
	}
	return len(p), nil
}

// console ends lines as a serial terminal wants them.
type console struct{ io.Writer }

func (c console) Write(p []byte) (int, error) {
	_, err := c.Writer.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n")))
	return len(p), err
}

// kmsg writes one record to /dev/kmsg: facility user, level debug, so that
// the kernel keeps it but does not print it on the console a second time.
type kmsg struct{ io.Writer }

const maxKmsg = 900 // the kernel refuses records past about 1 KiB

func (k kmsg) Write(p []byte) (int, error) {
	_, err := k.Writer.Write(append([]byte("<15>firstlight: "), p[:min(len(p), maxKmsg)]...))
	return len(p), err
}
