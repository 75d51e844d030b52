package secrets

import (
	"context"

	"firstlight/inventory"
	"firstlight/provision/bmc"
	"firstlight/provision/bmc/redfish"
)

// IPMI is a BMC whose password is changed over IPMI.
type IPMI struct {
	Client   *bmc.Client
	Endpoint bmc.Endpoint // its password is not used
}

// Login implements BMC.
func (b IPMI) Login(ctx context.Context, password inventory.Secret) error {
	ep := b.Endpoint
	ep.Password = password
	return b.Client.With(ctx, ep, func(*bmc.Session) error { return nil })
}

// SetPassword implements BMC.
func (b IPMI) SetPassword(ctx context.Context, old, next inventory.Secret, ready func() error) error {
	ep := b.Endpoint
	ep.Password = old
	return b.Client.SetPassword(ctx, ep, next, ready)
}

// Redfish is a BMC whose password is changed over Redfish.
type Redfish struct {
	Client   *redfish.Client
	Endpoint redfish.Endpoint // its password is not used
}

// Login implements BMC. A session that is open proves nothing: many BMCs let it
// live on when the password it was opened with is another one.
func (b Redfish) Login(ctx context.Context, password inventory.Secret) error {
	ep := b.Endpoint
	ep.Password = password
	b.Client.Forget(ep)
	defer b.Client.Forget(ep)
	return b.Client.With(ctx, ep, func(*redfish.Session) error { return nil })
}

// SetPassword implements BMC.
func (b Redfish) SetPassword(ctx context.Context, old, next inventory.Secret, ready func() error) error {
	ep := b.Endpoint
	ep.Password = old
	return b.Client.SetPassword(ctx, ep, next, ready)
}
