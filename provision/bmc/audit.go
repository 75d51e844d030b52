package bmc

import (
	"fmt"
	"slices"
	"strings"

	"firstlight/inventory"
)

// Finding is a way in that a BMC leaves open.
type Finding struct {
	Class    string `json:"class"`
	Severity string `json:"severity"` // "critical" or "warning"
	What     string `json:"what"`
	CVE      string `json:"cve"` // or ""
	Source   string `json:"source"`
	Action   string `json:"action"`
}

// Unchecked is a question that an audit could not answer. It is never "clean".
type Unchecked struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
}

// Audit is what is known of one BMC's security. What is nil was not asked or not
// told, and is listed as unchecked.
type Audit struct {
	Username string           // the declared credential
	Password inventory.Secret // likewise; compared with factory passwords, never sent
	Identity *Identity
	Exposure *Exposure
	Access   *Access
	Plain    *bool             // Redfish is served over plain HTTP
	Reasons  map[string]string // why something is nil, by "firmware", "ipmi", "users", "http"
}

// factory are names and passwords that BMCs are delivered with.
func factory() map[string][]string {
	return map[string][]string{
		"ADMIN": {"ADMIN"}, "admin": {"admin", "password", "admin123", "cmb9.admin"}, "root": {"calvin", "0penBmc", "root", "changeme", "superuser"},
		"USERID": {"PASSW0RD"}, "Administrator": {"password", "Administrator", "superuser"}, "sysadmin": {"superuser"},
		"albert": {"albert"}, "hqadmin": {"hqadmin"}, "qct.admin": {"qct.admin"},
	}
}

// Findings are the ways in, the gravest first, and what could not be told.
func (x *Audit) Findings() (found []Finding, unchecked []Unchecked) {
	add := func(f Finding) { found = append(found, f) }
	missing := func(key, what string) {
		reason := x.Reasons[key]
		if reason == "" {
			reason = "the bmc does not tell"
		}
		unchecked = append(unchecked, Unchecked{what, reason})
	}
	if slices.Contains(factory()[x.Username], x.Password.Reveal()) {
		add(Finding{Class: "factory-password", Severity: "critical", What: fmt.Sprintf("user %q has a password that BMCs are delivered with", x.Username),
			Action: "set another password on the bmc and in the inventory"})
	}
	if x.Exposure == nil {
		missing("ipmi", "cipher suites, anonymous logins and K_g")
	} else {
		x.exposure(add, missing)
	}
	if x.Access == nil {
		missing("users", "users and what they may do")
	} else {
		x.users(add)
	}
	x.suites(add, missing)
	if x.Identity == nil {
		missing("firmware", "firmware")
	} else {
		f, u := knownHoles(*x.Identity)
		found, unchecked = append(found, f...), append(unchecked, u...)
	}
	switch {
	case x.Plain == nil:
		missing("http", "Redfish over plain HTTP")
	case *x.Plain:
		add(Finding{Class: "plain-http", Severity: "critical", What: "Redfish is served over plain HTTP, so that passwords can be read on the network",
			Action: "turn HTTP off on the bmc, or have it lead to HTTPS"})
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return strings.Compare(a.Severity, b.Severity) }) // critical, warning
	return found, unchecked
}

// exposure is what anybody on the network sees.
func (x *Audit) exposure(add func(Finding), missing func(key, what string)) {
	e := x.Exposure
	switch {
	case e.SuiteZero == nil:
		x.Reasons = withReason(x.Reasons, "zero", e.Untried)
		missing("zero", "cipher suite 0")
	case *e.SuiteZero:
		add(Finding{Class: "suite-0", Severity: "critical", Source: "IPMI 2.0, §22.15.2",
			What: "cipher suite 0 is accepted: anybody is in with any password", Action: "disable cipher suite 0 on the bmc"})
	}
	if e.Anonymous || e.NoName {
		what := "a login without a name is enabled"
		if e.Anonymous {
			what = "a login without a name and password is enabled"
		}
		add(Finding{Class: "anonymous-user", Severity: "critical", What: what, Action: "disable the bmc's user 1, which has no name"})
	}
	if !e.KG {
		add(Finding{Class: "kg-unset", Severity: "warning", What: "no key K_g is set: a session is protected by the user's password alone",
			Action: "set a K_g on the bmc, and declare it"})
	}
	if len(e.Auth15) > 0 {
		f := Finding{Class: "ipmi-1.5", Severity: "warning", What: fmt.Sprintf("IPMI 1.5 logins are accepted (%s), whose packets anybody can read", strings.Join(e.Auth15, ", ")),
			Action: "disable IPMI 1.5 on the bmc"}
		if slices.Contains(e.Auth15, "none") {
			f.Severity = "critical"
		}
		add(f)
	}
}

// withReason leaves the caller's map alone.
func withReason(m map[string]string, key, reason string) map[string]string {
	out := map[string]string{key: reason}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// users looks for enabled users that nobody asked for.
func (x *Audit) users(add func(Finding)) {
	for _, u := range x.Access.Users {
		if !u.Enabled || u.Privilege == "none" {
			continue
		}
		_, delivered := factory()[u.Name]
		switch {
		case u.Name == "" && (x.Exposure == nil || !x.Exposure.NoName && !x.Exposure.Anonymous):
			add(Finding{Class: "anonymous-user", Severity: "critical", What: fmt.Sprintf("user %d has no name, is enabled and may act as %s", u.ID, u.Privilege),
				Action: fmt.Sprintf("disable user %d on the bmc", u.ID)})
		case delivered && u.Name != x.Username:
			add(Finding{Class: "factory-user", Severity: "warning", What: fmt.Sprintf("user %q, which BMCs are delivered with, is enabled and may act as %s", u.Name, u.Privilege),
				Action: fmt.Sprintf("disable user %q on the bmc, or make sure that its password was changed", u.Name)})
		}
	}
}

// suites looks for cipher suites that protect too little: all but 3 and 17. What
// the LAN configuration allows counts before what is offered.
func (x *Audit) suites(add func(Finding), missing func(key, what string)) {
	var all []int
	switch {
	case x.Access != nil && x.Access.Suites != nil:
		for id := range x.Access.Suites {
			all = append(all, id)
		}
		slices.Sort(all)
	case x.Exposure != nil && x.Exposure.Suites != nil:
		all = x.Exposure.Suites
	case x.Exposure != nil:
		missing("suites", "old cipher suites")
		return
	}
	old := slices.DeleteFunc(slices.Clone(all), func(id int) bool { return id == 3 || id == 17 || id == 0 })
	if len(old) > 0 {
		word := "suites"
		if len(old) == 1 {
			word = "suite"
		}
		add(Finding{Class: "old-suites", Severity: "warning", What: fmt.Sprintf("cipher %s %s allowed, which lack encryption, integrity or a sound hash", word, suiteList(old)),
			Action: "allow only cipher suites 17 and 3 on the bmc"})
	}
}

// knownHoles looks the firmware up.
func knownHoles(id Identity) (found []Finding, unchecked []Unchecked) {
	for _, b := range Holes() {
		if !b.about(id) {
			continue
		}
		bad, decided := b.covers(id.Firmware)
		switch {
		case !decided:
			reason := fmt.Sprintf("firmware %s: compare with the maker's bulletin (%s)", orUnknown(id.Firmware), b.Source)
			if b.Fixed != "" {
				reason = fmt.Sprintf("firmware %s does not tell whether it is %s, which has the fix (%s)", orUnknown(id.Firmware), b.Fixed, b.Source)
			}
			unchecked = append(unchecked, Unchecked{b.CVE, reason})
		case bad:
			found = append(found, Finding{Class: "known-hole", Severity: "critical", CVE: b.CVE, Source: b.Source,
				What: fmt.Sprintf("firmware %s: %s", id.Firmware, b.What), Action: fmt.Sprintf("update the bmc to %s or later", b.Fixed)})
		}
	}
	return found, unchecked
}

func orUnknown(s string) string {
	if s == "" {
		return "of unknown version"
	}
	return s
}
