package redfish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"firstlight/provision/bmc"
)

// powerEquipmentURI is fixed by DSP0268, PowerEquipment.
const powerEquipmentURI = "/redfish/v1/PowerEquipment"

// outletDoc is what is read of an Outlet (DSP0268).
type outletDoc struct {
	uri string

	ID         string `json:"Id"`
	UserLabel  string
	PowerState string
	Actions    struct {
		Control struct {
			Target     string   `json:"target"`
			PowerState []string `json:"PowerState@Redfish.AllowableValues"`
			Outlet     []string `json:"OutletPowerState@Redfish.AllowableValues"`
		} `json:"#Outlet.PowerControl"`
	}
}

// Outlet reads whether an outlet of the PDU at ep is on, in a conversation of its
// own; see Session.Outlet.
func (c *Client) Outlet(ctx context.Context, ep Endpoint, id string) (state bmc.PowerState, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		state, err = s.Outlet(ctx, id)
		return err
	})
	return state, err
}

// SetOutlet switches an outlet of the PDU at ep in a conversation of its own; see
// Session.SetOutlet.
func (c *Client) SetOutlet(ctx context.Context, ep Endpoint, id string, on bool) error {
	return c.With(ctx, ep, func(s *Session) error { return s.SetOutlet(ctx, id, on) })
}

// Outlet reads whether an outlet is on. It is named by its Id or its label, and
// where several PDUs are chained by "PDU/OUTLET".
func (s *Session) Outlet(ctx context.Context, id string) (bmc.PowerState, error) {
	o, err := s.outlet(ctx, id)
	if err != nil {
		return "", err
	}
	state := stateOf(o.PowerState)
	if state == "" {
		return "", fmt.Errorf("outlet %s is %q, which is neither on nor off", id, clean(o.PowerState))
	}
	return state, nil
}

// SetOutlet switches an outlet and looks until it is as wanted at two looks in a
// row, within Client.PowerWithin: PDUs delay outlets, so that inrush currents do
// not add up. Else it is a *bmc.ReadBackError. Nothing is sent for an outlet that
// is so already.
func (s *Session) SetOutlet(ctx context.Context, id string, on bool) error {
	o, err := s.outlet(ctx, id)
	if err != nil {
		return err
	}
	want, way := bmc.PowerOff, "Off"
	if on {
		want, way = bmc.PowerOn, "On"
	}
	if stateOf(o.PowerState) == want {
		return nil
	}
	if o.Actions.Control.Target == "" {
		return fmt.Errorf("outlet %s offers no way to switch it (no Outlet.PowerControl): the PDU only meters, or the account may only read", id)
	}
	if err := s.switchOutlet(ctx, o, way); err != nil {
		return err
	}
	within := orDefault(s.client.PowerWithin, DefaultPowerWithin)
	began := time.Now()
	for look, held := firstLook, 0; ; look = min(2*look, maxLook) {
		if err := sleep(ctx, look); err != nil {
			return fmt.Errorf("outlet %s was told to be %s: %w", id, want, err)
		}
		if o, err = s.outletAt(ctx, o.uri); err != nil {
			return err
		}
		if stateOf(o.PowerState) != want {
			held = 0
		} else if held++; held == 2 {
			return nil
		}
		if held == 0 && time.Since(began) >= within {
			return &bmc.ReadBackError{Named: describe(s.ep), What: "outlet", Wanted: id + " " + string(want), Got: strings.ToLower(clean(o.PowerState)), After: time.Since(began)}
		}
	}
}

// switchOutlet starts the action. Which name its parameter has is asked of
// outletParameters where the PDU does not say.
func (s *Session) switchOutlet(ctx context.Context, o outletDoc, way string) error {
	says := map[string]bool{"PowerState": len(o.Actions.Control.PowerState) > 0, "OutletPowerState": len(o.Actions.Control.Outlet) > 0}
	silent := !says["PowerState"] && !says["OutletPowerState"]
	var err error
	for _, p := range outletParameters {
		if !silent && !says[p.name] {
			continue
		}
		err = s.post(ctx, o.Actions.Control.Target, map[string]string{p.name: way})
		var status *StatusError
		if !errors.As(err, &status) || status.Status != 400 {
			return err
		}
	}
	return err
}

// outlet finds an outlet by its name, and keeps where it is.
func (s *Session) outlet(ctx context.Context, id string) (outletDoc, error) {
	if uri, ok := s.conn.outlets[id]; ok {
		return s.outletAt(ctx, uri)
	}
	found, err := s.findOutlets(ctx, id)
	switch {
	case err != nil:
		return outletDoc{}, err
	case len(found) == 0:
		return outletDoc{}, fmt.Errorf("it has no outlet %q", id)
	case len(found) > 1:
		return outletDoc{}, fmt.Errorf("it has %d outlets %q: name the PDU as well, as \"1/%s\"", len(found), id, id)
	}
	if s.conn.outlets == nil {
		s.conn.outlets = map[string]string{}
	}
	s.conn.outlets[id] = found[0].uri
	return found[0], nil
}

func (s *Session) outletAt(ctx context.Context, uri string) (outletDoc, error) {
	o := outletDoc{uri: uri}
	_, err := s.read(ctx, uri, &o)
	return o, err
}

// findOutlets finds the outlets of that name on all PDUs of the service. The last
// part of a URI is mostly the name, which saves reading them all.
func (s *Session) findOutlets(ctx context.Context, id string) ([]outletDoc, error) {
	var equipment struct{ RackPDUs link }
	if _, err := s.read(ctx, powerEquipmentURI, &equipment); err != nil {
		return nil, err
	}
	var pdus collection
	if equipment.RackPDUs.URI == "" {
		return nil, errors.New("it has no rack PDUs (PowerEquipment.RackPDUs)")
	}
	if _, err := s.read(ctx, equipment.RackPDUs.URI, &pdus); err != nil {
		return nil, err
	}
	var found []outletDoc
	for _, p := range pdus.Members {
		name, chained := id, strings.HasPrefix(id, lastPart(p.URI)+"/")
		if chained {
			name = strings.TrimPrefix(id, lastPart(p.URI)+"/")
		}
		var pdu struct{ Outlets link }
		if _, err := s.read(ctx, p.URI, &pdu); err != nil {
			return nil, err
		}
		var outlets collection
		if pdu.Outlets.URI == "" {
			continue
		}
		if _, err := s.read(ctx, pdu.Outlets.URI, &outlets); err != nil {
			return nil, err
		}
		here, err := s.outletsNamed(ctx, outlets.Members, name)
		if err != nil {
			return nil, err
		}
		if chained && len(here) == 1 {
			return here, nil
		}
		found = append(found, here...)
	}
	return found, nil
}

func (s *Session) outletsNamed(ctx context.Context, members []link, name string) ([]outletDoc, error) {
	for _, m := range members {
		if lastPart(m.URI) == name {
			o, err := s.outletAt(ctx, m.URI)
			return []outletDoc{o}, err
		}
	}
	var found []outletDoc
	for _, m := range members {
		o, err := s.outletAt(ctx, m.URI)
		if err != nil {
			return nil, err
		}
		if o.ID == name || o.UserLabel == name {
			found = append(found, o)
		}
	}
	return found, nil
}

func lastPart(uri string) string {
	uri = strings.TrimRight(uri, "/")
	return uri[strings.LastIndexByte(uri, '/')+1:]
}
