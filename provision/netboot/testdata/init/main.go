// Command init is PID 1 of the initramfs that the firmware boot test boots: it
// loads the modules it is given, calls the controller, and powers off.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("init:", err)
	}
	time.Sleep(100 * time.Millisecond) // for the serial port
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for _, m := range []struct{ what, where string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		os.MkdirAll(m.where, 0o755)
		unix.Mount(m.what, m.where, m.what, 0, "")
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	list, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(list)) {
		if err := load("/modules/" + name); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	args := map[string]string{}
	for _, a := range strings.Fields(string(cmdline)) {
		k, v, _ := strings.Cut(a, "=")
		args[k] = v
	}
	token, err := os.ReadFile("/etc/firstlight/token")
	if err != nil {
		return err
	}
	info, err := os.Stat("/etc/firstlight/token")
	if err != nil {
		return err
	}
	if err := up(args["firstlight.mac"], args["test.address"]); err != nil {
		return err
	}
	body := fmt.Sprintf("%s %s %s mode=%o uptime=%s", args["firstlight.node"], args["firstlight.boot"], token, info.Mode().Perm(), strings.Fields(string(uptime))[0])
	for i := 0; ; i++ {
		resp, err := http.Post(args["firstlight.controller"]+"/agent/v1/hello", "text/plain", bytes.NewReader([]byte(body)))
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			return resp.Body.Close()
		}
		if i == 50 {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

// up waits for the interface with the MAC and gives it the address.
func up(mac, address string) error {
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	for range 100 {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Attrs().HardwareAddr.String() == mac {
				if err := netlink.AddrAdd(l, addr); err != nil {
					return err
				}
				return netlink.LinkSetUp(l)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("no interface with MAC %s", mac)
}
