package redfish_test

import (
	"slices"
	"testing"
	"testing/fstest"

	"firstlight/internal/simrack"
	"firstlight/provision/bmc/redfish"
)

// TestUsers reads the accounts of a service with one user besides an account that
// is not in use.
func TestUsers(t *testing.T) {
	tree := fstest.MapFS{}
	for at, text := range map[string]string{
		"": `{"RedfishVersion": "1.6.0", "Systems": {"@odata.id": "/redfish/v1/Systems"}, "AccountService": {"@odata.id": "/redfish/v1/AccountService"},
			"Links": {"Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"}}}`,
		"/SessionService/Sessions":   `{"Members": []}`,
		"/Systems":                   `{"Members": [{"@odata.id": "/redfish/v1/Systems/1"}]}`,
		"/Systems/1":                 `{"Id": "1", "SystemType": "Physical", "PowerState": "On"}`,
		"/AccountService":            `{"Accounts": {"@odata.id": "/redfish/v1/AccountService/Accounts"}}`,
		"/AccountService/Accounts":   `{"Members": [{"@odata.id": "/redfish/v1/AccountService/Accounts/1"}, {"@odata.id": "/redfish/v1/AccountService/Accounts/2"}]}`,
		"/AccountService/Accounts/1": `{"Id": "1", "UserName": "", "Enabled": false, "RoleId": "Administrator"}`,
		"/AccountService/Accounts/2": `{"Id": "2", "UserName": "admin", "Enabled": true, "RoleId": "Administrator"}`,
	} {
		tree["redfish/v1"+at+"/index.json"] = &fstest.MapFile{Data: []byte(text)}
	}
	r := newRig(t, &simrack.Redfish{Tree: tree})
	var got []redfish.User
	r.must(r.client.With(t.Context(), r.ep, func(s *redfish.Session) (err error) {
		got, err = s.Users(t.Context())
		return err
	}))
	want := []redfish.User{{ID: "1", Role: "Administrator"}, {ID: "2", Name: "admin", Enabled: true, Role: "Administrator"}}
	if !slices.Equal(got, want) {
		t.Errorf("users %+v; want %+v", got, want)
	}
}
