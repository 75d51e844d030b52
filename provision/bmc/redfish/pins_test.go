package redfish_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"firstlight/internal/simrack"
	"firstlight/provision/bmc/redfish"
)

// TestPins: the first certificate is remembered, another is refused before
// anything is sent, and a person accepts it by removing a line.
func TestPins(t *testing.T) {
	r := newRig(t, &simrack.Redfish{})
	file := filepath.Join(t.TempDir(), "pins")
	power := func() error {
		c := r.again(&redfish.PinFile{Path: file})
		defer c.Close()
		_, err := c.Power(t.Context(), r.ep)
		return err
	}
	r.must(power())
	r.must(power())
	r.wantLogins(2)
	info, err := os.Stat(file)
	r.must(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v; want 0600", info.Mode())
	}
	was := r.bmc.Fingerprint()
	raw, err := os.ReadFile(file)
	r.must(err)
	if line := r.ep.Address.String() + " " + was + " n1 "; bytes.Count(raw, []byte(line)) != 1 {
		t.Errorf("the file lacks one line %q:\n%s", line, raw)
	}

	r.must(r.bmc.NewCertificate())
	err = power()
	if !is[*redfish.CertificateError](err) {
		t.Fatalf("with another certificate: %v", err)
	}
	for _, part := range []string{"node n1", r.ep.Address.String(), was, r.bmc.Fingerprint(), file, "remove the line"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
	r.wantLogins(2)

	r.must(os.WriteFile(file, []byte("# by hand\n\n10.0.0.1:443 "+strings.ToUpper(was)+"\n"+r.ep.Address.String()+" sha2"), 0o600)) // torn
	r.must(power())
	r.must(r.bmc.NewCertificate())
	if err := power(); !is[*redfish.CertificateError](err) {
		t.Errorf("after a torn line was mended: %v", err)
	}
}

// TestPinsInMemory: without a file, a Client knows BMCs for as long as it lives.
func TestPinsInMemory(t *testing.T) {
	r := newRig(t, &simrack.Redfish{})
	if _, err := r.client.Power(t.Context(), r.ep); err != nil {
		t.Fatal(err)
	}
	r.client.Forget(r.ep) // and its connection
	r.must(r.bmc.NewCertificate())
	if _, err := r.client.Power(t.Context(), r.ep); !is[*redfish.CertificateError](err) {
		t.Errorf("with another certificate: %v", err)
	}
}

// TestPinsDamaged: a file that cannot be understood stops everything, with its
// line.
func TestPinsDamaged(t *testing.T) {
	r := newRig(t, &simrack.Redfish{})
	good := "10.0.0.1:443 sha256:" + strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"nonsense\n":                              "line 1",
		good + "\n10.0.0.2 sha256:ab\n":           "line 2",
		good + "\n10.0.0.2:443 sha256:ab\n":       "line 2: \"sha256:ab\" is no SHA-256 fingerprint; correct or remove the line",
		good + "\n" + good[:len(good)-2] + "cd\n": "another fingerprint of 10.0.0.1:443",
	} {
		file := filepath.Join(t.TempDir(), "pins")
		r.must(os.WriteFile(file, []byte(text), 0o600))
		if _, err := r.again(&redfish.PinFile{Path: file}).Power(t.Context(), r.ep); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("file %q: error %v; want one that says %q and names the file", text, err, want)
		}
	}
	r.wantLogins(0)
}

// TestPinsShared: many processes find their BMCs at once, and none of them loses
// another's line.
func TestPinsShared(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pins")
	var rigs []*rig
	for range 8 {
		rigs = append(rigs, newRig(t, &simrack.Redfish{}))
	}
	var all sync.WaitGroup
	for range 3 {
		pins := &redfish.PinFile{Path: file}
		for _, r := range rigs {
			all.Go(func() {
				if _, err := r.again(pins).Power(t.Context(), r.ep); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rigs {
		if bytes.Count(raw, []byte(r.bmc.Fingerprint())) != 1 {
			t.Errorf("the file does not have %s once:\n%s", r.bmc.Fingerprint(), raw)
		}
	}
}
