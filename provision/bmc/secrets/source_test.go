package secrets

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"firstlight/inventory"
)

const planted = "pLanted-s3cret"

func reader(dir string) *Reader {
	return &Reader{Dir: dir, DeclaredAt: func(r hcl.Range) string { return "bmc.hcl:12" }}
}

func put(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return file
}

func TestPasswordFile(t *testing.T) {
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string // the secret, or a part of the error
		fails      bool
	}{
		{"newline", planted + "\n", 0o600, planted, false},
		{"no newline", planted, 0o400, planted, false},
		{"carriage return", planted + "\r\n", 0o600, planted, false},
		{"spaces are kept", " " + planted + " \n", 0o600, " " + planted + " ", false},
		{"group", planted, 0o640, "(mode 0640): chmod 600 ", true},
		{"world", planted, 0o604, "(mode 0604): chmod 600 ", true},
		{"empty", "\n", 0o600, "is empty", true},
		{"two lines", planted + "\nsecond\n", 0o600, "more than one line", true},
		{"no text", planted + "\x00", 0o600, "more than one line", true},
		{"huge", strings.Repeat("x", maxSecret+1), 0o600, "no password", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := put(t, "pw", c.text, c.mode)
			got, err := reader("").Password(&inventory.Credential{Name: "bmc", PasswordFile: file})
			if !c.fails {
				if err != nil || got.Reveal() != c.want {
					t.Errorf("Password = %q, %v; want %q", got.Reveal(), err, c.want)
				}
				return
			}
			checkError(t, err, `credential "bmc" (bmc.hcl:12): password_file `+file, c.want)
		})
	}
	_, err := reader("").Password(&inventory.Credential{Name: "bmc", PasswordFile: "/nonexistent/pw"})
	checkError(t, err, "password_file /nonexistent/pw: no such file or directory")
	_, err = reader("").Password(&inventory.Credential{Name: "bmc", PasswordFile: t.TempDir()})
	checkError(t, err, "is a directory")
}

// checkError wants an error with some parts, and without the planted secret.
func checkError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q; want %q in it", err, p)
		}
	}
	if strings.Contains(err.Error(), planted) {
		t.Errorf("error %q shows the secret", err)
	}
}

func TestPasswordCommand(t *testing.T) {
	t.Setenv("FIRSTLIGHT_VAR_other", "a-secret-of-another")
	for _, c := range []struct {
		name, script, want string
		fails              bool
	}{
		{"prints it", "echo " + planted, planted, false},
		{"knows the user and the credential", `echo "$FIRSTLIGHT_USERNAME@$FIRSTLIGHT_CREDENTIAL"`, "admin@bmc", false},
		{"runs in the directory", `basename "$PWD"`, "racks", false},
		{"has no standard input", `if read line; then echo got "$line"; else echo none; fi`, "none", false},
		{"gets no variables", `echo "${FIRSTLIGHT_VAR_other-none}"`, "none", false},
		{"fails", "echo " + planted + "; echo permission denied >&2; exit 3", `password_command "sh": exit status 3; it says: permission denied`, true},
		{"traces itself", "set -x; echo " + planted + "; exit 1", "it says: + echo (withheld)", true},
		{"colours its words", `printf '\033[31mno\tvault\033[0m\n' >&2; exit 1`, "it says: [31mno vault [0m", true},
		{"prints nothing", "true", "is empty", true},
		{"asks twice", "echo " + planted + "; echo " + planted, "more than one line", true},
		{"floods", "head -c 1000000 /dev/zero | tr '\\0' x", "no password", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "racks")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			got, err := reader(dir).Password(&inventory.Credential{Name: "bmc", Username: "admin", PasswordCommand: []string{"sh", "-c", c.script}})
			if c.fails {
				checkError(t, err, `credential "bmc" (bmc.hcl:12): `, c.want)
			} else if err != nil || got.Reveal() != c.want {
				t.Errorf("Password = %q, %v; want %q", got.Reveal(), err, c.want)
			}
		})
	}
	_, err := reader("").Password(&inventory.Credential{Name: "bmc", PasswordCommand: []string{"no-such-program-here"}})
	checkError(t, err, `password_command "no-such-program-here": no such program is in PATH`)
}

// TestCommandHangs: neither the command nor a child that holds its output open
// is waited for beyond the deadline.
func TestCommandHangs(t *testing.T) {
	r := reader("")
	r.Timeout = 50 * time.Millisecond
	_, err := r.Password(&inventory.Credential{Name: "bmc", PasswordCommand: []string{"sh", "-c", "echo waiting for a touch >&2; sleep 20 & wait"}})
	checkError(t, err, "printed no password within 50ms")
}

// TestOnce: a command is run once for all nodes, whether it works or not.
func TestOnce(t *testing.T) {
	for script, fails := range map[string]bool{"echo ran >> log; echo pw": false, "echo ran >> log; exit 1": true} {
		dir := t.TempDir()
		r := reader(dir)
		c := &inventory.Credential{Name: "bmc", PasswordCommand: []string{"sh", "-c", script}}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := r.Password(c); (err != nil) != fails {
					t.Errorf("%s: %v", script, err)
				}
			})
		}
		all.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "log")); string(log) != "ran\n" {
			t.Errorf("%s: log %q, %v; want one run", script, log, err)
		}
	}
}

func TestPasswordDeclared(t *testing.T) {
	if got, err := reader("").Password(&inventory.Credential{Name: "bmc", Password: planted}); got != planted || err != nil {
		t.Errorf("Password = %v, %v", got, err)
	}
	_, err := reader("").Password(&inventory.Credential{Name: "bmc"})
	checkError(t, err, `the password of credential "bmc" (bmc.hcl:12) is not set`)
}
