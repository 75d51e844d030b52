package agent

import (
	"context"
	"time"

	"firstlight/provision/agent/api"
)

// Boot is what Check needs to know of the boot that it runs in.
type Boot struct {
	MAC          string         // of the boot NIC
	ClockOffset  *time.Duration // the node's clock less the controller's; nil: not known
	Kind         string         // api.BootBringUp or api.BootImage; "" outside of a boot by firstlight
	RootDeclared string         // digest of the root file system by the manifest, sha256:<hex>
	RootMeasured string         // as measured when it was fetched
}

// Check judges the health of the machine.
func Check(ctx context.Context, fs FS, boot Boot) []api.Check {
	return nil
}
