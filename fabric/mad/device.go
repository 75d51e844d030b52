package mad

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// FS is the root of a file system with sys and dev: "/", or a copy.
type FS string

func (f FS) path(name string) string { return filepath.Join(string(f), name) }

// Device is a local port, as sysfs has it.
type Device struct {
	UMAD      string // "umad0": a name in sys/class/infiniband_mad and dev/infiniband
	Adapter   string // "mlx5_0": sys/class/infiniband_mad/umad0/ibdev
	Port      int    // sys/class/infiniband_mad/umad0/port
	LinkLayer string // "InfiniBand" or "Ethernet": sys/class/infiniband/mlx5_0/ports/1/link_layer; "" is not known
	State     string // "4: ACTIVE": sys/class/infiniband/mlx5_0/ports/1/state
	Rate      string // "400 Gb/sec (4X NDR)": sys/class/infiniband/mlx5_0/ports/1/rate
}

func (d Device) String() string {
	return fmt.Sprintf("%s (port %d of adapter %s)", d.UMAD, d.Port, d.Adapter)
}

// Ethernet reports that the port speaks RoCE.
func (d Device) Ethernet() bool { return d.LinkLayer == "Ethernet" }

// Active reports that a subnet manager has brought the port up.
func (d Device) Active() bool { return strings.HasPrefix(d.State, "4:") }

// errNoDevices says what is missing, in the order in which it is set up.
var errNoDevices = errors.New("no InfiniBand port is on this machine (sys/class/infiniband_mad is not there or empty): " +
	"for an adapter load its driver (NVIDIA: modprobe mlx5_ib, in Debian's kernel or DOCA-OFED) and then modprobe ib_umad")

// Devices lists the local ports that the kernel offers MADs of, in the order of
// their numbers.
func (f FS) Devices() ([]Device, error) {
	entries, err := os.ReadDir(f.path("sys/class/infiniband_mad"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []Device
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "umad") {
			continue // issm0, abi_version
		}
		d, err := f.device(e.Name())
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	if len(out) == 0 {
		return nil, errNoDevices
	}
	slices.SortFunc(out, func(a, b Device) int { return number(a.UMAD) - number(b.UMAD) })
	return out, nil
}

// number is that of umad12.
func number(umad string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(umad, "umad"))
	return n
}

func (f FS) device(umad string) (Device, error) {
	d := Device{UMAD: umad}
	dir := "sys/class/infiniband_mad/" + umad
	adapter, err := f.read(dir + "/ibdev")
	if err != nil {
		return d, err
	}
	port, err := f.read(dir + "/port")
	if err != nil {
		return d, err
	}
	d.Adapter = adapter
	if d.Port, err = strconv.Atoi(port); err != nil {
		return d, fmt.Errorf("%s: port %q is no number", f.path(dir), port)
	}
	// A port that just went away has none of these any more; opening it says so.
	attributes := fmt.Sprintf("sys/class/infiniband/%s/ports/%d/", d.Adapter, d.Port)
	d.LinkLayer, _ = f.read(attributes + "link_layer")
	d.State, _ = f.read(attributes + "state")
	d.Rate, _ = f.read(attributes + "rate")
	return d, nil
}

func (f FS) read(name string) (string, error) {
	raw, err := os.ReadFile(f.path(name))
	return strings.TrimSpace(string(raw)), err
}

// Find returns the local port of a name; Open has what names there are.
func (f FS) Find(name string) (Device, error) {
	all, err := f.Devices()
	if err != nil {
		return Device{}, fmt.Errorf("%s: %w", name, err)
	}
	umad := strings.TrimPrefix(name, "/dev/infiniband/")
	adapter, port, hasPort := strings.Cut(name, "/")
	var found, known []string
	var device Device
	for _, d := range all {
		one := fmt.Sprintf("%s/%d", d.Adapter, d.Port)
		known = append(known, fmt.Sprintf("%s (%s)", one, d.UMAD))
		if d.UMAD == umad || d.Adapter == adapter && (!hasPort || port == strconv.Itoa(d.Port)) {
			found, device = append(found, one), d
		}
	}
	switch len(found) {
	case 1:
		return device, nil
	case 0:
		return Device{}, fmt.Errorf("%s: no such local port; there are %s", name, strings.Join(known, ", "))
	}
	return Device{}, fmt.Errorf("%s: the adapter has several ports; name one of %s", name, strings.Join(found, ", "))
}
