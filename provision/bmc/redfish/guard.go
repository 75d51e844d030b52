package redfish

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// maxAnswer bounds what is read of one answer. The largest real ones, logs and
// BIOS attributes, are under 2 MiB.
const maxAnswer = 16 << 20

// guard is the way of every request of one BMC. The library puts its URLs
// together from links that the BMC sends: a link that begins with "@" would take
// the session's token to another host. So the guard lets nothing pass that is
// not for this BMC's own service, and it is the guard that adds the token.
type guard struct {
	base    *url.URL
	next    *http.Transport
	timeout time.Duration
	token   string // of the session; "" while there is none
}

func newGuard(ep Endpoint, pins *PinFile, timeout time.Duration) *guard {
	base := &url.URL{Scheme: "https", Host: ep.Address.String()}
	if ep.PlainHTTP {
		base.Scheme = "http"
	}
	return &guard{base: base, timeout: timeout, next: &http.Transport{
		// No proxy of the environment: BMCs are on a network of their own.
		DialContext:         (&net.Dialer{Timeout: timeout}).DialContext,
		TLSClientConfig:     pinned(ep, pins),
		TLSHandshakeTimeout: timeout,
		MaxIdleConns:        2,
		IdleConnTimeout:     DefaultKeep,
	}}
}

// pinned trusts the certificate that is known of this BMC and no other. Whoever
// signed it and whatever name is in it does not matter: BMCs sign their own.
func pinned(ep Endpoint, pins *PinFile) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does it, on resumed connections too
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return errors.New("the bmc showed no certificate")
			}
			found := fingerprint(cs.PeerCertificates[0].Raw)
			switch known, err := pins.pin(ep.Address, ep.Node, found); {
			case err != nil:
				return &pinError{err}
			case known != found:
				return &CertificateError{Named: describe(ep), Pinned: known, Found: found, File: pins.Path}
			}
			return nil
		},
	}
}

// pinError says that the known certificates could not be read or written, which
// is not the BMC's fault.
type pinError struct{ err error }

func (e *pinError) Error() string { return e.err.Error() }
func (e *pinError) Unwrap() error { return e.err }

// client makes the HTTP client that uses the guard.
func (g *guard) client() *http.Client {
	return &http.Client{Transport: g, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		// Some firmware sends /redfish/v1/ on to /redfish/v1. A login is not to be
		// sent anywhere but where it was meant to go.
		if len(via) > 2 || via[0].Method != http.MethodGet {
			return fmt.Errorf("the bmc sends %s on to %q", via[0].Method, r.URL.Redacted())
		}
		return nil
	}}
}

// requestError is a request without a whole answer.
type requestError struct {
	err   error
	sent  bool // it left this machine, so that it may have been carried out
	after time.Duration
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// portClosed says that the host refuses connections to the port.
func (e *requestError) portClosed() bool { return errors.Is(e.err, syscall.ECONNREFUSED) }

// broken is how the connection ended; "" when it was time that ended.
func (e *requestError) broken() string {
	var timeout net.Error
	if errors.Is(e.err, context.DeadlineExceeded) || errors.As(e.err, &timeout) && timeout.Timeout() {
		return ""
	}
	return clean(e.err.Error())
}

var errForeignLink = errors.New("a link that leads away from its own Redfish service")

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	u := r.URL
	path := u.EscapedPath()
	if u.Scheme != g.base.Scheme || u.Host != g.base.Host || u.User != nil || strings.Contains(path, "/..") ||
		path != "/redfish/v1" && !strings.HasPrefix(path, "/redfish/v1/") {
		return nil, errForeignLink
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.timeout)
	var sent atomic.Bool
	began := time.Now()
	failed := func(err error) error {
		return &requestError{err: err, sent: sent.Load(), after: time.Since(began)}
	}
	r = r.Clone(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}))
	if g.token != "" {
		r.Header.Set("X-Auth-Token", g.token)
	}
	r.Header.Set("User-Agent", "firstlight")
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		cancel()
		return nil, failed(err)
	}
	resp.Body = &answer{ReadCloser: resp.Body, left: maxAnswer, cancel: cancel, failed: failed}
	return resp, nil
}

// answer is the body of an answer, bounded in length and time.
type answer struct {
	io.ReadCloser
	left   int
	cancel context.CancelFunc
	failed func(error) error
}

var errTooLong = fmt.Errorf("an answer of more than %d MiB", maxAnswer>>20)

func (a *answer) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, a.failed(errTooLong)
	}
	n, err := a.ReadCloser.Read(p[:min(len(p), a.left)])
	a.left -= n
	if err != nil && err != io.EOF {
		err = a.failed(err)
	}
	return n, err
}

func (a *answer) Close() error {
	defer a.cancel()
	return a.ReadCloser.Close()
}
