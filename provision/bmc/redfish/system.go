package redfish

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The collections' URIs are fixed by DSP0266, 8.2.
const (
	systemsURI  = "/redfish/v1/Systems"
	managersURI = "/redfish/v1/Managers"
)

// link is a reference to a resource.
type link struct {
	URI string `json:"@odata.id"`
}

type collection struct {
	Members []link
}

// systemDoc is what is read of the node's ComputerSystem. PowerState and the
// override are null on some firmware.
type systemDoc struct {
	uri, etag string

	SystemType                                           string
	Manufacturer, Model, SerialNumber, UUID, BiosVersion string
	PowerState                                           string
	Boot                                                 bootDoc
	Bios, LogServices, VirtualMedia                      link
	Settings                                             struct {
		SettingsObject link
	} `json:"@Redfish.Settings"`
	Links struct {
		Chassis, ManagedBy []link
	}
	Actions struct {
		Reset resetDoc `json:"#ComputerSystem.Reset"`
	}
}

// resetDoc describes a reset action.
type resetDoc struct {
	Target  string   `json:"target"`
	Info    string   `json:"@Redfish.ActionInfo"`
	Allowed []string `json:"ResetType@Redfish.AllowableValues"`
}

// Identity is what a BMC says about itself and its machine. What it does not
// know is empty.
type Identity struct {
	UUID         string // of the machine, lower case
	Manufacturer string
	Model        string
	Serial       string
	BIOS         string // version
	Firmware     string // version of the BMC's
}

// Identity reads the identity in a conversation of its own.
func (c *Client) Identity(ctx context.Context, ep Endpoint) (id Identity, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		id, err = s.Identity(ctx)
		return err
	})
	return id, err
}

// Identity reads the node's ComputerSystem and its Manager. A BMC that does not
// describe itself is not an error.
func (s *Session) Identity(ctx context.Context) (Identity, error) {
	sys, err := s.system(ctx)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{UUID: strings.ToLower(known(sys.UUID)), Manufacturer: known(sys.Manufacturer), Model: known(sys.Model),
		Serial: known(sys.SerialNumber), BIOS: known(sys.BiosVersion)}
	m, err := s.manager(ctx)
	var status *StatusError
	if errors.As(err, &status) || errors.Is(err, errNoManager) {
		s.client.log().Debug("bmc does not describe itself", "node", s.ep.Node, "bmc", s.ep.Address, "error", err)
		return id, nil
	}
	id.Firmware = known(m.FirmwareVersion)
	return id, err
}

// system reads the node's own ComputerSystem.
func (s *Session) system(ctx context.Context) (systemDoc, error) {
	if s.conn.system == "" {
		uri, err := s.findSystem(ctx)
		if err != nil {
			return systemDoc{}, err
		}
		s.conn.system = uri
	}
	return s.systemAt(ctx, s.conn.system)
}

func (s *Session) systemAt(ctx context.Context, uri string) (systemDoc, error) {
	sys := systemDoc{uri: uri}
	var err error
	sys.etag, err = s.read(ctx, uri, &sys)
	return sys, err
}

// findSystem tells the node from its GPU baseboard and from DPUs.
func (s *Session) findSystem(ctx context.Context) (string, error) {
	var all collection
	if _, err := s.read(ctx, systemsURI, &all); err != nil {
		return "", err
	}
	var found []string
	for _, m := range all.Members {
		if m.URI != "" && !baseboard(m.URI) {
			found = append(found, m.URI)
		}
	}
	if len(found) <= 1 {
		if len(found) == 0 {
			return "", fmt.Errorf("%s lists no computer system that is the node", systemsURI)
		}
		return found[0], nil
	}
	var physical []string
	for _, uri := range found {
		sys, err := s.systemAt(ctx, uri)
		if err != nil {
			return "", err
		}
		if sys.SystemType == "Physical" || sys.SystemType == "" {
			physical = append(physical, uri)
		}
	}
	if len(physical) != 1 {
		return "", fmt.Errorf("it is the bmc of %d computer systems (%s), and which is the node cannot be told", len(found), clean(strings.Join(found, ", ")))
	}
	return physical[0], nil
}

// managerDoc is what is read of the BMC's Manager.
type managerDoc struct {
	uri string

	FirmwareVersion           string
	LogServices, VirtualMedia link
	Actions                   struct {
		Reset resetDoc `json:"#Manager.Reset"`
	}
}

var errNoManager = errors.New(managersURI + " lists no manager that is the bmc")

// manager reads the BMC's own Manager.
func (s *Session) manager(ctx context.Context) (managerDoc, error) {
	if s.conn.manager == "" {
		sys, err := s.system(ctx)
		if err != nil {
			return managerDoc{}, err
		}
		members := sys.Links.ManagedBy
		if firstOwn(members) == "" {
			var all collection
			if _, err := s.read(ctx, managersURI, &all); err != nil {
				return managerDoc{}, err
			}
			members = all.Members
		}
		if s.conn.manager = firstOwn(members); s.conn.manager == "" {
			return managerDoc{}, errNoManager
		}
	}
	m := managerDoc{uri: s.conn.manager}
	_, err := s.read(ctx, m.uri, &m)
	return m, err
}

// firstOwn is the first link that does not lead to the GPU baseboard.
func firstOwn(links []link) string {
	for _, l := range links {
		if l.URI != "" && !baseboard(l.URI) {
			return l.URI
		}
	}
	return ""
}

// offers reads which values an action's parameter may have; nil: it does not say.
func (s *Session) offers(ctx context.Context, a resetDoc) ([]string, error) {
	if len(a.Allowed) > 0 || a.Info == "" {
		return a.Allowed, nil
	}
	var info struct {
		Parameters []struct {
			Name            string
			AllowableValues []string
		}
	}
	_, err := s.read(ctx, a.Info, &info)
	var status *StatusError
	if errors.As(err, &status) {
		s.client.log().Debug("reset types are not listed", "node", s.ep.Node, "bmc", s.ep.Address, "error", err)
		return nil, nil
	}
	for _, p := range info.Parameters {
		if p.Name == "ResetType" {
			return p.AllowableValues, err
		}
	}
	return nil, err
}
