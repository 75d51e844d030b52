package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// command is a Debian tool to run. Its environment is only what the tool
// needs: LC_ALL=C because its output is parsed, and nothing that would change
// the result, as SOURCE_DATE_EPOCH does.
type command struct {
	dir   string // working directory; "": the caller's
	stdin io.Reader
	name  string
	args  []string
}

// debianPackage names the package that has a tool, for the message when the
// tool is missing.
var debianPackage = map[string]string{
	"apt-get": "apt", "apt-cache": "apt", "apt-config": "apt",
	"dpkg-deb": "dpkg", "depmod": "kmod", "mksquashfs": "squashfs-tools",
}

func (c command) String() string { return strings.Join(append([]string{c.name}, c.args...), " ") }

// cmd returns the command ready to start, its stderr going to the buffer.
func (c command) cmd(ctx context.Context) (*exec.Cmd, *bytes.Buffer, error) {
	path, err := lookPath(c.name)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, path, c.args...)
	cmd.Dir = c.dir
	cmd.Stdin = c.stdin
	cmd.Env = []string{"LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
	for _, key := range []string{"HOME", "TMPDIR", "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "APT_CONFIG"} {
		if v, ok := os.LookupEnv(key); ok {
			cmd.Env = append(cmd.Env, key+"="+v)
		}
	}
	cmd.WaitDelay = 2 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr, nil
}

// output runs the command and returns what it printed.
func (c command) output(ctx context.Context) ([]byte, error) {
	cmd, stderr, err := c.cmd(ctx)
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	return out, c.explain(ctx, err, stderr)
}

// explain makes an error say which command failed and what it printed.
func (c command) explain(ctx context.Context, err error, stderr *bytes.Buffer) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", c.name, context.Cause(ctx))
	case stderr.Len() == 0:
		return fmt.Errorf("%q: %w", c.String(), err)
	}
	return fmt.Errorf("%q: %w: %s", c.String(), err, oneLine(stderr.String()))
}

// oneLine makes a tool's complaint fit into a message: its beginning, which
// names the mistake, and its end, which names the consequence.
func oneLine(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	const most = 1200
	if len(s) > most {
		s = s[:most/2] + " [...] " + s[len(s)-most/2:]
	}
	return s
}

// lookPath finds a tool, also in the sbin directories that a person's PATH on
// Debian does not have.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if errors.Is(err, exec.ErrNotFound) {
			path, err = exec.LookPath(dir + name)
			if err != nil {
				err = exec.ErrNotFound
			}
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s is needed to build images and is not installed: apt-get install %s", name, debianPackage[name])
	}
	return path, nil
}
