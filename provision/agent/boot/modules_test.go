package boot

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// write makes files under dir.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func testModules(t *testing.T) (*modules, *[]string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"modules.dep": `kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/net/net_failover.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/drivers/virtio/virtio-pci.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/fs/squash.ko:
kernel/lib/crc32_generic.ko:
`,
		"modules.alias": `# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000001v* virtio_net
alias fs-squash squash
alias crypto-crc32 crc32_generic
alias acpi*:PNP0[AB]0?:* absent
alias of:N*T*Cvendor,a/bC* squash
`,
		"modules.softdep": "softdep squash pre: crypto-crc32 missing post: virtio_net\n",
	})
	m, err := openModules(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	m.insert = func(file string) error { order = append(order, moduleName(file)); return nil }
	return m, &order
}

func TestLoadOrder(t *testing.T) {
	tests := []struct {
		name string
		want []string
	}{
		{"virtio_net", []string{"failover", "net_failover", "virtio_net"}},
		{"virtio_pci", []string{"virtio", "virtio_pci"}},
		{"squash", []string{"crc32_generic", "squash"}},
		{"fs-squash", []string{"crc32_generic", "squash"}},
		{"absent", nil},
	}
	for _, tt := range tests {
		m, order := testModules(t)
		for range 2 { // the second time nothing is left to do
			if err := m.load(tt.name); err != nil {
				t.Errorf("load(%s) = %v", tt.name, err)
			}
		}
		if d := cmp.Diff(tt.want, *order); d != "" {
			t.Errorf("load(%s) (-want +got):\n%s", tt.name, d)
		}
	}
	m, _ := testModules(t)
	m.insert = func(string) error { return unix.ENOEXEC }
	if err := m.load("virtio_net"); !errors.Is(err, unix.ENOEXEC) || err.Error() != "load module failover: exec format error" {
		t.Errorf("load with a broken dependency = %v", err)
	}
}

func TestForAlias(t *testing.T) {
	m, _ := testModules(t)
	tests := []struct {
		alias string
		want  []string
	}{
		{"pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", []string{"virtio_pci"}},
		{"virtio:d00000001v00001AF4", []string{"virtio_net"}},
		{"acpi:PNP0A03:", []string{"absent"}},
		{"acpi:PNP0C03:", nil},
		{"of:NxTyCvendor,a/bCz", []string{"squash"}},
		{"usb:v1", nil},
	}
	for _, tt := range tests {
		if d := cmp.Diff(tt.want, m.forAlias(tt.alias)); d != "" {
			t.Errorf("forAlias(%s) (-want +got):\n%s", tt.alias, d)
		}
	}
}

// The network is first, and a device that appears meanwhile is seen next.
func TestPlugNetworkFirst(t *testing.T) {
	m, order := testModules(t)
	sys := t.TempDir()
	write(t, sys, map[string]string{
		"bus/of/devices/a/modalias":  "of:NxTyCvendor,a/bCz\n",
		"bus/pci/devices/b/modalias": "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00\n",
	})
	m.insert = func(file string) error {
		*order = append(*order, moduleName(file))
		if moduleName(file) == "virtio_pci" {
			write(t, sys, map[string]string{"bus/virtio/devices/c/modalias": "virtio:d00000001v00001AF4\n"})
		}
		return nil
	}
	seen := map[string]bool{}
	for m.plug(sys, seen, func(what string, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}) > 0 {
	}
	want := []string{"virtio", "virtio_pci", "failover", "net_failover", "virtio_net", "crc32_generic", "squash"}
	if d := cmp.Diff(want, *order); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}
