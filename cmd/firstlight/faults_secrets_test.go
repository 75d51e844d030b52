package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"firstlight/internal/simrack"
	"firstlight/provision"
	"firstlight/provision/bmc/secrets"
)

// The credentials of a rack whose secrets come from everywhere they can. What
// the BMCs want is in sources, by node.
const secretCredentials = `
variable "one" {
  type      = string
  sensitive = true
}
variable "two" {
  type      = string
  sensitive = true
}
credential "bmc1" {
  username = "admin"
  password = var.one
}
credential "bmc2" {
  username = "admin"
  password = var.two
}
credential "bmc3" {
  username      = "admin"
  password_file = "%[1]s/three"
}
credential "bmc4" {
  username         = "admin"
  password_command = ["%[1]s/helper", "bmc4"]
}
`

// testSecrets brings up a rack, looks at it with every verb and changes its
// passwords, and holds that no password, from whatever source, is in anything that
// was printed, written or sent on the way.
func testSecrets(t *testing.T) {
	planted := map[int]string{1: "planted-env-Secret1", 2: "planted-var-Secret2", 3: "planted-file-Secr3", 4: "planted-cmd-Secret4"}
	spec := rackSpec{nodes: 4, passwords: planted}
	r := newIdleRig(t, spec)
	r.start(&simrack.Rack{Retry: 200 * time.Millisecond, Pause: 500 * time.Millisecond})

	// The rack knows its passwords; from here on the inventory gets them elsewhere.
	vault := t.TempDir()
	nodes, err := os.ReadFile(filepath.Join(r.dir, "nodes.hcl"))
	r.must(err)
	text := string(nodes)
	for i, p := range planted {
		text = strings.Replace(text, fmt.Sprintf("credential \"bmc%d\" {\n  username = \"admin\"\n  password = %q\n}\n", i, p), "", 1)
	}
	if strings.Contains(text, "planted") {
		t.Fatal("the inventory still has a password")
	}
	writeFile(t, filepath.Join(r.dir, "nodes.hcl"), text)
	writeFile(t, filepath.Join(r.dir, "credentials.hcl"), fmt.Sprintf(secretCredentials, vault))
	t.Setenv("FIRSTLIGHT_VAR_one", planted[1])
	vars := filepath.Join(vault, "vars")
	writeFile(t, vars, fmt.Sprintf("two = %q\n", planted[2]))
	for name, secret := range map[string]string{"three": planted[3], "four": planted[4]} {
		r.must(os.WriteFile(filepath.Join(vault, name), []byte(secret+"\n"), 0o600))
	}
	r.must(os.WriteFile(filepath.Join(vault, "helper"), []byte("#!/bin/sh\ncd "+vault+" && { env; echo \"$0 $*\"; } >> helper.log && cat four\n"), 0o700))

	var said bytes.Buffer
	cli := func(want int, args ...string) {
		t.Helper()
		o := r.cli(append(args, "-var-file", vars)...)
		if o.code != want {
			t.Errorf("%v exits %d; want %d\n%s%s", args, o.code, want, o.stdout, o.stderr)
		}
		fmt.Fprintf(&said, "%v\n%s%s\n", args, o.stdout, o.stderr)
	}
	sniffed, watched := sniff(t), watchArguments(t)
	saved := filepath.Join(r.dir, "saved")
	cli(0, "validate", "-json")
	cli(0, "plan", "-out", saved)
	cli(0, "plan", "-json")
	if _, err := os.Stat(filepath.Join(vault, "helper.log")); !os.IsNotExist(err) {
		t.Error("validate or plan ran the command")
	}
	cli(0, "apply", "-json", "-plan", saved)
	for i := range 4 {
		cli(0, "show", "-json", nodeName(i+1))
	}
	all := [][]string{{"status", "-json"}, {"status"}, {"report", "-json"}, {"power", "status"}, {"plan", "-refresh-only"}}
	for _, args := range all {
		cli(0, args...)
	}
	cli(0, "bmc", "rotate", "-auto-approve")
	book, err := secrets.Read(filepath.Join(r.dir, ".firstlight", passwordsFile))
	r.must(err)
	for _, e := range book.Entries() {
		planted[len(planted)+1] = e.Password.Reveal()
	}
	if len(planted) != 8 {
		t.Fatalf("%d passwords; want 4, and 4 new ones", len(planted))
	}
	for _, args := range all {
		cli(0, args...)
	}
	// A BMC that wants another one, and a command that fails.
	r.must(os.WriteFile(filepath.Join(r.dir, ".firstlight", passwordsFile), nil, 0o600))
	cli(1, "power", "status")
	writeFile(t, filepath.Join(vault, "helper"), "#!/bin/sh\nset -x\ncat "+vault+"/four\nexit 1\n")
	cli(1, "power", "status")
	r.wantStates(provision.Ready, provision.Ready, provision.Ready, provision.Ready)

	helper, err := os.ReadFile(filepath.Join(vault, "helper.log"))
	r.must(err)
	wantText(t, "the command's surroundings", string(helper), "FIRSTLIGHT_USERNAME=admin", "FIRSTLIGHT_CREDENTIAL=bmc4", vault+"/helper bmc4")
	found := search{t, planted}
	packets, arguments := sniffed(), watched()
	if !bytes.Contains(packets, []byte("#!ipxe")) || !bytes.Contains(arguments, []byte(r.program)) {
		t.Error("no boot script was seen on the wire, or not the program among the processes")
	}
	found.in("what was printed", said.Bytes())
	found.in("the rack's log", []byte(r.log.String()))
	found.in("what went over the wires", packets)
	found.in("arguments of processes", arguments)
	found.in("what the command is given", helper)
	found.below(r.dir)
}

// search looks for secrets.
type search struct {
	*testing.T
	secrets map[int]string
}

func (s search) in(what string, text []byte) {
	s.Helper()
	if len(text) == 0 {
		s.Errorf("%s is empty: nothing was looked at", what)
	}
	for _, i := range s.find(text) {
		s.Errorf("password %d is in %s", i, what)
	}
}

func (s search) find(text []byte) (found []int) {
	for i, secret := range s.secrets {
		if bytes.Contains(text, []byte(secret)) {
			found = append(found, i)
		}
	}
	return found
}

// below looks at every file: journal, evidence, logs, reports, saved plan.
func (s search) below(dir string) {
	s.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == passwordsFile {
			return err
		}
		raw, err := os.ReadFile(path)
		if files++; len(raw) > 0 {
			s.in(path, raw)
		}
		return err
	})
	if err != nil || files < 20 {
		s.Errorf("%d files were looked at, %v; want the whole state", files, err)
	}
}

// sniff collects every packet of this network namespace, boot scripts and
// datagrams of the BMCs among them.
func sniff(t *testing.T) (seen func() []byte) {
	t.Helper()
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, int(all))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 100_000}); err != nil {
		t.Fatal(err)
	}
	return collect(func() []byte {
		buf := make([]byte, 64<<10)
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil
		}
		return buf[:n]
	}, func() { syscall.Close(fd) })
}

// watchArguments collects the arguments of the processes of this machine, time
// and again.
func watchArguments(t *testing.T) (seen func() []byte) {
	t.Helper()
	known := map[string]bool{}
	return collect(func() []byte {
		time.Sleep(100 * time.Millisecond)
		var out []byte
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range files {
			if raw, err := os.ReadFile(f); err == nil && !known[string(raw)] { // it may have ended
				known[string(raw)] = true
				out = append(out, raw...)
			}
		}
		return out
	}, func() {})
}

// collect gathers what next gives until it is asked for.
func collect(next func() []byte, end func()) (seen func() []byte) {
	var out []byte
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { // ends with seen
		defer end()
		for {
			select {
			case <-stop:
				return
			default:
				out = append(out, next()...)
			}
		}
	})
	return func() []byte {
		close(stop)
		running.Wait()
		return out
	}
}
