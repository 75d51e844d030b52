package images

import (
	"archive/tar"
	"fmt"
)

// Where the agent is in an image's root file system.
const (
	agentPath = "usr/bin/firstlight-agent"
	initPath  = "usr/sbin/init"
)

// baseEntries are what every root file system has, under its packages.
func baseEntries(image string) []entry {
	var out []entry
	for _, d := range []struct {
		name string
		mode int64
	}{
		{"dev", 0o755}, {"proc", 0o555}, {"sys", 0o555}, {"run", 0o755}, {"tmp", 0o1777}, {"root", 0o700},
		{"etc", 0o755}, {"home", 0o755}, {"mnt", 0o755}, {"var", 0o755}, {"var/log", 0o755}, {"var/tmp", 0o1777},
		{"usr/bin", 0o755}, {"usr/sbin", 0o755}, {"usr/lib", 0o755}, {"usr/lib64", 0o755},
	} {
		out = append(out, entry{name: d.name, kind: tar.TypeDir, mode: d.mode, from: "the base"})
	}
	for name, content := range map[string]string{
		"usr/lib/os-release": fmt.Sprintf("ID=firstlight\nID_LIKE=debian\nNAME=\"firstlight\"\nPRETTY_NAME=\"firstlight image %s\"\nIMAGE_ID=%s\n", image, image),
		"etc/passwd":         "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"etc/group":          "root:x:0:\nnogroup:x:65534:\n",
		"etc/hosts":          "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
		"etc/nsswitch.conf":  "passwd: files\ngroup: files\nhosts: files dns\n",
	} {
		out = append(out, entry{name: name, kind: tar.TypeReg, mode: 0o644, data: []byte(content), from: "the base"})
	}
	return append(out, entry{name: "etc/os-release", kind: tar.TypeSymlink, mode: 0o777, link: "../usr/lib/os-release", from: "the base"})
}

// applets are the commands of busybox that a person at a node's console looks
// for. Debian's busybox-static makes no links for them.
var applets = map[string][]string{
	"usr/bin": {
		"awk", "cat", "chmod", "chown", "clear", "cp", "cut", "date", "dd", "df", "dmesg", "du", "echo", "env",
		"false", "find", "free", "grep", "gunzip", "gzip", "head", "hexdump", "hostname", "id", "kill", "less", "ln",
		"ls", "md5sum", "mkdir", "mknod", "mktemp", "more", "mount", "mv", "nc", "ping", "ps", "pwd", "readlink",
		"realpath", "rm", "rmdir", "sed", "sh", "sha256sum", "sleep", "sort", "stat", "strings", "stty", "sync", "tail",
		"tar", "tee", "test", "top", "touch", "tr", "true", "tty", "umount", "uname", "uniq", "uptime", "vi", "watch",
		"wc", "wget", "which", "xargs", "zcat",
	},
	"usr/sbin": {"blkid", "blockdev", "chroot", "ip", "losetup", "lsmod", "modprobe", "poweroff", "reboot", "switch_root", "sysctl"},
}

// addApplets links the applets when the tree has busybox, leaving alone
// commands that a package brings.
func (t tree) addApplets() {
	box, ok := t["usr/bin/busybox"]
	if !ok {
		return
	}
	for dir, names := range applets {
		for _, n := range names {
			p := dir + "/" + n
			if _, taken := t[p]; !taken {
				t[p] = entry{name: p, kind: tar.TypeSymlink, mode: 0o777, link: "/usr/bin/busybox", from: box.from}
			}
		}
	}
}
