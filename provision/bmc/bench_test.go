//go:build bench

// The measurements take minutes and judge this host, not the code alone: they
// are built for `make bench-bmc` only.

package bmc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"firstlight/internal/refbmc"
)

// The children of a measurement are this test binary again, told by the
// environment what to be: the reading process is measured whole, as its peer is.
const (
	envChild = "FIRSTLIGHT_BENCH_CHILD" // "read" or "serve"
	envArgs  = "FIRSTLIGHT_BENCH_ARGS"  // its benchJob
)

// benchJob is what a child does.
type benchJob struct {
	First     string // address of the first BMC
	Count     int    // of BMCs, 100 to a /24
	Suites    []int  // of a served BMC
	TimeoutMS int    // of the client; 0: its own
	WithinMS  int    // of the whole reading; 0: no limit
	Wrong     bool   // use a wrong password
	Suite     int    // pinned; 0: the client finds out
	// SkipFrozen leaves out the first five of each hundred.
	SkipFrozen bool
}

// benchResult is what a reading child found.
type benchResult struct {
	On, Off, NoAnswer, Refused, Other int
	ElapsedMS                         float64 // of PowerAll
	Slowest                           float64 // ms, of those that answered
	Goroutines                        int     // the most
	Stats                             Stats
	Err                               string // one of Other
}

const benchPort = 623

// benchAddrs are count addresses from first on, 100 to a /24.
func benchAddrs(first string, count int) []netip.AddrPort {
	b := netip.MustParseAddr(first).As4()
	var out []netip.AddrPort
	for i := range count {
		a := b
		a[2] += byte(i / 100 % 100)
		a[1] += byte(i / 10000)
		a[3] = byte(1 + i%100)
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4(a), benchPort))
	}
	return out
}

// TestBenchChild is not a test: it is the body of the children.
func TestBenchChild(t *testing.T) {
	var job benchJob
	if os.Getenv(envChild) == "" {
		t.Skip("the body of children of the measurements")
	}
	if err := json.Unmarshal([]byte(os.Getenv(envArgs)), &job); err != nil {
		t.Fatal(err)
	}
	switch os.Getenv(envChild) {
	case "serve":
		benchServe(t, job)
	case "read":
		raw, err := json.Marshal(benchRead(&Client{Timeout: time.Duration(job.TimeoutMS) * time.Millisecond}, job))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("result %s\n", raw)
	}
}

// benchRead reads the power of the job's BMCs once.
func benchRead(c *Client, job benchJob) benchResult {
	var eps []Endpoint
	for i, a := range benchAddrs(job.First, job.Count) {
		if job.SkipFrozen && i%100 < 5 {
			continue
		}
		ep := endpoint(a)
		ep.Node, ep.Suite = fmt.Sprintf("n%05d", i), job.Suite
		if job.Wrong {
			ep.Password += "x"
		}
		eps = append(eps, ep)
	}
	ctx := context.Background()
	if job.WithinMS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(job.WithinMS)*time.Millisecond)
		defer cancel()
	}
	var r benchResult
	began := time.Now()
	c.PowerAll(ctx, eps, func(_ int, p PowerReading) {
		r.Goroutines = max(r.Goroutines, runtime.NumGoroutine())
		var none *NoAnswerError
		var auth *AuthError
		switch {
		case p.State == PowerOn:
			r.On++
		case p.State == PowerOff:
			r.Off++
		case errors.As(p.Err, &none):
			r.NoAnswer++
		case errors.As(p.Err, &auth):
			r.Refused++
		default:
			r.Other++
			r.Err = p.Err.Error()
		}
		if p.Err == nil {
			r.Slowest = max(r.Slowest, float64(p.Elapsed.Microseconds())/1e3)
		}
	})
	r.ElapsedMS = float64(time.Since(began).Microseconds()) / 1e3
	r.Stats = c.Stats()
	return r
}

// benchServe serves reference BMCs until its input ends.
func benchServe(t *testing.T, job benchJob) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var ready sync.WaitGroup
	for i, a := range benchAddrs(job.First, job.Count) {
		ready.Add(1)
		b := &refbmc.BMC{Listen: a.String(), Username: testUser, Password: plantedPassword, Suites: job.Suites,
			Serial: fmt.Sprint("SN", i), Machine: &machine{}, Ready: func(netip.AddrPort) { ready.Done() }}
		wg.Go(func() {
			if err := b.Serve(ctx); err != nil {
				t.Errorf("%v", err)
				os.Exit(1)
			}
		})
	}
	ready.Wait()
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent closes it, or dies
	cancel()
	wg.Wait()
}

func benchChild(t *testing.T, kind string, job benchJob) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestBenchChild$", "-test.v")
	cmd.Env = append(os.Environ(), envChild+"="+kind, envArgs+"="+string(raw))
	cmd.Stderr = os.Stderr
	return cmd
}

// startBMCs serves reference BMCs in a process of their own until the test ends.
func startBMCs(t *testing.T, job benchJob) {
	t.Helper()
	cmd := benchChild(t, "serve", job)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	var said strings.Builder
	buf := make([]byte, 256)
	for !strings.Contains(said.String(), "ready\n") {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("the reference BMCs did not start: %s", said.String())
		}
	}
}

// readInChild runs one reading in a process of its own, and returns the time from
// its start to its end and its memory.
func readInChild(t *testing.T, job benchJob) (r benchResult, wall time.Duration, mb float64) {
	t.Helper()
	cmd := benchChild(t, "read", job)
	began := time.Now()
	out, err := cmd.Output()
	wall = time.Since(began)
	if err != nil {
		t.Fatalf("reading: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if raw, ok := strings.CutPrefix(line, "result "); ok {
			if err := json.Unmarshal([]byte(raw), &r); err != nil {
				t.Fatal(err)
			}
		}
	}
	used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		t.Fatal("no resource usage")
	}
	return r, wall, float64(used.Maxrss) * 1024 / 1e6
}

// startSims runs 100 BMCs of ipmi_sim per process until the test ends.
func startSims(t *testing.T, processes int) {
	t.Helper()
	bin, err := exec.LookPath("ipmi_sim")
	if err != nil {
		t.Skip("needs ipmi_sim (Debian package openipmi)")
	}
	for p := range processes {
		dir := t.TempDir()
		var conf, emu strings.Builder
		conf.WriteString("name \"sim\"\n")
		emu.WriteString("mc_setbmc 0x20\n")
		for i := range 100 {
			fmt.Fprintf(&conf, "set_working_mc %#x\nstartlan 1\naddr 127.0.%d.%d %d\npriv_limit admin\nallowed_auths_admin md5\n"+
				"guid a123456789abcdefa12345678900%02x%02x\nendlan\nserial 15 127.0.0.1 %d codec VM\nuser 2 true \"%s\" \"%s\" admin 10 md5\n",
				0x20+2*i, 10+p, 1+i, benchPort, p, i, 20000+100*p+i, testUser, plantedPassword)
			fmt.Fprintf(&emu, "mc_add %#x 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable %#x 1000 0x0a\nmc_enable %#x\n",
				0x20+2*i, 0x20+2*i, 0x20+2*i)
		}
		for name, text := range map[string]string{"lan.conf": conf.String(), "sim.emu": emu.String(), "state/.keep": ""} {
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(bin, "-c", "lan.conf", "-f", "sim.emu", "-s", "state", "-n")
		cmd.Dir = dir
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		r := benchRead(&Client{Timeout: time.Second}, benchJob{First: "127.0.10.1", Count: 100 * processes})
		if r.On+r.Off == 100*processes {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("ipmi_sim does not serve: %+v", r)
		}
	}
}

// ipmipower reads the same with FreeIPMI, and returns the time of its process.
func ipmipower(t *testing.T, first string, count, suite int) time.Duration {
	t.Helper()
	b := netip.MustParseAddr(first).As4()
	var hosts []string
	for i := range count / 100 {
		hosts = append(hosts, fmt.Sprintf("%d.%d.%d.[1-100]", b[0], b[1], int(b[2])+i))
	}
	secret := filepath.Join(t.TempDir(), "freeipmi.conf")
	if err := os.WriteFile(secret, []byte("username "+testUser+"\npassword "+plantedPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ipmipower", "--config-file="+secret, "-h", strings.Join(hosts, ","), "-D", "LAN_2_0",
		"-I", strconv.Itoa(suite), "-l", "OPERATOR", "-W", "opensesspriv", "--stat")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	wall := time.Since(began)
	if n := strings.Count(string(out), ": off") + strings.Count(string(out), ": on"); err != nil || n != count {
		t.Fatalf("ipmipower: %v, %d of %d nodes answered; %s", err, n, count, out[:min(len(out), 1000)])
	}
	return wall
}
