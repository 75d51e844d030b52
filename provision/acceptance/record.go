package acceptance

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Record is the proof that one node is ready: every state it passed, with the
// evidence for each.
type Record struct {
	Node      string       `json:"node"`
	Serial    string       `json:"serial"` // as declared and found
	Cluster   string       `json:"cluster"`
	Inventory string       `json:"inventory"` // digest of the declaration
	Image     string       `json:"image"`     // digest of the image that the node runs
	Notice    string       `json:"notice,omitempty"`
	Lab       bool         `json:"lab"`
	Engines   []Engine     `json:"engines"` // what the readings came from; set by Sign
	States    []StateProof `json:"states"`  // in the order of the lifecycle
	Made      time.Time    `json:"made"`
}

// StateProof is one state entered and the evidence for it.
type StateProof struct {
	State    string    `json:"state"`
	Entered  time.Time `json:"entered"`
	Seconds  float64   `json:"seconds,omitempty"` // since the state before was entered; set by Sign
	Evidence string    `json:"evidence"`          // digest of Proof as it is kept
	Proof    Evidence  `json:"proof"`
}

// LabNotice stands on the face of every lab record.
const LabNotice = "LAB: virtual or simulated machine; this record says nothing about metal"

// Required lists the states that a record must hold evidence for, in order.
func Required() []string {
	return []string{"reachable", "enrolled", "matched", "provisioned", "validated", "burned-in"}
}

// RefusedError says why no record is signed for a node, or why a signed one
// must not be believed.
type RefusedError struct {
	Node   string
	State  string // whose evidence is at fault; empty: the record as a whole
	Check  string // the check at fault, or empty
	Reason string
}

func (e *RefusedError) Error() string {
	s := "acceptance record of " + e.Node + " refused: "
	if e.State != "" {
		s += e.State + ": "
	}
	if e.Check != "" {
		s += e.Check + ": "
	}
	return s + e.Reason
}

// Check returns a *RefusedError unless the evidence for every required state
// is there, is about this node and passes, and, for metal, was read from the
// machine itself or computed on its GPUs. A burn-in that was asked for is
// computed on them.
func (r Record) Check() error {
	if r.Node == "" || r.Cluster == "" {
		return &RefusedError{Node: r.Node, Reason: "it names no node or no cluster"}
	}
	seen := map[string]bool{}
	for _, s := range r.States {
		if seen[s.State] {
			return &RefusedError{Node: r.Node, State: s.State, Reason: "two proofs of the same state"}
		}
		seen[s.State] = true
		if err := r.checkState(s); err != nil {
			return err
		}
	}
	for _, name := range Required() {
		if !seen[name] {
			return &RefusedError{Node: r.Node, State: name, Reason: "no evidence"}
		}
	}
	return nil
}

func (r Record) checkState(s StateProof) error {
	refuse := func(check, reason string) error {
		return &RefusedError{Node: r.Node, State: s.State, Check: check, Reason: reason}
	}
	switch {
	case s.Proof.Node != r.Node:
		return refuse("", fmt.Sprintf("the evidence is about %q", s.Proof.Node))
	case s.Proof.State != s.State:
		return refuse("", fmt.Sprintf("the evidence is for %q", s.Proof.State))
	case !isDigest(s.Evidence):
		return refuse("", fmt.Sprintf("evidence digest %q is not of the form sha256:<64 hex digits>", s.Evidence))
	case !r.Lab && s.Proof.Lab:
		return refuse("", "the evidence comes from a lab machine and the record is for metal")
	}
	switch s.Proof.Engine {
	case EngineNode, EngineCUDA:
	case EngineReference, EngineSimulated:
		if !r.Lab {
			return refuse("", fmt.Sprintf("its readings come from the %s engine, which proves nothing about metal", s.Proof.Engine))
		}
	default:
		return refuse("", fmt.Sprintf("unknown engine %q", s.Proof.Engine))
	}
	if len(s.Proof.Checks) == 0 {
		return refuse("", "the evidence holds no check")
	}
	if s.State == stateBurnedIn && !r.Lab && s.Proof.Engine != EngineCUDA && slices.ContainsFunc(s.Proof.Checks, func(c Check) bool { return c.Verdict != NotApplicable }) {
		return refuse("", fmt.Sprintf("GPUs are burned in by the %s engine, not by the %s engine", EngineCUDA, s.Proof.Engine))
	}
	for _, c := range s.Proof.Checks {
		if c.Verdict != Pass && c.Verdict != NotApplicable {
			return refuse(c.Name, fmt.Sprintf("%s (%s): found %s, required %s", orNone(string(c.Verdict)), c.Part, orNone(c.Reading), orNone(c.Threshold)))
		}
	}
	if v := s.Proof.Verdict(); v != Pass {
		return refuse("", fmt.Sprintf("verdict %s", v))
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// Signed is a record as it is handed over: the signature is over the record's
// compact JSON after the line "firstlight acceptance record v1".
type Signed struct {
	Record    json.RawMessage `json:"record"`
	PublicKey string          `json:"public_key"` // ed25519, base64
	Signature string          `json:"signature"`  // base64
}

const signedPrefix = "firstlight acceptance record v1\n"

// Sign checks a record, fills in its engines, durations and lab notice, and
// signs it. A record that must not be signed gives a *RefusedError.
func Sign(key ed25519.PrivateKey, r Record) (Signed, error) {
	if err := r.Check(); err != nil {
		return Signed{}, err
	}
	raw, err := r.complete().canonical()
	if err != nil {
		return Signed{}, fmt.Errorf("encode record of %s: %w", r.Node, err)
	}
	pub, _ := key.Public().(ed25519.PublicKey)
	return Signed{
		Record:    raw,
		PublicKey: base64.StdEncoding.EncodeToString(pub),
		Signature: base64.StdEncoding.EncodeToString(ed25519.Sign(key, append([]byte(signedPrefix), raw...))),
	}, nil
}

// JSON returns the signed record as it is kept, one line.
func (s Signed) JSON() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(s)
	return buf.Bytes(), err
}

func (r Record) complete() Record {
	r.Made = r.Made.UTC()
	r.Notice = ""
	if r.Lab {
		r.Notice = LabNotice
	}
	r.Engines = nil
	states := slices.Clone(r.States)
	for i := range states {
		states[i].Entered = states[i].Entered.UTC()
		states[i].Seconds = 0
		if i > 0 {
			// A proof that was sought anew may be younger than the next one's.
			states[i].Seconds = max(0, states[i].Entered.Sub(states[i-1].Entered).Seconds())
		}
		if e := states[i].Proof.Engine; !slices.Contains(r.Engines, e) {
			r.Engines = append(r.Engines, e)
		}
	}
	slices.Sort(r.Engines)
	r.States = states
	return r
}

// canonical is compact JSON with the fields in the order of the type.
func (r Record) canonical() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// ErrSignature says that a record is not what the key's owner signed.
var ErrSignature = errors.New("the signature does not match")

// Verify returns the record if pub's owner signed it and it may be believed.
// White space between JSON tokens does not matter.
func (s Signed) Verify(pub ed25519.PublicKey) (Record, error) {
	if len(pub) != ed25519.PublicKeySize {
		return Record{}, fmt.Errorf("verify record: public key of %d bytes", len(pub))
	}
	sig, err := base64.StdEncoding.DecodeString(s.Signature)
	if err != nil {
		return Record{}, fmt.Errorf("verify record: signature: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, s.Record); err != nil {
		return Record{}, fmt.Errorf("verify record: %w", err)
	}
	if !ed25519.Verify(pub, append([]byte(signedPrefix), compact.Bytes()...), sig) {
		return Record{}, fmt.Errorf("verify record: %w", ErrSignature)
	}
	var r Record
	if err := json.Unmarshal(s.Record, &r); err != nil {
		return Record{}, fmt.Errorf("verify record: %w", err)
	}
	return r, r.Check()
}

// CheckEvidence holds every proof in the record against the evidence kept
// under its digest; get returns what is kept, as journal.Evidence does.
func (r Record) CheckEvidence(get func(digest string) ([]byte, error)) error {
	for _, s := range r.States {
		raw, err := get(s.Evidence)
		if err != nil {
			return &RefusedError{Node: r.Node, State: s.State, Reason: err.Error()}
		}
		if sum := sha256.Sum256(raw); "sha256:"+hex.EncodeToString(sum[:]) != s.Evidence {
			return &RefusedError{Node: r.Node, State: s.State, Reason: "the evidence kept under " + s.Evidence + " has another digest"}
		}
		var kept Evidence
		if err := json.Unmarshal(raw, &kept); err != nil {
			return &RefusedError{Node: r.Node, State: s.State, Reason: err.Error()}
		}
		a, errA := json.Marshal(kept)
		b, errB := json.Marshal(s.Proof)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			return &RefusedError{Node: r.Node, State: s.State, Reason: "the record differs from the evidence kept under " + s.Evidence}
		}
	}
	return nil
}

func isDigest(s string) bool {
	h, ok := bytes.CutPrefix([]byte(s), []byte("sha256:"))
	if !ok || len(h) != 2*sha256.Size {
		return false
	}
	_, err := hex.DecodeString(string(h))
	return err == nil
}

const keyBlock = "FIRSTLIGHT ED25519 SEED"

// LoadOrCreateKey reads the signing key of a controller from a PEM file, and
// makes one, readable by its owner only, when there is none. A key file that
// others can read is refused.
func LoadOrCreateKey(path string) (ed25519.PrivateKey, error) {
	key, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, key, err = ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	defer os.Remove(f.Name())
	err = pem.Encode(f, &pem.Block{Type: keyBlock, Bytes: key.Seed()})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	// A link, unlike a rename, does not replace the key of another process
	// that was faster; then that one counts.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	return loadKey(path)
}

func loadKey(path string) (ed25519.PrivateKey, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("signing key %s can be read by others (mode %04o): chmod 600 it, or remove it to get a new one", path, st.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != keyBlock || len(block.Bytes) != ed25519.SeedSize {
		return nil, fmt.Errorf("signing key %s is damaged: restore it, or remove it to get a new one (records signed before then need the old public key)", path)
	}
	return ed25519.NewKeyFromSeed(block.Bytes), nil
}
