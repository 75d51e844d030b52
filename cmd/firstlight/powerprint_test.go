package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"firstlight/provision/bmc"
)

func TestPrintPower(t *testing.T) {
	named := func(name string) bmc.Named { return bmc.Named{Node: name, Address: "10.20.0.1:623"} }
	var rows []powerRow
	for i := 1; i <= 764; i++ {
		rows = append(rows, powerRow{Name: fmt.Sprintf("hnode%03d", i), Power: "on"})
	}
	rows = append(rows, powerRow{Name: "hnode765", Power: "off"})
	for i, err := range []error{
		&bmc.NoAnswerError{Named: named("hnode766"), After: 3 * time.Second, Doing: "Open Session"},
		&bmc.NoAnswerError{Named: named("hnode767"), After: 3004 * time.Millisecond, Doing: "Open Session"},
		&bmc.NoAnswerError{Named: named("hnode768"), PortClosed: true},
		&bmc.NoAnswerError{Named: named("hnode769"), After: 2 * time.Second, MayBeDone: true},
		&bmc.AuthError{Named: named("hnode770"), Username: "admin", Reason: "wrong user name or password", Tries: 1},
		&bmc.ReadBackError{Named: named("hnode771"), What: "power", Wanted: "on", Got: "off", After: time.Minute},
		errors.New("no bmc is declared"),
	} {
		rows = append(rows, powerRow{Name: fmt.Sprintf("hnode%d", 766+i), err: err, Error: err.Error()})
	}
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs}
	err := a.printPower(rows)
	want := "on: hnode[001-764]; off: hnode765; not done: hnode771 (power is off after 1m0s); outcome unknown: hnode769 (timeout 2s); " +
		"no answer: hnode768 (port closed); no answer: hnode[766-767] (timeout 3s); login refused: hnode770 (wrong user name or password); failed: hnode772\n"
	if out.String() != want {
		t.Errorf("stdout\n%swant\n%s", out.String(), want)
	}
	var ex *exit
	if !errors.As(err, &ex) || ex.code != 1 {
		t.Errorf("printPower = %v; want exit 1", err)
	}
	lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
	if len(lines) != 6 || !strings.HasSuffix(lines[0], "(and 1 more)") || !strings.HasPrefix(lines[5], "hnode772: no bmc is declared") {
		t.Errorf("stderr: want a line for each kind of failure\n%s", errs.String())
	}
	out.Reset()
	if err := a.printPower(rows[:2]); err != nil || out.String() != "on: hnode[001-002]\n" {
		t.Errorf("printPower of two = %q, %v", out.String(), err)
	}
}

// TestCounter: on a terminal a line counts the answers, and is gone at the end.
func TestCounter(t *testing.T) {
	shown := onTerminal(t, "", func(tty *os.File) {
		a := &app{stdout: tty, stderr: tty}
		c := a.newCounter(3)
		c.on = true // the test's terminal has no size
		c.last = time.Time{}
		c.answered("on")
		c.answered("no answer") // within a tenth of a second
		c.last = time.Time{}
		c.answered("on")
		c.clear()
	})
	if want := "\r\x1b[K1 on; 2 to go\r\x1b[K1 no answer, 2 on; 0 to go\r\x1b[K"; shown != want {
		t.Errorf("the terminal got %q; want %q", shown, want)
	}
	var errs bytes.Buffer
	c := (&app{stderr: &errs}).newCounter(1)
	c.last = time.Time{}
	c.answered("on")
	c.clear()
	if errs.Len() > 0 {
		t.Errorf("what is no terminal got %q", errs.String())
	}
}
