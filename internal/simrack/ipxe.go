package simrack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"firstlight/provision/agent/api"
)

// fetchTries is how often iPXE tries a download, as the script has it.
const fetchTries = 10

// errNextDevice: the script sends the machine to its next boot device.
var errNextDevice = errors.New("next boot device")

// script is what matters of an iPXE script of the controller's.
type script struct {
	kernel  string   // URL
	args    string   // kernel command line
	initrds []string // URLs, the token's among them
	failed  string   // URL to report to
	again   bool     // ask once more, a little later
}

// parseScript reads the commands that the boot services write; "A && goto X ||"
// is the try of A. A script without a kernel sends the machine on.
func parseScript(text string) (script, error) {
	var s script
	if !strings.HasPrefix(text, "#!ipxe") {
		return s, fmt.Errorf("not an iPXE script: %.40q", text)
	}
	for line := range strings.Lines(text) {
		command, _, _ := strings.Cut(strings.TrimSpace(line), " && ")
		f := strings.Fields(command)
		switch {
		case len(f) >= 4 && f[0] == "kernel":
			s.kernel, s.args = f[3], strings.Join(f[4:], " ")
		case len(f) >= 4 && f[0] == "initrd":
			s.initrds = append(s.initrds, f[3])
		case len(f) >= 4 && f[0] == "imgfetch":
			s.failed = f[len(f)-1]
		case len(f) >= 3 && f[0] == "chain":
			s.again = true
		}
	}
	return s, nil
}

// ipxe asks for its own lease, follows the script and fetches what it names.
func (m *machine) ipxe(ctx context.Context) (*loaded, error) {
	l, err := m.dhcp(ctx, true)
	if err != nil {
		return nil, err
	}
	client := httpFrom(l.address)
	defer client.CloseIdleConnections()
	for {
		text, err := get(ctx, client, l.bootFile)
		if err != nil {
			return nil, err
		}
		s, err := parseScript(string(text))
		switch {
		case err != nil:
			return nil, err
		case s.kernel != "":
			return m.load(ctx, client, s, l.address)
		case !s.again:
			return nil, errNextDevice
		}
		if !sleep(ctx, m.rack.pause()) {
			return nil, ctx.Err()
		}
	}
}

// load fetches kernel and initrds. What cannot be had is reported, as the
// script does, and the machine goes to its next device.
func (m *machine) load(ctx context.Context, client *http.Client, s script, address netip.Addr) (*loaded, error) {
	out := &loaded{args: s.args, address: address}
	for i, u := range append([]string{s.kernel}, s.initrds...) {
		body, err := m.fetch(ctx, client, u)
		if err != nil {
			if ctx.Err() == nil && s.failed != "" {
				step := map[bool]string{true: "kernel", false: "initrd"}[i == 0]
				report := strings.NewReplacer("${step}", step, "${why:uristring}", url.QueryEscape(err.Error())).Replace(s.failed)
				_, rerr := get(ctx, client, report)
				return nil, fmt.Errorf("%w: %w", errNextDevice, errors.Join(err, rerr))
			}
			return nil, err
		}
		switch {
		case i == 0:
			out.kernel = body
		case strings.Contains(u, ".cpio"):
			if out.token, err = tokenIn(body); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// fetch downloads with the script's tries, and holds a blob against its name.
func (m *machine) fetch(ctx context.Context, client *http.Client, u string) (body []byte, err error) {
	for try := 1; ; try++ {
		if body, err = get(ctx, client, u); err == nil || ctx.Err() != nil || try == fetchTries {
			break
		}
		sleep(ctx, m.rack.pause())
	}
	if err != nil {
		return nil, err
	}
	if _, want, ok := strings.Cut(u, api.BlobPath); ok {
		if got := hexDigest(body); got != want {
			return nil, fmt.Errorf("%s has digest sha256:%s", u, got)
		}
	}
	return body, nil
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func get(ctx context.Context, client *http.Client, u string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", u, resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// httpFrom is a client whose connections come from a node's own address.
func httpFrom(a netip.Addr) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: a.AsSlice()}, Timeout: 5 * time.Second}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 4}}
}

// tokenIn finds the token in an archive in cpio's "newc" format, as the kernel
// unpacks it.
func tokenIn(archive []byte) (string, error) {
	const header = 110
	for b := archive; len(b) >= header; {
		size, err1 := strconv.ParseUint(string(b[54:62]), 16, 31)
		length, err2 := strconv.ParseUint(string(b[94:102]), 16, 31)
		if err := errors.Join(err1, err2); err != nil || string(b[:6]) != "070701" {
			return "", fmt.Errorf("token archive is not cpio: %.20q", b)
		}
		start := (header + int(length) + 3) &^ 3
		end := start + int(size)
		if end > len(b) || length == 0 {
			break
		}
		if name := string(b[header : header+int(length)-1]); "/"+name == api.TokenPath {
			return string(b[start:end]), nil
		}
		b = b[min((end+3)&^3, len(b)):]
	}
	return "", fmt.Errorf("token archive has no %s", api.TokenPath)
}
