package redfish_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// hostile is a BMC that answers with what a test gives it.
func hostile(t testing.TB, answers map[string]string) redfish.Endpoint {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := r.Method + " " + strings.TrimRight(r.URL.Path, "/")
		text, ok := answers[at]
		if !ok {
			text, ok = answers["*"]
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		if to, ok := strings.CutPrefix(text, "->"); ok {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		if at == "POST /redfish/v1/SessionService/Sessions" {
			w.Header().Set("X-Auth-Token", "token")
			w.Header().Set("Location", text)
			w.WriteHeader(http.StatusCreated)
			return
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(srv.Close)
	return redfish.Endpoint{Node: "n1", Address: netip.MustParseAddrPort(srv.Listener.Addr().String()), Username: "admin", Password: "pw", PlainHTTP: true}
}

// plainAnswers are those of a small and honest BMC.
func plainAnswers() map[string]string {
	return map[string]string{
		"GET /redfish/v1":                          `{"Links":{"Sessions":{"@odata.id":"/redfish/v1/SessionService/Sessions"}}}`,
		"POST /redfish/v1/SessionService/Sessions": "/redfish/v1/SessionService/Sessions/1",
		"GET /redfish/v1/Systems":                  `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]}`,
		"GET /redfish/v1/Systems/1":                `{"PowerState":"On"}`,
	}
}

func quick(t testing.TB) *redfish.Client {
	c := &redfish.Client{Timeout: 2 * time.Second, PowerWithin: 50 * time.Millisecond, SettleWithin: 50 * time.Millisecond}
	t.Cleanup(c.Close)
	return c
}

// TestForeignLinks: a BMC cannot send the session's token, or the password, to
// another host or to what is not Redfish.
func TestForeignLinks(t *testing.T) {
	var stolen atomic.Int32
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	defer thief.Close()
	at := strings.TrimPrefix(thief.URL, "http://")
	link := func(to string) string {
		raw, _ := json.Marshal(map[string]any{"Members": []any{map[string]string{"@odata.id": to}}})
		return string(raw)
	}
	cases := map[string]map[string]string{
		"other host":           {"GET /redfish/v1/Systems": link("@" + at + "/redfish/v1/Systems/1")},
		"other path":           {"GET /redfish/v1/Systems": link("/cgi-bin/reset")},
		"way up":               {"GET /redfish/v1/Systems": link("/redfish/v1/../../cgi-bin/reset")},
		"redirect":             {"GET /redfish/v1/Systems/1": "->" + thief.URL + "/redfish/v1/Systems/1"},
		"redirect of password": {"POST /redfish/v1/SessionService/Sessions": "->" + thief.URL + "/redfish/v1/SessionService/Sessions"},
		"sessions elsewhere":   {"GET /redfish/v1": `{"Links":{"Sessions":{"@odata.id":"@` + at + `/redfish/v1/Sessions"}}}`},
		"session elsewhere":    {"POST /redfish/v1/SessionService/Sessions": "@" + at + "/redfish/v1/Sessions/1", "GET /redfish/v1/Systems/1": `{}`},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			answers := plainAnswers()
			for k, v := range change {
				answers[k] = v
			}
			c := quick(t)
			if p, err := c.Power(t.Context(), hostile(t, answers)); err == nil {
				t.Errorf("Power = %s; want an error", p)
			}
			c.Close()
		})
	}
	if n := stolen.Load(); n != 0 {
		t.Errorf("%d requests reached another host", n)
	}
	c := quick(t)
	if p, err := c.Power(t.Context(), hostile(t, plainAnswers())); err != nil || p != bmc.PowerOn {
		t.Errorf("the honest BMC: Power = %q, %v", p, err)
	}
}

// TestNoTLS: a password is not sent in the clear unless the endpoint says so.
func TestNoTLS(t *testing.T) {
	ep := hostile(t, plainAnswers())
	ep.PlainHTTP = false
	if _, err := quick(t).Power(t.Context(), ep); err == nil || !strings.Contains(err.Error(), "HTTP") {
		t.Errorf("error %v; want one that says that the BMC speaks plain HTTP", err)
	}
}

// TestMistypedProperties: what is not needed may be of any type.
func TestMistypedProperties(t *testing.T) {
	answers := plainAnswers()
	answers["GET /redfish/v1/Systems/1"] = `{"PowerState":"Off","MemorySummary":"2 TiB","ProcessorSummary":[],"Status":7,"PowerOnDelaySeconds":"soon"}`
	if p, err := quick(t).Power(t.Context(), hostile(t, answers)); err != nil || p != bmc.PowerOff {
		t.Errorf("Power = %q, %v; want off", p, err)
	}
}

// TestWhichSystem: the node is told from its GPU baseboard and from DPUs, or not
// at all.
func TestWhichSystem(t *testing.T) {
	cases := map[string]struct{ members, text string }{
		"dpu":       {`[{"@odata.id":"/redfish/v1/Systems/DPU"},{"@odata.id":"/redfish/v1/Systems/HGX_0"},{"@odata.id":"/redfish/v1/Systems/1"}]`, ""},
		"two nodes": {`[{"@odata.id":"/redfish/v1/Systems/1"},{"@odata.id":"/redfish/v1/Systems/2"}]`, "it is the bmc of 2 computer systems"},
		"none":      {`[{"@odata.id":"/redfish/v1/Systems/HGX_0"}]`, "lists no computer system that is the node"},
	}
	for name, c := range cases {
		answers := plainAnswers()
		answers["GET /redfish/v1/Systems"] = `{"Members":` + c.members + `}`
		answers["GET /redfish/v1/Systems/DPU"] = `{"SystemType":"DPU","PowerState":"Off"}`
		answers["GET /redfish/v1/Systems/2"] = `{"PowerState":"Off"}`
		p, err := quick(t).Power(t.Context(), hostile(t, answers))
		if c.text == "" && (err != nil || p != bmc.PowerOn) || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
			t.Errorf("%s: Power = %q, %v; want error %q", name, p, err, c.text)
		}
	}
}

// FuzzAnswer gives a BMC's every answer but that to the login.
func FuzzAnswer(f *testing.F) {
	f.Add(`{"PowerState":"On"}`)
	f.Add(`{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}],"PowerState":null,"Boot":null}`)
	f.Add(`{"Members":[{"@odata.id":"/redfish/v1/A"}],"Members@odata.nextLink":"/redfish/v1/A","Links":{"Chassis":[{"@odata.id":"/redfish/v1/A"}]},
		"LogServices":{"@odata.id":"/redfish/v1/A"},"Entries":{"@odata.id":"/redfish/v1/A"},"Bios":{"@odata.id":"/redfish/v1/A"},"VirtualMedia":{"@odata.id":"/redfish/v1/A"}}`)
	f.Add(`{"RackPDUs":{"@odata.id":"/redfish/v1/A"},"Outlets":{"@odata.id":"/redfish/v1/A"},"Members":[{"@odata.id":"/redfish/v1/1"}],"Id":"1","PowerState":"Off",
		"Actions":{"#Outlet.PowerControl":{"target":"/redfish/v1/A"}}}`)
	f.Add(`null`)
	f.Add(`[[[[`)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(text, "->") {
			t.Skip("is a redirect to this test's server")
		}
		answers := plainAnswers()
		delete(answers, "GET /redfish/v1/Systems/1")
		if !strings.Contains(text, "Members") {
			delete(answers, "GET /redfish/v1/Systems")
			answers["GET /redfish/v1/Systems"] = `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]}`
		}
		answers["*"] = text
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		c := quick(t)
		err := c.With(ctx, hostile(t, answers), func(s *redfish.Session) error {
			_, err1 := s.Identity(ctx)
			_, err2 := s.Power(ctx)
			_, err3 := s.Boot(ctx)
			_, err4 := s.BIOSAttributes(ctx)
			_, err5 := s.Sensors(ctx)
			_, err6 := s.Outlet(ctx, "1")
			return errors.Join(err1, err2, err3, err4, err5, err6, s.SetOutlet(ctx, "1", true))
		})
		if err != nil && strings.ContainsAny(err.Error(), "\x00\x1b") {
			t.Errorf("an error holds control characters: %q", err)
		}
		c.Close()
	})
}
