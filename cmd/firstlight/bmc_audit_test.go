package main

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// TestBMCAudit: what our own BMCs leave open is found, once each, without a second
// login; a port that speaks plain HTTP is found; what was not checked is said.
func TestBMCAudit(t *testing.T) {
	r := newBMCSite(t)
	nodes := r.answers(1, "bmc", "audit", "-json")
	classes := func(name, list, key string) (out []string) {
		for _, f := range nodes[name][list].([]any) {
			out = append(out, f.(map[string]any)[key].(string))
		}
		return out
	}
	if got := classes("i1", "findings", "class"); !slices.Equal(got, []string{"kg-unset"}) {
		t.Errorf("findings of i1: %q; want kg-unset", got)
	}
	if got := classes("i1", "unchecked", "what"); len(got) != 0 {
		t.Errorf("unchecked on i1: %q; want nothing", got)
	}
	if got := classes("r1", "findings", "class"); len(got) != 0 {
		t.Errorf("findings of r1: %q; want none", got)
	}
	if got := classes("r1", "unchecked", "what"); !slices.Contains(got, "cipher suites, anonymous logins and K_g") {
		t.Errorf("unchecked on r1: %q", got)
	}
	if got := classes("i2", "unchecked", "what"); len(got) != 3 || nodes["i2"]["error"] == "" {
		t.Errorf("unchecked on i2: %q, error %q; want all but HTTP, and the error", got, nodes["i2"]["error"])
	}
	if n := r.seen("r1 login"); n != 1 {
		t.Errorf("%d logins at r1; want 1", n)
	}
	out, errs, code := inProcess(t, "bmc", "audit", "i1", "r1", r.dir)
	for _, want := range []string{"warning  kg-unset  i1", "-> set a K_g", "not checked on r1: cipher suites", "1 finding on 2 nodes, 0 of them critical"} {
		if code != 1 || errs != "" || !strings.Contains(out, want) {
			t.Errorf("no %q; exit %d, %q:\n%s", want, code, errs, out)
		}
	}
	r.noneOpen()
}

// TestBMCAuditPlainHTTP: Redfish on an unencrypted port is critical.
func TestBMCAuditPlainHTTP(t *testing.T) {
	r := newRedfishSite(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "" || q.Header.Get("X-Auth-Token") != "" {
			t.Error("a credential was sent in the clear")
		}
		fmt.Fprint(w, `{"@odata.id": "/redfish/v1/", "RedfishVersion": "1.6.0"}`)
	})}
	go srv.Serve(l) // ends with Close
	t.Cleanup(func() { srv.Close() })
	r.write("site.hcl", strings.Replace(driftInventoryText, `"secret"`, `"`+redfishPassword+`"`, 1)+redfishNode("r1", "redfish", uint16(l.Addr().(*net.TCPAddr).Port)))
	out, errs, code := inProcess(t, "bmc", "audit", r.dir)
	if code != 1 || !strings.Contains(out, "critical  plain-http  r1") || !strings.Contains(errs, "does not speak TLS") {
		t.Errorf("exit %d, %q:\n%s", code, errs, out)
	}
}

// TestBMCAuditFactoryPassword: a declared password that BMCs are delivered with is
// found, and not printed.
func TestBMCAuditFactoryPassword(t *testing.T) {
	r := newRedfishSite(t)
	r.write("site.hcl", strings.Replace(strings.Replace(driftInventoryText, `"secret"`, `"calvin"`, 1), `"admin"`, `"root"`, 1)+redfishNode("i1", "ipmi", 9))
	out, errs, code := inProcess(t, "bmc", "audit", r.dir)
	if code != 1 || !strings.Contains(out, "critical  factory-password  i1") || strings.Contains(out+errs, "calvin") {
		t.Errorf("exit %d, %q:\n%s", code, errs, out)
	}
}

// TestRedfishUsers: accounts that are not in use are nobody.
func TestRedfishUsers(t *testing.T) {
	got := redfishUsers([]redfish.User{{ID: "1"}, {ID: "2", Name: "root", Enabled: true, Role: "Administrator"}, {ID: "guest", Name: "guest", Role: "ReadOnly"}})
	want := []bmc.User{{ID: 2, Name: "root", Enabled: true, Messaging: true, Privilege: "administrator"}, {Name: "guest", Privilege: "readonly"}}
	if !slices.Equal(got, want) {
		t.Errorf("redfishUsers = %+v; want %+v", got, want)
	}
}
