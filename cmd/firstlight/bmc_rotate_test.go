package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"firstlight/internal/refbmc"
	"firstlight/internal/simrack"
)

// rotateSite is r1 and r2 by Redfish and i1 by IPMI, which all lock their account.
type rotateSite struct {
	*redfishSite
	ipmi *refbmc.BMC
}

func newRotateSite(t *testing.T) *rotateSite {
	r := &rotateSite{redfishSite: newRedfishSite(t)}
	for _, b := range r.bmc {
		b.SetFaults(simrack.RedfishFaults{LockAfter: 3})
	}
	r.ipmi = &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Serial: "S-i2", Machine: lamp{t, true}, Faults: refbmc.Faults{LockAfter: 3}}
	r.write("more.hcl", redfishNode("i2", "ipmi", r.serve(2, r.ipmi)))
	return r
}

// rotate runs the verb with -json.
func (r *rotateSite) rotate(want int, flags ...string) map[string]rotateRow {
	r.t.Helper()
	out, errs, code := inProcess(r.t, append(append([]string{"bmc", "rotate", "-json", "-auto-approve", "-exclude", "i1"}, flags...), r.dir)...)
	var got struct{ Nodes []rotateRow }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != want {
		r.t.Fatalf("rotate %v: exit %d, want %d; %v\n%s%s", flags, code, want, err, out, errs)
	}
	rows := map[string]rotateRow{}
	for _, row := range got.Nodes {
		rows[row.Name] = row
	}
	return rows
}

// powers holds that power status reaches all BMCs, or those only that are named.
func (r *rotateSite) powers(reached ...string) {
	r.t.Helper()
	out, _, _ := inProcess(r.t, "power", "status", "-json", "-exclude", "i1", r.dir)
	var got struct{ Nodes []powerRow }
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		r.t.Fatal(err)
	}
	for _, row := range got.Nodes {
		if slices.Contains(reached, row.Name) != (row.Error == "") {
			r.t.Errorf("power status of %s: %q", row.Name, row.Error)
		}
	}
}

func (r *rotateSite) password(node string) string {
	r.t.Helper()
	s := loadSite(r.t, r.dir)
	known, err := s.credentials()
	if err != nil {
		r.t.Fatal(err)
	}
	n := s.Cluster.Node(node)
	password, err := known.secret(n, n.BMC)
	if err != nil {
		r.t.Fatal(err)
	}
	return password.Reveal()
}

// TestRotate: every BMC gets a password of its own, which the other verbs use; a
// supplied one; and the declared one again, after which nothing is recorded.
func TestRotate(t *testing.T) {
	r := newRotateSite(t)
	r.powers("r1", "r2", "i2")
	for name, row := range r.rotate(0) {
		if row.Outcome != "changed" || row.Error != "" || row.Username != "admin" || row.BMC != "127.0.0.1" {
			t.Errorf("%s: %+v", name, row)
		}
	}
	r.powers("r1", "r2", "i2")
	made := map[string]bool{}
	for _, name := range []string{"r1", "r2", "i2"} {
		made[r.password(name)] = true
	}
	if len(made) != 3 || made[redfishPassword] || r.ipmi.Accepts(redfishPassword) || r.bmc["r1"].Accepts(redfishPassword) {
		t.Error("the BMCs do not have a new password each")
	}
	file := filepath.Join(r.dir, ".firstlight", passwordsFile)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v; want mode 0600", file, info, err)
	}

	supplied := filepath.Join(t.TempDir(), "new")
	if err := os.WriteFile(supplied, []byte("Supplied-pw-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.rotate(0, "-password-file", supplied, "-target", "i2")
	if !r.ipmi.Accepts("Supplied-pw-1") {
		t.Error("i2 does not have the supplied password")
	}
	r.rotate(0, "-declared")
	if _, err := os.Stat(file); !os.IsNotExist(err) || !r.ipmi.Accepts(redfishPassword) || !r.bmc["r2"].Accepts(redfishPassword) {
		t.Errorf("after -declared the file is there (%v), or a BMC has another password", err)
	}
	r.powers("r1", "r2", "i2")
	if n := max(r.ipmi.MostFailed(), r.bmc["r1"].MostFailed(), r.bmc["r2"].MostFailed()); n != 0 {
		t.Errorf("%d failed logins; want none", n)
	}
}

// TestRotateTrouble: one BMC's trouble is its own, the other verbs do not log in
// where it is not known with what, and the next run finishes it.
func TestRotateTrouble(t *testing.T) {
	r := newRotateSite(t)
	r.bmc["r1"].SetFaults(simrack.RedfishFaults{LockAfter: 3, LosePasswords: true})
	r.bmc["r2"].SetFaults(simrack.RedfishFaults{LockAfter: 3, RefusePasswords: true})
	rows := r.rotate(1)
	if rows["r1"].Outcome != "unknown" || rows["r2"].Outcome != "unchanged" || rows["i2"].Outcome != "changed" {
		t.Errorf("outcomes %+v", rows)
	}
	r.powers("r2", "i2")
	_, errs, _ := inProcess(t, "power", "status", "-target", "r1", r.dir)
	if want := "a change of its password was interrupted: finish it with `firstlight bmc rotate -target r1`"; !strings.Contains(errs, want) {
		t.Errorf("power status says %q; want %q in it", errs, want)
	}
	for _, name := range []string{"r1", "r2"} {
		r.bmc[name].SetFaults(simrack.RedfishFaults{LockAfter: 3})
	}
	kept := r.password("i2")
	rows = r.rotate(0)
	if rows["r1"].Outcome != "changed" || !rows["r1"].Resumed || rows["r2"].Outcome != "left" || rows["i2"].Outcome != "left" || r.password("i2") != kept {
		t.Errorf("the run after it: %+v; want r1 finished and nothing else", rows)
	}
	r.powers("r1", "r2", "i2")
	rows = r.rotate(0)
	if rows["r2"].Outcome != "changed" || rows["i2"].Outcome != "changed" || r.password("i2") == kept {
		t.Errorf("the run after that: %+v", rows)
	}
	if n := max(r.ipmi.MostFailed(), r.bmc["r1"].MostFailed(), r.bmc["r2"].MostFailed()); n > 1 {
		t.Errorf("%d failed logins in a row; want one at most", n)
	}
}

// TestRotateRefused: a BMC that accepts nothing that is known is tried once, over
// all runs and verbs, until a person says so.
func TestRotateRefused(t *testing.T) {
	r := newRotateSite(t)
	r.rotate(0, "-target", "i2")
	exchanged := &refbmc.BMC{Listen: "127.0.0.1:0", Username: "admin", Password: redfishPassword, Serial: "S-i2", Machine: lamp{t, true}}
	r.write("more.hcl", redfishNode("i2", "ipmi", r.serve(2, exchanged)))
	rows := r.rotate(1, "-target", "i2")
	if row := rows["i2"]; row.Outcome != "refused" || !strings.Contains(row.Error, "wrong user name or password") {
		t.Errorf("%+v", row)
	}
	rows = r.rotate(1, "-target", "i2")
	if row := rows["i2"]; row.Outcome != "refused" || !strings.Contains(row.Error, "-retry -target i2") {
		t.Errorf("%+v", row)
	}
	r.powers("r1", "r2")
	if n := exchanged.MostFailed(); n > 1 {
		t.Errorf("%d failed logins; want one", n)
	}
	rows = r.rotate(0, "-forget", "-target", "i2", "-target", "r1")
	if rows["i2"].Outcome != "forgotten" || rows["r1"].Outcome != "not recorded" {
		t.Errorf("%+v", rows)
	}
	r.powers("r1", "r2", "i2")
	if row := r.rotate(0, "-target", "i2")["i2"]; row.Outcome != "changed" {
		t.Errorf("%+v", row)
	}
}

// TestRotateAsks: nothing is changed without a yes, and what cannot be right is
// said before.
func TestRotateAsks(t *testing.T) {
	r := newRotateSite(t)
	long := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(long, bytes.Repeat([]byte("x"), 21), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, "nobody is there to ask: give -auto-approve"},
		{[]string{"-forget"}, "nobody is there to ask"},
		{[]string{"-auto-approve", "-declared"}, "there is nothing to change"},
		{[]string{"-auto-approve", "-password-file", long}, "the password has 21 bytes, and i1 is reached by IPMI, which allows 20"},
		{[]string{"-auto-approve", "-password-file", open}, "chmod 600"},
		{[]string{"-auto-approve", "-password-file", "-"}, "is empty"},
		{[]string{"-auto-approve", "-password-file", long, "-declared"}, "none of the others can be"},
		{[]string{"-auto-approve", "-target", "nobody"}, "nobody"},
	} {
		out, errs, code := inProcess(t, append(append([]string{"bmc", "rotate"}, c.flags...), r.dir)...)
		if code != 1 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit %d, %s%s; want 1 and %q", c.flags, code, out, errs, c.want)
		}
	}
	if !r.ipmi.Accepts(redfishPassword) || r.seen("r1 login-attempt") != 0 {
		t.Error("something was sent")
	}
}

// TestRotateKilled kills the program with SIGKILL at some step of a change, and
// holds that the same command finishes it: no password is lost, no account comes
// near its lock. Package secrets does so at every step.
func TestRotateKilled(t *testing.T) {
	r := newRotateSite(t)
	file := filepath.Join(r.dir, ".firstlight", passwordsFile)
	killed := 0
	for _, steps := range []int{3, 5, 7, 9, 11} { // lines; the first three are the beginning
		before, _ := os.ReadFile(file) // none at first
		p := exec.Command(os.Args[0], "bmc", "rotate", "-auto-approve", "-exclude", "i1", r.dir)
		p.Args[0] = "firstlight" // see TestMain
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- p.Wait() }() // ends with the program
		for over := false; !over; {
			select {
			case err := <-ended:
				over, ended = true, nil
				if err != nil {
					t.Fatal(err)
				}
			default:
				time.Sleep(200 * time.Microsecond)
			}
			text, _ := os.ReadFile(file) // it may be there soon
			if ended != nil && bytes.Count(text, []byte("\n")) >= bytes.Count(before, []byte("\n"))+steps {
				_ = p.Process.Kill()
				<-ended
				over, killed = true, killed+1
			}
		}
		r.ipmi.EndSessions() // as their time-out does
		for _, b := range r.bmc {
			b.EndSessions()
		}
		r.rotate(0)
		for name, b := range map[string]interface {
			Accepts(string) bool
			MostFailed() int
		}{"r1": r.bmc["r1"], "r2": r.bmc["r2"], "i2": r.ipmi} {
			if !b.Accepts(r.password(name)) || b.MostFailed() > 1 {
				t.Errorf("killed after %d steps: %s accepts what is recorded: %v; %d failed logins in a row", steps, name, b.Accepts(r.password(name)), b.MostFailed())
			}
		}
	}
	t.Logf("killed %d of 5 times", killed)
	if killed == 0 {
		t.Error("the program was never killed")
	}
}
