package redfish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxMembers and maxPages bound how much of one collection is read.
const (
	maxMembers = 2000
	maxPages   = 500
)

// Unread is a resource that the BMC lists and did not give.
type Unread struct {
	URI    string
	Reason string
}

// Firmware is one part's firmware.
type Firmware struct {
	ID      string // "BMC", "BIOS", "HGX_FW_GPU_SXM_1"
	Name    string
	Version string
}

// Reading is one sensor's value. Value is nil when the BMC has none now, as for
// much of a node that is off.
type Reading struct {
	Name   string
	Value  *float64
	Unit   string // "W", "V", "Cel", "RPM" or "%"
	Health string // "OK", "Warning", "Critical" or ""
}

// Sensors are a node's readings.
type Sensors struct {
	Watts    *float64 // power drawn now; nil: not measured
	Capacity *float64 // watts that its power supplies can give
	Readings []Reading
	Unread   []Unread
}

// LogEntry is one line of a BMC's event log.
type LogEntry struct {
	ID       string
	Created  time.Time // zero when the BMC gives no time that can be read
	Severity string    // "OK", "Warning" or "Critical"
	Message  string
}

// BIOSAttributes reads the firmware's settings: strings, numbers, booleans and
// nil, by the vendor's own names.
func (s *Session) BIOSAttributes(ctx context.Context) (map[string]any, error) {
	sys, err := s.system(ctx)
	if err != nil {
		return nil, err
	}
	if sys.Bios.URI == "" {
		return nil, errors.New("it shows no BIOS attributes")
	}
	var bios struct{ Attributes map[string]any }
	_, err = s.read(ctx, sys.Bios.URI, &bios)
	return bios.Attributes, err
}

// Firmware reads the firmware inventory. Parts that cannot be read now, as those
// of the GPU baseboard of a node that is off, are listed and no error.
func (s *Session) Firmware(ctx context.Context) ([]Firmware, []Unread, error) {
	const inventory = "/redfish/v1/UpdateService/FirmwareInventory"
	var out []Firmware
	unread, err := s.members(ctx, inventory, func(uri string) error {
		var doc struct{ Id, Name, Version string }
		_, err := s.read(ctx, uri, &doc)
		if err == nil {
			out = append(out, Firmware{ID: clean(doc.Id), Name: clean(doc.Name), Version: clean(doc.Version)})
		}
		return err
	})
	return out, unread, err
}

// members calls f for each member of a collection, page by page. What the BMC
// answers with an error is returned as unread; any other error ends it.
func (s *Session) members(ctx context.Context, uri string, f func(uri string) error) (unread []Unread, err error) {
	n := 0
	for pages := 0; uri != "" && pages < maxPages; pages++ {
		var page struct {
			collection
			Next string `json:"Members@odata.nextLink"`
		}
		if _, err := s.read(ctx, uri, &page); err != nil {
			return unread, err
		}
		for _, m := range page.Members {
			if n++; n > maxMembers {
				return unread, fmt.Errorf("%s has more than %d members", clean(uri), maxMembers)
			}
			if m.URI == "" {
				continue
			}
			err := f(m.URI)
			var status *StatusError
			if errors.As(err, &status) {
				reason := fmt.Sprintf("answer %d", status.Status)
				if status.Said != "" {
					reason += ": " + status.Said
				}
				unread = append(unread, Unread{URI: clean(m.URI), Reason: reason})
			} else if err != nil {
				return unread, err
			}
		}
		uri = page.Next
	}
	return unread, nil
}

// powerDoc and thermalDoc are the Power and Thermal resources of a chassis.
type powerDoc struct {
	PowerControl []struct {
		PowerConsumedWatts, PowerCapacityWatts *float64
	}
	Voltages []struct {
		Name         string
		ReadingVolts *float64
		Status       statusDoc
	}
}

type thermalDoc struct {
	Temperatures []struct {
		Name           string
		ReadingCelsius *float64
		Status         statusDoc
	}
	Fans []struct {
		Name, FanName, ReadingUnits string
		Reading                     *float64
		Status                      statusDoc
	}
}

type statusDoc struct{ Health string }

// Sensors reads power, voltages, temperatures and fans of the node's chassis: from
// Power and Thermal, or where a BMC has left these, from the chassis' Sensors.
func (s *Session) Sensors(ctx context.Context) (Sensors, error) {
	var out Sensors
	sys, err := s.system(ctx)
	if err != nil {
		return out, err
	}
	uri := firstOwn(sys.Links.Chassis)
	if uri == "" {
		return out, errors.New("it does not say in which chassis the node is")
	}
	var chassis struct{ Power, Thermal, Sensors, EnvironmentMetrics link }
	if _, err := s.read(ctx, uri, &chassis); err != nil {
		return out, err
	}
	var power powerDoc
	var thermal thermalDoc
	for _, part := range []struct {
		at  link
		doc any
	}{{chassis.Power, &power}, {chassis.Thermal, &thermal}} {
		if err := out.note(part.at, s.readIfAny(ctx, part.at, part.doc)); err != nil {
			return out, err
		}
	}
	out.add(power, thermal)
	if len(out.Readings) == 0 && chassis.Sensors.URI != "" {
		unread, err := s.members(ctx, chassis.Sensors.URI, func(uri string) error { return s.sensor(ctx, uri, &out) })
		out.Unread = append(out.Unread, unread...)
		if err != nil {
			return out, err
		}
	}
	if out.Watts == nil {
		var env struct{ PowerWatts struct{ Reading *float64 } }
		err := out.note(chassis.EnvironmentMetrics, s.readIfAny(ctx, chassis.EnvironmentMetrics, &env))
		out.Watts = env.PowerWatts.Reading
		return out, err
	}
	return out, nil
}

func (s *Session) readIfAny(ctx context.Context, at link, doc any) error {
	if at.URI == "" {
		return nil
	}
	_, err := s.read(ctx, at.URI, doc)
	return err
}

// note keeps an answer that is an error as unread.
func (out *Sensors) note(at link, err error) error {
	var status *StatusError
	if errors.As(err, &status) {
		out.Unread = append(out.Unread, Unread{URI: clean(at.URI), Reason: fmt.Sprintf("answer %d", status.Status)})
		return nil
	}
	return err
}

func (out *Sensors) add(power powerDoc, thermal thermalDoc) {
	if len(power.PowerControl) > 0 {
		out.Watts, out.Capacity = power.PowerControl[0].PowerConsumedWatts, power.PowerControl[0].PowerCapacityWatts
	}
	reading := func(name string, value *float64, unit string, status statusDoc) {
		out.Readings = append(out.Readings, Reading{Name: clean(name), Value: value, Unit: unit, Health: clean(status.Health)})
	}
	for _, v := range power.Voltages {
		reading(v.Name, v.ReadingVolts, "V", v.Status)
	}
	for _, t := range thermal.Temperatures {
		reading(t.Name, t.ReadingCelsius, "Cel", t.Status)
	}
	for _, f := range thermal.Fans {
		name, unit := f.Name, "RPM"
		if name == "" {
			name = f.FanName // before Thermal 1.1
		}
		if f.ReadingUnits == "Percent" {
			unit = "%"
		}
		reading(name, f.Reading, unit, f.Status)
	}
}

func (s *Session) sensor(ctx context.Context, uri string, out *Sensors) error {
	var doc struct {
		Name, ReadingUnits string
		Reading            *float64
		Status             statusDoc
	}
	_, err := s.read(ctx, uri, &doc)
	if err == nil {
		out.Readings = append(out.Readings, Reading{Name: clean(doc.Name), Value: doc.Reading, Unit: clean(doc.ReadingUnits), Health: clean(doc.Status.Health)})
	}
	return err
}

// entryDoc is a log entry, or a link to one.
type entryDoc struct {
	link
	Id, Created, Severity, Message string
	EntryType                      string
}

// EventLog reads the event logs of the system and of its manager, in the order
// in which the BMC keeps them, maxMembers at most.
func (s *Session) EventLog(ctx context.Context) ([]LogEntry, error) {
	sys, err := s.system(ctx)
	if err != nil {
		return nil, err
	}
	m, err := s.manager(ctx)
	if err != nil && !errors.Is(err, errNoManager) {
		return nil, err
	}
	var out []LogEntry
	seen := map[string]bool{}
	for _, of := range []link{sys.LogServices, m.LogServices} {
		if of.URI == "" {
			continue
		}
		_, err := s.members(ctx, of.URI, func(uri string) error {
			var service struct{ Entries link }
			if _, err := s.read(ctx, uri, &service); err != nil || service.Entries.URI == "" || seen[service.Entries.URI] {
				return err
			}
			seen[service.Entries.URI] = true
			return s.entries(ctx, service.Entries.URI, &out)
		})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// entries reads one log. Most firmware puts whole entries in the collection, and
// some only links.
func (s *Session) entries(ctx context.Context, uri string, out *[]LogEntry) error {
	for pages := 0; uri != "" && pages < maxPages; pages++ {
		var page struct {
			Members []entryDoc
			Next    string `json:"Members@odata.nextLink"`
		}
		if _, err := s.read(ctx, uri, &page); err != nil {
			return err
		}
		for _, e := range page.Members {
			if len(*out) >= maxMembers {
				return nil
			}
			if e.Message == "" && e.Id == "" && e.URI != "" {
				if _, err := s.read(ctx, e.URI, &e); err != nil {
					return err
				}
			}
			created, err := time.Parse(time.RFC3339, strings.TrimSpace(e.Created))
			if err != nil {
				created = time.Time{}
			}
			*out = append(*out, LogEntry{ID: clean(e.Id), Created: created, Severity: clean(e.Severity), Message: clean(e.Message)})
		}
		uri = page.Next
	}
	return nil
}
