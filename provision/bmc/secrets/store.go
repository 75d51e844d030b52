package secrets

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"firstlight/inventory"
)

// Account is a user of a BMC.
type Account struct {
	Node     string // the node's name
	Address  netip.Addr
	Port     uint16 // 0: its protocol's own, so that an account is one by IPMI and Redfish
	Username string
}

// Entry is what is known of one account's password. It is written before each
// step of a change, so that after a crash at any point it says what the BMC can
// have: the old password, or, once it was sent, the new one too.
type Entry struct {
	Account
	Password inventory.Secret // what the BMC has; "": the declared one
	Next     inventory.Secret // what it is to get; "": no change is under way
	Declared bool             // Next is the declared one, and is not kept here
	Sent     bool             // Next may be on the BMC
	Tried    string           // Old or New: a login with it was begun, and its end was not recorded
	NotOld   bool             // the BMC has refused the old one since the change began
	NotNew   bool             // and the new one
	Refused  string           // why nothing is tried again before a person has acted; "" for none
	Changed  time.Time
}

// Old and New are the two passwords that a BMC can have while one is changed.
const (
	Old = "old"
	New = "new"
)

// Unsettled is the error of an account that must not be logged in to: which
// password it has is not known, or none is accepted.
type Unsettled struct {
	Account
	Refused string // "" while a change was interrupted
}

// Error says what to do.
func (e *Unsettled) Error() string {
	if e.Refused != "" {
		return fmt.Sprintf("its password was refused (%s): correct it, then run `firstlight bmc rotate -retry -target %s`, or `-forget` to go by the declared password again", e.Refused, e.Node)
	}
	return fmt.Sprintf("a change of its password was interrupted: finish it with `firstlight bmc rotate -target %s`", e.Node)
}

// Current is the password to log in with: the recorded one, or "" for the
// declared one.
func (e Entry) Current() (inventory.Secret, error) {
	if e.Refused != "" || e.Next != "" && e.Sent {
		return "", &Unsettled{Account: e.Account, Refused: e.Refused}
	}
	return e.Password, nil
}

// gone says that there is nothing to know but what is declared.
func (e Entry) gone() bool { return e.Password == "" && e.Next == "" && e.Refused == "" }

// line is an Entry in the file, where secrets are plain text.
type line struct {
	Node     string     `json:"node"`
	Address  netip.Addr `json:"address"`
	Port     uint16     `json:"port,omitempty"`
	Username string     `json:"username"`
	Password string     `json:"password,omitempty"`
	Next     string     `json:"next,omitempty"`
	Declared bool       `json:"declared,omitempty"`
	Sent     bool       `json:"sent,omitempty"`
	Tried    string     `json:"tried,omitempty"`
	NotOld   bool       `json:"not_old,omitempty"`
	NotNew   bool       `json:"not_new,omitempty"`
	Refused  string     `json:"refused,omitempty"`
	Changed  time.Time  `json:"changed"`
}

func (e Entry) line() line {
	return line{e.Node, e.Address, e.Port, e.Username, e.Password.Reveal(), e.Next.Reveal(), e.Declared, e.Sent, e.Tried, e.NotOld, e.NotNew, e.Refused, e.Changed}
}

func (l line) entry() Entry {
	return Entry{Account{l.Node, l.Address, l.Port, l.Username}, inventory.Secret(l.Password), inventory.Secret(l.Next),
		l.Declared, l.Sent, l.Tried, l.NotOld, l.NotNew, l.Refused, l.Changed}
}

// key is what an account is known by: a node may get another name, and both
// protocols have one table of users.
type key struct {
	address  netip.Addr
	port     uint16
	username string
}

func (a Account) key() key { return key{a.Address, a.Port, a.Username} }

// Book is what the file says of all accounts.
type Book map[key]Entry

// Find returns what is known of an account, found by the BMC's address or, for
// one that has moved, by its node's name.
func (b Book) Find(a Account) (Entry, bool) {
	if e, ok := b[a.key()]; ok {
		return e, true
	}
	var last Entry
	for _, e := range b {
		if e.Node == a.Node && e.Username == a.Username && !e.Changed.Before(last.Changed) {
			last = e
		}
	}
	return last, last.Address.IsValid()
}

// Entries are all entries, by node and user.
func (b Book) Entries() []Entry {
	out := make([]Entry, 0, len(b))
	for _, e := range b {
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool {
		x, y := out[i], out[j]
		return cmp.Or(cmp.Compare(x.Node, y.Node), cmp.Compare(x.Username, y.Username), x.Address.Compare(y.Address), cmp.Compare(x.Port, y.Port)) < 0
	})
	return out
}

// Read reads the file; one that is not there is empty. A last line that a crash
// cut short was never relied on and is left out.
func Read(file string) (Book, error) {
	f, err := os.Open(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Book{}, nil
	case err != nil:
		return nil, err
	}
	defer f.Close()
	if err := private(f); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	book, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup", file, err)
	}
	return book, nil
}

// parse reads the lines: of an account the last one counts.
func parse(text []byte) (Book, error) {
	book := Book{}
	for n := 1; ; n++ {
		raw, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return book, nil
		}
		text = rest
		var l line
		if err := json.Unmarshal(raw, &l); err != nil || !l.Address.IsValid() {
			return nil, fmt.Errorf("line %d is damaged", n) // the cause would quote it
		}
		e := l.entry()
		if book[e.key()] = e; e.gone() {
			delete(book, e.key())
		}
	}
}

// Store is the file while passwords are changed. One process at a time may hold
// it: the journal's lock sees to that. It serves many goroutines.
type Store struct {
	path string

	mu      sync.Mutex
	file    *os.File
	book    Book
	written int // puts that are in the file
	synced  int // and on the disk
	syncing *sync.Cond
	busy    bool // somebody syncs
	failed  error

	crash func(point string) // tests end the process here; nil: nobody does
}

// Open reads the file for changing, and leaves in it what counts.
func Open(path string) (*Store, error) {
	book, err := Read(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, book: book}
	s.syncing = sync.NewCond(&s.mu)
	return s, s.rewrite()
}

// rewrite replaces the file by one line for each account, and opens it.
func (s *Store) rewrite() error {
	var text bytes.Buffer
	for _, e := range s.book.Entries() {
		if err := appendLine(&text, e); err != nil {
			return err
		}
	}
	dir := filepath.Dir(s.path)
	tmp, err := os.CreateTemp(dir, ".bmc-passwords-*") // its mode is 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it is renamed
	_, err = tmp.Write(text.Bytes())
	if err := errors.Join(err, tmp.Sync()); err != nil {
		tmp.Close()
		return err
	}
	if err := os.Rename(tmp.Name(), s.path); err != nil {
		tmp.Close()
		return err
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file = tmp // goes on at its end
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func appendLine(to *bytes.Buffer, e Entry) error {
	raw, err := json.Marshal(e.line())
	to.Write(append(raw, '\n'))
	return err
}

// Book is a copy of what is known now.
func (s *Store) Book() Book {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(Book, len(s.book))
	for k, e := range s.book {
		out[k] = e
	}
	return out
}

// Put records entries, as one. They are on the disk when it returns. Puts of
// several goroutines share a sync. After an error no more are taken: what is on
// the disk is not known.
func (s *Store) Put(entries ...Entry) error {
	var text bytes.Buffer
	for i := range entries {
		entries[i].Changed = time.Now().UTC().Truncate(time.Second)
		if err := appendLine(&text, entries[i]); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	s.at("write")
	if _, err := s.file.Write(text.Bytes()); err != nil {
		s.failed = fmt.Errorf("%s: %w", s.path, err)
		return s.failed
	}
	s.written++
	mine := s.written
	for _, e := range entries {
		if s.book[e.key()] = e; e.gone() {
			delete(s.book, e.key())
		}
	}
	for s.synced < mine && s.failed == nil {
		if s.busy {
			s.syncing.Wait()
			continue
		}
		s.sync()
	}
	s.at("written")
	return s.failed
}

// sync brings what is written to the disk, with the lock open meanwhile.
func (s *Store) sync() {
	s.busy = true
	all, file := s.written, s.file
	s.mu.Unlock()
	err := file.Sync()
	s.mu.Lock()
	s.busy = false
	if err != nil {
		s.failed = fmt.Errorf("%s: %w", s.path, err)
	} else {
		s.synced = all
	}
	s.syncing.Broadcast()
}

func (s *Store) at(point string) {
	if s.crash != nil {
		s.crash(point)
	}
}

// Close leaves in the file what counts: passwords that no BMC has any more are
// gone from it. A file that says nothing is removed.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return errors.Join(s.failed, s.file.Close())
	}
	if len(s.book) == 0 {
		return errors.Join(s.file.Close(), os.Remove(s.path))
	}
	return errors.Join(s.rewrite(), s.file.Close())
}
