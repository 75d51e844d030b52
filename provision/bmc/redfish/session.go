package redfish

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"

	"firstlight/inventory"
	"firstlight/provision/bmc"
)

// conn is what is kept of one BMC. Only the holder of its turn touches it.
type conn struct {
	turn chan struct{} // holds one token while nobody talks
	idle *time.Timer   // deletes the session when nobody has used it

	guard   *guard
	api     *gofish.APIClient // nil: never connected
	vendor  vendor
	session string // URI; "" with a token: the BMC did not say
	who     credential
	refused *bmc.AuthError // of who: it is not sent again

	system, manager string            // URIs of the node and its BMC
	outlets         map[string]string // URIs of a PDU's outlets, by name
}

func (cn *conn) loggedIn() bool { return cn.guard != nil && cn.guard.token != "" }

// Session is a conversation with one BMC; it serves one goroutine.
type Session struct {
	ep     Endpoint
	client *Client
	conn   *conn
	fresh  bool             // logged in by this conversation, and not a request accepted since
	hidden inventory.Secret // another secret that is sent, which no message may repeat
}

// open makes sure that there is a session.
func (s *Session) open(ctx context.Context) error {
	cn := s.conn
	if cn.who != s.ep.credential() {
		if cn.loggedIn() {
			s.client.logout(s.ep, cn)
		}
		cn.who, cn.refused = s.ep.credential(), nil
	}
	switch {
	case cn.refused != nil:
		return cn.refused
	case cn.loggedIn():
		return nil
	}
	return s.login(ctx)
}

// login opens a session. The credential is sent once, and a second time where
// the make is known to refuse good ones.
func (s *Session) login(ctx context.Context) error {
	cn := s.conn
	if cn.api == nil {
		cn.guard = newGuard(s.ep, s.client.pins, orDefault(s.client.Timeout, DefaultTimeout))
		api, err := gofish.ConnectContext(ctx, gofish.ClientConfig{Endpoint: s.ep.url(), HTTPClient: cn.guard.client(),
			NoModifyTransport: true, ReuseConnections: true})
		if err != nil {
			cn.guard.next.CloseIdleConnections()
			return s.explain("GET "+schemas.DefaultServiceRoot, http.MethodGet, err)
		}
		cn.api, cn.vendor = api, vendorOf(api.Service)
	}
	// Ctrl-C must not come between the BMC's making a session and our knowing of
	// it, or nobody would delete it.
	lctx, cancel := outlive(ctx, closeWithin)
	defer cancel()
	for try := 1; ; try++ {
		auth, err := cn.api.WithContext(lctx).Service.CreateSession(s.ep.Username, s.ep.Password.Reveal())
		if err == nil && auth.Token == "" {
			return errors.New("it accepted the login and gave no token: its Redfish sessions are broken; update or restart the bmc")
		}
		if err == nil {
			cn.guard.token, cn.session, s.fresh = auth.Token, auth.Session, true
			return ctx.Err()
		}
		refused := s.refusal(err, try)
		if refused == nil {
			return s.explain("login", http.MethodPost, err)
		}
		if try > cn.vendor.moreLogins {
			cn.refused = refused
			return refused
		}
		if err := sleep(ctx, refusedPause); err != nil {
			return err
		}
	}
}

// refusedPause is how long a BMC that refuses good credentials is left alone.
const refusedPause = time.Second

// refusal is the error of a refused login; nil when it failed otherwise. A BMC
// that answers 400 or 403 has looked at the credential as well.
func (s *Session) refusal(err error, try int) *bmc.AuthError {
	var status *schemas.Error
	if !errors.As(err, &status) || sessionsFull(status) {
		return nil
	}
	reason := ""
	switch status.HTTPReturnedStatusCode {
	case http.StatusUnauthorized:
		reason = "wrong user name or password"
	case http.StatusBadRequest, http.StatusForbidden:
		reason = fmt.Sprintf("answer %d", status.HTTPReturnedStatusCode)
	default:
		return nil
	}
	if said := s.said(status); said != "" {
		reason += ` ("` + said + `")`
	}
	return &bmc.AuthError{Named: describe(s.ep), Username: s.ep.Username, Reason: reason, Tries: try}
}

// sessionsFull knows the message of the Redfish base registry.
func sessionsFull(e *schemas.Error) bool {
	is := func(id string) bool { return strings.HasSuffix(id, ".SessionLimitExceeded") }
	for _, info := range e.ExtendedInfos {
		if is(info.MessageID) {
			return true
		}
	}
	return is(e.Code)
}

// outlive is a context that ends some time after ctx does.
func outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { // ends with out
		_ = sleep(out, by)
		cancel()
	})
	return out, func() { stop(); cancel() }
}

// logout deletes the session. That it cannot be deleted is no error: it ends by
// itself some minutes later.
func (c *Client) logout(ep Endpoint, cn *conn) {
	if !cn.loggedIn() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	err := errors.New("the bmc did not say where the session is")
	if cn.session != "" {
		_, err = cn.api.WithContext(ctx).Delete(cn.session)
	}
	if err != nil {
		c.log().Debug("redfish session not deleted", "node", ep.Node, "bmc", ep.Address, "error", clean(err.Error(), cn.guard.token))
	}
	cn.guard.token, cn.session = "", ""
	cn.guard.next.CloseIdleConnections()
}

// call makes one request, again where its session had ended: a 401 says that
// nothing was done.
func (s *Session) call(ctx context.Context, method, uri string, f func(api *gofish.APIClient) error) error {
	cn := s.conn
	for again := 0; ; {
		err := f(cn.api.WithContext(ctx))
		var status *schemas.Error
		if !errors.As(err, &status) || status.HTTPReturnedStatusCode != http.StatusUnauthorized {
			if err == nil {
				s.fresh = false
			}
			return s.explain(method+" "+uri, method, err)
		}
		switch {
		case !s.fresh:
			cn.guard.token, cn.session = "", "" // the BMC has ended it
			if err := s.open(ctx); err != nil {
				return err
			}
		case again < cn.vendor.moreLogins:
			again++
			if err := sleep(ctx, refusedPause); err != nil {
				return err
			}
		default:
			return s.explain(method+" "+uri, method, err)
		}
	}
}

// read gets a resource and decodes what doc has of it. It returns the entity tag.
func (s *Session) read(ctx context.Context, uri string, doc any) (etag string, err error) {
	err = s.call(ctx, http.MethodGet, uri, func(api *gofish.APIClient) error {
		resp, err := api.Get(uri)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		var tag struct {
			ETag string `json:"@odata.etag"`
		}
		if err = json.Unmarshal(raw, &tag); err == nil {
			err = json.Unmarshal(raw, doc)
		}
		if err != nil {
			return fmt.Errorf("GET %s: the answer is not the resource: %w", uri, err)
		}
		if etag = resp.Header.Get("ETag"); etag == "" {
			etag = tag.ETag
		}
		return nil
	})
	return etag, err
}

// patch changes a resource, with the entity tag that AMI firmware insists on.
func (s *Session) patch(ctx context.Context, uri, etag string, body any) error {
	header := map[string]string{}
	if etag != "" {
		header["If-Match"] = etag
	}
	return s.call(ctx, http.MethodPatch, uri, func(api *gofish.APIClient) error {
		resp, err := api.PatchWithHeaders(uri, body, header)
		schemas.DeferredCleanupHTTPResponse(resp)
		return err
	})
}

// post starts an action. A task that it becomes is not followed: what it is to
// bring about is read back.
func (s *Session) post(ctx context.Context, uri string, body any) error {
	return s.call(ctx, http.MethodPost, uri, func(api *gofish.APIClient) error {
		resp, err := api.Post(uri, body)
		schemas.DeferredCleanupHTTPResponse(resp)
		return err
	})
}

// explain turns the library's errors into ours, without the body of the answer,
// which may repeat what was sent.
func (s *Session) explain(doing, method string, err error) error {
	var cert *CertificateError
	var pins *pinError
	var noTLS tls.RecordHeaderError
	var request *requestError
	var status *schemas.Error
	write := method == http.MethodPost || method == http.MethodPatch
	switch {
	case err == nil:
		return nil
	case errors.As(err, &cert):
		return cert
	case errors.As(err, &pins):
		return pins
	case errors.As(err, &noTLS):
		return errors.New("it does not speak TLS on that port, perhaps plain HTTP, and no password is sent in the clear: enable HTTPS on the bmc, or correct the port")
	case errors.As(err, &request):
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", doing, context.Canceled)
		}
		e := &bmc.NoAnswerError{Named: describe(s.ep), After: request.after, Service: "HTTPS", PortClosed: request.portClosed(), Broken: request.broken(),
			Doing: doing, MayBeDone: write && request.sent}
		if errors.Is(err, context.DeadlineExceeded) {
			e.Cause = context.DeadlineExceeded
		}
		return e
	case errors.As(err, &status):
		if sessionsFull(status) {
			return errors.New("its session table is full: others have not logged out; wait until their sessions end, or restart the bmc")
		}
		code := status.HTTPReturnedStatusCode
		return &StatusError{Named: describe(s.ep), Doing: doing, Status: code, Said: s.said(status),
			// 503 is the answer of a service that did not look at the request.
			MayBeDone: write && code >= 500 && code != http.StatusServiceUnavailable}
	}
	return errors.New(s.clean(err.Error()))
}

// said is what the BMC had to say in an error.
func (s *Session) said(e *schemas.Error) string {
	for _, info := range e.ExtendedInfos {
		if info.Message != "" {
			return s.clean(info.Message)
		}
	}
	return s.clean(e.Message)
}

// clean is clean for this session: without password and token.
func (s *Session) clean(text string) string {
	secrets := []string{s.ep.Password.Reveal(), s.hidden.Reveal()}
	if s.conn.guard != nil {
		secrets = append(secrets, s.conn.guard.token)
	}
	return clean(text, secrets...)
}

// maxSaid is how much of a BMC's own words is repeated.
const maxSaid = 300

// clean makes text from outside fit for an error: without secrets, printable,
// on one line, and short.
func clean(text string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[secret]")
		}
	}
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || unicode.IsSpace(r) {
			return r
		}
		return -1
	}, text)), " ")
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "…"
	}
	return text
}

// name names the BMC in errors that do not do it themselves.
func (s *Session) name(err error) error {
	if err == nil || bmc.NamesBMC(err) {
		return err
	}
	return fmt.Errorf("%s: %w", s.ep, err)
}

// sleep waits for d, or less when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
