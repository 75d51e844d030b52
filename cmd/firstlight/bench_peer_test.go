//go:build bench

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"firstlight/images"
	"firstlight/provision/agent/api"
	"firstlight/provision/bmc"
)

// peerEnv makes this test binary the peer: it names the directory with what
// the peer serves. The process runs inside the lab's network namespace.
const peerEnv = "FIRSTLIGHT_BENCH_PEER"

// Names in the peer's directory.
const (
	peerLoader    = "snponly.efi"
	peerScript    = "boot.ipxe"
	peerKernel    = "kernel"
	peerInitramfs = "initramfs"
	peerTimes     = "times.json"
)

const peerBase = "http://10.10.0.1:8080"

// bootPeer boots node-1 from dnsmasq and a plain HTTP server, into the kernel
// and the bring-up initramfs that bootOurs had built.
func (l *vmLab) bootPeer() bootTimes {
	l.t.Helper()
	dir := l.t.TempDir()
	m, err := images.Store{Dir: filepath.Join(l.dir, ".firstlight", "images")}.Manifest(images.BringUpName)
	if err != nil {
		l.t.Fatal(err)
	}
	store := images.Store{Dir: filepath.Join(l.dir, ".firstlight", "images")}
	for name, digest := range map[string]string{peerKernel: m.Kernel.Digest, peerInitramfs: m.Initramfs.Digest} {
		path, err := store.Path(digest)
		if err == nil {
			err = os.Link(path, filepath.Join(dir, name))
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
	args := append([]string{"initrd=" + peerInitramfs}, m.Args...)
	for _, kv := range [][2]string{{api.ArgController, peerBase}, {api.ArgNode, "node-1"}, {api.ArgBootID, "peer"},
		{api.ArgMAC, "52:54:00:10:00:01"}, {api.ArgKind, api.BootBringUp}, {api.ArgImage, m.Digest()}} {
		args = append(args, kv[0]+"="+kv[1])
	}
	script := fmt.Sprintf("#!ipxe\nkernel %s/%s %s\ninitrd --name %s %s/%s\nboot\n", peerBase, peerKernel, strings.Join(args, " "), peerInitramfs, peerBase, peerInitramfs)
	if err := os.WriteFile(filepath.Join(dir, peerScript), []byte(script), 0o644); err != nil {
		l.t.Fatal(err)
	}
	loader, err := os.ReadFile("/usr/lib/ipxe/" + peerLoader)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, peerLoader), loader, 0o644)
	}
	if err != nil {
		l.t.Fatal(err)
	}

	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.program, "lab", "exec", l.dir, "--", self, "-test.run", "^TestBenchPeer$", "-test.v")
	cmd.Env = append(os.Environ(), peerEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("peer: %v\n%s", err, out)
	}
	var times bootTimes
	raw, err := os.ReadFile(filepath.Join(dir, peerTimes))
	if err == nil {
		err = json.Unmarshal(raw, &times)
	}
	if err != nil || times[markHello].IsZero() {
		l.t.Fatalf("peer's times: %v: %s", err, raw)
	}
	return times
}

// peerRun is the peer at work.
type peerRun struct {
	mu    sync.Mutex
	times bootTimes
	home  chan struct{} // closed at the first hello
	log   strings.Builder
}

func (p *peerRun) see(mark string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times.see(mark, time.Now())
}

// TestBenchPeer is no test: it is the process that bootPeer starts.
func TestBenchPeer(t *testing.T) {
	dir := os.Getenv(peerEnv)
	if dir == "" {
		t.Skip("is what TestBenchBoot starts")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	p := &peerRun{times: bootTimes{}, home: make(chan struct{})}
	listener, err := net.Listen("tcp", "10.10.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p.handler(dir)}
	go func() { _ = server.Serve(listener) }() // ends with Close
	defer server.Close()
	stop := p.dnsmasq(ctx, t, dir)
	defer stop()

	ep := bmc.Endpoint{Node: "node-1", Address: netip.MustParseAddrPort("10.20.0.11:623"), Username: "admin", Password: "firstlight-lab"}
	client := &bmc.Client{}
	if err := client.SetBoot(ctx, ep, bmc.Override{Device: bmc.BootPXE, EFI: true}); err != nil {
		t.Fatal(err)
	}
	if err := client.SetPower(ctx, ep, bmc.ActionOn); err != nil {
		t.Fatal(err)
	}
	p.see(markPower)
	select {
	case <-p.home:
	case <-ctx.Done():
		stop()
		t.Fatalf("the agent did not call home; seen: %v; dnsmasq said:\n%s", p.times, p.log.String())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	raw, err := json.Marshal(p.times)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, peerTimes), raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// handler is Go's file server, which sends files by sendfile, and an agent's
// controller that only admits.
func (p *peerRun) handler(dir string) http.Handler {
	mux := http.NewServeMux()
	files := http.FileServer(http.Dir(dir))
	marks := map[string]string{"/" + peerScript: markScript, "/" + peerKernel: markKernel, "/" + peerInitramfs: markInitramfs}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		files.ServeHTTP(w, r)
		if mark := marks[r.URL.Path]; mark != "" {
			p.see(mark)
		}
	})
	var once sync.Once
	mux.HandleFunc("POST "+api.PathHello, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		once.Do(func() { p.see(markHello); close(p.home) })
		_ = json.NewEncoder(w).Encode(api.HelloReply{Session: "peer", Time: time.Now()})
	})
	mux.HandleFunc("/agent/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return mux
}

// dnsmasq serves DHCP and TFTP as its manual tells to chain iPXE, with a
// reservation and without a lease file: it never probes an address first.
func (p *peerRun) dnsmasq(ctx context.Context, t *testing.T, dir string) (stop func()) {
	cmd := exec.CommandContext(ctx, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root",
		"--log-facility=-", "--log-dhcp", "--leasefile-ro", "--no-ping", "--dhcp-authoritative", "--pid-file",
		"--interface=provision", "--bind-interfaces", "--dhcp-range=10.10.0.100,10.10.0.200,255.255.255.0,1h",
		"--dhcp-host=52:54:00:10:00:01,10.10.0.11,node-1", "--dhcp-userclass=set:ipxe,iPXE",
		"--enable-tftp", "--tftp-root="+dir,
		"--dhcp-boot=tag:!ipxe,"+peerLoader, "--dhcp-boot=tag:ipxe,"+peerBase+"/"+peerScript)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends with dnsmasq
		defer close(ended)
		up := sync.OnceFunc(func() { close(started) })
		for lines := bufio.NewScanner(said); lines.Scan(); up() {
			p.dnsmasqLine(lines.Text())
		}
		up()
		_ = cmd.Wait()
	}()
	<-started
	return sync.OnceFunc(func() { _ = cmd.Process.Kill(); <-ended })
}

// dnsmasqLine takes the marks from dnsmasq's log.
func (p *peerRun) dnsmasqLine(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(&p.log, line)
	now := time.Now()
	loaded, scripted := !p.times[markLoader].IsZero(), !p.times[markKernel].IsZero()
	switch {
	case strings.Contains(line, "DHCPDISCOVER(") && scripted:
		p.times.see(markAgent, now)
	case strings.Contains(line, "DHCPDISCOVER(") && loaded:
		p.times.see(markIPXE, now)
	case strings.Contains(line, "DHCPDISCOVER("):
		p.times.see(markFirmware, now)
	case strings.Contains(line, "DHCPACK(") && !loaded:
		p.times.see(markAck, now)
	case strings.Contains(line, "dnsmasq-tftp") && strings.Contains(line, ": sent "):
		p.times.see(markLoader, now)
	}
}
