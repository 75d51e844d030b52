package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"firstlight/provision"
)

// TestMain lets this test binary be the program: under the name "firstlight" it
// runs main, for the scripts.
func TestMain(m *testing.M) {
	if os.Getenv(faultCaseEnv) != "" {
		os.Exit(m.Run()) // one fault test, in namespaces of its own
	}
	testscript.Main(m, map[string]func(){"firstlight": main})
}

// TestScript runs every testdata/script/*.txtar: the verbs that need no machine,
// as processes, with what they print and their exit status.
func TestScript(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("NO_COLOR", "")
			return os.CopyFS(filepath.Join(env.WorkDir, "examples"), withoutState{os.DirFS(examples)})
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits,
			"keys":  scriptKeys,
			"json":  scriptJSON,
			"mode":  scriptMode,
		},
	})
}

// scriptExits runs a program and wants an exit status: exits 3 firstlight fmt -check.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARG...")
	}
	status := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		status = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if status != args[0] {
		ts.Fatalf("exit status %s; want %s", status, args[0])
	}
}

// scriptKeys wants an object in the last output to have these keys:
// keys nodes.0 name rack state. A path of "." is the whole output.
func scriptKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: keys PATH KEY...")
	}
	object, ok := at(ts, args[0]).(map[string]any)
	if !ok {
		ts.Fatalf("%s is not an object", args[0])
	}
	for _, k := range args[1:] {
		if _, ok := object[k]; !ok {
			ts.Fatalf("%s has no %q; it has %v", args[0], k, slices.Sorted(maps.Keys(object)))
		}
	}
}

// scriptJSON wants a value in the last output: json summary.bring_up 8. The
// length of a list is at ".len".
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] json PATH VALUE")
	}
	got, err := json.Marshal(at(ts, args[0]))
	ts.Check(err)
	if s, ok := at(ts, args[0]).(string); ok {
		got = []byte(s)
	}
	if (string(got) == args[1]) == neg {
		ts.Fatalf("%s is %s; want %s (not: %v)", args[0], got, args[1], neg)
	}
}

// at is the value at a path of keys and indexes in the last standard output.
func at(ts *testscript.TestScript, path string) any {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	if path == "." {
		return v
	}
	for _, step := range strings.Split(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = in[step]; !ok {
				ts.Fatalf("%s: there is no %q", path, step)
			}
		case []any:
			if step == "len" {
				v = len(in)
				continue
			}
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(in) {
				ts.Fatalf("%s: no element %s in a list of %d", path, step, len(in))
			}
			v = in[i]
		default:
			ts.Fatalf("%s: nothing below a %T at %q", path, v, step)
		}
	}
	return v
}

// scriptMode wants a file's permissions: mode 600 FILE.
func scriptMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s; want %s", args[1], got, args[0])
	}
}

// inProcess runs the program in this process, without a terminal.
func inProcess(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// TestColour holds that a terminal gets colour and that NO_COLOR, and what is
// no terminal, do not.
func TestColour(t *testing.T) {
	t.Setenv("TERM", "xterm")
	tests := []struct {
		name    string
		noColor string
		want    bool
	}{
		{name: "terminal", want: true},
		{name: "NO_COLOR", noColor: "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			var code int
			out := onTerminal(t, "", func(tty *os.File) {
				code = run(t.Context(), []string{"plan", labCopy(t)}, tty, tty, tty)
			})
			if code != 0 || strings.Contains(out, "\x1b[") != tt.want || !strings.Contains(out, "2 to bring up") {
				t.Errorf("plan exits %d and prints %q; want 0 and colour: %v", code, out, tt.want)
			}
		})
	}
}

// labCopy is a copy of the two-node example, without state.
func labCopy(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lab")
	if err := os.CopyFS(dir, withoutState{os.DirFS("../../examples/two-node-lab")}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// withoutState is a tree of inventories without what lies beside them.
type withoutState struct{ fs.FS }

// ReadDir implements fs.ReadDirFS.
func (w withoutState) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(w.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == ".firstlight" }), err
}

// onTerminal calls do with a pseudo-terminal where typed was typed, and returns
// what the terminal showed.
func onTerminal(t *testing.T, typed string, do func(tty *os.File)) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs /dev/ptmx: %v", err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	done := make(chan string)
	go func() { // ends when tty is closed
		var b bytes.Buffer
		_, _ = b.ReadFrom(master) // EIO is its end
		done <- b.String()
	}()
	do(tty)
	tty.Close()
	return <-done
}

// TestAsk holds that apply asks on a terminal and that nothing but "yes" is
// taken as yes.
func TestAsk(t *testing.T) {
	for typed, agreed := range map[string]bool{"no\n": false, "y\n": false, "\n": false, "Yes\n": false, "yes\n": true, " yes \n": true} {
		t.Run(fmt.Sprintf("%q", typed), func(t *testing.T) {
			var err error
			shown := onTerminal(t, typed, func(tty *os.File) {
				a := &app{stdin: tty, stdout: tty, stderr: tty}
				err = a.ask(provision.Plan{})
			})
			if (err == nil) != agreed || err != nil && err.Error() != "not agreed; nothing was done" {
				t.Errorf("ask = %v; want agreed: %v", err, agreed)
			}
			if !strings.Contains(shown, "Carry this out?") {
				t.Errorf("the terminal shows %q; want the question", shown)
			}
		})
	}
	a := &app{stdin: strings.NewReader("yes\n")}
	if err := a.ask(provision.Plan{}); !errors.Is(err, errNobody) {
		t.Errorf("ask with yes on a pipe = %v; want %v", err, errNobody)
	}
}
