package ibsimtest

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
)

// Attach is a simulator other than ibsim that runs already on sockets of that
// name. A test without one of the tools that it needs is skipped.
func Attach(t testing.TB, socket, attach string, tools ...string) *Sim {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	preload, _ := filepath.Glob(preloads)
	if len(preload) == 0 {
		t.Skipf("needs %s", preloads)
	}
	return &Sim{Socket: socket, t: t, preload: preload[0], host: attach}
}

// Output runs one tool once, whatever its exit status: ibqueryerrors has 1 when
// it found errors. It returns what the tool prints, and what it complains of.
func (s *Sim) Output(tool string, args ...string) (out, complaints string) {
	s.t.Helper()
	var errs bytes.Buffer
	out, err := s.once(&errs, tool, args...)
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
		s.t.Fatalf("%s %q: %v\n%s", tool, args, err, errs.String())
	}
	return out, errs.String()
}

// Env is what a program needs in its environment to be a client.
func (s *Sim) Env() []string {
	return []string{"LD_PRELOAD=" + s.preload, "SIM_HOST=" + s.host, "IBSIM_SOCKNAME=" + s.Socket}
}
