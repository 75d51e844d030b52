package bmc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/types"

	"firstlight/inventory"
)

// shortPassword is what every BMC takes; longer ones are stored as 20 bytes and
// are known to IPMI 2.0 only (§22.30).
const shortPassword = 16

// SetPassword gives ep's own user another password, in a session of its own,
// and has the BMC compare it with what it stored. That it lets us in with it is
// for the caller to see. ready is called when ep's password was let in and nothing
// is changed yet, and its error ends it; after an error that comes later the BMC
// may have either password. The user must be an administrator.
func (c *Client) SetPassword(ctx context.Context, ep Endpoint, password inventory.Secret, ready func() error) error {
	to := ep
	to.Password = password
	if err := to.check(); err != nil {
		return err
	}
	ep.privilege = types.PrivilegeLevelAdministrator
	return c.With(ctx, ep, func(s *Session) error { return s.setPassword(ctx, password, ready) })
}

// setPassword sets and compares by Set User Password (§22.30), which may reach the
// BMC twice without harm.
func (s *Session) setPassword(ctx context.Context, password inventory.Secret, ready func() error) error {
	id, err := s.userID(ctx)
	if err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	e := s.client.start()
	e.post(func() { e.unlatch(s.ep.Address, s.ep.Username) })
	if err := s.writePassword(ctx, id, app.PasswordOperationSetPassword, password); err != nil {
		return err
	}
	err = s.writePassword(ctx, id, app.PasswordOperationTestPassword, password)
	var refused *commandError
	switch {
	case errors.As(err, &refused) && (refused.code == types.CodeSetUserPasswordDataMismatch || refused.code == types.CodeSetUserPasswordWrongSize):
		return &ReadBackError{Named: describe(s.ep), What: "password", Wanted: "as given", Got: "another one"}
	case err != nil && refused == nil:
		return err
	case len(password) > shortPassword:
		return s.notCut(ctx, id, password)
	}
	return nil // or it does not compare: the next login tells
}

// notCut holds that the BMC has kept all of a long password. There are some that
// drop what is behind the sixteenth byte and say nothing, ipmi_sim among them:
// then the old one is put back.
func (s *Session) notCut(ctx context.Context, id uint8, password inventory.Secret) error {
	err := s.writePassword(ctx, id, app.PasswordOperationTestPassword, password[:shortPassword])
	var refused *commandError
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	if refused != nil {
		return nil
	}
	if err := s.writePassword(ctx, id, app.PasswordOperationSetPassword, s.ep.Password); err != nil {
		return fmt.Errorf("it has kept only the first %d bytes of the new password, and the old one cannot be put back: %w", shortPassword, err)
	}
	return fmt.Errorf("it keeps only the first %d bytes of a password, so the old one was put back: give it one of %d bytes or less", shortPassword, shortPassword)
}

// writePassword is Set User Password: op says whether it sets or compares.
func (s *Session) writePassword(ctx context.Context, id uint8, op app.PasswordOperation, password inventory.Secret) error {
	req := app.SetUserPasswordRequest{UserID: id, Operation: op, Password: password.Reveal(), Stored20: len(password) > shortPassword}
	_, err := s.wire.call(ctx, request{command: req.Command(), data: req.Pack()})
	return err
}

// userID finds the session's own user (§22.27, §22.29).
func (s *Session) userID(ctx context.Context) (uint8, error) {
	const thisChannel = 0x0e
	access, err := s.wire.call(ctx, request{command: types.CommandGetUserAccess, data: []byte{thisChannel, 1}})
	if err != nil {
		return 0, err
	}
	if len(access) < 4 {
		return 0, fmt.Errorf("get user access: reply of %d bytes is too short", len(access))
	}
	var found []uint8
	for id := uint8(1); id <= access[0]&0x3f; id++ {
		name, err := s.wire.call(ctx, request{command: types.CommandGetUsername, data: []byte{id}})
		var none *commandError
		switch {
		case errors.As(err, &none):
			continue // nobody has that number
		case err != nil:
			return 0, err
		}
		if n := bytes.IndexByte(name, 0); n >= 0 {
			name = name[:n]
		}
		if string(name) == s.ep.Username {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("it has %d users called %q: one is needed to change a password", len(found), s.ep.Username)
	}
	return found[0], nil
}

// unlatch drops the refusals of a user's passwords: what was refused before may be
// right now.
func (e *engine) unlatch(addr netip.AddrPort, username string) {
	if t := e.targets[plain(addr)]; t != nil {
		t.refused = slices.DeleteFunc(t.refused, func(l latch) bool { return l.credential.username == username })
	}
}
