package refbmc

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	bmcOwner  = 0x20 // the address of the BMC, as the owner of sensors
	powerUnit = 0x01 // number of the sensor that tells whether the machine is on
)

// Sensor is a numeric sensor of the BMC, described by a full record (§43.1). Its
// readings are Step × n, for n from 0 to 255, or from -128 to 127 when Signed.
type Sensor struct {
	Number uint8 // over 1
	Name   string
	Type   uint8 // sensor type code (§42.2), as 1 for a temperature
	Entity uint8 // what it belongs to (§43.14), as 37h for the air inlet
	Unit   uint8 // unit code (§43.17), as 1 for degrees Celsius and 6 for watts
	Step   uint8
	Signed bool
	Upper  float64 // upper critical limit; 0: none
	// Value is the reading; nil, or false, when there is none now.
	Value func() (value float64, ok bool)
}

// raw is the byte that stands for v.
func (s *Sensor) raw(v float64) uint8 {
	n := math.Round(v / float64(max(s.Step, 1)))
	if s.Signed {
		return uint8(int8(min(max(n, -128), 127)))
	}
	return uint8(min(max(n, 0), 255))
}

// record is the sensor's data record.
func (s *Sensor) record(id uint16) []byte {
	name := fruText(s.Name)
	name = name[:min(len(name), 16)]
	b := make([]byte, 48, 48+len(name))
	binary.LittleEndian.PutUint16(b, id)
	b[2], b[3], b[5], b[7] = 0x51, 0x01, bmcOwner, s.Number
	b[8], b[9] = s.Entity, 1
	b[10], b[11] = 0x7f, 0x68 // initialised and scanning; readable limits, events of the whole sensor
	b[12], b[13] = s.Type, 0x01
	if s.Signed {
		b[20] = 2 << 6
	}
	b[21], b[24] = s.Unit, max(s.Step, 1)
	if s.Upper != 0 {
		b[18], b[37] = 1<<4, s.raw(s.Upper)
	}
	b[34], b[35] = 0xff, 0x00
	if s.Signed {
		b[34], b[35] = 0x7f, 0x80
	}
	b[47] = 0xc0 | byte(len(name))
	b = append(b, name...)
	b[4] = byte(len(b) - 5)
	return b
}

// powerUnitRecord is the compact record (§43.2) of the power unit.
func powerUnitRecord(id uint16) []byte {
	const name = "Power Unit"
	b := make([]byte, 32, 32+len(name))
	binary.LittleEndian.PutUint16(b, id)
	b[2], b[3], b[5], b[7] = 0x51, 0x02, bmcOwner, powerUnit
	b[8], b[9] = 0x15, 1 // power management
	b[10], b[11] = 0x63, 0x40
	b[12], b[13] = byte(types.SensorTypePowerUnit), 0x6f
	b[14], b[16], b[18] = 0x03, 0x03, 0x03 // it knows off and cycle
	b[20], b[23] = 0xc0, 0x01              // not numeric; one sensor
	b[31] = 0xc0 | byte(len(name))
	b = append(b, name...)
	b[4] = byte(len(b) - 5)
	return b
}

// repository is the sensor data records: the BMC's own locator, its power unit
// and the numeric sensors.
func (b *BMC) repository() sdrStore {
	out := sdrStore{bmcLocator(), powerUnitRecord(2)}
	for i := range b.Sensors {
		out = append(out, b.Sensors[i].record(uint16(i+3)))
	}
	return out
}

// getRepositoryInfo is Get SDR Repository Info (§33.9). The library's says that the
// records were changed just now, each time, so that clients throw away what they
// have read.
func getRepositoryInfo(records sdrStore, since time.Time) handlers.HandlerFunc {
	const version, reserves, unknown = 0x51, 0x02, 0xffff
	reply := binary.LittleEndian.AppendUint16([]byte{version}, uint16(len(records)))
	reply = binary.LittleEndian.AppendUint16(reply, unknown) // bytes that are free
	for range 2 {                                            // of the last addition and erasure
		reply = binary.LittleEndian.AppendUint32(reply, uint32(since.Unix()))
	}
	reply = append(reply, reserves)
	return func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
		return reply, types.CodeOK, nil
	}
}

// getSensorReading is Get Sensor Reading (§35.14).
func (b *BMC) getSensorReading(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	const scanning, unavailable, reserved, overUpper = 0xc0, 0x20, 0xc0, 0x10
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	if req[0] == powerUnit {
		state := byte(0)
		if !b.Machine.Powered() {
			state = 1
		}
		return []byte{0, scanning, state, 0x80}, types.CodeOK, nil
	}
	i := slices.IndexFunc(b.Sensors, func(s Sensor) bool { return s.Number == req[0] })
	if i < 0 {
		return nil, types.CodeRequestedDataNotPresent, nil
	}
	s := &b.Sensors[i]
	value, ok := 0.0, false
	if s.Value != nil {
		value, ok = s.Value()
	}
	if !ok {
		return []byte{0, scanning | unavailable, reserved}, types.CodeOK, nil
	}
	status := byte(reserved)
	if s.Upper != 0 && value >= s.Upper {
		status |= overUpper
	}
	return []byte{s.raw(value), scanning, status}, types.CodeOK, nil
}

// getPowerReading is DCMI's Get Power Reading (DCMI 1.5, §6.6.1).
func (b *BMC) getPowerReading(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	const group, systemPower, active = 0xdc, 0x01, 0x40
	switch {
	case b.Watts == nil:
		return nil, types.CodeInvalidCommand, nil
	case len(req) < 4:
		return nil, types.CodeRequestDataTruncated, nil
	case req[0] != group || req[1] != systemPower:
		return nil, types.CodeRequestDataFieldInvalid, nil
	}
	watts := uint16(min(max(math.Round(b.Watts()), 0), math.MaxUint16))
	out := []byte{group}
	for range 4 { // now, least, most, mean: of this moment only
		out = binary.LittleEndian.AppendUint16(out, watts)
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(b.clock().Unix()))
	out = binary.LittleEndian.AppendUint32(out, 1000) // ms
	return append(out, active), types.CodeOK, nil
}
