package inventory

import (
	"fmt"
	"testing"
)

// TestBMCByTwoProtocols: what the second protocol does not declare is the first's.
func TestBMCByTwoProtocols(t *testing.T) {
	tests := []struct{ body, ipmi, redfish string }{
		{``, "10.20.0.11:623 a", ""},
		{"protocol = \"redfish\"", "", "10.20.0.11:443 a"},
		{"redfish {}", "10.20.0.11:623 a", "10.20.0.11:443 a"},
		{"port = 6230\nredfish {\nport = 8443\naddress = \"10.20.0.12\"\ncredential = credential.b\n}", "10.20.0.11:6230 a", "10.20.0.12:8443 b"},
		{"protocol = \"redfish\"\nipmi {}", "10.20.0.11:623 a", "10.20.0.11:443 a"},
	}
	for _, tt := range tests {
		c := mustLoad(t, map[string]string{"c.hcl": fmt.Sprintf(`
credential "a" {
  username = "admin"
  password = "pw"
}
credential "b" {
  username = "admin"
  password = "pw"
}
node "n" {
  bmc {
    address    = "10.20.0.11"
    credential = credential.a
    %s
  }
  nic "boot" {
    mac = "52:54:00:00:00:01"
  }
}
`, tt.body)}, Options{})
		said := func(b *BMC) string {
			if b == nil {
				return ""
			}
			return fmt.Sprintf("%s:%d %s", b.Address, b.Port, b.Credential.Name)
		}
		n := c.Nodes[0]
		if i, r := said(n.BMC.By("ipmi")), said(n.BMC.By("redfish")); i != tt.ipmi || r != tt.redfish {
			t.Errorf("%s:\nIPMI %q, Redfish %q; want %q, %q", tt.body, i, r, tt.ipmi, tt.redfish)
		}
	}
	if (*BMC)(nil).By("ipmi") != nil {
		t.Error("a node without a BMC has one by IPMI")
	}
}
