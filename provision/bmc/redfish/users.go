package redfish

import (
	"context"
	"errors"

	"github.com/stmcginnis/gofish/schemas"
)

// User is one of a BMC's accounts.
type User struct {
	ID      string
	Name    string // "": an account that is not in use, or a login without a name
	Enabled bool
	Role    string // "Administrator", "Operator", "ReadOnly" or the vendor's own
}

// Users reads the accounts that the session's user may see.
func (s *Session) Users(ctx context.Context) ([]User, error) {
	var root struct{ AccountService link }
	if _, err := s.read(ctx, schemas.DefaultServiceRoot, &root); err != nil {
		return nil, err
	}
	if root.AccountService.URI == "" {
		return nil, errors.New("it has no account service")
	}
	var service struct{ Accounts link }
	if _, err := s.read(ctx, root.AccountService.URI, &service); err != nil {
		return nil, err
	}
	if service.Accounts.URI == "" {
		return nil, errors.New("its account service shows no accounts")
	}
	var out []User
	unread, err := s.members(ctx, service.Accounts.URI, func(uri string) error {
		var doc struct {
			Id, UserName, RoleId string
			Enabled              *bool
		}
		_, err := s.read(ctx, uri, &doc)
		if err == nil { // an account that does not tell counts as enabled
			out = append(out, User{ID: clean(doc.Id), Name: clean(doc.UserName), Enabled: doc.Enabled == nil || *doc.Enabled, Role: clean(doc.RoleId)})
		}
		return err
	})
	if err == nil && len(unread) > 0 {
		err = errors.New(unread[0].URI + ": " + unread[0].Reason)
	}
	return out, err
}
