package hub

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"firstlight/provision/agent/api"
)

// Bounds on what an agent may send, in bytes, and how long it may take.
const (
	maxHello    = 64 << 10
	maxResult   = 48 << 20 // an inspection of a large node is about 100 KiB, a burn-in of a week 40 MiB
	maxReport   = 64 << 10
	maxLogChunk = 256 << 10
	bodyTimeout = 30 * time.Second
	maxWait     = 60 * time.Second // of one poll
	writeMargin = 10 * time.Second
)

// ServeHTTP answers the paths of package api.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type endpoint struct {
		method string
		limit  int64
		serve  func(http.ResponseWriter, *http.Request, identity)
	}
	routes := map[string]endpoint{
		api.PathHello:  {http.MethodPost, maxHello, nil},
		api.PathJob:    {http.MethodGet, 0, h.serveJob},
		api.PathResult: {http.MethodPost, maxResult, h.serveResult},
		api.PathLog:    {http.MethodPost, maxLogChunk, h.serveLog},
		api.PathReport: {http.MethodPost, maxReport, h.serveReport},
	}
	route, ok := routes[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != route.method {
		w.Header().Set("Allow", route.method)
		http.Error(w, "this path takes "+route.method, http.StatusMethodNotAllowed)
		return
	}
	deadline(w, bodyTimeout)
	r.Body = http.MaxBytesReader(w, r.Body, route.limit)
	if route.serve == nil {
		h.serveHello(w, r)
		return
	}
	session, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	id, ok := h.open(session)
	if !ok {
		h.observe(Event{Kind: EventRefused, Remote: remote(r), Reason: "session is not one of this controller's"})
		http.Error(w, "session is not one of this controller's: say hello again", http.StatusUnauthorized)
		return
	}
	if h.touch(id) {
		h.observe(Event{Kind: EventSeen, Node: id.node, BootID: id.boot, Remote: remote(r)})
	}
	route.serve(w, r, id)
}

// deadline bounds this request, whatever the server's own settings are. A
// ResponseWriter that cannot (a test recorder) is served without.
func deadline(w http.ResponseWriter, d time.Duration) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(d))
	_ = c.SetWriteDeadline(time.Now().Add(d + writeMargin))
}

func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

func (h *Hub) serveHello(w http.ResponseWriter, r *http.Request) {
	var hello api.Hello
	if !decode(w, r, &hello) {
		return
	}
	refuse := func(reason string) {
		h.log().Warn("hello refused", "remote", remote(r).String(), "reason", reason)
		h.observe(Event{Kind: EventRefused, Node: hello.Node, BootID: hello.BootID, Remote: remote(r), Hello: &hello, Reason: reason})
		http.Error(w, reason, http.StatusForbidden)
	}
	id := identity{hello.Node, hello.BootID, hello.Kind}
	// The names are checked by the token: only the controller can have made it.
	got, err := base64.RawURLEncoding.DecodeString(hello.Token)
	if len(h.Key) == 0 || err != nil || !hmac.Equal(got, h.mac("token", id.node, id.boot, id.kind)) {
		refuse("token is not for this boot of this node")
		return
	}
	if !safeName.MatchString(id.node) || !safeName.MatchString(id.boot) || len(hello.Nonce) < 8 || len(hello.Nonce) > 128 {
		refuse("hello without a usable node name, boot identity or nonce")
		return
	}
	if err := h.Admit(r.Context(), hello, remote(r)); err != nil {
		if errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		refuse(err.Error())
		return
	}
	h.touch(id)
	h.forgetOthers(id)
	h.observe(Event{Kind: EventHello, Node: id.node, BootID: id.boot, Remote: remote(r), Hello: &hello})
	reply(w, api.HelloReply{Session: h.session(id), Time: h.now()})
}

// serveJob answers with the next job, at once or within ?wait.
func (h *Hub) serveJob(w http.ResponseWriter, r *http.Request, id identity) {
	wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil || wait < 0 {
		wait = 0
	}
	wait = min(wait, maxWait)
	deadline(w, wait+bodyTimeout)
	var have []string
	if s := r.URL.Query().Get("have"); s != "" {
		have = strings.Split(s, ",")
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		job, wake := h.next(id, have)
		if job != nil {
			reply(w, job)
			return
		}
		select {
		case <-wake:
		case <-timer.C:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// serveResult takes a result. One that nobody waits for is accepted too: the
// agent keeps it, and a Do that asks later gets it.
func (h *Hub) serveResult(w http.ResponseWriter, r *http.Request, id identity) {
	var result api.Result
	if !decode(w, r, &result) {
		return
	}
	waited := h.answer(id, result)
	h.observe(Event{Kind: EventResult, Node: id.node, BootID: id.boot, Remote: remote(r), Result: &result})
	if !waited {
		h.log().Info("result that nobody waits for", "node", id.node, "boot", id.boot)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Hub) serveReport(w http.ResponseWriter, r *http.Request, id identity) {
	var report api.Report
	if !decode(w, r, &report) {
		return
	}
	h.observe(Event{Kind: EventReport, Node: id.node, BootID: id.boot, Remote: remote(r), Report: &report})
	w.WriteHeader(http.StatusNoContent)
}

func (h *Hub) serveLog(w http.ResponseWriter, r *http.Request, id identity) {
	offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if err != nil || offset < 0 {
		http.Error(w, fmt.Sprintf("offset %.40q is not a count of bytes", r.URL.Query().Get("offset")), http.StatusBadRequest)
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if err := h.writeLog(id, offset, text); err != nil {
		h.log().Error("cannot keep a node's log", "node", id.node, "boot", id.boot, "err", err)
		http.Error(w, "controller cannot write the log", http.StatusInsufficientStorage)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// decode reads one JSON message and answers the request when it is none.
func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	err := json.NewDecoder(r.Body).Decode(v)
	if err == nil {
		return true
	}
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		http.Error(w, fmt.Sprintf("message is longer than %d bytes", tooLong.Limit), http.StatusRequestEntityTooLarge)
		return false
	}
	http.Error(w, fmt.Sprintf("message is not JSON: %v", err), http.StatusBadRequest)
	return false
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a broken connection is the agent's to retry
}
