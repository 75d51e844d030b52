package bmc

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"

	"firstlight/internal/refbmc"
)

func TestExpose(t *testing.T) {
	is := func(b bool) *bool { return &b }
	ref := startRef(t, &refbmc.BMC{})
	const key = "0123456789"
	keyed := startRef(t, &refbmc.BMC{KG: key})
	peers := map[string]struct {
		addr netip.AddrPort
		want Exposure
	}{
		"refbmc":          {ref.addr, Exposure{Suites: []int{3, 17}, SuiteZero: is(false)}},
		"refbmc with K_g": {keyed.addr, Exposure{KG: true, Suites: []int{3, 17}, SuiteZero: is(false)}},
		"ipmi_sim":        {startSim(t, ""), Exposure{Auth15: []string{"md5"}, Suites: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, SuiteZero: is(true)}},
	}
	for name, p := range peers {
		t.Run(name, func(t *testing.T) {
			tap := startTap(t, p.addr, &tap{})
			ep := endpoint(tap.addr)
			c := Client{Timeout: 900 * time.Millisecond}
			got, err := c.Expose(t.Context(), ep)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(p.want, got); d != "" {
				t.Errorf("Expose (-want +got):\n%s", d)
			}
			// More often than there are sessions: none is left, and nobody is locked out.
			for range 5 {
				if _, err := c.Expose(t.Context(), ep); err != nil {
					t.Fatal(err)
				}
			}
			whole := endpoint(p.addr)
			if p.want.KG {
				whole.KG = key
			}
			if _, err := c.Power(t.Context(), whole); err != nil {
				t.Errorf("Power afterwards: %v", err)
			}
		})
	}
	if n := ref.count("login-attempt") + keyed.count("login-attempt"); n != 2 {
		t.Errorf("%d logins were attempted; want the 2 of Power", n)
	}
}

func TestExposeSilent(t *testing.T) {
	silent := startRef(t, &refbmc.BMC{Faults: refbmc.Faults{Silent: true}})
	c := Client{Timeout: 90 * time.Millisecond}
	_, err := c.Expose(t.Context(), endpoint(silent.addr))
	if err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("Expose of a silent BMC: %v; want no answer", err)
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	if _, err = c.Expose(t.Context(), endpoint(addr)); err == nil || !strings.Contains(err.Error(), "does not listen") {
		t.Errorf("Expose of a closed port: %v; want it said", err)
	}
}

func TestAuthCapabilities(t *testing.T) {
	tests := []struct {
		name string
		data []byte
		want Exposure
	}{
		{"2.0 only", []byte{1, 0x80, 0x04, 0x02, 0, 0, 0, 0}, Exposure{}},
		{"2.0 only, with types of 1.5", []byte{1, 0x94, 0x04, 0x02, 0, 0, 0, 0}, Exposure{}},
		{"both", []byte{1, 0x94, 0x04, 0x03, 0, 0, 0, 0}, Exposure{Auth15: []string{"md5", "password"}}},
		{"1.5 without a password", []byte{1, 0x01, 0x04, 0, 0, 0, 0, 0}, Exposure{Auth15: []string{"none"}}},
		{"anonymous, no name, K_g", []byte{1, 0x80, 0x27, 0x02, 0, 0, 0, 0}, Exposure{Anonymous: true, NoName: true, KG: true}},
	}
	for _, tt := range tests {
		got, err := parseAuthCapabilities(types.CodeOK, tt.data)
		if d := cmp.Diff(tt.want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, d)
		}
	}
	if _, err := parseAuthCapabilities(types.CodeOK, []byte{1, 2, 3}); err == nil {
		t.Error("a short reply was accepted")
	}
	if _, err := parseAuthCapabilities(types.CodeInvalidCommand, nil); err == nil {
		t.Error("a refusal was accepted")
	}
}

func TestSuiteRecords(t *testing.T) {
	list := []byte{0xc0, 3, 1, 0x41, 0x81, 0xc0, 17, 3, 0x44, 0x81, 0xc1, 0x80, 1, 2, 3, 1, 0x41, 0xc0, 0, 0}
	if got, want := parseSuites(list), []int{0, 3, 17, 128}; !slices.Equal(got, want) {
		t.Errorf("parseSuites = %v; want %v", got, want)
	}
	for want, ids := range map[string][]int{"": nil, "1": {1}, "1-2, 6-8, 17": {1, 2, 6, 7, 8, 17}} {
		if got := suiteList(ids); got != want {
			t.Errorf("suiteList(%v) = %q; want %q", ids, got, want)
		}
	}
	levels := suiteLevels([]byte{4}, []byte{0, 0, 3, 17, 2}, []byte{0, 0x40, 0x24})
	if d := cmp.Diff(map[int]string{3: "administrator", 17: "administrator", 2: "user"}, levels); d != "" {
		t.Errorf("suiteLevels (-want +got):\n%s", d)
	}
}

// TestAccessInterop compares users and LAN configuration of a foreign BMC with
// ipmitool's.
func TestAccessInterop(t *testing.T) {
	addr := startSim(t, "")
	var c Client
	got, err := c.Access(t.Context(), endpoint(addr))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(got.Users, func(u User) bool { return u.Name == testUser })
	if i < 0 || !got.Users[i].Enabled || got.Users[i].Privilege != "administrator" {
		t.Errorf("users %+v; want %s, enabled, as administrator", got.Users, testUser)
	}
	fields := strings.FieldsFunc(ipmitool(t, addr, "lan", "print"), func(r rune) bool { return r == '\n' })
	for _, want := range []string{"IP Address              : " + got.IP.String(), "MAC Address             : " + got.MAC.String(), "Subnet Mask             : " + got.Netmask.String()} {
		if !slices.ContainsFunc(fields, func(line string) bool { return strings.TrimSpace(line) == want }) {
			t.Errorf("ipmitool prints no %q in %q", want, fields)
		}
	}
	ref := startRef(t, &refbmc.BMC{})
	got, err = c.Access(t.Context(), endpoint(ref.addr))
	want := []User{{ID: 1, Privilege: "none"}, {ID: 2, Name: testUser, Enabled: true, Messaging: true, Privilege: "administrator"}}
	if err != nil || len(got.Users) < 2 || cmp.Diff(want, got.Users[:2]) != "" {
		t.Errorf("users of refbmc %+v, %v; want %+v", got.Users, err, want)
	}
}

// TestFindings holds what follows from what is seen.
func TestFindings(t *testing.T) {
	yes, no := true, false
	sound := func() Audit {
		return Audit{Username: "operator", Password: "xyzzy-17-plugh", Identity: &Identity{Manufacturer: "Example Corp", Firmware: "1.05"},
			Exposure: &Exposure{KG: true, Suites: []int{3, 17}, SuiteZero: &no},
			Access:   &Access{Users: []User{{ID: 1}, {ID: 2, Name: "operator", Enabled: true, Privilege: "operator"}}}, Plain: &no}
	}
	tests := []struct {
		name      string
		change    func(x *Audit)
		found     []string // classes
		unchecked []string
	}{
		{"sound", func(*Audit) {}, nil, nil},
		{"suite 0", func(x *Audit) { x.Exposure.SuiteZero = &yes }, []string{"suite-0"}, nil},
		{"suite 0 not tried", func(x *Audit) { x.Exposure.SuiteZero, x.Exposure.Untried = nil, "it fell silent" }, nil, []string{"cipher suite 0: it fell silent"}},
		{"no K_g", func(x *Audit) { x.Exposure.KG = false }, []string{"kg-unset"}, nil},
		{"anonymous", func(x *Audit) { x.Exposure.Anonymous = true }, []string{"anonymous-user"}, nil},
		{"user without a name", func(x *Audit) { x.Access.Users[0] = User{ID: 1, Enabled: true, Privilege: "user"} }, []string{"anonymous-user"}, nil},
		{"factory user", func(x *Audit) {
			x.Access.Users = append(x.Access.Users, User{ID: 3, Name: "ADMIN", Enabled: true, Privilege: "administrator"})
		}, []string{"factory-user"}, nil},
		{"factory user disabled", func(x *Audit) {
			x.Access.Users = append(x.Access.Users, User{ID: 3, Name: "ADMIN", Privilege: "administrator"})
		}, nil, nil},
		{"factory password", func(x *Audit) { x.Username, x.Password = "root", "calvin" }, []string{"factory-password"}, nil},
		{"1.5", func(x *Audit) { x.Exposure.Auth15 = []string{"md5"} }, []string{"ipmi-1.5"}, nil},
		{"old suites offered", func(x *Audit) { x.Exposure.Suites = []int{0, 1, 2, 3, 17} }, []string{"old-suites"}, nil},
		{"old suites offered and not allowed", func(x *Audit) {
			x.Exposure.Suites, x.Access.Suites = []int{1, 3}, map[int]string{3: "administrator"}
		}, nil, nil},
		{"suites not told", func(x *Audit) { x.Exposure.Suites = nil }, nil, []string{"old cipher suites: the bmc does not tell"}},
		{"plain HTTP", func(x *Audit) { x.Plain = &yes }, []string{"plain-http"}, nil},
		{"iDRAC8", func(x *Audit) { x.Identity = &Identity{Manufacturer: "Dell Inc.", Firmware: "2.40.40.40"} }, []string{"known-hole CVE-2018-1207", "known-hole CVE-2020-5344"}, nil},
		{"iDRAC8 by IPMI", func(x *Audit) { x.Identity = &Identity{ManufacturerID: 674, Firmware: "2.52"} }, []string{"known-hole CVE-2020-5344"},
			[]string{"CVE-2018-1207: firmware 2.52 does not tell whether it is 2.52.52.52, which has the fix (https://nvd.nist.gov/vuln/detail/CVE-2018-1207)"}},
		{"iDRAC9", func(x *Audit) { x.Identity = &Identity{Manufacturer: "Dell Inc.", Firmware: "3.36.36.36"} }, []string{"known-hole CVE-2020-5344"}, nil},
		{"iDRAC9 mended", func(x *Audit) { x.Identity = &Identity{ManufacturerID: 674, Firmware: "4.00"} }, nil, nil},
		{"iLO 4", func(x *Audit) { x.Identity = &Identity{Manufacturer: "HPE", Firmware: "iLO 4 v2.50"} }, []string{"known-hole CVE-2017-12542"}, nil},
		{"iLO 5", func(x *Audit) { x.Identity = &Identity{Manufacturer: "HPE", Firmware: "iLO 5 v2.44"} }, nil, nil},
		{"XD670", func(x *Audit) {
			x.Identity = &Identity{Manufacturer: "HPE", Product: "HPE Cray XD670", Firmware: "1.17"}
		}, nil, []string{"CVE-2024-54085: firmware 1.17: compare with the maker's bulletin (https://nvd.nist.gov/vuln/detail/CVE-2024-54085)"}},
		{"MegaRAC", func(x *Audit) { x.Identity = &Identity{ManufacturerID: 20974, Firmware: "13.3"} }, nil,
			[]string{"CVE-2024-54085: firmware 13.3: compare with the maker's bulletin (https://nvd.nist.gov/vuln/detail/CVE-2024-54085)"}},
		{"MegaRAC of ASUS", func(x *Audit) {
			x.Identity = &Identity{Manufacturer: "ASUSTeK", Product: "Pro WS W790E-SAGE SE", Firmware: "1.1.56"}
		}, []string{"known-hole CVE-2024-54085"}, nil},
		{"MegaRAC of ASUS, mended", func(x *Audit) {
			x.Identity = &Identity{Manufacturer: "ASUSTeK", Product: "Pro WS W790E-SAGE SE", Firmware: "1.1.57"}
		}, nil, nil},
		{"nothing told", func(x *Audit) {
			*x = Audit{Reasons: map[string]string{"ipmi": "port closed", "users": "login refused", "firmware": "login refused", "http": "timeout"}}
		}, nil, []string{"cipher suites, anonymous logins and K_g: port closed", "users and what they may do: login refused", "firmware: login refused", "Redfish over plain HTTP: timeout"}},
	}
	for _, tt := range tests {
		x := sound()
		tt.change(&x)
		found, unchecked := x.Findings()
		var classes, not []string
		for _, f := range found {
			classes = append(classes, strings.TrimSpace(f.Class+" "+f.CVE))
			if f.What == "" || f.Action == "" || f.Severity != "critical" && f.Severity != "warning" {
				t.Errorf("%s: finding %+v lacks words", tt.name, f)
			}
		}
		for _, u := range unchecked {
			not = append(not, u.What+": "+u.Reason)
		}
		if !slices.Equal(classes, tt.found) || !slices.Equal(not, tt.unchecked) {
			t.Errorf("%s: found %q, unchecked %q; want %q, %q", tt.name, classes, not, tt.found, tt.unchecked)
		}
	}
}

// TestHoles walks the table.
func TestHoles(t *testing.T) {
	for _, b := range Holes() {
		if b.Maker == "" || len(b.IANA) == 0 || !strings.HasPrefix(b.CVE, "CVE-") || b.What == "" || !strings.HasPrefix(b.Source, "https://") {
			t.Errorf("%+v lacks something", b)
		}
		for _, v := range []string{b.From, b.Fixed} {
			if v != "" && versionOf(v, "") == nil {
				t.Errorf("%s: %q is no version", b.CVE, v)
			}
		}
	}
}

// FuzzAccess feeds the parsers of what tells who may log in.
func FuzzAccess(f *testing.F) {
	f.Add([]byte{1, 0x94, 0x27, 0x03, 0, 0, 0, 0}, "iLO 4 v2.50")
	f.Add([]byte{0xc0, 3, 1, 0x41, 0x81, 0xc1, 0x80}, "13.5")
	f.Add(plainMessage(request{command: types.CommandGetChannelCipherSuites}, 3), "..1..")
	f.Add([]byte{1, 0x94, 0x27, 0x03, 0, 0, 0, 0}, "\xc0\xc0\xc0\xc0\xc0\xc0iLO 4 v2.50") // lower case of this is longer
	f.Fuzz(func(t *testing.T, b []byte, version string) {
		_, _ = parseAuthCapabilities(types.CodeOK, b)
		suiteList(parseSuites(b))
		suiteLevels(b, b, b)
		plainPayload(b)
		address(b)
		source(b)
		vlan(b)
		if len(b) >= 4 {
			parseUser(1, b)
		}
		knownHoles(Identity{Manufacturer: "Dell", Firmware: version})
		knownHoles(Identity{Manufacturer: "HPE", Product: version, Firmware: version})
	})
}
