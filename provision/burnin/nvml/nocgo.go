//go:build !cgo

package nvml

import (
	"firstlight/provision/acceptance"
	"firstlight/provision/burnin"
)

// Read says that this program was built without a C compiler.
func Read(Options) burnin.Health {
	return burnin.Health{Version: burnin.HealthVersion, Engine: acceptance.EngineNode, Library: "this program was built without cgo, and cannot ask NVML"}
}
