package bmc

import (
	"context"
	"errors"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/types"
)

// Identity is what a BMC says about itself and its machine. What it does not
// know is empty.
type Identity struct {
	ManufacturerID uint32 // IANA enterprise number of the BMC's maker; 0: unspecified
	ProductID      uint16
	Firmware       string // "1.05"
	GUID           string // of the machine, else of the BMC: lower-case UUID
	Manufacturer   string // of the machine, from the FRU product area
	Product        string
	Part           string // the product's part or model number
	Serial         string // product serial number, else the chassis'
	ChassisSerial  string
	ChassisPart    string
	BoardSerial    string // of the main board
	BoardPart      string
}

// Identity reads the identity in a session of its own.
func (c *Client) Identity(ctx context.Context, ep Endpoint) (id Identity, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		id, err = s.Identity(ctx)
		return err
	})
	return id, err
}

// Identity reads Get Device ID (§20.1), the GUID (§22.14, §20.8) and FRU device
// 0 (§34). A BMC without GUID or FRU is not an error.
func (s *Session) Identity(ctx context.Context) (Identity, error) {
	data, err := s.wire.call(ctx, request{command: types.CommandGetDeviceID})
	if err != nil {
		return Identity{}, err
	}
	if len(data) < 11 {
		return Identity{}, fmt.Errorf("get device id: reply of %d bytes is too short", len(data))
	}
	id := Identity{
		ManufacturerID: uint32(data[6]) | uint32(data[7])<<8 | uint32(data[8]&0x0f)<<16,
		ProductID:      uint16(data[9]) | uint16(data[10])<<8,
		Firmware:       fmt.Sprintf("%d.%02x", data[2]&0x7f, data[3]), // the minor part is BCD
	}
	if id.GUID, err = s.guid(ctx); err != nil {
		return Identity{}, err
	}
	err = s.fru(ctx, &id)
	var refused *commandError
	if errors.As(err, &refused) || errors.Is(err, errFRU) {
		s.client.log().Debug("bmc has no readable FRU", "node", s.ep.Node, "bmc", s.ep.Address, "error", err)
		err = nil
	}
	return id, err
}

// guid asks for the machine's GUID, then for the BMC's own.
func (s *Session) guid(ctx context.Context) (string, error) {
	for _, cmd := range []types.Command{types.CommandGetSystemGUID, types.CommandGetDeviceGUID} {
		data, err := s.wire.call(ctx, request{command: cmd})
		var refused *commandError
		if errors.As(err, &refused) {
			continue
		}
		if err != nil {
			return "", err
		}
		if len(data) >= 16 {
			return formatGUID([16]byte(data)), nil
		}
	}
	return "", nil
}

// formatGUID prints the bytes in the order of §20.8: least significant first.
func formatGUID(g [16]byte) string {
	for i, j := 0, len(g)-1; i < j; i, j = i+1, j-1 {
		g[i], g[j] = g[j], g[i]
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[0:4], g[4:6], g[6:8], g[8:10], g[10:])
}

// errFRU says that FRU data is damaged.
var errFRU = errors.New("FRU data is damaged")

// FRU reading (§34.2 and the FRU Information Storage Definition v1.0).
const (
	fruHeader  = 8  // bytes
	fruRead    = 32 // bytes at a time; larger reads fail on some BMCs
	fruChassis = 2  // index of the area's offset, in 8 bytes, in the header
	fruBoard   = 3
	fruProduct = 4
)

// fru fills in what FRU device 0 knows.
func (s *Session) fru(ctx context.Context, id *Identity) error {
	info, err := s.wire.call(ctx, request{command: types.CommandGetFRUInventoryAreaInfo, data: []byte{0}})
	if err != nil {
		return err
	}
	if len(info) < 3 || info[2]&1 != 0 {
		return fmt.Errorf("%w: device 0 is read by words or not at all", errFRU)
	}
	size := int(info[0]) | int(info[1])<<8
	header, err := s.fruBytes(ctx, 0, fruHeader, size)
	if err != nil {
		return err
	}
	if header[0]&0x0f != 1 {
		return fmt.Errorf("%w: format version %d", errFRU, header[0]&0x0f)
	}
	// Version and length come first; then language, type, or language and date.
	for _, area := range []struct {
		index, fields int
		take          func(f func(int) string)
	}{
		{fruProduct, 3, func(f func(int) string) { id.Manufacturer, id.Product, id.Part, id.Serial = f(0), f(1), f(2), f(4) }},
		{fruChassis, 3, func(f func(int) string) { id.ChassisPart, id.ChassisSerial = f(0), f(1) }},
		{fruBoard, 6, func(f func(int) string) { id.BoardSerial, id.BoardPart = f(2), f(3) }},
	} {
		at := int(header[area.index]) * 8
		if at == 0 {
			continue
		}
		data, err := s.fruArea(ctx, at, size)
		if err != nil {
			return err
		}
		area.take(fruFields(data, area.fields))
	}
	if id.Serial == "" {
		id.Serial = id.ChassisSerial
	}
	return nil
}

// fruArea reads one info area, whose second byte is its length in 8 bytes and
// whose bytes sum to zero.
func (s *Session) fruArea(ctx context.Context, at, size int) ([]byte, error) {
	head, err := s.fruBytes(ctx, at, 2, size)
	if err != nil {
		return nil, err
	}
	area, err := s.fruBytes(ctx, at, int(head[1])*8, size)
	if err != nil {
		return nil, err
	}
	var sum byte
	for _, b := range area {
		sum += b
	}
	if len(area) < 8 || sum != 0 {
		return nil, fmt.Errorf("%w: area at %d has a wrong checksum", errFRU, at)
	}
	return area, nil
}

// fruBytes reads n bytes at offset at of device 0, which has size bytes.
func (s *Session) fruBytes(ctx context.Context, at, n, size int) ([]byte, error) {
	if at+n > size {
		return nil, fmt.Errorf("%w: bytes %d to %d of %d", errFRU, at, at+n, size)
	}
	var out []byte
	for len(out) < n {
		off, want := at+len(out), min(n-len(out), fruRead)
		data, err := s.wire.call(ctx, request{command: types.CommandReadFRUData, data: []byte{0, byte(off), byte(off >> 8), byte(want)}})
		if err != nil {
			return nil, err
		}
		// The count comes first; a BMC may return fewer bytes than asked for.
		if len(data) < 2 || int(data[0]) != len(data)-1 || int(data[0]) > want {
			return nil, fmt.Errorf("%w: read of %d bytes at %d returned %d", errFRU, want, off, len(data)-1)
		}
		out = append(out, data[1:]...)
	}
	return out, nil
}

// fruFields returns a reader of the area's type/length fields from byte at on. A
// field that is not there is "".
func fruFields(area []byte, at int) func(i int) string {
	var fields []string
	for at < len(area) && area[at] != 0xc1 { // C1h ends the fields
		tl := types.TypeLength(area[at])
		n := int(area[at] & 0x3f)
		if at+1+n > len(area) {
			break
		}
		fields = append(fields, printable(types.FRUFieldString(tl, area[at+1:at+1+n])))
		at += 1 + n
	}
	return func(i int) string {
		if i < len(fields) {
			return fields[i]
		}
		return ""
	}
}
