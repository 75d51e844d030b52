package bmc

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"firstlight/inventory"
)

// TestSetPasswordInterop: our change of a password on a BMC that is not ours, and
// a client that is not ours with what we have set.
func TestSetPasswordInterop(t *testing.T) {
	tool, err := exec.LookPath("ipmitool")
	if err != nil {
		t.Skip("needs ipmitool")
	}
	for _, p := range peers() {
		t.Run(p.name, func(t *testing.T) {
			addr := p.start(t)
			c, ep := &Client{Timeout: 10 * time.Second}, endpoint(addr)
			for _, password := range []inventory.Secret{"Next-password-16", "Next-password-of-20b"} {
				err := c.SetPassword(t.Context(), ep, password, ready)
				if len(password) > 16 && p.name == "ipmi_sim suite 3" {
					if err == nil || !strings.Contains(err.Error(), "keeps only the first 16 bytes of a password, so the old one was put back") {
						t.Errorf("%d bytes: %v; want to be told that they are cut", len(password), err)
					}
					if _, err := c.Power(t.Context(), ep); err != nil {
						t.Errorf("login with the old one: %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%d bytes: %v", len(password), err)
				}
				old := ep
				ep.Password = password
				if _, err := c.Power(t.Context(), ep); err != nil {
					t.Errorf("%d bytes: login with the new one: %v", len(password), err)
				}
				var refused *AuthError
				if _, err := c.Power(t.Context(), old); !errors.As(err, &refused) {
					t.Errorf("%d bytes: login with the old one: %v; want it refused", len(password), err)
				}
				cmd := exec.Command(tool, "-I", "lanplus", "-C", strconv.Itoa(p.suite), "-L", "OPERATOR", "-H", addr.Addr().String(),
					"-p", strconv.Itoa(int(addr.Port())), "-U", testUser, "-E", "power", "status")
				cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+password.Reveal())
				if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Chassis Power is") {
					t.Errorf("%d bytes: ipmitool: %v\n%s", len(password), err, out)
				}
			}
		})
	}
}
