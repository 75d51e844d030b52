package redfish

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// PinFile remembers the certificate of each BMC from first contact on, as ssh
// remembers hosts: BMCs sign their own certificates, and there is nobody else to
// vouch for them. The zero value remembers in memory only.
//
// The file has a line per BMC: address, "sha256:" and the fingerprint in hex,
// the node's name and the time of first contact, which are for people. Several
// processes may use one file. A person removes a line to accept another
// certificate.
type PinFile struct {
	Path string // made with mode 0600, in a directory that is there; "" for memory only

	mu    sync.Mutex
	was   os.FileInfo // the file, as read last
	whole int64       // where its last ended line ends
	open  bool        // what follows that is a pin all the same
	pins  map[string]string
}

const pinHeader = "# Certificates of BMCs, by SHA-256, from first contact on. Remove a line to accept another.\n"

// fingerprint of a certificate, in DER.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// pin returns the fingerprint that is known of addr, which is found if it was
// not known before.
func (p *PinFile) pin(addr netip.AddrPort, node, found string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pins == nil {
		p.pins = map[string]string{}
	}
	if p.Path == "" {
		if p.pins[addr.String()] == "" {
			p.pins[addr.String()] = found
		}
		return p.pins[addr.String()], nil
	}
	f, err := os.OpenFile(p.Path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("known certificates: %w", err)
	}
	defer f.Close() // and with it the lock
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("known certificates: lock %s: %w", p.Path, err)
	}
	if err := p.refresh(f); err != nil {
		return "", err
	}
	if known := p.pins[addr.String()]; known != "" {
		return known, nil
	}
	line := fmt.Sprintf("%s %s %s %s\n", addr, found, strings.Join(strings.Fields(node), "_"), time.Now().UTC().Format(time.RFC3339))
	switch {
	case p.was.Size() == 0:
		line = pinHeader + line
	case p.open:
		line = "\n" + line
	default: // a power cut may have left half a line
		if err := f.Truncate(p.whole); err != nil {
			return "", fmt.Errorf("known certificates: %w", err)
		}
	}
	// Not synced: what a power cut takes back is a first contact again.
	if _, err := f.WriteString(line); err != nil {
		return "", fmt.Errorf("known certificates: %w", err)
	}
	p.pins[addr.String()] = found
	if p.was, err = f.Stat(); err != nil {
		return "", fmt.Errorf("known certificates: %w", err)
	}
	p.whole, p.open = p.was.Size(), false
	return found, nil
}

// refresh reads the file again if it is not as it was read last.
func (p *PinFile) refresh(f *os.File) error {
	is, err := f.Stat()
	if err != nil {
		return fmt.Errorf("known certificates: %w", err)
	}
	if p.was != nil && os.SameFile(p.was, is) && p.was.Size() == is.Size() && p.was.ModTime().Equal(is.ModTime()) {
		return nil
	}
	raw, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("known certificates: %w", err)
	}
	pins, err := parsePins(raw)
	if err != nil {
		return fmt.Errorf("known certificates: %s: %w", p.Path, err)
	}
	p.was, p.pins, p.whole = is, pins, int64(bytes.LastIndexByte(raw, '\n')+1)
	tail := string(raw[p.whole:])
	_, _, err = parsePin(tail)
	p.open = err == nil || strings.HasPrefix(tail, "#")
	return nil
}

// parsePins reads the lines of a pin file. A last line that a power cut left
// unfinished says nothing.
func parsePins(raw []byte) (map[string]string, error) {
	pins := map[string]string{}
	lines := strings.Split(string(raw), "\n")
	for i, line := range lines {
		if fields := strings.Fields(line); len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		addr, sum, err := parsePin(line)
		switch {
		case err != nil && i == len(lines)-1:
		case err != nil:
			return nil, fmt.Errorf("line %d: %w; correct or remove the line", i+1, err)
		case pins[addr] != "" && pins[addr] != sum:
			return nil, fmt.Errorf("line %d: another fingerprint of %s than before; remove the wrong line", i+1, addr)
		default:
			pins[addr] = sum
		}
	}
	return pins, nil
}

// parsePin reads one line: an address and a fingerprint, and what people like to
// know, which is not looked at.
func parsePin(line string) (addr, sum string, err error) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return "", "", fmt.Errorf("%q is no address with a fingerprint", line)
	}
	at, err := netip.ParseAddrPort(fields[0])
	if err != nil {
		return "", "", err
	}
	digits, ok := strings.CutPrefix(strings.ToLower(fields[1]), "sha256:")
	if b, err := hex.DecodeString(digits); !ok || err != nil || len(b) != sha256.Size {
		return "", "", fmt.Errorf("%q is no SHA-256 fingerprint", fields[1])
	}
	return at.String(), "sha256:" + digits, nil
}
