package refbmc

import (
	"context"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

// restartTakes is how long the BMC answers nothing while it restarts. Real ones
// take a minute.
const restartTakes = 200 * time.Millisecond

// restarts is the state behind Cold Reset.
type restarts struct {
	due      bool      // once the reply is on its way
	down     time.Time // it answers nothing until then
	sessions map[uint32]bool
}

// coldReset is Cold Reset (§20.2), which is an administrator's.
func (b *BMC) coldReset(_ context.Context, h *handlers.HandlerContext, _ []byte) ([]byte, types.CompletionCode, error) {
	if h.Session == nil || h.Session.PrivilegeLevel < bmc.PrivilegeLevelAdministrator {
		return nil, types.CodeInsufficientPrivilege, nil
	}
	b.event("bmc-reset", "by "+h.User.Name)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.restarts.due = !b.Faults.IgnoreReset
	return nil, types.CodeOK, nil
}

// opened notes a session that a restart will end.
func (b *BMC) opened(id uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.restarts.sessions == nil {
		b.restarts.sessions = map[uint32]bool{}
	}
	b.restarts.sessions[id] = true
}

// restartIfDue begins the restart that was asked for: sessions end, and so does
// what a restart mends. Boot flags and the machine's power stay as they are.
func (b *BMC) restartIfDue(state *bmc.BMC) {
	b.mu.Lock()
	if !b.restarts.due {
		b.mu.Unlock()
		return
	}
	sessions := b.restarts.sessions
	b.restarts = restarts{down: b.clock().Add(restartTakes)}
	b.Faults.RevertUntilReset = false
	b.mu.Unlock()
	for id := range sessions {
		_ = state.Sessions.Close(id) // most are closed already
	}
}

// deaf says that the BMC answers nothing now.
func (b *BMC) deaf() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Faults.Silent || b.clock().Before(b.restarts.down)
}
