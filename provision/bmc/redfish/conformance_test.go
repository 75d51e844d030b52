package redfish_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"firstlight/internal/simrack"
	"firstlight/provision/bmc/bmctest"
)

// makes are BMCs that differ without being at fault.
var makes = map[string]simrack.RedfishMake{
	"plain":      {},
	"AMI":        {OEM: "Ami", Pending: true, NeedsIfMatch: true},
	"HPE":        {OEM: "Hpe", FixedMode: true},
	"Supermicro": {OEM: "Supermicro", EchoMode: true},
	"if-match":   {NeedsIfMatch: true},
}

// TestConformance plays the two makes that are furthest apart; TestMakes has the
// others' peculiarities.
func TestConformance(t *testing.T) {
	for _, name := range []string{"plain", "AMI"} {
		m := makes[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bmctest.Run(t, func(t *testing.T, f bmctest.Fault) bmctest.Stand {
				return stand(t, &simrack.Redfish{Make: m}, f)
			})
		})
	}
}

// TestConformanceRecorded plays the service of a real 8-GPU server.
func TestConformanceRecorded(t *testing.T) {
	tree := recorded(t)
	bmctest.Run(t, func(t *testing.T, f bmctest.Fault) bmctest.Stand {
		b := &simrack.Redfish{Tree: tree, Make: simrack.RedfishMake{EchoMode: true}, Machine: simrack.NewBulb(false)}
		return stand(t, b, f)
	})
}

// recorded is the tree of a Supermicro SYS-821GE-TNHR.
func recorded(t *testing.T) fs.FS {
	t.Helper()
	f, err := os.Open("../../../../shared/data/redfish-supermicro-8xh100.tar.gz")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("needs shared/data/redfish-supermicro-8xh100.tar.gz beside the repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	tree := fstest.MapFS{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(h.Name, "supermicro/redfish/")
		if !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		tree["redfish/"+name] = &fstest.MapFile{Data: raw}
	}
	if len(tree) == 0 {
		t.Fatal("the archive holds no supermicro/redfish")
	}
	return tree
}
