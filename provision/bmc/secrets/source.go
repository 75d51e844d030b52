// Package secrets holds the passwords of BMCs: those that an inventory declares,
// read from their file or command when a BMC is first spoken to, and those that
// firstlight set itself, kept in a file of the state directory that says what a
// BMC has at every moment of a change.
package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hashicorp/hcl/v2"

	"firstlight/inventory"
)

// DefaultTimeout is how long a password_command may take: a person may have to
// touch a key.
const DefaultTimeout = 30 * time.Second

// maxSecret is far above any password, and below what a wrong file would fill
// memory with.
const maxSecret = 4 << 10

// maxQuoted is how much of a failed command's standard error is quoted.
const maxQuoted = 500

// ErrNotSet says that a credential's password is a sensitive variable without a
// value.
var ErrNotSet = errors.New("is not set")

// Reader reads the secrets of credentials, each once. It serves many goroutines.
type Reader struct {
	Dir        string                   // where commands run
	DeclaredAt func(r hcl.Range) string // names a line for messages, as "bmc.hcl:12"
	Timeout    time.Duration            // of one command; 0: DefaultTimeout

	mu   sync.Mutex
	read map[*inventory.Credential]func() (inventory.Secret, error)
}

// Password is the declared secret of c. A file is read, and a command run, at
// the first call; what came of it, an error too, is what later calls get: a
// command that fails is not run again for each node. An error names the
// credential and its line, and never holds the secret.
func (r *Reader) Password(c *inventory.Credential) (inventory.Secret, error) {
	r.mu.Lock()
	if r.read == nil {
		r.read = map[*inventory.Credential]func() (inventory.Secret, error){}
	}
	get := r.read[c]
	if get == nil {
		get = sync.OnceValues(func() (inventory.Secret, error) { return r.fetch(c) })
		r.read[c] = get
	}
	r.mu.Unlock()
	return get()
}

func (r *Reader) fetch(c *inventory.Credential) (inventory.Secret, error) {
	var text []byte
	var err error
	from := ""
	switch {
	case c.PasswordFile != "":
		from = "password_file " + c.PasswordFile
		text, err = readFile(c.PasswordFile)
	case len(c.PasswordCommand) > 0:
		from = fmt.Sprintf("password_command %q", c.PasswordCommand[0])
		text, err = r.run(c)
	case c.Password == "":
		return "", fmt.Errorf("the password of credential %q (%s) %w", c.Name, r.at(c), ErrNotSet)
	default:
		return c.Password, nil
	}
	var secret inventory.Secret
	if err == nil {
		secret, err = oneLine(text)
	}
	if err != nil {
		return "", fmt.Errorf("credential %q (%s): %s: %w", c.Name, r.at(c), from, err)
	}
	return secret, nil
}

func (r *Reader) at(c *inventory.Credential) string {
	if r.DeclaredAt == nil {
		return c.PasswordRange.String()
	}
	return r.DeclaredAt(c.PasswordRange)
}

// FromFile reads a password from a file that nobody but its owner may read, or,
// where that is "-", from stdin.
func FromFile(file string, stdin io.Reader) (inventory.Secret, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(stdin, maxSecret+1))
	} else {
		text, err = readFile(file)
	}
	if err != nil {
		return "", err
	}
	return oneLine(text)
}

// readFile reads a file that nobody but its owner may read.
func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	if err := private(f); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	return text, reason(err)
}

// private refuses an open file that others than its owner can read.
func private(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return reason(err)
	case info.IsDir():
		return errors.New("is a directory")
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("others than its owner can read or write it (mode %04o): chmod 600 %s", info.Mode().Perm(), f.Name())
	}
	return nil
}

// reason leaves the file's name out, which the message has already.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// run has the command print the secret. Its standard input is empty, so that it
// cannot wait for a person at a terminal that nobody looks at; variables of the
// inventory, which may be other secrets, are not handed on.
func (r *Reader) run(c *inventory.Credential) ([]byte, error) {
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.PasswordCommand[0], c.PasswordCommand[1:]...)
	cmd.Dir = r.Dir
	cmd.Env = append(withoutVariables(os.Environ()), "FIRSTLIGHT_CREDENTIAL="+c.Name, "FIRSTLIGHT_USERNAME="+c.Username)
	cmd.WaitDelay = time.Second // a child that it left behind may hold its output open
	stdout, stderr := &capped{max: maxSecret + 1}, &capped{max: 8 * maxQuoted}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("printed no password within %s%s", timeout, said(stderr, stdout))
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("no such program is in PATH")
	case err != nil:
		return nil, fmt.Errorf("%w%s", reason(err), said(stderr, stdout))
	}
	return stdout.Bytes(), nil
}

func withoutVariables(env []string) []string {
	out := make([]string, 0, len(env)+2)
	for _, e := range env {
		if !strings.HasPrefix(e, "FIRSTLIGHT_VAR_") {
			out = append(out, e)
		}
	}
	return out
}

// capped keeps the first max bytes of what is written to it.
type capped struct {
	bytes.Buffer
	max int
}

func (c *capped) Write(p []byte) (int, error) {
	if room := c.max - c.Len(); room > 0 {
		c.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// said quotes the end of a command's standard error, without what it printed on
// standard output: a program that traces itself repeats the secret there.
func said(stderr, stdout *capped) string {
	text := stderr.String()
	for line := range strings.Lines(stdout.String()) {
		if line = strings.TrimSpace(line); line != "" {
			text = strings.ReplaceAll(text, line, "(withheld)")
		}
	}
	text = strings.Join(strings.FieldsFunc(text, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) }), " ")
	if text == "" {
		return ""
	}
	if len(text) > maxQuoted {
		text = "…" + strings.ToValidUTF8(text[len(text)-maxQuoted:], "")
	}
	return fmt.Sprintf("; it says: %s", text)
}

// oneLine is the secret in a text of one line.
func oneLine(text []byte) (inventory.Secret, error) {
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case len(text) > maxSecret:
		return "", fmt.Errorf("has more than %d bytes, which is no password", maxSecret)
	case line == "":
		return "", errors.New("is empty")
	case strings.ContainsAny(line, "\n\r\x00"):
		return "", errors.New("has more than one line: it must be the password and nothing else")
	}
	return inventory.Secret(line), nil
}
