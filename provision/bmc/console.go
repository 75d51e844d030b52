package bmc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	// closeWait is how long the end of a console waits for its turn with the BMC.
	closeWait = 5 * time.Second
	solFirst  = 1 // the payload's type and instance
)

// ConsoleBusyError says that somebody else has a node's serial console.
type ConsoleBusyError struct {
	Named
	Owner string // "user 3 from 10.20.0.1", as far as the BMC tells; or ""
}

// Error names node, address, line, owner and what to do.
func (e *ConsoleBusyError) Error() string {
	owner := "another session"
	if e.Owner != "" {
		owner = e.Owner
	}
	return fmt.Sprintf("%s: %s has the console: wait, or take it over", e.Named, owner)
}

// Console is a node's serial console over LAN (§15), as a BMC passes it on. While
// it is open, all that the same Client does with the BMC goes through its session.
type Console struct {
	remote *remote
	ep     Endpoint

	mu   sync.Mutex
	err  error
	gone bool
	done chan struct{}
}

// OpenConsole opens the serial console of ep's node. sink is given what the machine
// writes, in order; it is called by the client's event loop and must not block.
// When another session has the console, it is taken over if force says so, and
// else a *ConsoleBusyError. Close must be called.
func (c *Client) OpenConsole(ctx context.Context, ep Endpoint, force bool, sink func(data []byte)) (*Console, error) {
	if err := ep.check(); err != nil {
		return nil, err
	}
	x, err := c.openConsole(ctx, ep, force, sink)
	if completion(err) == types.CodeInsufficientPrivilege && ep.privilege == 0 {
		// Many BMCs keep the console for administrators. The password was right, so
		// that asking again locks nothing.
		ep.privilege = types.PrivilegeLevelAdministrator
		x, err = c.openConsole(ctx, ep, force, sink)
	}
	if err != nil {
		return nil, explain(ep, err)
	}
	return x, nil
}

func (c *Client) openConsole(ctx context.Context, ep Endpoint, force bool, sink func([]byte)) (*Console, error) {
	r, err := openRemote(ctx, c.start(), ep, c.timeout())
	if err != nil {
		return nil, err
	}
	x := &Console{remote: r, ep: ep, done: make(chan struct{})}
	if err := x.activate(ctx, force, sink); err != nil {
		r.engine.post(func() { r.v.line = nil })
		r.close()
		return nil, err
	}
	return x, nil
}

// activate has the BMC start the payload. What the machine writes may come before
// the BMC's answer does.
func (x *Console) activate(ctx context.Context, force bool, sink func([]byte)) error {
	const secured = 0xc0 // encrypted and authenticated
	r := x.remote
	l := &line{serial: serial{most: solMost}, sink: sink, over: x.over}
	err := r.wait(ctx, func(done chan<- error) {
		if r.v.host != nil {
			done <- errors.New("its console is open already")
			return
		}
		r.v.line = l
		done <- nil
	})
	if err != nil {
		return err
	}
	activate := request{command: types.CommandActivatePayload, data: []byte{solFirst, solFirst, secured, 0, 0, 0}}
	data, err := r.call(ctx, activate)
	if completion(err) == types.CodeActivatePayloadAlreadyActive {
		var ours bool
		var owner string
		if ours, owner, err = x.owner(ctx); err != nil {
			return err
		}
		switch {
		case ours: // the BMC got the request twice
		case !force:
			return &ConsoleBusyError{Named: describe(x.ep), Owner: owner}
		default:
			if _, err = r.call(ctx, request{command: types.CommandDeactivatePayload, data: []byte{solFirst, solFirst, 0, 0, 0, 0}}); err != nil {
				return err
			}
			data, err = r.call(ctx, activate)
		}
	}
	if err != nil {
		return explainSOL(err)
	}
	most, err := solLimits(data, x.ep.Address)
	if err != nil {
		return err
	}
	return r.wait(ctx, func(done chan<- error) {
		l.most = most
		r.v.console()
		done <- nil
	})
}

// solLimits reads the reply to Activate Payload (§24.1): how many characters a
// packet to the BMC may have.
func solLimits(data []byte, addr netip.AddrPort) (most int, err error) {
	if len(data) < 10 {
		return solMost, nil // it says nothing, or it is the answer to another command
	}
	most = int(binary.LittleEndian.Uint16(data[4:])) - solHeader
	if most < 1 {
		most = 16
	}
	if port := binary.LittleEndian.Uint16(data[8:]); port != addr.Port() && port != 0 && port != 623 {
		return 0, fmt.Errorf("the bmc passes its console on at UDP port %d, and only that of its other sessions is supported", port)
	}
	return min(most, solMost), nil
}

// explainSOL says what refusals of Activate Payload mean (§24.1).
func explainSOL(err error) error {
	switch completion(err) {
	case types.CodeActivatePayloadTypeDisabled, types.CodeInvalidCommand:
		return errors.New("the bmc has no serial console over LAN, or it is disabled: enable SOL on the bmc, and the serial console in the node's firmware")
	case types.CodeActivatePayloadCannotActivateWithEncryption:
		return errors.New("the bmc refuses an encrypted console, and no other is opened: allow encryption for SOL on the bmc")
	}
	return err
}

// owner asks who has the console: Get Payload Instance Info (§24.4) names the
// session, and Get Session Info (§22.20) its user.
func (x *Console) owner(ctx context.Context) (ours bool, who string, err error) {
	const bySessionID = 0xff
	data, err := x.remote.call(ctx, request{command: types.CommandGetPayloadInstanceInfo, data: []byte{solFirst, solFirst}})
	if completion(err) != types.CodeOK || err == nil && len(data) < 4 {
		return false, "", nil
	}
	if err != nil {
		return false, "", err
	}
	if binary.LittleEndian.Uint32(data) == x.remote.v.bmcID {
		return true, "", nil
	}
	info, err := x.remote.call(ctx, request{command: types.CommandGetSessionInfo, data: append([]byte{bySessionID}, data[:4]...)})
	if completion(err) != types.CodeOK {
		return false, "", nil
	}
	return false, sessionUser(info), err
}

// sessionUser is as "user 3 from 10.20.0.1", as far as the reply to Get Session
// Info tells.
func sessionUser(info []byte) string {
	if len(info) < 4 {
		return ""
	}
	who := fmt.Sprintf("user %d", info[3]&0x3f)
	if len(info) >= 10 {
		who += " from " + address(info[6:]).String()
	}
	return who
}

// over is called by the event loop when the console has ended.
func (x *Console) over(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.gone {
		x.gone, x.err = true, err
		close(x.done)
	}
}

// Done is closed when the console has ended; Err says why.
func (x *Console) Done() <-chan struct{} { return x.done }

// Err is why the console has ended; nil after Close, and while it is open.
func (x *Console) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == nil {
		return nil
	}
	return explain(x.ep, x.err)
}

// Write types p on the machine. It does not wait for the BMC to take it.
func (x *Console) Write(p []byte) (int, error) {
	typed := append([]byte(nil), p...)
	return len(p), x.post(func(l *line) { l.queue = append(l.queue, typed...) })
}

// Break sends a serial break, which Linux takes as the first half of a SysRq.
func (x *Console) Break() error { return x.post(func(l *line) { l.breaks++ }) }

func (x *Console) post(f func(*line)) error {
	select {
	case <-x.done:
		if err := x.Err(); err != nil {
			return err
		}
		return fmt.Errorf("%s: the console is closed", x.ep)
	default:
	}
	v := x.remote.v
	x.remote.engine.post(func() {
		if v.line != nil {
			f(v.line)
			v.tend()
		}
	})
	return nil
}

// Close gives the console back and ends its session, in its turn with what else is
// done with the BMC, or after some seconds at once.
func (x *Console) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	v, e := x.remote.v, x.remote.engine
	ep := x.ep
	if turn, err := openRemote(ctx, e, ep, closeWait); err == nil {
		if turn.v.host == v {
			e.post(func() {
				if v.line != nil {
					v.line.quit = true
				}
			})
			_, _ = turn.call(ctx, request{command: types.CommandDeactivatePayload, data: []byte{solFirst, solFirst, 0, 0, 0, 0}})
		}
		closed := make(chan struct{})
		e.post(func() {
			if v.line == nil || v.phase != phaseReady {
				close(closed)
				return
			}
			v.unplug(nil)
			v.close(func() { close(closed) })
		})
		<-closed
		turn.close()
	}
	e.post(func() { v.hang(nil) })
	<-x.done
}
