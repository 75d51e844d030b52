package simrack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"
	"time"

	"firstlight/internal/refbmc"
)

// Redfish is a BMC that answers Redfish over TLS with a certificate of its own
// making, has state, and drives a machine. Set the fields, then call Serve.
type Redfish struct {
	Listen             string // TCP address, as "10.20.0.11:443"; port 0 takes a free one (see Ready)
	Username, Password string

	Manufacturer, Model, Serial, UUID string // of the machine; "": as the tree has it

	// Tree is a recorded service to play: a folder redfish/v1 of index.json files.
	// Its state is what the recording says until it is changed. nil: our own.
	Tree fs.FS
	// Outlets makes it a rack PDU with these outlets rather than a machine's BMC;
	// "2/A12" is A12 of the second of chained PDUs. Switched is called when one was
	// switched; nil: nobody looks.
	Outlets  []string
	Switched func(outlet string, on bool)

	Make    RedfishMake
	Machine refbmc.Machine     // nil: one that is on or off and nothing else
	Faults  RedfishFaults      // while it serves, change it with SetFaults only
	Observe func(refbmc.Event) // called as refbmc.BMC's; nil: nobody looks
	Watch   func(*http.Request)
	Ready   func(netip.AddrPort) // called once, when the socket is bound; nil: nobody waits
	Log     *slog.Logger         // nil: silent

	PlainHTTP bool

	mu          sync.Mutex // guards all below, and Faults
	docs        map[string]map[string]any
	actions     map[string]action
	system      string // path of the node's ComputerSystem
	sessions    map[string]string
	serial      int // of sessions
	answered    int // requests
	refused     int // logins in a row
	mostRefused int // refused ever was
	down        time.Time
	cert        *tls.Certificate
	ops         chan func(context.Context) // power operations, one after the other
}

// RedfishMake is how makes of BMC differ without being at fault.
type RedfishMake struct {
	OEM          string // key of Oem in the service root, as "Hpe"
	Pending      bool   // the override is written to the settings resource (AMI)
	NeedsIfMatch bool   // refuses a PATCH without an entity tag (AMI)
	EchoMode     bool   // falls back to Legacy unless the mode is sent along (Supermicro)
	ModeJob      bool   // makes a BIOS job of every mode that is written (Dell)
	FixedMode    bool   // refuses a PATCH that names the mode (HPE)
	// OutletParameter is the one of Outlet.PowerControl, and said to be; "":
	// PowerState, and not said.
	OutletParameter string
	NoPowerCycle    bool // has no PowerCycle among its reset types
}

// RedfishFaults are ways in which real BMCs misbehave.
type RedfishFaults struct {
	RevertOverride   bool          // answers 200 to the override and does not keep it
	RevertUntilReset bool          // so it does until the BMC is restarted
	IgnoreOverride   bool          // keeps it, and the machine boots its own way
	IgnoreMode       bool          // keeps the override and its mode is Legacy
	Lie              bool          // answers 204 to a reset and does nothing
	FreezeAfter      int           // answers so many requests and then none; -1: none at all; 0: all
	SessionsFull     bool          // the session table is full
	RefuseLogins     int           // answers so many good logins with 401
	RefuseRequests   int           // answers so many requests of good sessions with 401
	LockAfter        int           // locks the account after so many refused logins in a row; 0: never
	OutletDelay      time.Duration // from the answer to Outlet.PowerControl until it is done
	Slow             time.Duration // before each answer
	CutAfter         int           // answers so many requests and cuts every answer after them short; -1: all; 0: none
	DropAfter        int           // answers so many requests and closes the connection at every one after them; -1: at all; 0: none
	ForgetAfter      time.Duration // forgets the override that long after it was set; 0: never
	BaseboardDown    bool          // every HGX_ resource answers 503
	EchoPassword     bool          // repeats what was sent in the answer to a refused login

	RefusePasswords bool // takes no new password
	LosePasswords   bool // answers 204 to a new password and keeps the old one
}

const (
	sessionTable = 4
	restartTakes = 200 * time.Millisecond // of the BMC itself
	replyWithin  = 200 * time.Millisecond // of a power operation, which goes on after it
)

//go:embed redfishtree.json
var ownTree []byte

// action is one entry of a resource's Actions.
type action struct {
	kind string // "ComputerSystem.Reset"
	of   string // path of the resource
}

// SetFaults changes the faults of a BMC that serves.
func (b *Redfish) SetFaults(f RedfishFaults) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Faults, b.answered = f, 0
}

// Sessions is how many are open.
func (b *Redfish) Sessions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sessions)
}

// EndSessions forgets all sessions, as their time-out does.
func (b *Redfish) EndSessions() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.sessions)
}

// Fingerprint of its certificate, as "sha256:" and hex.
func (b *Redfish) Fingerprint() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := sha256.Sum256(b.cert.Certificate[0])
	return "sha256:" + hex.EncodeToString(sum[:])
}

// NewCertificate gives it another one, which new connections see.
func (b *Redfish) NewCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "simulated bmc"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cert = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return nil
}

// Serve binds the socket and answers until ctx ends; it then closes the socket
// and returns nil. The machine is left in the state that it is in.
func (b *Redfish) Serve(ctx context.Context) error {
	if err := b.load(); err != nil {
		return fmt.Errorf("redfish %s: %w", b.Listen, err)
	}
	if err := b.NewCertificate(); err != nil {
		return fmt.Errorf("redfish %s: certificate: %w", b.Listen, err)
	}
	l, err := net.Listen("tcp", b.Listen)
	if err != nil {
		return fmt.Errorf("redfish: %w", err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if !b.PlainHTTP {
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.cert, nil
		}})
	}
	ctx, cancel := context.WithCancel(ctx)
	b.ops = make(chan func(context.Context), 4)
	var worker sync.WaitGroup
	worker.Go(func() { // ends with ctx
		for {
			select {
			case op := <-b.ops:
				op(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	defer worker.Wait()
	defer cancel()
	srv := &http.Server{Handler: b, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(b.log().Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if b.Ready != nil {
		b.Ready(at)
	}
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("redfish %s: %w", b.Listen, err)
	}
	return nil
}

func (b *Redfish) log() *slog.Logger {
	if b.Log != nil {
		return b.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (b *Redfish) event(kind, detail string) {
	b.log().Debug("bmc event", "listen", b.Listen, "kind", kind, "detail", detail)
	if b.Observe != nil {
		b.Observe(refbmc.Event{Time: time.Now(), Kind: kind, Detail: detail})
	}
}

// load reads the tree and makes it this machine's.
func (b *Redfish) load() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.docs, b.actions, b.sessions = map[string]map[string]any{}, map[string]action{}, map[string]string{}
	var err error
	if b.Outlets != nil {
		err = b.loadPDU()
	} else if b.Tree == nil {
		err = json.Unmarshal(ownTree, &b.docs)
	} else {
		err = b.loadRecorded()
	}
	if err != nil {
		return err
	}
	for at, doc := range b.docs {
		if doc["@odata.id"] == nil && at != "/redfish" {
			doc["@odata.id"] = at
		}
		b.findActions(at, doc)
	}
	if b.Outlets != nil {
		return nil
	}
	for _, m := range members(b.docs["/redfish/v1/Systems"]) {
		if !strings.HasPrefix(path.Base(m), "HGX_") {
			b.system = m
		}
	}
	sys := b.docs[b.system]
	if sys == nil {
		return errors.New("the tree has no computer system")
	}
	for key, value := range map[string]string{"Manufacturer": b.Manufacturer, "Model": b.Model, "SerialNumber": b.Serial, "UUID": b.UUID} {
		if value != "" {
			sys[key] = value
		}
	}
	b.beOfMake(sys)
	b.addAccounts()
	if b.Machine == nil {
		b.Machine = NewBulb(sys["PowerState"] == "On")
	}
	return nil
}

// beOfMake changes the tree to what its make has.
func (b *Redfish) beOfMake(sys map[string]any) {
	if b.Make.OEM != "" {
		b.docs["/redfish/v1"]["Oem"] = map[string]any{b.Make.OEM: map[string]any{}}
	}
	if b.Make.Pending {
		pending := map[string]any{"@odata.id": b.system + "/SD", "Id": "SD", "Name": "Pending settings", "Boot": map[string]any{
			"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None", "BootSourceOverrideMode": "UEFI"}}
		b.docs[b.system+"/SD"] = pending
		sys["@Redfish.Settings"] = map[string]any{"SettingsObject": map[string]any{"@odata.id": b.system + "/SD"}}
	}
	if b.Make.NoPowerCycle {
		for _, doc := range b.docs {
			params, _ := doc["Parameters"].([]any)
			for _, p := range params {
				if p, ok := p.(map[string]any); ok && p["Name"] == "ResetType" {
					p["AllowableValues"] = []any{"On", "ForceOff", "GracefulShutdown", "ForceRestart"}
				}
			}
		}
	}
}

func (b *Redfish) loadRecorded() error {
	return fs.WalkDir(b.Tree, "redfish", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "index.json" {
			return err
		}
		raw, err := fs.ReadFile(b.Tree, name)
		if err != nil {
			return err
		}
		var doc map[string]any
		if err := json.Unmarshal(raw, &doc); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		b.docs["/"+path.Dir(name)] = doc
		return nil
	})
}

// findActions notes where the actions of a resource are posted to.
func (b *Redfish) findActions(at string, doc map[string]any) {
	all, _ := doc["Actions"].(map[string]any)
	for name, a := range all {
		if a, ok := a.(map[string]any); ok && strings.HasPrefix(name, "#") {
			if target, ok := a["target"].(string); ok {
				b.actions[target] = action{kind: name[1:], of: at}
			}
		}
	}
}

// members are the links of a collection.
func members(doc map[string]any) (out []string) {
	all, _ := doc["Members"].([]any)
	for _, m := range all {
		if m, ok := m.(map[string]any); ok {
			if at, ok := m["@odata.id"].(string); ok {
				out = append(out, strings.TrimRight(at, "/"))
			}
		}
	}
	return out
}

// bulb is a machine that is on or off.
type bulb struct {
	mu sync.Mutex
	on bool
}

// NewBulb makes a machine that is on or off and nothing else.
func NewBulb(on bool) refbmc.Machine { return &bulb{on: on} }

func (m *bulb) set(on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = on
	return nil
}

func (m *bulb) PowerOn(context.Context, refbmc.Boot) error { return m.set(true) }
func (m *bulb) PowerOff(context.Context) error             { return m.set(false) }
func (m *bulb) SoftOff(context.Context) error              { return m.set(false) }

func (m *bulb) Powered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}
