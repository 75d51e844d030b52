package refbmc

import (
	"context"
	"crypto/sha256"

	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/types"
)

// guid derives the BMC's GUID from its identity, so that it is the same after a
// restart. The bytes are in the order of §20.8: an RFC 4122 UUID reversed.
func (b *BMC) guid() [16]byte {
	sum := sha256.Sum256([]byte(b.Manufacturer + "\x00" + b.Product + "\x00" + b.Serial))
	var g [16]byte
	copy(g[:], sum[:])
	g[9] = g[9]&0x0f | 0x80 // version 8, made by its vendor's own rule
	g[7] = g[7]&0x3f | 0x80 // the variant of RFC 4122
	return g
}

// fru is the content of FRU device 0.
func (b *BMC) fru() ([]byte, error) {
	fru := types.FRUPackConfig{
		Chassis: &types.FRUPackChassis{Type: 0x17, Serial: fruText(b.Serial)}, // rack mount chassis
		Product: &types.FRUPackProduct{
			Manufacturer: fruText(b.Manufacturer),
			Name:         fruText(b.Product),
			Serial:       fruText(b.Serial),
		},
	}
	if b.Serial != "" {
		fru.Board = &types.FRUPackBoard{Mfg: fruText(b.Manufacturer), Product: fruText(b.Product), Serial: fruText(b.Serial + "-B"), PartNumber: "B-1"}
	}
	return types.PackFRU(fru)
}

// fruText fits s in a type/length field: at most 63 bytes, and never one, whose
// C1h would be read as the end of the fields.
func fruText(s string) string {
	switch {
	case len(s) > 63:
		return s[:63]
	case len(s) == 1:
		return s + " "
	}
	return s
}

// board is the library's view of the hardware. Only the FRU is served through
// it; our own handlers drive the machine. A nil part answers "not supported".
type board struct {
	fru     fruStore
	sdr     sdrStore
	console hal.ConsoleHAL
}

func (*board) Chassis() hal.ChassisHAL   { return nil }
func (*board) Sensors() hal.SensorHAL    { return nil }
func (*board) Network() hal.NetworkHAL   { return nil }
func (*board) GPIO() hal.GPIOHAL         { return nil }
func (*board) I2C() hal.I2CHAL           { return nil }
func (d *board) Console() hal.ConsoleHAL { return d.console }
func (*board) Close() error              { return nil }
func (d *board) Storage() hal.StorageHAL { return d }
func (d *board) FRU() hal.FRUStore       { return d.fru }
func (d *board) SDR() hal.SDRStore       { return d.sdr }

// fruStore is one read-only FRU device, number 0.
type fruStore []byte

func (f fruStore) Read(_ context.Context, device uint8) ([]byte, error) {
	if device != 0 {
		return nil, hal.ErrNotFound
	}
	return f, nil
}

func (fruStore) Write(context.Context, uint8, []byte) error { return hal.ErrNotSupported }
func (fruStore) Delete(context.Context, uint8) error        { return hal.ErrNotSupported }
func (fruStore) DeviceIDs(context.Context) ([]uint8, error) { return []uint8{0}, nil }

// sdrStore is the read-only sensor data records, with IDs from 1 on.
type sdrStore [][]byte

// bmcLocator is the BMC's own locator record (§43.9). Were there none, ipmitool
// would try to fill the repository before it prints the FRU.
func bmcLocator() []byte {
	const name = "BMC"
	body := []byte{
		0x20, 0x00, // slave address, channel
		0x00,             // no power state notification
		0x87,             // chassis, SEL, SDR repository and sensor device
		0x00, 0x00, 0x00, // reserved
		0x06, 0x01, // entity: system management module, instance 1
		0x00,
		0xc0 | byte(len(name)),
	}
	body = append(body, name...)
	return append([]byte{0x01, 0x00, 0x51, 0x12, byte(len(body))}, body...)
}

func (s sdrStore) Read(_ context.Context, record uint16) ([]byte, error) {
	if record == 0 || int(record) > len(s) {
		return nil, hal.ErrNotFound
	}
	return s[record-1], nil
}

func (sdrStore) Write(context.Context, uint16, []byte) error { return hal.ErrNotSupported }
func (sdrStore) Delete(context.Context, uint16) error        { return hal.ErrNotSupported }

func (s sdrStore) RecordIDs(context.Context) ([]uint16, error) {
	ids := make([]uint16, len(s))
	for i := range ids {
		ids[i] = uint16(i + 1)
	}
	return ids, nil
}
