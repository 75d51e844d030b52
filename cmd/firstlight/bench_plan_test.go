//go:build bench

// The measurements of `make bench-plan`: how long a person waits for validate
// and plan, at the size of a national system.

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"firstlight/images"
	"firstlight/provision/agent/api"
)

// planRounds is how often each run is repeated; figures are medians.
const planRounds = 7

const benchInventory = `cluster "bench" { domain = "bench.example" }

variable "bmc_password" {
  type      = string
  sensitive = true
}

locals {
  racks  = { for row in csvdecode(file("racks.csv")) : row.name => row }
  assets = { for row in csvdecode(file("assets.csv")) : row.hostname => row }
  leaves = { for row in csvdecode(file("leaves.csv")) : row.name => row }
}

credential "bmc" {
  username = "admin"
  password = var.bmc_password
}
network "oob" { cidr = "10.128.0.0/12" }
network "provision" {
  cidr      = "10.0.0.0/12"
  gateway   = "10.0.0.1"
  dhcp      = "full"
  interface = "eth1"
  address   = "10.0.0.2"
}
image "compute" { source = "./compute" }

hardware "h200x8" {
  units = 5
  power = "10.2kW"
  cpu {
    sockets = 2
    cores   = 96
  }
  memory {
    total = "2TiB"
    dimms = 32
  }
  gpu {
    model   = "NVIDIA H200"
    pci_id  = "10de:2335"
    count   = 8
    memory  = "141GB"
    nvlinks = 18
  }
  dynamic "hca" {
    for_each = range(8)
    labels   = ["ibn${hca.value + 1}"]
    content {
      rail     = hca.value + 1
      rate     = "NDR"
      near_gpu = hca.value
    }
  }
  disk "scratch" {
    count     = 2
    size      = "7.68TB"
    transport = "nvme"
  }
}

acceptance "h200" {
  node {
    gemm      = "60s"
    hbm_sweep = true
  }
  rack { soak = "24h" }
  fabric {
    pairwise      = true
    min_bandwidth = "360Gb/s"
  }
}

rack "all" {
  for_each     = local.racks
  name         = each.key
  height       = 48
  power_budget = "100kW"
}

switch "leaf" {
  for_each = local.leaves
  name     = each.key
  model    = switch_model.qm9700
  role     = "leaf"
  rail     = each.value.rail
  rack     = rack[each.value.rack]
  unit     = each.value.unit
}

node "hnode" {
  for_each   = local.assets
  name       = each.key
  rack       = rack[each.value.rack]
  unit       = each.value.unit
  serial     = each.value.serial
  hardware   = hardware.h200x8
  image      = image.compute
  acceptance = acceptance.h200
  bmc {
    address    = each.value.bmc
    protocol   = "ipmi"
    credential = credential.bmc
  }
  nic "boot" {
    mac     = each.value.mac
    network = network.provision
    address = each.value.ip
  }
}

fabric "compute" {
  link_layer = "infiniband"
  rate       = "NDR"
  cables     = csvdecode(file("cables.csv"))
}
`

// benchSite writes an inventory of n nodes, eight to a rack with two leaf
// switches, 32 to a scalable unit of eight rails, with a cable for each of
// their eight adapters, and an image in its catalogue.
func benchSite(t *testing.T, n int) string {
	t.Helper()
	// A short path: the journal's socket lies below it.
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var racks, assets, leaves, cables bytes.Buffer
	fmt.Fprintln(&racks, "name")
	fmt.Fprintln(&assets, "hostname,rack,unit,serial,bmc,mac,ip")
	fmt.Fprintln(&leaves, "name,rack,unit,rail")
	fmt.Fprintln(&cables, "a_device,a_port,b_device,b_port,length_m")
	for i := range n {
		rack, su := fmt.Sprintf("r%04d", i/8+1), i/32+1
		if i%8 == 0 {
			fmt.Fprintln(&racks, rack)
			for k := range 2 {
				rail := (i/8%4)*2 + k + 1
				fmt.Fprintf(&leaves, "leaf-%04d-%d,%s,%d,%d\n", su, rail, rack, 41+k, rail)
			}
		}
		host := i + 16
		fmt.Fprintf(&assets, "hnode%05d,%s,%d,BENCH%06d,10.128.%d.%d,02:f1:00:00:%02x:%02x,10.0.%d.%d\n", i+1, rack, i%8*5+1, i+1,
			host>>8, host&255, host>>8, host&255, host>>8, host&255)
	}
	// The last unit may be smaller; its leaves stand in the racks it has.
	for i := range n {
		for rail := 1; rail <= 8; rail++ {
			fmt.Fprintf(&cables, "hnode%05d,ibn%d,leaf-%04d-%d,%d,%d\n", i+1, rail, i/32+1, rail, i%32+1, 3+i%7)
		}
	}
	for i := n / 8 % 4; i > 0 && i < 4; i++ { // leaves of the racks that the last unit lacks
		for k := range 2 {
			fmt.Fprintf(&leaves, "leaf-%04d-%d,r%04d,%d,%d\n", (n-1)/32+1, i*2+k+1, (n-1)/8+1, 43+(i-1)%3*2+k, i*2+k+1)
		}
	}
	for name, b := range map[string][]byte{"bench.hcl": []byte(benchInventory), "racks.csv": racks.Bytes(), "assets.csv": assets.Bytes(),
		"leaves.csv": leaves.Bytes(), "cables.csv": cables.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "compute"), 0o755); err != nil {
		t.Fatal(err)
	}
	benchImage(t, dir)
	return dir
}

// benchImage puts an image into the catalogue, so that plans know its digest.
func benchImage(t *testing.T, dir string) {
	t.Helper()
	store := images.Store{Dir: filepath.Join(dir, ".firstlight", "images")}
	m := images.Manifest{Name: "compute", Kind: api.BootImage, KernelRelease: "6.1.0", Inputs: digestOfNothing}
	for _, b := range []*images.Blob{&m.Kernel, &m.Initramfs} {
		blob, err := store.Put(strings.NewReader("bench"))
		if err != nil {
			t.Fatal(err)
		}
		*b = blob
	}
	if err := store.PutManifest(m); err != nil {
		t.Fatal(err)
	}
}

// benchProgram builds the program as it is released.
func benchProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "firstlight")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "firstlight/cmd/firstlight")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// timed is one run of the program.
type timed struct {
	wall, rss float64 // seconds, MB of 10^6 bytes
	lines     int     // on stdout
}

func wallOf(r timed) float64 { return r.wall }

// timeRun runs the program to its end, which must be a good one.
func timeRun(t *testing.T, program string, args ...string) timed {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "FIRSTLIGHT_VAR_bmc_password=secret")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start).Seconds()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, said.String())
	}
	used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		t.Fatal("this system does not say what a process used")
	}
	return timed{wall: wall, rss: float64(used.Maxrss) * 1024 / 1e6, lines: bytes.Count(out.Bytes(), []byte("\n"))}
}

// middle is the median of something of runs.
func middle(runs []timed, of func(timed) float64) float64 {
	var v []float64
	for _, r := range runs {
		v = append(v, of(r))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// both is validate and then plan of one inventory.
func both(t *testing.T, program, dir string) timed {
	v, p := timeRun(t, program, "validate", dir), timeRun(t, program, "plan", dir)
	return timed{wall: v.wall + p.wall, rss: max(v.rss, p.rss), lines: p.lines}
}

// TestPlanFigures measures validate and plan as processes and prints the
// figures. It fails when one is short.
func TestPlanFigures(t *testing.T) {
	program := benchProgram(t)
	fmt.Printf("load %s\n", load())
	if abci, err := filepath.Abs("../../examples/abci3"); err != nil {
		t.Fatal(err)
	} else if _, err := os.Stat(abci); err != nil {
		fmt.Println("skipped validate_abci3: there is no examples/abci3")
	} else {
		var runs []timed
		for range planRounds {
			runs = append(runs, timeRun(t, program, "validate", abci))
		}
		atMost(t, "validate_abci3", middle(runs, wallOf), "s", 0.5)
	}
	small, large := benchSite(t, 1000), benchSite(t, 10000)
	both(t, program, small) // fills the page cache
	var of1k, of10k []timed
	for range planRounds {
		of1k, of10k = append(of1k, both(t, program, small)), append(of10k, both(t, program, large))
	}
	atMost(t, "validate_plan_10k", middle(of10k, wallOf), "s", 2.5)
	atMost(t, "validate_plan_10k_rss", slices.MaxFunc(of10k, func(a, b timed) int { return int(a.rss - b.rss) }).rss, "MB", 1000)
	atMost(t, "plan_growth_1k_10k", middle(of10k, wallOf)/middle(of1k, wallOf), "ratio", 11)
	atMost(t, "plan_10k_lines", float64(of10k[0].lines), "lines", 100)
	oneChange(t, program, large)
}

// oneChange plans the inventory when all its nodes are ready by the journal and
// the declaration of one has changed.
func oneChange(t *testing.T, program, dir string) {
	t.Setenv("FIRSTLIGHT_VAR_bmc_password", "secret")
	s := loadSite(t, dir)
	want, err := s.want(s.key)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	events := writeReady(t, s, want, noEvidence)
	fmt.Printf("journal of %d events written in %s\n", events, time.Since(start).Round(time.Second))
	timeRun(t, program, "plan", dir) // fills the page cache
	assets := filepath.Join(dir, "assets.csv")
	raw, err := os.ReadFile(assets)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(assets, bytes.Replace(raw, []byte("BENCH005000"), []byte("BENCH999999"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	var plans, loads []timed
	for range planRounds {
		loads, plans = append(loads, timeRun(t, program, "validate", dir)), append(plans, timeRun(t, program, "plan", dir))
	}
	fmt.Printf("of plan_one_change_10k %.2f s are the inventory's (validate) and %.2f s the journal's, the plan's and its printing; %.0f MB at most\n",
		middle(loads, wallOf), middle(plans, wallOf)-middle(loads, wallOf), slices.MaxFunc(plans, func(a, b timed) int { return int(a.rss - b.rss) }).rss)
	atMost(t, "plan_one_change_10k", middle(plans, wallOf), "s", 2.5)
	atMost(t, "plan_one_change_10k_lines", float64(plans[0].lines), "lines", 40)
}
