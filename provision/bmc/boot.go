package bmc

import (
	"context"
	"errors"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/types"
)

// BootDevice is what a node boots from, against its firmware's own order.
type BootDevice string

// Boot devices.
const (
	BootNone  BootDevice = ""      // the firmware's own order
	BootPXE   BootDevice = "pxe"   // the network, by DHCP and TFTP
	BootHTTP  BootDevice = "http"  // the network, by DHCP and HTTP; by Redfish only
	BootDisk  BootDevice = "disk"  // the default disk
	BootCD    BootDevice = "cdrom" // read only; never set by us
	BootSetup BootDevice = "setup" // the firmware's setup; never set by us
	BootOther BootDevice = "other" // read only: a device we have no name for
)

// Override is a boot override. The zero value is none.
type Override struct {
	Device     BootDevice
	Persistent bool // for all boots, not only the next
	EFI        bool // by UEFI
}

// String is as "pxe uefi once".
func (o Override) String() string {
	if o.Device == BootNone {
		return "none"
	}
	firmware, times := "bios", "once"
	if o.EFI {
		firmware = "uefi"
	}
	if o.Persistent {
		times = "persistent"
	}
	return fmt.Sprintf("%s %s %s", o.Device, firmware, times)
}

// Boot option parameters (§28.13, table 28-14).
const (
	paramValidBitClearing = 3
	paramBootFlags        = 5
	flagValid             = 0x80
	flagPersistent        = 0x40
	flagEFI               = 0x20
	// keepForever: the BMC does not drop the flags 60 s after they were set when
	// no chassis control has come.
	keepForever = 0x08
)

// flags encodes o as the data of parameter 5.
func (o Override) flags() ([]byte, error) {
	b := []byte{flagValid, 0, 0, 0, 0}
	switch o.Device {
	case BootNone: // valid, "no override", next boot only: clears
		return b, nil
	case BootPXE:
		b[1] = 1 << 2
	case BootDisk:
		b[1] = 2 << 2
	default:
		return nil, fmt.Errorf("boot device %q cannot be set", o.Device)
	}
	if o.Persistent {
		b[0] |= flagPersistent
	}
	if o.EFI {
		b[0] |= flagEFI
	}
	return b, nil
}

// parseFlags decodes the data of parameter 5.
func parseFlags(b []byte) Override {
	if b[0]&flagValid == 0 {
		return Override{}
	}
	o := Override{Persistent: b[0]&flagPersistent != 0, EFI: b[0]&flagEFI != 0}
	switch b[1] >> 2 & 0x0f {
	case 0:
		return Override{}
	case 1:
		o.Device = BootPXE
	case 2:
		o.Device = BootDisk
	case 5:
		o.Device = BootCD
	case 6:
		o.Device = BootSetup
	default:
		o.Device = BootOther
	}
	return o
}

// Boot reads the boot override in a session of its own.
func (c *Client) Boot(ctx context.Context, ep Endpoint) (o Override, err error) {
	err = c.With(ctx, ep, func(s *Session) error {
		o, err = s.Boot(ctx)
		return err
	})
	return o, err
}

// SetBoot sets the boot override in a session of its own; see Session.SetBoot.
func (c *Client) SetBoot(ctx context.Context, ep Endpoint, o Override) error {
	return c.With(ctx, ep, func(s *Session) error { return s.SetBoot(ctx, o) })
}

// Boot reads the boot override (§28.13). One that was used up is none.
func (s *Session) Boot(ctx context.Context) (Override, error) {
	data, err := s.wire.call(ctx, request{command: types.CommandGetSystemBootOptions, data: []byte{paramBootFlags, 0, 0}})
	if err != nil {
		return Override{}, err
	}
	// Parameter version, selector, five bytes of flags.
	if len(data) < 7 || data[1]&0x7f != paramBootFlags {
		return Override{}, fmt.Errorf("get system boot options: reply % x is not boot parameter 5", data)
	}
	return parseFlags(data[2:7]), nil
}

// SetBoot sets the override and reads it back; *ReadBackError when the BMC did
// not keep it. That it is kept does not yet mean that the firmware heeds it: the
// proof is the node's DHCP request.
func (s *Session) SetBoot(ctx context.Context, o Override) error {
	flags, err := o.flags()
	if err != nil {
		return err
	}
	// First of all keep the BMC from dropping the override after 60 s.
	_, err = s.wire.call(ctx, request{command: types.CommandSetSystemBootOptions, data: []byte{paramValidBitClearing, keepForever}})
	var refused *commandError
	if errors.As(err, &refused) {
		// Not all BMCs have this parameter; on them, power must follow within 60 s.
		s.client.log().Debug("bmc does not let the expiry of boot overrides be cancelled", "node", s.ep.Node, "bmc", s.ep.Address, "error", err)
	} else if err != nil {
		return err
	}
	data := append([]byte{paramBootFlags}, flags...)
	if _, err := s.wire.call(ctx, request{command: types.CommandSetSystemBootOptions, data: data}); err != nil {
		return err
	}
	got, err := s.Boot(ctx)
	if err != nil {
		return fmt.Errorf("boot override %s was accepted, then: %w", o, err)
	}
	if want := parseFlags(flags); got != want {
		return &ReadBackError{Named: describe(s.ep), What: "boot override", Wanted: want.String(), Got: got.String()}
	}
	return nil
}
