package redfish

import (
	"context"
	"errors"
	"fmt"

	"github.com/stmcginnis/gofish/schemas"

	"firstlight/inventory"
)

type accountServiceDoc struct {
	Accounts                             link
	MinPasswordLength, MaxPasswordLength int
}

type accountDoc struct {
	uri, etag string
	UserName  string
}

// SetPassword gives ep's own user another password in a conversation of its own.
// That the BMC lets us in with it is for the caller to see. ready is called when
// ep's password was let in and nothing is changed yet, and its error ends it;
// after an error that comes later the BMC may have either password.
func (c *Client) SetPassword(ctx context.Context, ep Endpoint, password inventory.Secret, ready func() error) error {
	return c.With(ctx, ep, func(s *Session) error {
		s.hidden = password
		return s.setPassword(ctx, password, ready)
	})
}

func (s *Session) setPassword(ctx context.Context, password inventory.Secret, ready func() error) error {
	var root struct{ AccountService link }
	if _, err := s.read(ctx, schemas.DefaultServiceRoot, &root); err != nil {
		return err
	}
	if root.AccountService.URI == "" {
		return errors.New("it has no AccountService: change the password by IPMI, or in its web page")
	}
	var service accountServiceDoc
	if _, err := s.read(ctx, root.AccountService.URI, &service); err != nil {
		return err
	}
	switch n := len(password); {
	case n < service.MinPasswordLength:
		return fmt.Errorf("it wants passwords of %d characters or more, and the new one has %d", service.MinPasswordLength, n)
	case service.MaxPasswordLength > 0 && n > service.MaxPasswordLength:
		return fmt.Errorf("it takes passwords of %d characters or less, and the new one has %d", service.MaxPasswordLength, n)
	}
	account, err := s.account(ctx, service.Accounts.URI)
	if err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	return s.patch(ctx, account.uri, account.etag, map[string]string{"Password": password.Reveal()})
}

// account finds the session's own account.
func (s *Session) account(ctx context.Context, uri string) (accountDoc, error) {
	if uri == "" {
		return accountDoc{}, errors.New("its AccountService has no accounts: the user may not see them")
	}
	var all collection
	if _, err := s.read(ctx, uri, &all); err != nil {
		return accountDoc{}, err
	}
	for _, m := range all.Members {
		a := accountDoc{uri: m.URI}
		var err error
		if a.etag, err = s.read(ctx, m.URI, &a); err != nil {
			return accountDoc{}, err
		}
		if a.UserName == s.ep.Username {
			return a, nil
		}
	}
	return accountDoc{}, fmt.Errorf("it shows no account of user %q", s.ep.Username)
}
