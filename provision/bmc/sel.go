package bmc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	selRecord = 16 // bytes (§32.1)
	// maxLog is more records than there are IDs for.
	maxLog = 1 << 16
	// sinceStart is the end of the times that count from the BMC's start, because
	// its clock was not set yet (§37.1).
	sinceStart = 0x20000000
	noTime     = 0xffffffff
)

// EventLog is a BMC's System Event Log (§31).
type EventLog struct {
	Entries []LogEntry
	Clock   time.Time // the BMC's at the time of reading; zero: it does not tell
	Read    time.Time // when the clock was read, by ours
	Free    int       // bytes that are left
	Lost    bool      // events were not logged, because the log was full
}

// Skew is how far the BMC's clock is ahead of ours, to the second; 0 when it does
// not tell.
func (l *EventLog) Skew() time.Duration {
	if l.Clock.IsZero() {
		return 0
	}
	return l.Clock.Sub(l.Read).Round(time.Second)
}

// LogEntry is one record of the System Event Log (§32).
type LogEntry struct {
	ID       uint16
	Time     time.Time     // by the BMC's clock; zero: the record has none
	SinceUp  time.Duration // since the BMC's start, where its clock was not set; else 0
	Sensor   string        // "Inlet Temp", or "#0x30" where no record describes it
	Type     string        // "Temperature"; "OEM" for records of the vendor's own kind
	Event    string        // "Upper Critical - going high"
	Asserted bool          // false: the event has ended
	Severity string        // "OK", "Warning" or "Critical"
	Detail   string        // "reading 46, limit 45 Cel", or what data there is in hex; or ""
	Raw      [selRecord]byte
}

// EventLog reads the System Event Log in a session of its own.
func (c *Client) EventLog(ctx context.Context, ep Endpoint) (l EventLog, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		l, err = s.EventLog(ctx)
		return err
	})
	return l, err
}

// EventLog reads the System Event Log, and the sensor data records for the names
// of its sensors. A BMC that describes no sensors is not an error.
func (s *Session) EventLog(ctx context.Context) (EventLog, error) {
	info, err := s.wire.call(ctx, request{command: types.CommandGetSELInfo})
	if err != nil {
		return EventLog{}, err
	}
	if len(info) < 14 {
		return EventLog{}, fmt.Errorf("get sel info: reply of %d bytes is too short", len(info))
	}
	l := EventLog{Free: int(binary.LittleEndian.Uint16(info[3:])), Lost: info[13]&0x80 != 0}
	if l.Clock, err = s.logTime(ctx); err != nil {
		return EventLog{}, err
	}
	l.Read = time.Now()
	if binary.LittleEndian.Uint16(info[1:]) == 0 {
		return l, nil
	}
	records, err := s.records(ctx)
	if err != nil && completion(err) == types.CodeOK && !errors.Is(err, errRecords) {
		return EventLog{}, err
	}
	names := byNumber(records)
	r := &recordReader{session: s, get: types.CommandGetSELEntry, reserve: types.CommandReserveSEL,
		head: selRecord, size: func([]byte) int { return selRecord }, most: maxLog}
	err = r.each(ctx, func(record []byte) error {
		l.Entries = append(l.Entries, parseLogEntry([selRecord]byte(record), names))
		return nil
	})
	if completion(err) == types.CodeRequestedDataNotPresent && len(l.Entries) == 0 {
		return l, nil // it was cleared meanwhile
	}
	return l, err
}

// logTime is Get SEL Time (§31.10). Some BMCs have no clock.
func (s *Session) logTime(ctx context.Context) (time.Time, error) {
	data, err := s.wire.call(ctx, request{command: types.CommandGetSELTime})
	if completion(err) != types.CodeOK || err == nil && len(data) < 4 {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	at, _ := logTimestamp(binary.LittleEndian.Uint32(data))
	return at, nil
}

// logTimestamp reads a time of §37: seconds since 1970, or since the BMC's start.
func logTimestamp(t uint32) (at time.Time, sinceUp time.Duration) {
	switch {
	case t == noTime:
		return time.Time{}, 0
	case t <= sinceStart:
		return time.Time{}, time.Duration(t) * time.Second
	}
	return time.Unix(int64(t), 0).UTC(), 0
}

// parseLogEntry decodes a record (§32.1 to §32.3). names are the sensors that are
// known.
func parseLogEntry(raw [selRecord]byte, names map[sensorKey]sensorRecord) LogEntry {
	e := LogEntry{ID: binary.LittleEndian.Uint16(raw[0:]), Raw: raw, Asserted: true, Severity: "OK", Type: "OEM"}
	kind := types.SELRecordType(raw[2]).Range()
	if kind != types.SELRecordTypeRangeNonTimestampedOEM {
		e.Time, e.SinceUp = logTimestamp(binary.LittleEndian.Uint32(raw[3:]))
	}
	switch kind {
	case types.SELRecordTypeRangeTimestampedOEM:
		maker := uint32(raw[7]) | uint32(raw[8])<<8 | uint32(raw[9])<<16
		e.Event = fmt.Sprintf("record %#02x of manufacturer %d", raw[2], maker)
		e.Detail = fmt.Sprintf("% x", raw[10:])
		return e
	case types.SELRecordTypeRangeNonTimestampedOEM:
		e.Event, e.Detail = fmt.Sprintf("record %#02x", raw[2]), fmt.Sprintf("% x", raw[3:])
		return e
	}
	sel, err := types.ParseSEL(raw[:])
	if err != nil || sel.Standard == nil {
		e.Event = "unreadable record"
		return e
	}
	std := sel.Standard
	e.Type, e.Asserted = sensorType(std.SensorType), std.EventDir == types.EventDirAssertion
	e.Event, e.Severity = eventWords(std.EventString()), severity(std.EventSeverity())
	record, known := names[sensorKey{owner: raw[7], number: raw[11]}]
	e.Sensor = record.name
	if !known || e.Sensor == "" {
		e.Sensor = fmt.Sprintf("#%#02x", raw[11])
	}
	if e.Event == "" {
		e.Event = fmt.Sprintf("event %#02x of kind %#02x", raw[13]&0x0f, raw[12]&0x7f)
	}
	e.Detail = eventDetail(raw, record)
	return e
}

// eventDetail tells what the event's data add (§29.7).
func eventDetail(raw [selRecord]byte, r sensorRecord) string {
	const hasReading, hasLimit = 0x40, 0x10
	data, mask := raw[13:], raw[13]&0xf0
	if types.EventReadingType(raw[12]&0x7f) == types.EventReadingTypeThreshold && mask&0xc0 == hasReading {
		if !r.converts() {
			return fmt.Sprintf("raw reading %#02x", data[1])
		}
		out := "reading " + number(r.value(data[1]))
		if mask&0x30 == hasLimit {
			out += ", limit " + number(r.value(data[2]))
		}
		return strings.TrimSpace(out + " " + r.unit)
	}
	var parts []string
	if mask&0xc0 != 0 && data[1] != 0xff {
		parts = append(parts, fmt.Sprintf("%#02x", data[1]))
	}
	if mask&0x30 != 0 && data[2] != 0xff {
		parts = append(parts, fmt.Sprintf("%#02x", data[2]))
	}
	if len(parts) == 0 {
		return ""
	}
	return "data " + strings.Join(parts, " ")
}

// eventWords mends the library's words.
func eventWords(s string) string {
	s = strings.TrimSpace(s)
	if s == "Power Off / Power Dow" {
		return "Power Off / Power Down"
	}
	return s
}

// severity is one of the three words that Redfish has too.
func severity(s types.EventSeverity) string {
	switch s {
	case types.EventSeverityCritical, types.EventSeverityNonFatal:
		return "Critical"
	case types.EventSeverityWarning, types.EventSeverityDegraded:
		return "Warning"
	}
	return "OK"
}

func sensorType(t types.SensorType) string {
	if s := t.String(); s != "unknown" {
		return s
	}
	return fmt.Sprintf("type %#02x", uint8(t))
}
