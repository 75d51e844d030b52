package netboot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"firstlight/provision/agent/api"
)

// handler is the boot service. base is its own URL as nodes see it.
func (s *Server) handler(base string, loaders map[string][]byte) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+PathScript, func(w http.ResponseWriter, r *http.Request) { s.serveScript(w, r, base) })
	mux.HandleFunc("GET "+PathFailed, s.serveFailed)
	mux.HandleFunc("POST "+PathFailed, s.serveFailed)
	mux.HandleFunc("GET "+PathToken+"{file}", s.serveToken)
	mux.HandleFunc("GET "+api.BlobPath+"{hex}", s.serveBlob)
	mux.HandleFunc("GET "+pathLoader+"{name}", func(w http.ResponseWriter, r *http.Request) { s.serveLoader(w, r, loaders) })
	if s.Agent != nil {
		mux.Handle("/agent/", s.Agent)
	}
	return mux
}

// caller finds the reservation of ?mac= and makes sure that the request comes
// from its reserved address. It has answered the request when ok is false.
func (s *Server) caller(w http.ResponseWriter, r *http.Request) (mac net.HardwareAddr, res Reservation, ok bool) {
	from := remote(r)
	mac, err := net.ParseMAC(r.FormValue("mac"))
	if err != nil || len(mac) != 6 {
		http.Error(w, "mac= must be the Ethernet address of the boot NIC", http.StatusBadRequest)
		return nil, res, false
	}
	res, ok = s.Reservations(mac)
	if !ok {
		s.observe(Event{Kind: KindForeignMAC, MAC: mac, Address: from, Detail: "no reservation; HTTP " + r.URL.Path})
		http.Error(w, "no reservation for "+mac.String(), http.StatusForbidden)
		return nil, res, false
	}
	if from != res.Address {
		s.log().Warn("netboot: HTTP request for a node from another address", "node", res.Node, "mac", mac.String(),
			"path", r.URL.Path, "from", from, "reserved", res.Address)
		http.Error(w, fmt.Sprintf("%s is served to its reserved address %s only", mac, res.Address), http.StatusForbidden)
		return nil, res, false
	}
	return mac, res, true
}

func remote(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr().Unmap()
}

func (s *Server) serveScript(w http.ResponseWriter, r *http.Request, base string) {
	start := time.Now()
	mac, res, ok := s.caller(w, r)
	if !ok {
		return
	}
	id, _ := s.who(res.Address)
	ev := Event{Kind: KindScript, MAC: mac, Node: res.Node, Address: res.Address, Arch: id.arch}
	var script string
	boot, err := s.Booter.Boot(r.Context(), BootRequest{MAC: mac, Node: res.Node, Arch: id.arch, Address: res.Address})
	switch {
	case err != nil:
		s.log().Warn("netboot: no decision what to boot", "node", res.Node, "mac", mac.String(), "err", err)
		script, ev.Detail = scriptAgain(base, mac, err), err.Error()
	case boot == nil:
		s.issue(mac, issued{})
		script, ev.Kind = scriptNone, KindBootLocal
	default:
		script, err = bootScript(base, mac, res.Node, boot)
		if err != nil {
			s.log().Error("netboot: boot refused", "node", res.Node, "mac", mac.String(), "err", err)
			script, ev.Detail = scriptAgain(base, mac, err), err.Error()
			break
		}
		s.issue(mac, newIssued(boot, id.arch))
		s.remember(ev)
		ev.BootID = boot.BootID
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	n, _ := io.WriteString(w, script)
	ev.Bytes, ev.Duration = int64(n), time.Since(start)
	s.observe(ev)
}

func newIssued(b *Boot, arch Arch) issued {
	i := issued{boot: b, arch: arch, roles: map[string]Kind{b.Kernel.Digest: KindKernel}}
	for _, blob := range b.Initrds {
		i.roles[blob.Digest] = KindInitrd
	}
	return i
}

// issue makes a boot the current one of a MAC; the one before it is void.
func (s *Server) issue(mac net.HardwareAddr, i issued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boots == nil {
		s.boots = make(map[macKey]issued)
	}
	s.boots[macKey(mac)] = i
}

func (s *Server) serveFailed(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	mac, res, ok := s.caller(w, r)
	if !ok {
		return
	}
	why := fmt.Sprintf("%s: %s", cut(printable(r.FormValue("step")), 40), cut(explain(printable(r.FormValue("err"))), 400))
	s.observe(Event{Kind: KindBootFailed, MAC: mac, Node: res.Node, Address: res.Address,
		BootID: cut(printable(r.FormValue("boot")), 128), Detail: why})
	io.WriteString(w, "noted\n")
}

func cut(s string, n int) string { return s[:min(len(s), n)] }

// explain adds where to read about an iPXE error number.
func explain(errno string) string {
	if n, ok := strings.CutPrefix(errno, "0x"); ok && len(n) == 8 {
		return "iPXE error " + n + ", https://ipxe.org/" + n
	}
	return errno
}

// serveToken serves the one-time token of a node's current boot, to the node's
// reserved address only.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	mac, res, ok := s.caller(w, r)
	if !ok {
		return
	}
	bootID, _ := strings.CutSuffix(r.PathValue("file"), ".cpio")
	ev := Event{Kind: KindToken, MAC: mac, Node: res.Node, Address: res.Address, BootID: bootID}
	id, cur := s.who(res.Address)
	ev.Arch = id.arch
	if cur.boot == nil {
		// A restart lost what was issued; the Booter still knows.
		b, err := s.Booter.Boot(r.Context(), BootRequest{MAC: mac, Node: res.Node, Arch: id.arch, Address: res.Address})
		if err == nil && b != nil && checkBoot(b) == nil {
			cur = newIssued(b, id.arch)
			s.issue(mac, cur)
			s.remember(ev)
		}
	}
	if cur.boot == nil || cur.boot.BootID != bootID || cur.boot.Token == "" {
		ev.Kind, ev.Detail = KindTokenRefused, "not the node's current boot"
		s.observe(ev)
		http.Error(w, "boot "+bootID+" is not the current boot of "+res.Node, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	n, err := w.Write(tokenArchive(api.TokenPath, cur.boot.Token))
	ev.Bytes, ev.Duration = int64(n), time.Since(start)
	if err == nil {
		s.observe(ev)
	}
}

// serveBlob serves content by digest, and only by digest.
func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	digest := "sha256:" + r.PathValue("hex")
	if !isDigest(digest) {
		http.Error(w, "want "+api.BlobPath+"<64 lower-case hex digits>", http.StatusNotFound)
		return
	}
	f, err := s.Blobs.Open(digest)
	if err != nil {
		code, why := http.StatusInternalServerError, "cannot open "+digest
		if errors.Is(err, fs.ErrNotExist) {
			code, why = http.StatusNotFound, "no content with digest "+digest
		}
		s.log().Warn("netboot: blob not served", "digest", digest, "from", remote(r), "err", err)
		http.Error(w, why, code)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+digest+`"`)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	c := &counter{ResponseWriter: w}
	http.ServeContent(c, r, "", time.Time{}, f)
	s.observeBlob(r, digest, c, start)
}

func (s *Server) observeBlob(r *http.Request, digest string, c *counter, start time.Time) {
	if r.Method != http.MethodGet || (c.status != http.StatusOK && c.status != http.StatusPartialContent) {
		return
	}
	from := remote(r)
	id, cur := s.who(from)
	ev := Event{Kind: KindBlob, MAC: id.mac, Node: id.node, Address: from, Arch: id.arch,
		Bytes: c.n, Duration: time.Since(start), Digest: digest}
	if cur.boot != nil {
		ev.BootID = cur.boot.BootID
		if k, ok := cur.roles[digest]; ok {
			ev.Kind = k
		}
	}
	if want := c.Header().Get("Content-Length"); want != fmt.Sprint(c.n) {
		ev.Kind, ev.Detail = KindFetchFailed, fmt.Sprintf("broke off after %d of %s bytes", c.n, want)
	}
	s.observe(ev)
}

func (s *Server) serveLoader(w http.ResponseWriter, r *http.Request, loaders map[string][]byte) {
	start := time.Now()
	name := r.PathValue("name")
	data, ok := loaders[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/efi")
	c := &counter{ResponseWriter: w}
	http.ServeContent(c, r, "", time.Time{}, bytes.NewReader(data))
	if r.Method != http.MethodGet {
		return
	}
	id, _ := s.who(remote(r))
	s.observe(Event{Kind: KindLoader, MAC: id.mac, Node: id.node, Address: remote(r), Arch: id.arch,
		Bytes: c.n, Duration: time.Since(start), Detail: name})
}

// counter counts what is sent. It passes ReadFrom on: a writer that hides
// io.ReaderFrom keeps the kernel from sending files by itself (sendfile) and
// halves the throughput.
type counter struct {
	http.ResponseWriter
	n      int64
	status int
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n += int64(n)
	return n, err
}

func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.n += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
