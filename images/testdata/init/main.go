// Command init stands in for the agent as PID 1 of an initramfs under test: it
// loads every module by its file, says what the kernel then has, and powers
// the machine off.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"
)

func main() {
	uptime := func() string {
		data, _ := os.ReadFile("/proc/uptime")
		return strings.Fields(string(data) + " -")[0]
	}
	_ = syscall.Mount("proc", "/proc", "proc", 0, "")
	fmt.Printf("\nFLTEST userspace uptime=%s\n", uptime())
	_ = syscall.Mount("sysfs", "/sys", "sysfs", 0, "")
	build, err := os.ReadFile("/etc/firstlight/build.json")
	fmt.Printf("FLTEST build %s err=%v\n", strings.TrimSpace(string(build)), err)
	var u syscall.Utsname
	_ = syscall.Uname(&u)
	release := ""
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release += string(rune(c))
	}
	dir := "/lib/modules/" + release
	dep, err := os.ReadFile(dir + "/modules.dep")
	fmt.Printf("FLTEST dep bytes=%d err=%v\n", len(dep), err)
	deps := map[string][]string{}
	for _, line := range strings.Split(string(dep), "\n") {
		if f, rest, ok := strings.Cut(line, ":"); ok {
			deps[f] = strings.Fields(rest)
		}
	}
	files := 0
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".ko") {
			files++
		}
		return nil
	})
	loaded, failed := 0, 0
	for f := range deps {
		if err := load(dir, f, deps, map[string]bool{}); err != nil {
			// Drivers refuse to load without their device; a missing
			// dependency is another matter.
			if err == syscall.ENOENT {
				fmt.Printf("FLTEST missing %s\n", f)
			}
			failed++
		} else {
			loaded++
		}
	}
	have, _ := os.ReadFile("/proc/modules")
	fmt.Printf("FLTEST modules files=%d loaded=%d failed=%d proc=%d\n", files, loaded, failed, strings.Count(string(have), "\n"))
	fsys, _ := os.ReadFile("/proc/filesystems")
	fmt.Printf("FLTEST squashfs=%v overlay=%v\n", strings.Contains(string(fsys), "squashfs"), strings.Contains(string(fsys), "overlay"))
	nets, _ := filepath.Glob("/sys/class/net/*")
	fmt.Printf("FLTEST net %s\n", strings.Join(nets, " "))
	if token, err := os.ReadFile("/etc/firstlight/token"); err == nil {
		fmt.Printf("FLTEST token %s\n", strings.TrimSpace(string(token)))
	}
	mountRoot()
	fmt.Printf("FLTEST done uptime=%s\n", uptime())
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

// load inserts a module after what it depends on; "already there" is fine.
func load(dir, file string, deps map[string][]string, busy map[string]bool) error {
	if busy[file] {
		return nil
	}
	busy[file] = true
	list := deps[file]
	for i := len(list) - 1; i >= 0; i-- {
		if err := load(dir, list[i], deps, busy); err != nil {
			return err
		}
	}
	f, err := os.Open(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	defer f.Close()
	empty := []byte{0}
	const finitModule = 313 // x86-64
	_, _, errno := syscall.Syscall(finitModule, f.Fd(), uintptr(unsafe.Pointer(&empty[0])), 0)
	if errno == 0 || errno == syscall.EEXIST {
		return nil
	}
	return errno
}

// mountRoot mounts /root.squashfs of the test's extra initrd, when it is
// there, and runs its busybox.
func mountRoot() {
	if _, err := os.Stat("/root.squashfs"); err != nil {
		return
	}
	_ = syscall.Mount("devtmpfs", "/dev", "devtmpfs", 0, "")
	loop, err := os.OpenFile("/dev/loop0", os.O_RDWR, 0)
	if err != nil {
		fmt.Println("FLTEST root", err)
		return
	}
	file, err := os.Open("/root.squashfs")
	if err != nil {
		fmt.Println("FLTEST root", err)
		return
	}
	const loopSetFD = 0x4C00
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, loop.Fd(), loopSetFD, file.Fd()); errno != 0 {
		fmt.Println("FLTEST root loop", errno)
		return
	}
	if err := syscall.Mount("/dev/loop0", "/mnt", "squashfs", syscall.MS_RDONLY, ""); err != nil {
		fmt.Println("FLTEST root mount", err)
		return
	}
	if err := syscall.Chroot("/mnt"); err != nil {
		fmt.Println("FLTEST root chroot", err)
		return
	}
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", ". /etc/os-release; echo FLTEST root $IMAGE_ID $(ls -l /sbin/init | sed 's/.*-> //')"},
		&syscall.ProcAttr{Dir: "/", Env: []string{"PATH=/usr/bin:/bin"}, Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Println("FLTEST root exec", err)
		return
	}
	var ws syscall.WaitStatus
	_, _ = syscall.Wait4(pid, &ws, 0, nil)
	fmt.Printf("FLTEST root exit=%d\n", ws.ExitStatus())
}
