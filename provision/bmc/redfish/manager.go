package redfish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/stmcginnis/gofish/schemas"

	"firstlight/provision/bmc"
)

// ResetBMC restarts the BMC in a conversation of its own; see Session.ResetBMC.
func (c *Client) ResetBMC(ctx context.Context, ep Endpoint) error {
	return c.With(ctx, ep, func(s *Session) error { return s.ResetBMC(ctx) })
}

// ResetBMC restarts the BMC itself, which does not touch the node's power, leaves
// it alone for Client.BMCQuiet, and waits until it answers and lets us in again.
func (s *Session) ResetBMC(ctx context.Context) error {
	m, err := s.manager(ctx)
	if err != nil {
		return err
	}
	if m.Actions.Reset.Target == "" {
		return errors.New("it offers no way to restart it (no Manager.Reset)")
	}
	offered, err := s.offers(ctx, m.Actions.Reset)
	if err != nil {
		return err
	}
	way := firstOf([]string{"GracefulRestart", "ForceRestart"}, offered)
	if way == "" {
		return errors.New("it offers neither a GracefulRestart nor a ForceRestart of itself")
	}
	err = s.post(ctx, m.Actions.Reset.Target, map[string]string{"ResetType": way})
	var cut *bmc.NoAnswerError
	if err != nil && !(errors.As(err, &cut) && cut.MayBeDone && cut.Broken != "") {
		return err // some go so fast that they do not answer
	}
	s.conn.guard.token, s.conn.session = "", "" // it goes with the BMC's memory
	s.conn.guard.next.CloseIdleConnections()
	began := time.Now()
	if err := sleep(ctx, orDefault(s.client.BMCQuiet, DefaultBMCQuiet)); err != nil {
		return fmt.Errorf("restarting: %w", err)
	}
	for {
		// The service root wants no login, so that waiting cannot lock an account.
		err := s.knock(ctx)
		if err == nil {
			return s.open(ctx)
		}
		if time.Since(began) >= orDefault(s.client.BMCWithin, DefaultBMCWithin) {
			return fmt.Errorf("restarted %s ago and is not back: %w", time.Since(began).Round(time.Second), err)
		}
		if err := sleep(ctx, maxLook); err != nil {
			return fmt.Errorf("restarting: %w", err)
		}
	}
}

// knock asks for the service root.
func (s *Session) knock(ctx context.Context) error {
	resp, err := s.conn.api.WithContext(ctx).Get(schemas.DefaultServiceRoot)
	schemas.DeferredCleanupHTTPResponse(resp)
	return s.explain("GET "+schemas.DefaultServiceRoot, http.MethodGet, err)
}

// Media is what is in a virtual drive.
type Media struct {
	Drive    string // URI
	Image    string // URL; "" when empty
	Inserted bool
}

type mediaDoc struct {
	uri, etag string

	MediaTypes []string
	Image      string
	Inserted   bool
	Actions    struct {
		Insert struct {
			Target string `json:"target"`
		} `json:"#VirtualMedia.InsertMedia"`
		Eject struct {
			Target string `json:"target"`
		} `json:"#VirtualMedia.EjectMedia"`
	}
}

// InsertMedia puts an image in the virtual CD drive in a conversation of its own;
// see Session.InsertMedia.
func (c *Client) InsertMedia(ctx context.Context, ep Endpoint, image string) error {
	return c.With(ctx, ep, func(s *Session) error { return s.InsertMedia(ctx, image) })
}

// EjectMedia empties the virtual CD drive in a conversation of its own.
func (c *Client) EjectMedia(ctx context.Context, ep Endpoint) error {
	return c.With(ctx, ep, func(s *Session) error { return s.EjectMedia(ctx) })
}

// Media reads what is in the virtual CD drive.
func (s *Session) Media(ctx context.Context) (Media, error) {
	d, err := s.drive(ctx)
	return Media{Drive: d.uri, Image: clean(d.Image), Inserted: d.Inserted}, err
}

// InsertMedia puts the image at a URL, which the BMC itself fetches, in the
// virtual CD drive, after what is in it is ejected, and reads back.
func (s *Session) InsertMedia(ctx context.Context, image string) error {
	d, err := s.drive(ctx)
	if err != nil {
		return err
	}
	if d.Inserted {
		if err := s.EjectMedia(ctx); err != nil {
			return err
		}
	}
	err = s.changeMedia(ctx, d, d.Actions.Insert.Target, map[string]any{"Image": image, "Inserted": true, "WriteProtected": true})
	if err != nil {
		return err
	}
	return s.awaitMedia(ctx, image, func(d mediaDoc) bool { return d.Inserted && d.Image == image })
}

// EjectMedia empties the virtual CD drive and reads back.
func (s *Session) EjectMedia(ctx context.Context) error {
	d, err := s.drive(ctx)
	if err != nil || !d.Inserted {
		return err
	}
	if d.Actions.Eject.Target != "" {
		err = s.post(ctx, d.Actions.Eject.Target, struct{}{})
	} else {
		err = s.patch(ctx, d.uri, d.etag, map[string]any{"Image": nil, "Inserted": false})
	}
	if err != nil {
		return err
	}
	return s.awaitMedia(ctx, "", func(d mediaDoc) bool { return !d.Inserted })
}

// changeMedia starts the action, or, where there is none as on Lenovo's XCC,
// writes the resource (gofish, VirtualMedia.InsertMedia).
func (s *Session) changeMedia(ctx context.Context, d mediaDoc, target string, body any) error {
	if target != "" {
		return s.post(ctx, target, body)
	}
	return s.patch(ctx, d.uri, d.etag, body)
}

func (s *Session) awaitMedia(ctx context.Context, want string, done func(mediaDoc) bool) error {
	within := orDefault(s.client.SettleWithin, DefaultSettleWithin)
	began := time.Now()
	for look := firstLook; ; look = min(2*look, maxLook) {
		d, err := s.drive(ctx)
		if err != nil {
			return err
		}
		if done(d) {
			return nil
		}
		if time.Since(began) >= within {
			return &bmc.ReadBackError{Named: describe(s.ep), What: "virtual media", Wanted: s.clean(want), Got: s.clean(d.Image), After: time.Since(began)}
		}
		if err := sleep(ctx, look); err != nil {
			return err
		}
	}
}

// drive finds the first virtual drive that takes CDs: of the system, or, before
// Redfish 2020.4, of the manager.
func (s *Session) drive(ctx context.Context) (mediaDoc, error) {
	sys, err := s.system(ctx)
	if err != nil {
		return mediaDoc{}, err
	}
	from := sys.VirtualMedia.URI
	if from == "" {
		m, err := s.manager(ctx)
		if err != nil {
			return mediaDoc{}, err
		}
		from = m.VirtualMedia.URI
	}
	if from == "" {
		return mediaDoc{}, errors.New("it has no virtual media")
	}
	var all collection
	if _, err := s.read(ctx, from, &all); err != nil {
		return mediaDoc{}, err
	}
	for _, member := range all.Members {
		d := mediaDoc{uri: member.URI}
		if d.etag, err = s.read(ctx, d.uri, &d); err != nil {
			return mediaDoc{}, err
		}
		if slices.Contains(d.MediaTypes, "CD") || slices.Contains(d.MediaTypes, "DVD") {
			return d, nil
		}
	}
	return mediaDoc{}, errors.New("it has no virtual drive for a CD or DVD")
}
