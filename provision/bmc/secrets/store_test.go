package secrets

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func entry(n int) Entry {
	return Entry{Account: Account{fmt.Sprintf("n%d", n), netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 0, "admin"}, Password: planted}
}

// TestStore: the file is its owner's only, holds what was put, and what its last
// line lost in a crash was never relied on.
func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwords")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			if err := s.Put(entry(n)); err != nil {
				t.Error(err)
			}
			if book, err := Read(path); err != nil || book[entry(n).key()].Password != planted {
				t.Errorf("entry %d is not in the file after Put: %v", n, err)
			}
		})
	}
	all.Wait()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil || strings.Count(string(whole), "\n") != 50 {
		t.Fatalf("%d lines, %v; want 50", strings.Count(string(whole), "\n"), err)
	}
	for cut := 1; cut < 40; cut++ {
		if book, err := parse(whole[:len(whole)-cut]); err != nil || len(book) != 49 {
			t.Errorf("%d bytes short: %d entries, %v; want 49", cut, len(book), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReadDamaged: a file that cannot be trusted is refused, and not quoted.
func TestReadDamaged(t *testing.T) {
	good := `{"node":"a","address":"10.0.0.1","username":"admin","password":"` + planted + `"}` + "\n"
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"no JSON", good + `{"password":"` + planted + "\n", 0o600, "line 2 is damaged; restore it from a backup"},
		{"no address", `{"password":"` + planted + `"}` + "\n", 0o600, "line 1 is damaged"},
		{"others can read it", good, 0o644, "chmod 600 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(put(t, "passwords", c.text, c.mode))
			checkError(t, err, c.want)
			_, err = Open(put(t, "passwords", c.text, c.mode))
			checkError(t, err, c.want)
		})
	}
}

// TestSecretsDoNotPrint: neither entries nor errors about them show a password.
func TestSecretsDoNotPrint(t *testing.T) {
	e := entry(1)
	e.Next, e.Sent = planted, true
	_, err := e.Current()
	checkError(t, err, "a change of its password was interrupted: finish it with `firstlight bmc rotate -target n1`")
	for _, text := range []string{fmt.Sprint(e), fmt.Sprintf("%v %+v", e, e), fmt.Sprintf("%#v", e)} {
		if strings.Contains(text, planted) {
			t.Errorf("%s shows the secret", text)
		}
	}
	e.Refused = "wrong user name or password"
	_, err = e.Current()
	var unsettled *Unsettled
	if !errors.As(err, &unsettled) {
		t.Errorf("Current: %v", err)
	}
	checkError(t, err, "-retry -target n1", "-forget")
}

// FuzzParse: a damaged file gives an error or entries, and is never quoted.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"node":"a","address":"10.0.0.1","username":"admin","password":"` + planted + `","next":"x","sent":true}` + "\n"))
	f.Add([]byte("{\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		book, err := parse(text)
		if err != nil {
			return
		}
		for _, e := range book.Entries() {
			if e.gone() || !e.Address.IsValid() {
				t.Errorf("entry %+v", e)
			}
			if found, ok := book.Find(e.Account); !ok || found.Password != e.Password {
				t.Errorf("Find(%+v) does not find it", e.Account)
			}
		}
	})
}
