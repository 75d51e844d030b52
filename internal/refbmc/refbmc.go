// Package refbmc is a reference baseboard management controller for machines
// that have none: it answers IPMI 2.0 over LAN (RMCP+, cipher suites 3 and 17)
// and drives a Machine, so that a virtual or simulated node is powered and told
// where to boot with the same packets as a real one. ipmitool works against it.
//
// Section numbers in this package refer to the IPMI specification, second
// generation, v2.0 revision 1.1.
package refbmc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Boot is what a machine is told when it starts.
type Boot struct {
	Device     string // "pxe", "disk", or "" for the firmware's own order
	EFI        bool   // boot by UEFI rather than by the legacy BIOS
	Persistent bool   // holds for all later boots too
}

// Machine is the thing that the BMC powers. The BMC makes one call at a time,
// but for Powered, which may come at any time.
type Machine interface {
	// PowerOn starts a machine that is off; boot is only valid for this start.
	PowerOn(ctx context.Context, boot Boot) error
	// PowerOff cuts the power at once.
	PowerOff(ctx context.Context) error
	// SoftOff asks the operating system to shut down and does not wait for it.
	SoftOff(ctx context.Context) error
	// Powered says whether the machine runs now.
	Powered() bool
}

// Event is something that was done to the BMC.
type Event struct {
	Time time.Time
	// Kind is "login-attempt" (a RAKP message 1 came), "login", "login-refused",
	// "power-on", "power-off", "soft-off", "power-cycle", "reset",
	// "boot-override" or "bmc-reset".
	Kind   string
	Detail string
}

// BMC is one baseboard controller. Set the fields, then call Serve.
type BMC struct {
	Listen   string // UDP address, as "10.20.0.11:623"; port 0 takes a free one (see Ready)
	Username string // at most 16 bytes
	Password string // at most 20 bytes
	KG       string // the BMC's own key K_g, at most 20 bytes; "": it has none (§13.31)

	Suites []int // RMCP+ cipher suites that it offers; nil: 3 and 17

	Manufacturer, Product, Serial string // served in the FRU; the GUID derives from them

	Sensors   []Sensor       // numeric sensors, besides the power unit's state
	Watts     func() float64 // power drawn now, for DCMI; nil: it does not measure
	ReadLimit int            // bytes of a log record that it gives at once; 0: all

	// Console attaches to the machine's serial line, which is passed on as Serial
	// over LAN (§15) to one session at a time, of an operator or better; nil: the
	// machine has none. What it returns is closed when the session ends.
	Console func(context.Context) (io.ReadWriteCloser, error)

	// Lifetime is how long a boot override waits for a chassis control, unless
	// parameter 3 keeps it; 0: the 60 s of §28.12.
	Lifetime time.Duration

	Machine Machine
	Faults  Faults               // while it serves, change it with SetFaults only
	Observe func(Event)          // called for each event, from many goroutines; nil: nobody looks
	Ready   func(netip.AddrPort) // called once, when the socket is bound; nil: nobody waits
	Log     *slog.Logger         // nil: silent

	mu       sync.Mutex // guards Faults, boot, restarts and accounts
	boot     bootOptions
	restarts restarts
	events   eventLogStore
	accounts accounts
	now      func() time.Time // tests advance it; nil: time.Now
}

// Serve binds the socket and answers until ctx ends; it then closes the socket
// and returns nil. The machine is left in the state that it is in.
func (b *BMC) Serve(ctx context.Context) error {
	if b.Machine == nil {
		return errors.New("refbmc: no machine to drive")
	}
	if len(b.Username) > 16 || len(b.Password) > 20 || len(b.KG) > 20 {
		return fmt.Errorf("refbmc %s: user name over 16, or password or K_g over 20 bytes, the limits of IPMI 2.0 (§22.28, §22.30)", b.Listen)
	}
	if b.Log == nil {
		b.Log = slog.New(slog.DiscardHandler)
	}
	state, err := b.newState()
	if err != nil {
		return err
	}
	addr, err := net.ResolveUDPAddr("udp", b.Listen)
	if err != nil {
		return fmt.Errorf("refbmc: address %q: %w", b.Listen, err)
	}
	sock, err := net.ListenUDP("udp", addr)
	if err != nil {
		return fmt.Errorf("refbmc: %w", err)
	}

	ctx, cancel := context.WithCancel(ctx)
	power := &powerWorker{bmc: b, ops: make(chan powerOp, 4)}
	srv := server.NewServer(state, newWire(sock, b, state), server.WithHandlerRegistry(b.registry(power)))
	var worker sync.WaitGroup
	worker.Go(func() { power.run(ctx) }) // ends with ctx, waited for below
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	if b.Ready != nil {
		b.Ready(sock.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	err = srv.Serve(ctx)
	stop()
	srv.Close()
	parent := ctx.Err() // before our own cancel
	cancel()
	worker.Wait()
	if err != nil && parent == nil {
		return fmt.Errorf("refbmc %s: %w", b.Listen, err)
	}
	return nil
}

// newState makes the library's state: identity and the one user.
func (b *BMC) newState() (*bmc.BMC, error) {
	fru, err := b.fru()
	if err != nil {
		return nil, fmt.Errorf("refbmc %s: FRU: %w", b.Listen, err)
	}
	info := bmc.DeviceInfo{
		DeviceID:                0x20,
		DeviceRevision:          1,
		FirmwareMajor:           1,
		IPMIVersion:             0x02, // 2.0: the low digit is in the high nibble (§20.1)
		ManufacturerID:          0,    // "unspecified" (§20.1)
		AdditionalDeviceSupport: 0x87, // chassis, SEL, SDR repository and sensor device
	}
	suites := []types.CipherSuiteID{types.CipherSuiteID3, types.CipherSuiteID17}
	if b.Suites != nil {
		suites = nil
	}
	for _, id := range b.Suites {
		if id != 3 && id != 17 {
			return nil, fmt.Errorf("refbmc %s: cipher suite %d is not served, only 3 and 17", b.Listen, id)
		}
		suites = append(suites, types.CipherSuiteID(id))
	}
	options := []bmc.Option{bmc.WithV15Disabled(), bmc.WithCipherSuites(suites)}
	if b.KG != "" {
		options = append(options, bmc.WithKG(crypto.PadPassword20([]byte(b.KG))))
	}
	hardware := &board{fru: fruStore(fru), sdr: b.repository()}
	if b.Console != nil {
		hardware.console = serialLine{b.Console}
	}
	state := bmc.New(info, b.guid(), hardware, options...)
	sol := state.SOL.Config()
	if cc := max(sol.SetParam(solAuthentication, []byte{byte(bmc.PrivilegeLevelOperator)}), sol.SetParam(solRetry, []byte{7, 100})); cc != types.CodeOK {
		return nil, fmt.Errorf("refbmc %s: serial over LAN: %s", b.Listen, cc)
	}

	// The library starts with an enabled anonymous user.
	if err := state.Users.Update(1, func(u *bmc.User) error { u.Enabled = false; return nil }); err != nil {
		return nil, fmt.Errorf("refbmc %s: %w", b.Listen, err)
	}
	u, err := state.Users.Add(userID, b.Username)
	if err != nil {
		return nil, fmt.Errorf("refbmc %s: user %q: %w", b.Listen, b.Username, err)
	}
	u.SetPassword([]byte(b.Password))
	u.Enabled = true
	u.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelAdministrator, Enabled: true}
	b.mu.Lock()
	b.accounts.state = state
	b.mu.Unlock()
	return state, nil
}

// registry is the library's command table with the chassis commands replaced:
// its own know neither expiry nor consumption of the boot flags. Its Cold Reset is
// the machine's, not the BMC's.
func (b *BMC) registry(power *powerWorker) *handlers.Registry {
	r := handlers.NewRegistry()
	handlers.RegisterAllHandlers(r)
	r.RegisterFunc(types.CommandGetChassisStatus, b.getChassisStatus)
	r.RegisterFunc(types.CommandColdReset, b.coldReset)
	r.RegisterFunc(types.CommandChassisControl, power.chassisControl)
	r.RegisterFunc(types.CommandSetSystemBootOptions, b.setBootOptions)
	r.RegisterFunc(types.CommandGetSystemBootOptions, b.getBootOptions)
	r.RegisterFunc(types.CommandGetSELInfo, b.getSELInfo)
	r.RegisterFunc(types.CommandReserveSEL, b.reserveSEL)
	r.RegisterFunc(types.CommandGetSELEntry, b.getSELEntry)
	r.RegisterFunc(types.CommandAddSELEntry, b.addSELEntry)
	r.RegisterFunc(types.CommandClearSEL, b.clearSEL)
	r.RegisterFunc(types.CommandGetSELTime, b.getSELTime)
	r.RegisterFunc(types.CommandGetSDRRepoInfo, getRepositoryInfo(b.repository(), b.clock()))
	r.RegisterFunc(types.CommandGetSensorReading, b.getSensorReading)
	r.RegisterFunc(types.CommandGetDCMIPowerReading, b.getPowerReading)
	r.RegisterFunc(types.CommandGetSessionInfo, getSessionInfo)
	r.RegisterFunc(types.CommandGetSystemGUID, func(_ context.Context, h *handlers.HandlerContext, _ []byte) ([]byte, types.CompletionCode, error) {
		return append([]byte(nil), h.BMC.GUID[:]...), types.CodeOK, nil
	})
	return r
}

func (b *BMC) clock() time.Time {
	if b.now != nil {
		return b.now()
	}
	return time.Now()
}

func (b *BMC) event(kind, detail string) {
	b.logPower(kind)
	if b.Log != nil {
		b.Log.Debug("bmc event", "listen", b.Listen, "kind", kind, "detail", detail)
	}
	if b.Observe != nil {
		b.Observe(Event{Time: b.clock(), Kind: kind, Detail: detail})
	}
}
