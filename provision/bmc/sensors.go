package bmc

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/bougou/go-ipmi/pkg/types"
)

// Entities (§43.14).
const (
	entityAirInlet  = 0x37
	entityDCMIInlet = 0x40
)

// Sensor is one sensor of a BMC, with what it reads now.
type Sensor struct {
	Name   string // "Inlet Temp", or "#0x30" where its record has no name
	Number uint8
	Type   string // "Temperature"
	Value  *float64
	Unit   string   // "Cel", "V", "A", "W", "RPM", "%" and others; "" without one
	Health string   // "OK", "Warning" or "Critical"; "" when there is no reading
	States []string // of a sensor that is no number, as "Power off/down"; none: nothing is the matter
	Inlet  bool     // it measures the air that comes in
	Reason string   // why there is no reading; ""
}

// Sensors are a node's readings.
type Sensors struct {
	Watts    *float64 // power drawn now; nil: not measured
	Inlet    *float64 // temperature of the air that comes in, in degrees Celsius; nil: not measured
	Readings []Sensor
}

// Sensors reads all sensors in a session of its own.
func (c *Client) Sensors(ctx context.Context, ep Endpoint) (out Sensors, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		out, err = s.Sensors(ctx)
		return err
	})
	return out, err
}

// Sensors reads the sensor data records and each sensor of the BMC's own (§35.14),
// and the power drawn by DCMI where the BMC has it. Sensors of other controllers
// behind the BMC are listed with the reason why they are not read.
func (s *Session) Sensors(ctx context.Context) (Sensors, error) {
	var out Sensors
	records, err := s.records(ctx)
	if err != nil {
		return out, err
	}
	for _, r := range records {
		if r.kind == sdrEventOnly {
			continue
		}
		sensor, err := s.sensor(ctx, r)
		if err != nil {
			return out, err
		}
		out.Readings = append(out.Readings, sensor)
	}
	if out.Watts, err = s.Watts(ctx); err != nil {
		return out, err
	}
	if out.Watts == nil {
		out.Watts = totalWatts(out.Readings)
	}
	for i := range out.Readings {
		if r := &out.Readings[i]; r.Inlet && r.Value != nil && r.Unit == "Cel" && out.Inlet == nil {
			out.Inlet = r.Value
		}
	}
	return out, nil
}

// sensor reads one sensor. That it has no reading is not an error.
func (s *Session) sensor(ctx context.Context, r sensorRecord) (Sensor, error) {
	out := Sensor{Name: r.name, Number: r.number, Type: sensorType(r.sensor), Unit: r.unit, Inlet: r.inlet()}
	if out.Name == "" {
		out.Name = fmt.Sprintf("#%#02x", r.number)
	}
	if r.owner != ownBMC || r.lun != 0 {
		out.Reason = fmt.Sprintf("it belongs to the controller at %#02x", r.owner)
		return out, nil
	}
	data, err := s.wire.call(ctx, request{command: types.CommandGetSensorReading, data: []byte{r.number}})
	switch cc := completion(err); {
	case cc != types.CodeOK:
		out.Reason = "no reading: " + types.StrCC(types.CommandGetSensorReading, uint8(cc))
		return out, nil
	case err != nil:
		return out, err
	}
	if r.kind == sdrFull && r.linear >= nonLinear && len(data) > 0 {
		if r, err = s.factors(ctx, r, data[0]); err != nil {
			return out, err
		}
	}
	out.read(r, data)
	return out, nil
}

// factors asks for those of a non-linear sensor at this reading (§35.5).
func (s *Session) factors(ctx context.Context, r sensorRecord, raw uint8) (sensorRecord, error) {
	data, err := s.wire.call(ctx, request{command: types.CommandGetSensorReadingFactors, data: []byte{r.number, raw}})
	if completion(err) != types.CodeOK {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if len(data) >= 7 { // the next reading comes first
		r.factors, r.linear = readingFactors(data[1:7]), 0
	}
	return r, nil
}

// read decodes the reply to Get Sensor Reading (§35.14).
func (out *Sensor) read(r sensorRecord, data []byte) {
	const scanning, unavailable = 0x40, 0x20
	switch {
	case len(data) < 2:
		out.Reason = "no reading: the reply is too short"
		return
	case data[1]&unavailable != 0:
		out.Reason = "no reading now"
		return
	case data[1]&scanning == 0:
		out.Reason = "the bmc does not scan it"
		return
	}
	if r.converts() {
		if v := round(r.value(data[0])); !math.IsNaN(v) && !math.IsInf(v, 0) {
			out.Value = &v
		}
	}
	if r.event == types.EventReadingTypeThreshold {
		out.Health = "OK"
		if len(data) > 2 {
			out.Health = thresholdHealth(data[2])
		}
		return
	}
	out.Health = "OK"
	if out.Value != nil && r.event == types.EventReadingTypeUnspecified {
		return
	}
	var states uint16
	for i, b := range data[2:min(len(data), 4)] {
		states |= uint16(b) << (8 * i)
	}
	for i := range uint8(15) { // bit 15 is reserved
		if states>>i&1 == 0 {
			continue
		}
		event := r.event.EventForOffset(r.sensor, i)
		if event == nil {
			out.States = append(out.States, fmt.Sprintf("state %d", i))
			continue
		}
		out.States = append(out.States, eventWords(event.EventName))
		got := severity(r.event.EventSeverity(r.sensor, types.EventData{EventData1: i}, types.EventDirAssertion))
		out.Health = worse(out.Health, got)
	}
}

// thresholdHealth reads which limits are crossed: bits for lower, then upper
// non-critical, critical and non-recoverable.
func thresholdHealth(crossed byte) string {
	switch {
	case crossed&0x36 != 0:
		return "Critical"
	case crossed&0x09 != 0:
		return "Warning"
	}
	return "OK"
}

// worse is the graver of two severities.
func worse(a, b string) string {
	if a == "Critical" || b == "Critical" {
		return "Critical"
	}
	if a == "Warning" || b == "Warning" {
		return "Warning"
	}
	return "OK"
}

// inlet says whether the sensor measures the air that comes in.
func (r *sensorRecord) inlet() bool {
	return r.sensor == types.SensorTypeTemperature &&
		(r.entity == entityAirInlet || r.entity == entityDCMIInlet || InletName(r.name))
}

// InletName says whether a temperature sensor of this name measures the air that
// comes in.
func InletName(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "inlet") || strings.Contains(name, "ambient")
}

// Watts is the power drawn now, by DCMI's Get Power Reading (DCMI 1.5, §6.6.1); nil:
// the BMC does not measure.
func (s *Session) Watts(ctx context.Context) (*float64, error) {
	const group, systemPower = 0xdc, 0x01
	data, err := s.wire.call(ctx, request{command: types.CommandGetDCMIPowerReading, data: []byte{group, systemPower, 0, 0}})
	if completion(err) != types.CodeOK {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseWatts(data), nil
}

func parseWatts(data []byte) *float64 {
	const size, measuring = 18, 0x40
	if len(data) < size || data[0] != 0xdc || data[size-1]&measuring == 0 {
		return nil
	}
	watts := float64(binary.LittleEndian.Uint16(data[1:]))
	return &watts
}

// totalWatts finds the node's power among its sensors, by the names that firmware
// gives it.
func totalWatts(all []Sensor) *float64 {
	for _, name := range []string{"total power", "total_power", "pwr consumption", "sys power", "sys_power", "system power", "power meter", "input power"} {
		for i := range all {
			if all[i].Unit == "W" && all[i].Value != nil && strings.Contains(strings.ToLower(all[i].Name), name) {
				return all[i].Value
			}
		}
	}
	return nil
}
