package simrack

import (
	"encoding/json"
	"net/http"
	"slices"
)

// The account service of the emulator, for trees that have none.
const (
	accountServicePath = "/redfish/v1/AccountService"
	accountsPath       = accountServicePath + "/Accounts"
	minPassword        = 8
	maxPassword        = 20
)

// addAccounts gives the tree the account of the one user. Its caller holds mu.
func (b *Redfish) addAccounts() {
	ref := func(at string) map[string]any { return map[string]any{"@odata.id": at} }
	b.docs["/redfish/v1"]["AccountService"] = ref(accountServicePath)
	b.docs[accountServicePath] = map[string]any{"@odata.id": accountServicePath, "Id": "AccountService", "Name": "Accounts",
		"MinPasswordLength": minPassword, "MaxPasswordLength": maxPassword, "Accounts": ref(accountsPath)}
	b.docs[accountsPath] = map[string]any{"@odata.id": accountsPath, "Name": "Accounts", "Members@odata.count": 2,
		"Members": []any{ref(accountsPath + "/1"), ref(accountsPath + "/2")}}
	for id, name := range map[string]string{"1": "", "2": b.Username} {
		b.docs[accountsPath+"/"+id] = map[string]any{"@odata.id": accountsPath + "/" + id, "Id": id, "Name": "Account",
			"UserName": name, "RoleId": "Administrator", "Password": nil, "Enabled": name != ""}
	}
}

// Accepts says whether the user's password is that one now: a PATCH of the
// account changes it.
func (b *Redfish) Accepts(password string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return password == b.Password && !(b.Faults.LockAfter > 0 && b.refused >= b.Faults.LockAfter)
}

// MostFailed is the longest row of refused logins there was.
func (b *Redfish) MostFailed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mostRefused
}

// patchAccount takes a new password, and ends all sessions, as some makes do. As
// the base registry has it, a refusal quotes the value.
func (b *Redfish) patchAccount(w http.ResponseWriter, at, ifMatch string, body []byte) *answerError {
	var in struct{ Password *string }
	if err := json.Unmarshal(body, &in); err != nil || in.Password == nil {
		return refuse(http.StatusBadRequest, "PropertyUnknown", "Only the property Password can be changed.")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	doc, etag := b.current(at)
	switch n := len(*in.Password); {
	case doc["UserName"] != b.Username:
		return refuse(http.StatusForbidden, "InsufficientPrivilege", "The account is not yours.")
	case b.Make.NeedsIfMatch && ifMatch == "":
		return refuse(http.StatusPreconditionRequired, "PreconditionRequired", "An If-Match header is required.")
	case ifMatch != "" && ifMatch != "*" && ifMatch != etag:
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "The entity tag is not the current one.")
	case n < minPassword || n > maxPassword || b.Faults.RefusePasswords:
		return refuse(http.StatusBadRequest, "PropertyValueFormatError", "The value '%s' for the property Password is not of an accepted format.", *in.Password)
	}
	if !b.Faults.LosePasswords {
		b.Password = *in.Password
		clear(b.sessions)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// isAccount says whether a path is that of an account of addAccounts.
func (b *Redfish) isAccount(at string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(members(b.docs[accountsPath]), at)
}
