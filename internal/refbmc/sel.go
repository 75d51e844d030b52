package refbmc

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	selSize     = 16  // bytes of a record (§32.1)
	selMost     = 512 // records; what comes later is lost
	selVersion  = 0x51
	selReserves = 0x02 // it supports reservations
	selLost     = 0x80
	lastID      = 0xffff
)

// eventLogStore is the System Event Log (§31).
type eventLogStore struct {
	mu          sync.Mutex
	records     [][selSize]byte
	next        uint16 // ID of the next record, less one
	reservation uint16
	lost        bool
	added       time.Time
	cleared     time.Time
}

// LogEvent writes a standard record to the System Event Log (§32.1): the sensor's
// type and number, the kind of event, with bit 7 set when it ended, and its data.
func (b *BMC) LogEvent(sensorType, sensor, kind byte, data [3]byte) {
	record := [selSize]byte{2: 0x02, 7: bmcOwner, 9: 0x04, 10: sensorType, 11: sensor, 12: kind, 13: data[0], 14: data[1], 15: data[2]}
	b.addRecord(record)
}

// addRecord stamps a record with ID and time (§31.6) and keeps it.
func (b *BMC) addRecord(record [selSize]byte) (id uint16, ok bool) {
	now := b.clock()
	l := &b.events
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) >= selMost {
		l.lost = true
		return 0, false
	}
	l.next++
	binary.LittleEndian.PutUint16(record[0:], l.next)
	if record[2] < 0xe0 {
		binary.LittleEndian.PutUint32(record[3:], uint32(now.Unix()))
	}
	l.records, l.added = append(l.records, record), now
	return l.next, true
}

// logPower writes what was done to the machine in the log: sensor-specific events
// of its power unit, and of its restart (§42.2).
func (b *BMC) logPower(kind string) {
	const ended = 0x80
	switch kind {
	case "power-on":
		b.LogEvent(byte(types.SensorTypePowerUnit), powerUnit, 0x6f|ended, [3]byte{0x00, 0xff, 0xff})
	case "power-off", "soft-off":
		b.LogEvent(byte(types.SensorTypePowerUnit), powerUnit, 0x6f, [3]byte{0x00, 0xff, 0xff})
	case "power-cycle":
		b.LogEvent(byte(types.SensorTypePowerUnit), powerUnit, 0x6f, [3]byte{0x01, 0xff, 0xff})
	case "reset":
		b.LogEvent(byte(types.SensorTypeSystemBootRestartInitiated), 0, 0x6f, [3]byte{0x01, 0xff, 0xff})
	}
}

// getSELInfo is Get SEL Info (§31.2).
func (b *BMC) getSELInfo(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	l := &b.events
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []byte{selVersion}
	out = binary.LittleEndian.AppendUint16(out, uint16(len(l.records)))
	out = binary.LittleEndian.AppendUint16(out, uint16((selMost-len(l.records))*selSize))
	for _, at := range []time.Time{l.added, l.cleared} {
		stamp := uint32(0xffffffff)
		if !at.IsZero() {
			stamp = uint32(at.Unix())
		}
		out = binary.LittleEndian.AppendUint32(out, stamp)
	}
	support := byte(selReserves)
	if l.lost {
		support |= selLost
	}
	return append(out, support), types.CodeOK, nil
}

// reserveSEL is Reserve SEL (§31.4).
func (b *BMC) reserveSEL(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	l := &b.events
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reservation = max(l.reservation+1, 1)
	return binary.LittleEndian.AppendUint16(nil, l.reservation), types.CodeOK, nil
}

// getSELEntry is Get SEL Entry (§31.5). A part of a record that does not begin at
// its start needs the reservation.
func (b *BMC) getSELEntry(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 6 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	l := &b.events
	l.mu.Lock()
	defer l.mu.Unlock()
	at, n := int(req[4]), int(req[5])
	if at != 0 && binary.LittleEndian.Uint16(req) != l.reservation {
		return nil, types.CodeReservationCanceled, nil
	}
	i := l.find(binary.LittleEndian.Uint16(req[2:]))
	if i < 0 {
		return nil, types.CodeRequestedDataNotPresent, nil
	}
	if n == 0xff {
		n = selSize - min(at, selSize)
	}
	if at+n > selSize {
		return nil, types.CodeParameterOutOfRange, nil
	}
	if b.ReadLimit > 0 && n > b.ReadLimit {
		return nil, types.CodeCannotReturnRequestedDataBytes, nil
	}
	next := uint16(lastID)
	if i+1 < len(l.records) {
		next = binary.LittleEndian.Uint16(l.records[i+1][:])
	}
	return append(binary.LittleEndian.AppendUint16(nil, next), l.records[i][at:at+n]...), types.CodeOK, nil
}

// find is the index of a record; 0000h is the first and FFFFh the last.
func (l *eventLogStore) find(id uint16) int {
	switch id {
	case 0:
		return min(0, len(l.records)-1)
	case lastID:
		return len(l.records) - 1
	}
	for i := range l.records {
		if binary.LittleEndian.Uint16(l.records[i][:]) == id {
			return i
		}
	}
	return -1
}

// addSELEntry is Add SEL Entry (§31.6).
func (b *BMC) addSELEntry(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < selSize {
		return nil, types.CodeRequestDataTruncated, nil
	}
	id, ok := b.addRecord([selSize]byte(req))
	if !ok {
		return nil, types.CodeOutOfSpace, nil
	}
	return binary.LittleEndian.AppendUint16(nil, id), types.CodeOK, nil
}

// clearSEL is Clear SEL (§31.9), which is done at once.
func (b *BMC) clearSEL(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	const initiate, status, done = 0xaa, 0x00, 0x01
	if len(req) < 6 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	now := b.clock()
	l := &b.events
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case string(req[2:5]) != "CLR" || req[5] != initiate && req[5] != status:
		return nil, types.CodeRequestDataFieldInvalid, nil
	case binary.LittleEndian.Uint16(req) != l.reservation:
		return nil, types.CodeReservationCanceled, nil
	}
	if req[5] == initiate {
		l.records, l.lost, l.cleared = nil, false, now
	}
	return []byte{done}, types.CodeOK, nil
}

// getSELTime is Get SEL Time (§31.10).
func (b *BMC) getSELTime(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	return binary.LittleEndian.AppendUint32(nil, uint32(b.clock().Unix())), types.CodeOK, nil
}
