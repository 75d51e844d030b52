package refbmc

import "github.com/bougou/go-ipmi/pkg/bmc"

// userID is the slot of the one user.
const userID = 2

// accounts is what the BMC remembers of logins, and the library's state.
type accounts struct {
	state   *bmc.BMC
	failed  int              // logins in a row
	most    int              // failed ever was
	counted map[[4]byte]bool // consoles' sessions whose login failed: a message may come twice
}

// Accepts says whether the user's password is that one now, and the account not
// locked: Set User Password changes it.
func (b *BMC) Accepts(password string) bool {
	b.mu.Lock()
	state, locked := b.accounts.state, b.locked()
	b.mu.Unlock()
	if state == nil {
		return password == b.Password
	}
	u, err := state.Users.Get(userID)
	return err == nil && u.Enabled && !locked && u.VerifyPassword([]byte(password))
}

// locked says whether LockAfter has come to pass. Its caller holds mu.
func (b *BMC) locked() bool {
	return b.Faults.LockAfter > 0 && b.accounts.failed >= b.Faults.LockAfter
}

// MostFailed is the longest row of failed logins there was.
func (b *BMC) MostFailed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accounts.most
}

// EndSessions ends all sessions, as their time-out does.
func (b *BMC) EndSessions() {
	b.mu.Lock()
	state, sessions := b.accounts.state, b.restarts.sessions
	b.restarts.sessions = nil
	b.mu.Unlock()
	for id := range sessions {
		_ = state.Sessions.Close(id) // most are closed already
	}
}

// loginFailed counts, once for a console's session and not beyond the lock, and
// returns how many have failed in a row.
func (b *BMC) loginFailed(console [4]byte) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.accounts
	if a.counted[console] || b.locked() {
		return a.failed
	}
	if a.counted == nil {
		a.counted = map[[4]byte]bool{}
	}
	a.counted[console] = true
	a.failed++
	a.most = max(a.most, a.failed)
	return a.failed
}

func (b *BMC) loggedIn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accounts.failed = 0
}
