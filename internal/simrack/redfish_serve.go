package simrack

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"strings"
	"time"
)

// answerError is an answer that is an error.
type answerError struct {
	status  int
	id      string // message of the Redfish base registry
	message string
}

func refuse(status int, id, format string, args ...any) *answerError {
	return &answerError{status, "Base.1.18." + id, fmt.Sprintf(format, args...)}
}

const sessionsPath = "/redfish/v1/SessionService/Sessions"

// ServeHTTP implements http.Handler.
func (b *Redfish) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b.Watch != nil {
		b.Watch(r)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	f, n := b.begin()
	if from(f.FreezeAfter, n) || !sleep(r.Context(), f.Slow) {
		<-r.Context().Done()        // the client has left, or Serve ends
		panic(http.ErrAbortHandler) // to return would be an answer
	}
	if from(f.DropAfter, n) {
		panic(http.ErrAbortHandler)
	}
	if from(f.CutAfter, n) {
		w = &cut{ResponseWriter: w}
	}
	at := strings.TrimRight(r.URL.Path, "/")
	w.Header().Set("OData-Version", "4.0")
	var refused *answerError
	switch {
	case b.restarting():
		refused = refuse(http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", "The service is starting.")
	case r.Method == http.MethodPost && at == sessionsPath:
		refused = b.login(w, body)
	case r.Method == http.MethodGet && (at == "/redfish" || at == "/redfish/v1"):
		refused = b.get(w, at)
	default:
		if refused = b.admitted(r); refused == nil {
			refused = b.answer(w, r, at, body)
		}
	}
	if refused != nil {
		info := map[string]any{"MessageId": refused.id, "Message": refused.message}
		reply(w, refused.status, map[string]any{"error": map[string]any{"code": refused.id, "message": refused.message, "@Message.ExtendedInfo": []any{info}}})
	}
}

// begin counts a request.
func (b *Redfish) begin() (f RedfishFaults, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answered++
	return b.Faults, b.answered
}

// from says whether the n-th request meets a fault that comes after so many.
func from(after, n int) bool { return after < 0 || after > 0 && n > after }

// cut is an answer whose second half is lost with its connection.
type cut struct{ http.ResponseWriter }

func (c *cut) Write(b []byte) (int, error) {
	c.ResponseWriter.Write(b[:len(b)/2])
	if f, ok := c.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	panic(http.ErrAbortHandler)
}

func (b *Redfish) restarting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.down)
}

func reply(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(doc) // the client may have gone
}

// check holds a name and password against the account.
func (b *Redfish) check(username, password, sent string) *answerError {
	b.event("login-attempt", username)
	b.mu.Lock()
	f := &b.Faults
	locked := f.LockAfter > 0 && b.refused >= f.LockAfter
	good := username == b.Username && password == b.Password && !locked
	if good && f.RefuseLogins > 0 {
		f.RefuseLogins--
		good = false
	}
	if good {
		b.refused = 0
	} else {
		b.refused++
		b.mostRefused = max(b.mostRefused, b.refused)
	}
	echo := f.EchoPassword
	b.mu.Unlock()
	if good {
		b.event("login", username)
		return nil
	}
	b.event("login-refused", username)
	switch {
	case locked:
		return refuse(http.StatusUnauthorized, "InsufficientPrivilege", "The account is locked.")
	case echo:
		return refuse(http.StatusUnauthorized, "NoValidSession", "No account matches %s.", sent)
	}
	return refuse(http.StatusUnauthorized, "NoValidSession", "There is no valid session established with the implementation.")
}

func (b *Redfish) login(w http.ResponseWriter, body []byte) *answerError {
	var in struct{ UserName, Password string }
	if err := json.Unmarshal(body, &in); err != nil {
		return refuse(http.StatusBadRequest, "MalformedJSON", "The request is not JSON.")
	}
	if refused := b.check(in.UserName, in.Password, string(body)); refused != nil {
		return refused
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Faults.SessionsFull || len(b.sessions) >= sessionTable {
		return refuse(http.StatusServiceUnavailable, "SessionLimitExceeded", "The session establishment failed due to the number of simultaneous sessions exceeding the limit.")
	}
	b.serial++
	token, at := rand.Text(), fmt.Sprintf("%s/%d", sessionsPath, b.serial)
	b.sessions[token] = at
	w.Header().Set("X-Auth-Token", token)
	w.Header().Set("Location", at)
	reply(w, http.StatusCreated, map[string]any{"@odata.id": at, "Id": path.Base(at), "UserName": in.UserName})
	return nil
}

// admitted lets in who has a session, or a name and password.
func (b *Redfish) admitted(r *http.Request) *answerError {
	if name, password, ok := r.BasicAuth(); ok {
		return b.check(name, password, r.Header.Get("Authorization"))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.sessions[r.Header.Get("X-Auth-Token")]
	if ok && b.Faults.RefuseRequests > 0 {
		b.Faults.RefuseRequests--
		ok = false
	}
	if !ok {
		return refuse(http.StatusUnauthorized, "NoValidSession", "There is no valid session established with the implementation.")
	}
	return nil
}

func (b *Redfish) answer(w http.ResponseWriter, r *http.Request, at string, body []byte) *answerError {
	b.mu.Lock()
	down := b.Faults.BaseboardDown && strings.Contains(at, "/HGX_")
	b.mu.Unlock()
	if down {
		return refuse(http.StatusServiceUnavailable, "ResourceInStandby", "The resource is in standby.")
	}
	switch r.Method {
	case http.MethodGet:
		return b.get(w, at)
	case http.MethodDelete:
		return b.logout(w, at)
	case http.MethodPatch:
		if b.isAccount(at) {
			return b.patchAccount(w, at, r.Header.Get("If-Match"), body)
		}
		return b.patch(w, at, r.Header.Get("If-Match"), body)
	case http.MethodPost:
		return b.post(w, at, body)
	}
	return refuse(http.StatusMethodNotAllowed, "OperationNotAllowed", "The method is not allowed.")
}

func (b *Redfish) logout(w http.ResponseWriter, at string) *answerError {
	b.mu.Lock()
	defer b.mu.Unlock()
	for token, session := range b.sessions {
		if session == at {
			delete(b.sessions, token)
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	return refuse(http.StatusNotFound, "ResourceMissingAtURI", "The resource was not found.")
}

// current is a resource as it is now, with its entity tag. Its caller holds mu.
func (b *Redfish) current(at string) (doc map[string]any, etag string) {
	doc = b.docs[at]
	if doc == nil {
		return nil, ""
	}
	doc = maps.Clone(doc)
	switch {
	case at == b.system:
		doc["PowerState"] = "Off"
		if b.Machine.Powered() {
			doc["PowerState"] = "On"
		}
	case at == sessionsPath:
		var open []any
		for _, session := range b.sessions {
			open = append(open, map[string]any{"@odata.id": session})
		}
		doc["Members"], doc["Members@odata.count"] = open, len(open)
	}
	delete(doc, "@odata.etag")
	raw, _ := json.Marshal(doc) // came from JSON
	sum := sha256.Sum256(raw)
	etag = `"` + hex.EncodeToString(sum[:8]) + `"`
	doc["@odata.etag"] = etag
	return doc, etag
}

func (b *Redfish) get(w http.ResponseWriter, at string) *answerError {
	b.mu.Lock()
	doc, etag := b.current(at)
	b.mu.Unlock()
	if doc == nil {
		return refuse(http.StatusNotFound, "ResourceMissingAtURI", "The resource at %s was not found.", at)
	}
	w.Header().Set("ETag", etag)
	reply(w, http.StatusOK, doc)
	return nil
}

// patch takes the boot override and nothing else.
func (b *Redfish) patch(w http.ResponseWriter, at, ifMatch string, body []byte) *answerError {
	var in struct{ Boot map[string]any }
	if err := json.Unmarshal(body, &in); err != nil {
		return refuse(http.StatusBadRequest, "MalformedJSON", "The request is not JSON.")
	}
	b.mu.Lock()
	doc, etag := b.current(at)
	boot, _ := doc["Boot"].(map[string]any)
	refused := b.refusesPatch(at, boot, in.Boot, ifMatch, etag)
	if refused == nil && !b.Faults.RevertOverride && !b.Faults.RevertUntilReset {
		boot = maps.Clone(boot)
		maps.Copy(boot, in.Boot)
		_, told := in.Boot["BootSourceOverrideMode"]
		if b.Faults.IgnoreMode || b.Make.EchoMode && !told {
			boot["BootSourceOverrideMode"] = "Legacy"
		}
		b.docs[at]["Boot"] = boot
		if after := b.Faults.ForgetAfter; after > 0 {
			time.AfterFunc(after, func() { b.forget(at) })
		}
	}
	_, told := in.Boot["BootSourceOverrideMode"]
	job := b.Make.ModeJob && told
	b.mu.Unlock()
	if refused != nil {
		return refused
	}
	if job {
		b.event("bios-job", fmt.Sprint(in.Boot["BootSourceOverrideMode"]))
	}
	b.event("boot-override", fmt.Sprintf("%v %v %v", in.Boot["BootSourceOverrideTarget"], in.Boot["BootSourceOverrideMode"], in.Boot["BootSourceOverrideEnabled"]))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// forget drops an override that nobody has used.
func (b *Redfish) forget(at string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if boot, ok := b.docs[at]["Boot"].(map[string]any); ok {
		boot = maps.Clone(boot)
		boot["BootSourceOverrideEnabled"] = "Disabled"
		b.docs[at]["Boot"] = boot
	}
}

func (b *Redfish) refusesPatch(at string, boot, in map[string]any, ifMatch, etag string) *answerError {
	switch _, told := in["BootSourceOverrideMode"]; {
	case boot == nil:
		return refuse(http.StatusMethodNotAllowed, "OperationNotAllowed", "The resource cannot be changed.")
	case in == nil:
		return refuse(http.StatusBadRequest, "PropertyUnknown", "Only the property Boot can be changed.")
	case b.Make.NeedsIfMatch && ifMatch == "":
		return refuse(http.StatusPreconditionRequired, "PreconditionRequired", "An If-Match header is required.")
	case ifMatch != "" && ifMatch != "*" && ifMatch != etag:
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "The entity tag is not the current one.")
	case b.Make.Pending && at == b.system:
		return refuse(http.StatusBadRequest, "ActionNotSupported", "The override is written to the settings resource.")
	case b.Make.FixedMode && told:
		return refuse(http.StatusBadRequest, "PropertyNotWritable", "The property BootSourceOverrideMode is read only.")
	}
	return nil
}
