package bmc

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"firstlight/internal/refbmc"
)

// TestConsoleTools has foreign clients open the console of our BMC.
func TestConsoleTools(t *testing.T) {
	for _, tool := range []struct{ name, args, attached, leave string }{
		{"ipmitool", "-I lanplus -C 17 -H 127.0.91.7 -U " + testUser + " -E sol activate", "SOL Session operational", "~."},
		{"ipmiconsole", "-I 17 -l OPERATOR -h 127.0.91.7 -u " + testUser + " -p " + plantedPassword, "SOL established", "&."},
	} {
		t.Run(tool.name, func(t *testing.T) {
			bin, err := exec.LookPath(tool.name)
			if err != nil {
				t.Skip("needs " + tool.name)
			}
			if _, err := exec.LookPath("script"); err != nil {
				t.Skip("needs script (Debian package bsdutils)")
			}
			if os.Getuid() != 0 {
				t.Skip("needs root, for ipmiconsole knows port 623 only")
			}
			port := &serialPort{}
			startRef(t, &refbmc.BMC{Listen: "127.0.91.7:623", Console: port.attach})
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			// script gives it the terminal that it wants.
			cmd := exec.CommandContext(ctx, "script", "-qfec", bin+" "+tool.args, "/dev/null")
			cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+plantedPassword)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var shown lockedBuffer
			cmd.Stdout, cmd.Stderr = &shown, &shown
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is attached", func() bool { return strings.Contains(shown.String(), tool.attached) })
			for i := range 20 {
				port.print(fmt.Sprintf("line %d\r\n", i))
			}
			eventually(t, "it shows the last line", func() bool { return strings.Contains(shown.String(), "line 19\r\n") })
			io.WriteString(in, "typed\r")
			eventually(t, "the machine gets what was typed", func() bool { got, _ := port.got(); return got == "typed\r" })
			io.WriteString(in, tool.leave)
			_ = cmd.Wait() // their statuses differ
			if ctx.Err() != nil {
				t.Errorf("it did not leave:\n%s", shown.String())
			}
			if got := strings.Count(shown.String(), "line 1\r\n"); got != 1 {
				t.Errorf("line 1 was shown %d times:\n%s", got, shown.String())
			}
			eventually(t, "the line is given back", func() bool { port.mu.Lock(); defer port.mu.Unlock(); return port.ended })
		})
	}
}

// TestConsoleSim opens the console of a foreign BMC.
func TestConsoleSim(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0") // the machine's serial line
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conns := make(chan net.Conn, 4)
	go func() { // ends with l
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns <- conn
		}
	}()
	addr := startSimWith(t, fmt.Sprintf("sol \"tcp:127.0.0.1:%d\" 115200\n", l.Addr().(*net.TCPAddr).Port))
	c := &Client{}
	var shown lockedBuffer
	x, err := c.OpenConsole(t.Context(), endpoint(addr), false, func(b []byte) { shown.Write(b) })
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	machine := <-conns
	defer machine.Close()
	var printed strings.Builder
	for i := range 50 {
		line := fmt.Sprintf("line %d of the machine\r\n", i)
		printed.WriteString(line)
		io.WriteString(machine, line)
	}
	eventually(t, "all is shown", func() bool { return len(shown.String()) >= printed.Len() })
	if shown.String() != printed.String() {
		t.Errorf("shown %q; want %q", shown.String(), printed.String())
	}
	typed := strings.Repeat("keys and more keys;", 40)
	if _, err := x.Write([]byte(typed)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(typed))
	machine.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := io.ReadFull(machine, got); err != nil || string(got) != typed {
		t.Errorf("the machine got %q, %v; want %q", got[:n], err, typed)
	}
	if p, err := c.Power(t.Context(), endpoint(addr)); err != nil || p != PowerOff {
		t.Errorf("Power beside the console = %q, %v", p, err)
	}
	var other Client
	if _, err := other.OpenConsole(t.Context(), endpoint(addr), false, func([]byte) {}); err == nil || !strings.Contains(err.Error(), "has the console") {
		t.Errorf("a second console: %v; want it said that another has it", err)
	}
}
