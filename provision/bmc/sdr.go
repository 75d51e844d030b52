package bmc

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/bougou/go-ipmi/pkg/types"
)

// Sensor data records (§43).
const (
	sdrHead       = 5 // bytes before the body; the last is the body's length
	maxRecords    = 4096
	sdrFull       = 0x01
	sdrCompact    = 0x02
	sdrEventOnly  = 0x03
	fullName      = 47 // where the type/length byte of a record's name is
	compactName   = 31
	eventOnlyName = 16
	ownBMC        = 0x20 // the owner of the sensors that the BMC itself reads
	noAnalog      = 3    // no numeric reading
	nonLinear     = 0x70 // and above: the factors depend on the reading
)

// sensorKey names a sensor in events: who owns it, and its number there.
type sensorKey struct{ owner, number uint8 }

// sensorRecord is what is used of a full, compact or event-only record (§43.1 to
// §43.3).
type sensorRecord struct {
	sensorKey
	lun      uint8
	kind     uint8 // of the record
	name     string
	entity   uint8
	instance uint8
	sensor   types.SensorType
	event    types.EventReadingType
	unit     string
	format   types.SensorAnalogUnitFormat
	factors  types.ReadingFactors
	linear   uint8 // the linearisation function
	limits   [6]byte
	readable uint8 // bits of the limits that there are, as in Get Sensor Thresholds
}

// parseRecord decodes one record; false: it does not describe a sensor, or is
// damaged.
func parseRecord(b []byte) (r sensorRecord, ok bool) {
	if len(b) < sdrHead || len(b) < sdrHead+int(b[4]) {
		return r, false
	}
	b = b[:sdrHead+int(b[4])]
	nameAt := map[uint8]int{sdrFull: fullName, sdrCompact: compactName, sdrEventOnly: eventOnlyName}[b[3]]
	if nameAt == 0 || len(b) <= nameAt {
		return r, false
	}
	r.kind, r.owner, r.lun, r.number = b[3], b[5], b[6]&3, b[7]
	r.entity, r.instance = b[8], b[9]&0x7f
	r.name = recordName(b[nameAt:])
	if r.kind == sdrEventOnly {
		r.sensor, r.event = types.SensorType(b[10]), types.EventReadingType(b[11]&0x7f)
		return r, true
	}
	r.sensor, r.event = types.SensorType(b[12]), types.EventReadingType(b[13]&0x7f)
	r.format = types.SensorAnalogUnitFormat(b[20] >> 6)
	r.unit = unitOf(b[20], b[21], b[22])
	if r.kind != sdrFull {
		return r, true
	}
	r.linear = b[23] & 0x7f
	r.factors = readingFactors(b[24:30])
	r.readable = b[18] & 0x3f
	// In the order of Get Sensor Thresholds: lower before upper, outwards.
	r.limits = [6]byte{b[41], b[40], b[39], b[38], b[37], b[36]}
	return r, true
}

// recordName reads a type/length field, whose length has five bits in these
// records (§43.15).
func recordName(b []byte) string {
	n := min(int(b[0]&0x1f), len(b)-1)
	return printable(types.FRUFieldString(types.TypeLength(b[0]&0xc0|byte(n)), b[1:1+n]))
}

// printable takes out of a BMC's text what could drive a terminal.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "")))
}

// readingFactors reads M, B and the exponents (§36.3), as they are in a record
// from byte 25 on, or in the reply to Get Sensor Reading Factors.
func readingFactors(b []byte) types.ReadingFactors {
	return types.ReadingFactors{
		M:     int16(types.TwoSComplement(uint32(b[1]&0xc0)<<2|uint32(b[0]), 10)),
		B:     int16(types.TwoSComplement(uint32(b[3]&0xc0)<<2|uint32(b[2]), 10)),
		R_Exp: int8(types.TwoSComplement(uint32(b[5]>>4), 4)),
		B_Exp: int8(types.TwoSComplement(uint32(b[5]&0x0f), 4)),
	}
}

// unitOf names the unit (§43.17): in the terms of Redfish for the common ones.
func unitOf(flags, base, modifier uint8) string {
	name := func(u uint8) string {
		switch t := types.SensorUnitType(u); t {
		case types.SensorUnitType_DegreesC:
			return "Cel"
		case types.SensorUnitType_Volts:
			return "V"
		case types.SensorUnitType_Amps:
			return "A"
		case types.SensorUnitType_Watts:
			return "W"
		case types.SensorUnitType_Unspecified:
			return ""
		default:
			return t.String()
		}
	}
	unit := name(base)
	switch {
	case flags&0x06 == 0x02:
		unit += "/" + name(modifier)
	case flags&0x06 == 0x04:
		unit += "*" + name(modifier)
	}
	if flags&1 != 0 {
		unit = strings.TrimSpace("% " + unit)
	}
	return unit
}

// converts says whether a raw reading can be turned into a number here.
func (r *sensorRecord) converts() bool {
	return r.kind == sdrFull && r.format != noAnalog && r.linear < nonLinear
}

// value converts a raw reading (§36.3).
func (r *sensorRecord) value(raw uint8) float64 {
	x := float64(types.AnalogValue(raw, r.format))
	f := r.factors
	y := (float64(f.M)*x + float64(f.B)*math.Pow10(int(f.B_Exp))) * math.Pow10(int(f.R_Exp))
	switch r.linear {
	case 1:
		return math.Log(y)
	case 2:
		return math.Log10(y)
	case 3:
		return math.Log2(y)
	case 4:
		return math.Exp(y)
	case 5:
		return math.Pow(10, y)
	case 6:
		return math.Exp2(y)
	case 7:
		return 1 / y
	case 8:
		return y * y
	case 9:
		return y * y * y
	case 10:
		return math.Sqrt(y)
	case 11:
		return math.Cbrt(y)
	}
	return y
}

// number prints a reading as people read it.
func number(v float64) string { return strconv.FormatFloat(round(v), 'f', -1, 64) }

// round takes off what floating point adds to a reading of eight bits.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow10(5 - int(math.Ceil(math.Log10(math.Abs(v)))))
	return math.Round(v*scale) / scale
}

// records reads the sensor data records: of the repository, or where a BMC has
// none, those of its own device (§35.3).
func (s *Session) records(ctx context.Context) ([]sensorRecord, error) {
	r := &recordReader{session: s, get: types.CommandGetSDR, reserve: types.CommandReserveSDRRepo,
		head: sdrHead, size: func(head []byte) int { return sdrHead + int(head[4]) }, most: maxRecords}
	_, err := s.wire.call(ctx, request{command: types.CommandGetSDRRepoInfo})
	if completion(err) == types.CodeInvalidCommand {
		r.get, r.reserve = types.CommandGetDeviceSDR, types.CommandReserveDeviceSDRRepo
	} else if err != nil {
		return nil, err
	}
	var out []sensorRecord
	err = r.each(ctx, func(record []byte) error {
		if rec, ok := parseRecord(record); ok {
			out = append(out, rec)
		}
		return nil
	})
	if completion(err) == types.CodeRequestedDataNotPresent && len(out) == 0 {
		return nil, nil // an empty repository
	}
	return out, err
}

// byNumber finds records by what events name.
func byNumber(records []sensorRecord) map[sensorKey]sensorRecord {
	out := make(map[sensorKey]sensorRecord, len(records))
	for _, r := range records {
		out[r.sensorKey] = r
	}
	return out
}
