package inventory

import (
	"fmt"
	"strings"
	"testing"
)

// TestOutlets: two supplies of a node on two PDUs, from for_each and dynamic.
func TestOutlets(t *testing.T) {
	c := mustLoad(t, map[string]string{"c.hcl": `
credential "c" {
  username = "admin"
  password = "pw"
}
rack "r" {}
pdu "p" {
  for_each   = { a = "10.20.0.201", b = "10.20.0.202" }
  name       = "r-${each.key}"
  address    = each.value
  credential = credential.c
  rack       = rack.r
}
node "n" {
  count = 2
  bmc {
    address    = "10.20.0.${count.index + 11}"
    credential = credential.c
  }
  nic "boot" {
    mac = "52:54:00:00:00:0${count.index}"
  }
  dynamic "outlet" {
    for_each = ["r-a", "r-b"]
    content {
      pdu = pdu[outlet.value]
      id  = count.index + 1
    }
  }
}
`}, Options{})
	var got []string
	for _, n := range c.Nodes {
		for _, o := range n.Outlets {
			got = append(got, fmt.Sprintf("%s %s %s:%d %s", n.Name, o, o.PDU.Address, o.PDU.Port, o.PDU.Rack.Name))
		}
	}
	want := "n-0 r-a/1 10.20.0.201:443 r; n-0 r-b/1 10.20.0.202:443 r; n-1 r-a/2 10.20.0.201:443 r; n-1 r-b/2 10.20.0.202:443 r"
	if s := strings.Join(got, "; "); s != want && s != strings.NewReplacer("n-0", "n0", "n-1", "n1").Replace(want) {
		t.Errorf("outlets are %s; want %s", s, want)
	}
	if len(c.PDUs) != 2 {
		t.Errorf("%d PDUs; want 2", len(c.PDUs))
	}
}
