package acceptance

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// store files evidence as the journal does.
type store map[string][]byte

func (s store) put(t *testing.T, e Evidence) string {
	t.Helper()
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	s[digest] = raw
	return digest
}

func (s store) get(digest string) ([]byte, error) {
	raw, ok := s[digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return raw, nil
}

func goodRecord(t *testing.T, s store, lab bool) Record {
	t.Helper()
	r := Record{Node: "hnode001", Serial: "SN-0001", Cluster: "rack-a", Inventory: "sha256:" + strings.Repeat("1", 64),
		Image: "sha256:" + strings.Repeat("2", 64), Lab: lab, Made: start.Add(time.Hour)}
	for i, state := range Required() {
		at := start.Add(time.Duration(i*i) * 10 * time.Second)
		e := Evidence{Node: r.Node, State: state, Time: at, Engine: EngineNode, Lab: lab, Checks: []Check{
			{Name: state + ".check", Verdict: Pass, Reading: "<32>", Threshold: "32", Source: "nodes.hcl:12", Part: "DIMMs"},
			{Name: state + ".other", Verdict: NotApplicable, Reading: "none", Threshold: "none declared"},
		}}
		if state == stateBurnedIn {
			e.Engine = EngineCUDA
		}
		r.States = append(r.States, StateProof{State: state, Entered: at, Evidence: s.put(t, e), Proof: e})
	}
	return r
}

func testKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func TestSignVerify(t *testing.T) {
	key, kept := testKey(t), store{}
	for _, lab := range []bool{false, true} {
		want := goodRecord(t, kept, lab)
		signed, err := Sign(key, want)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := signed.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var pretty bytes.Buffer // somebody formats the file
		if err := json.Indent(&pretty, raw, "", "   "); err != nil {
			t.Fatal(err)
		}
		var read Signed
		if err := json.Unmarshal(pretty.Bytes(), &read); err != nil {
			t.Fatal(err)
		}
		got, err := read.Verify(public(key))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.complete(), got); diff != "" {
			t.Errorf("Verify(Sign(r)) (-want +got):\n%s", diff)
		}
		if err := got.CheckEvidence(kept.get); err != nil {
			t.Error(err)
		}
		if (got.Notice == LabNotice) != lab {
			t.Errorf("lab %v: notice %q", lab, got.Notice)
		}
		if got.States[2].Seconds != 30 {
			t.Errorf("matched took %v s; want 30", got.States[2].Seconds)
		}
		again, err := Sign(key, want)
		if diff := cmp.Diff(signed, again); diff != "" || err != nil {
			t.Errorf("signing twice differs: %v\n%s", err, diff)
		}
	}
}

func TestVerifyRefusesChanges(t *testing.T) {
	key := testKey(t)
	signed, err := Sign(key, goodRecord(t, store{}, true))
	if err != nil {
		t.Fatal(err)
	}
	for old, new := range map[string]string{`"lab":true`: `"lab":false`, "SN-0001": "SN-0002", `"pass"`: `"not-run"`} {
		changed := signed
		changed.Record = bytes.Replace(signed.Record, []byte(old), []byte(new), 1)
		if bytes.Equal(changed.Record, signed.Record) {
			t.Fatalf("%s is not in the record", old)
		}
		if _, err := changed.Verify(public(key)); !errors.Is(err, ErrSignature) {
			t.Errorf("Verify with %s for %s = %v; want ErrSignature", new, old, err)
		}
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	if _, err := signed.Verify(public(other)); !errors.Is(err, ErrSignature) {
		t.Errorf("Verify with another key = %v; want ErrSignature", err)
	}
	if _, err := signed.Verify(nil); err == nil {
		t.Error("Verify without a key succeeded")
	}
}

func TestSignRefuses(t *testing.T) {
	cases := []struct {
		name   string
		lab    bool
		change func(*Record)
		want   string
	}{
		{"state missing", false, func(r *Record) { r.States = append(r.States[:2:2], r.States[3:]...) }, "matched: no evidence"},
		{"nothing at all", false, func(r *Record) { r.States = nil }, "reachable: no evidence"},
		{"failed check", false, func(r *Record) { r.States[2].Proof.Checks[0].Verdict = Fail }, "matched: matched.check: fail (DIMMs): found <32>, required 32"},
		{"not run", false, func(r *Record) { r.States[5].Proof.Checks[1].Verdict = NotRun }, "burned-in: burned-in.other: not-run"},
		{"not run in a lab", true, func(r *Record) { r.States[5].Proof.Checks[1].Verdict = NotRun }, "burned-in: burned-in.other: not-run"},
		{"no verdict", false, func(r *Record) { r.States[1].Proof.Checks[0].Verdict = "" }, "enrolled: enrolled.check"},
		{"invented verdict", false, func(r *Record) { r.States[1].Proof.Checks[0].Verdict = "passed" }, "passed"},
		{"no checks", false, func(r *Record) { r.States[0].Proof.Checks = nil }, "reachable: the evidence holds no check"},
		{"simulated for metal", false, func(r *Record) { r.States[4].Proof.Engine = EngineSimulated }, "validated: its readings come from the simulated engine"},
		{"reference for metal", false, func(r *Record) { r.States[5].Proof.Engine = EngineReference }, "burned-in: its readings come from the reference engine"},
		{"burned in by no GPU", false, func(r *Record) { r.States[5].Proof.Engine = EngineNode }, "burned-in: GPUs are burned in by the cuda engine, not by the node engine"},
		{"no engine", false, func(r *Record) { r.States[5].Proof.Engine = "" }, `unknown engine ""`},
		{"lab evidence for metal", false, func(r *Record) { r.States[3].Proof.Lab = true }, "provisioned: the evidence comes from a lab machine"},
		{"another node's evidence", false, func(r *Record) { r.States[3].Proof.Node = "hnode002" }, `about "hnode002"`},
		{"another state's evidence", false, func(r *Record) { r.States[3].Proof.State = "ready" }, `for "ready"`},
		{"twice the same state", false, func(r *Record) { r.States = append(r.States, r.States[0]) }, "two proofs"},
		{"no digest", false, func(r *Record) { r.States[0].Evidence = "" }, "evidence digest"},
		{"no node", false, func(r *Record) { r.Node = "" }, "names no node"},
	}
	for _, c := range cases {
		r := goodRecord(t, store{}, c.lab)
		c.change(&r)
		_, err := Sign(testKey(t), r)
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Sign = %v; want *RefusedError with %q", c.name, err, c.want)
		}
	}
	r := goodRecord(t, store{}, true)
	r.States[5].Proof.Engine = EngineSimulated
	signed, err := Sign(testKey(t), r)
	if err != nil {
		t.Fatalf("lab record with simulated evidence: %v", err)
	}
	if !strings.Contains(string(signed.Record), `"engines":["node","simulated"]`) || !strings.Contains(string(signed.Record), LabNotice) {
		t.Errorf("lab record does not name its engines or does not say LAB: %s", signed.Record)
	}
}

func TestCheckEvidence(t *testing.T) {
	kept := store{}
	r := goodRecord(t, kept, false)
	r.States[0].Proof.Checks = append([]Check(nil), r.States[0].Proof.Checks...)
	r.States[0].Proof.Checks[0].Reading = "64"
	if err := r.CheckEvidence(kept.get); err == nil || !strings.Contains(err.Error(), "differs from the evidence kept") {
		t.Errorf("CheckEvidence of an altered proof = %v", err)
	}
	r = goodRecord(t, kept, false)
	kept[r.States[1].Evidence] = []byte("{}")
	if err := r.CheckEvidence(kept.get); err == nil || !strings.Contains(err.Error(), "has another digest") {
		t.Errorf("CheckEvidence of an altered file = %v", err)
	}
	delete(kept, r.States[0].Evidence)
	if err := r.CheckEvidence(kept.get); err == nil || !strings.Contains(err.Error(), "reachable") {
		t.Errorf("CheckEvidence without the file = %v", err)
	}
}

func TestLoadOrCreateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "signing.pem")
	first, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: mode %v, %v; want 0600", st.Mode(), err)
	}
	second, err := LoadOrCreateKey(path)
	if err != nil || !first.Equal(second) {
		t.Errorf("second load: %v; want the same key", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), "can be read by others") {
		t.Errorf("key with mode 0644: %v; want it refused", err)
	}
	if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("damaged key: %v; want its path", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
