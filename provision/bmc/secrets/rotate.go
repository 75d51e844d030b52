package secrets

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"firstlight/inventory"
	"firstlight/provision/bmc"
)

// BMC is what a change of password needs of one BMC. A refused login is a
// *bmc.AuthError.
type BMC interface {
	// Login logs in, once, and out.
	Login(ctx context.Context, password inventory.Secret) error
	// SetPassword logs in with the old password, calls ready when it was let in
	// and nothing is changed yet, and then sets the next one. An error of ready
	// ends it.
	SetPassword(ctx context.Context, old, next inventory.Secret, ready func() error) error
}

// Job is one account whose password is changed.
type Job struct {
	Account
	BMC BMC
	// Next makes the new password; declared: it is the declared one, so that
	// afterwards nothing needs to be kept.
	Next func() (next inventory.Secret, declared bool, err error)
	// Declared reads the declared password. It is called where none is recorded.
	Declared func() (inventory.Secret, error)
}

// What came of a job.
const (
	Changed   = "changed"
	Unchanged = "unchanged" // the old password holds: nothing was sent, or the BMC did not take it
	Unknown   = "unknown"   // it has one or the other; the next run finds out
	Refusal   = "refused"   // it accepts neither: a person must act
	Left      = "left"      // an interrupted change of others was finished first, or this one was interrupted
)

// Result is what came of one job.
type Result struct {
	Account
	Outcome string
	Resumed bool // the change was begun by an earlier run
	Err     error
}

// Rotation changes passwords.
type Rotation struct {
	Store       *Store
	Concurrency int          // BMCs at once
	Done        func(Result) // called for each job, by one goroutine at a time; nil: nobody looks
}

// settleWithin is how long a change that was begun may go on after ctx has ended.
const settleWithin = time.Minute

// Run changes the passwords of all jobs: it records what is to be, has each BMC
// set it, and logs in to see. Changes that an earlier run has left unfinished are
// finished first, and then nothing else is begun: to begin again is for the
// caller to decide. When ctx ends, what is under way is brought to its end and
// nothing new is begun.
func (r *Rotation) Run(ctx context.Context, jobs []Job) ([]Result, error) {
	book := r.Store.Book()
	entries := make([]Entry, len(jobs))
	resumed := false
	for i, j := range jobs {
		e, _ := book.Find(j.Account)
		entries[i] = e
		resumed = resumed || e.Next != "" && e.Refused == ""
	}
	if !resumed {
		if err := r.begin(jobs, entries); err != nil {
			return nil, err
		}
	}
	out := make([]Result, len(jobs))
	slots := make(chan struct{}, max(r.Concurrency, 1))
	var all sync.WaitGroup
	var telling sync.Mutex
	for i := range jobs {
		all.Go(func() { // ends with its job
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i] = r.one(ctx, jobs[i], entries[i], resumed)
			if r.Done != nil {
				telling.Lock()
				defer telling.Unlock()
				r.Done(out[i])
			}
		})
	}
	all.Wait()
	return out, nil
}

// begin records what every account is to get, before anything is sent.
func (r *Rotation) begin(jobs []Job, entries []Entry) error {
	var puts []Entry
	for i, j := range jobs {
		e := &entries[i]
		if e.Refused != "" {
			continue
		}
		if e.Address.IsValid() && e.key() != j.key() { // its BMC has another address now
			puts = append(puts, Entry{Account: e.Account})
		}
		e.Account = j.Account
		var err error
		if e.Next, e.Declared, err = j.Next(); err != nil {
			return err
		}
		puts = append(puts, *e)
	}
	if len(puts) == 0 {
		return nil
	}
	return r.Store.Put(puts...)
}

// one brings one account to its end.
func (r *Rotation) one(ctx context.Context, j Job, e Entry, resumed bool) Result {
	c := change{store: r.Store, job: j, Entry: e}
	out := Result{Account: j.Account, Outcome: Left, Resumed: resumed && e.Next != ""}
	switch {
	case e.Refused != "":
		out.Outcome, out.Err = Refusal, &Unsettled{Account: e.Account, Refused: e.Refused}
	case e.Next == "":
	case ctx.Err() != nil:
		out.Err = ctx.Err()
	default:
		out.Outcome, out.Err = c.run(ctx)
	}
	return out
}

// change is one account on its way.
type change struct {
	store *Store
	job   Job
	Entry
}

func (c *change) put() error { return c.store.Put(c.Entry) }

// old is the password from before.
func (c *change) old() (inventory.Secret, error) {
	if c.Password != "" {
		return c.Password, nil
	}
	return c.job.Declared()
}

func (c *change) run(ctx context.Context) (string, error) {
	// Once the new password may be on the BMC, it is not left there unknown.
	ctx, cancel := outlive(ctx, settleWithin)
	defer cancel()
	if c.Sent { // by an earlier run
		outcome, err := c.settle(ctx, New)
		if outcome != Unchanged || err != nil {
			return outcome, err
		}
	}
	old, err := c.old()
	if err != nil {
		return c.drop(err)
	}
	err = c.job.BMC.SetPassword(ctx, old, c.Next, func() error {
		c.Sent, c.Tried, c.NotOld, c.NotNew = true, "", false, false
		return c.put()
	})
	var refused *bmc.AuthError
	switch {
	case c.Sent:
		return c.see(ctx, err)
	case errors.As(err, &refused):
		c.Next, c.Declared, c.Refused = "", false, refused.Reason
		return Refusal, errors.Join(err, c.put())
	}
	return c.drop(err)
}

// errStillOld is a BMC that took the new password and wants the old one. There
// are some that take their time, so the new one is kept.
var errStillOld = errors.New("the bmc still wants the old password; the new one is kept: run this again in a minute, and if that changes nothing, update the bmc")

// see finds out what came of sending the new password, which ended with err.
func (c *change) see(ctx context.Context, err error) (string, error) {
	first := New
	if certain(err) { // a failed login less
		first = Old
	}
	outcome, settled := c.settle(ctx, first)
	var kept *bmc.ReadBackError
	switch {
	case outcome == Changed:
		return outcome, settled
	case outcome != Unchanged || settled != nil:
		return outcome, errors.Join(settled, err)
	case certain(err) && !errors.As(err, &kept):
		return c.drop(err)
	}
	c.Tried, c.NotOld, c.NotNew = "", false, false
	return Unknown, errors.Join(err, errStillOld, c.put())
}

// certain says that err is the BMC's own answer: nothing was lost on the way.
func certain(err error) bool {
	var silent *bmc.NoAnswerError
	return err != nil && !errors.As(err, &silent) && !bmc.MayBeDone(err) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// drop ends a change of which nothing is on the BMC.
func (c *change) drop(why error) (string, error) {
	c.Next, c.Declared, c.Sent, c.Tried, c.NotOld, c.NotNew = "", false, false, "", false, false
	return Unchanged, errors.Join(why, c.put())
}

// settle finds out which password the BMC has, with one login for each at most,
// over all runs: what was tried is recorded before it is, so that after a crash
// the other one comes first. A login that works clears the BMC's count of failed
// ones, so that there are never two in a row unless both are wrong.
func (c *change) settle(ctx context.Context, first string) (string, error) {
	second := map[string]string{Old: New, New: Old}
	if c.Tried != "" {
		first = second[c.Tried]
	}
	var last error
	for _, which := range []string{first, second[first]} {
		if which == Old && c.NotOld || which == New && c.NotNew {
			continue
		}
		has, err := c.try(ctx, which)
		switch {
		case err != nil:
			return Unknown, err
		case has == nil && which == New:
			return c.commit()
		case has == nil:
			return Unchanged, nil // it stays recorded as sent
		}
		last = has
	}
	c.Refused = "neither the old nor the new password is accepted"
	return Refusal, errors.Join(last, c.put())
}

// try logs in with one of the passwords. refused is the BMC's refusal; nil: it
// has that password. err: that could not be found out.
func (c *change) try(ctx context.Context, which string) (refused, err error) {
	password := c.Next
	if which == Old {
		if password, err = c.old(); err != nil {
			return nil, err
		}
	}
	c.Tried = which
	if err := c.put(); err != nil {
		return nil, err
	}
	err = c.job.BMC.Login(ctx, password)
	var auth *bmc.AuthError
	if !errors.As(err, &auth) {
		return nil, err
	}
	if which == Old {
		c.NotOld = true
	} else {
		c.NotNew = true
	}
	return err, c.put()
}

// commit makes the new password the one to log in with.
func (c *change) commit() (string, error) {
	c.Password = c.Next
	if c.Declared {
		c.Password = ""
	}
	c.Next, c.Declared, c.Sent, c.Tried, c.NotOld, c.NotNew = "", false, false, "", false, false
	return Changed, c.put()
}

// Retry lets accounts be tried again that were refused: a person has corrected
// them.
func (s *Store) Retry(accounts []Account) error {
	return s.edit(accounts, func(e *Entry) {
		e.Refused, e.Tried, e.NotOld, e.NotNew = "", "", false, false
	})
}

// Forget drops what is recorded of accounts, so that the declared password is
// used again.
func (s *Store) Forget(accounts []Account) error {
	return s.edit(accounts, func(e *Entry) { *e = Entry{Account: e.Account} })
}

func (s *Store) edit(accounts []Account, f func(*Entry)) error {
	book := s.Book()
	var puts []Entry
	for _, a := range accounts {
		if e, ok := book.Find(a); ok {
			f(&e)
			puts = append(puts, e)
		}
	}
	if len(puts) == 0 {
		return nil
	}
	return s.Put(puts...)
}

// outlive is a context that ends some time after ctx does.
func outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, cancel) })
	return out, func() { stop(); cancel() }
}

// The characters of made passwords: none that is taken for another one when it
// is read off a screen, and none that a shell or a web page would take amiss.
const (
	upper   = "ABCDEFGHJKLMNPQRSTUVWXYZ"
	lower   = "abcdefghijkmnpqrstuvwxyz"
	digits  = "23456789"
	special = "-_"
)

// passwordLength is what every BMC stores, by IPMI or Redfish.
const passwordLength = 16

// Generate makes a password of 16 characters, with one of each class that BMCs'
// rules ask for, and a letter in front. It has more than 80 bits.
func Generate() inventory.Secret {
	for {
		text := make([]byte, passwordLength)
		classes := []string{upper, lower, digits, special}
		count := make([]int, len(classes))
		all := upper + lower + digits + special
		for i := range text {
			from := all
			if i == 0 {
				from = upper + lower
			}
			text[i] = from[number(len(from))]
			for n, class := range classes {
				for k := range len(class) {
					if class[k] == text[i] {
						count[n]++
					}
				}
			}
		}
		if count[0] > 0 && count[1] > 0 && count[2] > 0 && count[3] > 0 {
			return inventory.Secret(text)
		}
	}
}

// number is a random one below n.
func number(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic(fmt.Sprintf("the system's randomness: %v", err)) // it never fails
	}
	return int(i.Int64())
}
