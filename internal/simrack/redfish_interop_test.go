package simrack

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRedfishCurl drives the BMC with curl, which shares no code with our client:
// a session, the override, power, and the ways in which it refuses.
func TestRedfishCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	b := &Redfish{Listen: "127.0.0.1:0", Username: "admin", Password: "pw", Serial: "S1", Make: RedfishMake{NeedsIfMatch: true}}
	ready, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	b.Ready = func(at netip.AddrPort) { ready <- at }
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- b.Serve(ctx) }() // ends with ctx
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	base := "https://" + (<-ready).String()
	headers := filepath.Join(t.TempDir(), "headers")
	curl := func(wantStatus string, args ...string) (body map[string]any, head string) {
		t.Helper()
		path := args[len(args)-1]
		args = append([]string{"-sk", "--max-time", "20", "-D", headers, "-H", "Content-Type: application/json"}, args[:len(args)-1]...)
		var stderr bytes.Buffer
		cmd := exec.Command("curl", append(args, base+path)...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		raw, _ := os.ReadFile(headers)
		head = string(raw)
		if err != nil || !strings.Contains(strings.SplitN(head, "\r\n", 2)[0], " "+wantStatus) {
			t.Fatalf("curl %q: %v %s\n%s%s\nwant status %s", args, err, stderr.String(), head, out, wantStatus)
		}
		if len(out) > 0 {
			if err := json.Unmarshal(out, &body); err != nil {
				t.Fatalf("curl %q: %v in %s", args, err, out)
			}
		}
		return body, head
	}
	header := func(head, name string) string {
		for _, line := range strings.Split(head, "\r\n") {
			if k, v, ok := strings.Cut(line, ": "); ok && strings.EqualFold(k, name) {
				return v
			}
		}
		t.Fatalf("no header %s in\n%s", name, head)
		return ""
	}
	const system, sessions = "/redfish/v1/Systems/System_0", "/redfish/v1/SessionService/Sessions"

	if root, _ := curl("200", "/redfish/v1/"); root["RedfishVersion"] == nil {
		t.Errorf("service root %v", root)
	}
	curl("401", system)
	curl("401", "-u", "admin:wrong", system)
	if sys, _ := curl("200", "-u", "admin:pw", system); sys["PowerState"] != "Off" || sys["SerialNumber"] != "S1" {
		t.Errorf("system %v", sys)
	}
	_, head := curl("201", "-d", `{"UserName":"admin","Password":"pw"}`, sessions)
	token, session := "X-Auth-Token: "+header(head, "X-Auth-Token"), header(head, "Location")

	_, head = curl("200", "-H", token, system)
	etag := header(head, "ETag")
	pxe := `{"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Pxe","BootSourceOverrideMode":"UEFI"}}`
	curl("428", "-H", token, "-X", "PATCH", "-d", pxe, system)
	curl("412", "-H", token, "-H", `If-Match: "old"`, "-X", "PATCH", "-d", pxe, system)
	curl("204", "-H", token, "-H", "If-Match: "+etag, "-X", "PATCH", "-d", pxe, system)
	sys, _ := curl("200", "-H", token, system)
	if boot, _ := sys["Boot"].(map[string]any); boot["BootSourceOverrideTarget"] != "Pxe" || boot["BootSourceOverrideEnabled"] != "Once" {
		t.Errorf("boot %v; want PXE once", sys["Boot"])
	}
	reset := system + "/Actions/ComputerSystem.Reset"
	curl("409", "-H", token, "-d", `{"ResetType":"PowerCycle"}`, reset)
	curl("400", "-H", token, "-d", `{"ResetType":"Explode"}`, reset)
	curl("204", "-H", token, "-d", `{"ResetType":"On"}`, reset)
	sys, _ = curl("200", "-H", token, system)
	if boot, _ := sys["Boot"].(map[string]any); sys["PowerState"] != "On" || boot["BootSourceOverrideEnabled"] != "Disabled" {
		t.Errorf("after power on: power %v, boot %v; want it on and the override used up", sys["PowerState"], sys["Boot"])
	}
	curl("204", "-H", token, "-X", "DELETE", session)
	curl("401", "-H", token, system)
	if n := b.Sessions(); n != 0 {
		t.Errorf("%d sessions are open; want none", n)
	}
}
