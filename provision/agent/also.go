package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// RunAlso asks other programs, one after the other, once the burn-in itself is
// over: own are its checks, device the kind of GPU that it found. After a failure
// they are left out: the node is to be mended first.
func RunAlso(ctx context.Context, programs []burnin.Also, own []acceptance.Check, device string) []acceptance.Check {
	failed := acceptance.Evidence{Checks: own}.Verdict() == acceptance.Fail
	var out []acceptance.Check
	for _, p := range programs {
		var printed []byte
		var err error
		switch {
		case failed:
			err = errors.New("not begun: the burn-in itself failed")
		case ctx.Err() != nil:
			err = errors.New("not begun: the burn-in was stopped")
		default:
			printed, err = runOther(ctx, p.Limit, p.Command)
		}
		out = append(out, p.Judge(printed, err, device)...)
	}
	return out
}

// killedWithin is how long a program that was killed may take to be gone.
const killedWithin = 5 * time.Second

// runOther runs a program of somebody else, and gives what it printed and how it
// ended. One that cannot be killed, as it hangs in a driver, is left behind.
func runOther(ctx context.Context, limit time.Duration, command []string) ([]byte, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, command[1:]...)
	out, errs := &capped{most: most}, &capped{most: most}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, errs, time.Second
	// Its GPUs are to be counted as those of everything else here: in PCI order.
	cmd.Env = append(os.Environ(), "CUDA_DEVICE_ORDER=PCI_BUS_ID")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children end with it
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the program; abandoned when that cannot be killed
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	why := ""
	select {
	case err := <-ended:
		if err != nil {
			err = fmt.Errorf("%s: %w%s", command[0], err, errs.lastWords())
		}
		return out.all(), err
	case <-deadline.C:
		why = fmt.Sprintf("it was not done after %s", limit)
	case <-ctx.Done():
		why = "it was stopped"
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // fails when it is gone already
	select {
	case <-ended:
	case <-time.After(killedWithin):
		why += ", and cannot be killed: it hangs in the kernel"
	}
	return out.all(), fmt.Errorf("%s: %s%s", command[0], why, errs.lastWords())
}

// capped keeps the beginning of what is written to it.
type capped struct {
	most int
	mu   sync.Mutex
	text []byte
}

// Write never fails: a program that says too much is not ended for it.
func (c *capped) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p[:min(len(p), c.most-len(c.text))]...)
	return len(p), nil
}

func (c *capped) all() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.text)
}

// lastWords are the end of what was written, for an error: ": no device".
func (c *capped) lastWords() string {
	words := strings.Join(strings.Fields(string(c.all())), " ")
	if runes := []rune(words); len(runes) > 200 {
		words = string(runes[len(runes)-200:])
	}
	if words == "" {
		return ""
	}
	return ": " + words
}
