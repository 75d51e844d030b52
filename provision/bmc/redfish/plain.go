package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"time"
)

// plainWait is how long an unencrypted port may be silent. One behind a filter is
// silent for ever.
const plainWait = 2 * time.Second

// ServesPlain says whether Redfish is served without TLS at addr. It asks for the
// service root, which wants no login, and sends no credential. Nobody there, or a
// redirection to HTTPS, is no.
func ServesPlain(ctx context.Context, addr netip.AddrPort) (bool, error) {
	wait, cancel := context.WithTimeout(ctx, plainWait)
	defer cancel()
	req, err := http.NewRequestWithContext(wait, http.MethodGet, "http://"+addr.String()+"/redfish/v1/", nil)
	if err != nil {
		return false, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return false, ctx.Err()
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, nil
	}
	var root struct{ RedfishVersion string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&root); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, ctx.Err() // it serves something else
	}
	return root.RedfishVersion != "", nil
}
