package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/fabric"
	"firstlight/internal/ibsimtest"
	"firstlight/internal/simrack/fabricsim"
	"firstlight/inventory"
)

// verified is what fabric verify -json prints.
type verified struct {
	Summary  map[string]int   `json:"summary"`
	Findings []fabric.Finding `json:"findings"`
	NotRead  []string         `json:"not_read"`
}

// words are the classes and ports of findings, sorted.
func (v verified) words() []string {
	out := []string{}
	for _, f := range v.Findings {
		var ports []string
		for _, p := range f.Ports {
			ports = append(ports, p.String())
		}
		slices.Sort(ports)
		out = append(out, string(f.Class)+": "+strings.Join(ports, ", "))
	}
	slices.Sort(out)
	return out
}

func verifyDump(t *testing.T, dir, dump string, code int) verified {
	t.Helper()
	out, errs, got := inProcess(t, "fabric", "verify", "-json", "-observed", writeTemp(t, "dump.txt", dump), dir)
	var v verified
	if err := json.Unmarshal([]byte(out), &v); err != nil || got != code || errs != "" {
		t.Fatalf("fabric verify exits %d with %q: %v; want %d\n%s", got, errs, err, code, out)
	}
	return v
}

// TestInteropVerify breaks a fabric at ibsim's console, and wants what was
// broken found in what ibnetdiscover then prints, in both of its forms, and
// nothing else. ibsim knows no NDR, so the inventory says HDR.
func TestInteropVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "site")
	if err := os.CopyFS(dir, withoutState{os.DirFS(rackExample)}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, []byte(strings.NewReplacer(`"NDR"`, `"HDR"`, "360Gb/s", "180Gb/s").Replace(string(text))), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// The rails of this example are subnets of their own; a spine makes one of them.
	c := loadRack(t, dir)
	sim := ibsimtest.Start(t, withSpine(fabricDump(c, "4xHDR")), "hnode001 mlx5_0")
	for _, form := range [][]string{nil, {"-p"}} {
		if got := verifyDump(t, dir, sim.Run("ibnetdiscover", form...), 0); len(got.Findings) > 0 {
			t.Fatalf("ibnetdiscover %q of a fabric as declared: %v", form, got.words())
		}
	}
	for _, command := range []string{
		`Unlink "hnode002 mlx5_2"[1]`,                                // dark
		`Unlink "hnode003 mlx5_3"[1]`, `Unlink "hnode004 mlx5_3"[1]`, // exchanged at leaf-04
		`Link "hnode003 mlx5_3"[1] "leaf-04"[4]`, `Link "hnode004 mlx5_3"[1] "leaf-04"[3]`,
		`Unlink "hnode005 mlx5_0"[1]`, `Unlink "hnode005 mlx5_1"[1]`, // on each other's rail
		`Link "hnode005 mlx5_0"[1] "leaf-02"[5]`, `Link "hnode005 mlx5_1"[1] "leaf-01"[5]`,
		`Unlink "hnode006 mlx5_7"[1]`, `Link "hnode006 mlx5_7"[1] "leaf-08"[20]`, // into a free port
	} {
		fmt.Fprintln(sim.Console, command)
	}
	for i := range 8 {
		fmt.Fprintf(sim.Console, "Unlink \"hnode008 mlx5_%d\"[1]\n", i)
	}
	want := []string{
		"missing-cable: hnode002 ibn3, leaf-03 port 2",
		"miswired: hnode006 ibn8, leaf-08 port 20, leaf-08 port 6",
		"missing-node: hnode008, hnode008 ibn1, hnode008 ibn2, hnode008 ibn3, hnode008 ibn4, hnode008 ibn5, hnode008 ibn6, hnode008 ibn7, hnode008 ibn8",
		"swapped-pair: hnode003 ibn4, hnode004 ibn4, leaf-04 port 3, leaf-04 port 4",
		"swapped-rails: hnode005 ibn1, hnode005 ibn2, leaf-01 port 5, leaf-02 port 5",
	}
	slices.Sort(want)
	for _, form := range [][]string{nil, {"-p"}} {
		var got []string
		for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(100 * time.Millisecond) {
			got = verifyDump(t, dir, sim.Run("ibnetdiscover", form...), 2).words()
			if slices.Equal(got, want) { // the console has been read to its end
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ibnetdiscover %q (-broken +found):\n%s", form, diff)
		}
	}
}

// withSpine adds a switch to a net file that all leaves are cabled to. The
// example declares cables to nodes only.
func withSpine(net string) string {
	var spine strings.Builder
	for i := 1; i <= 8; i++ {
		head := fmt.Sprintf("Switch 65 \"leaf-%02d\"\t# \"leaf-%02[1]d\" base port 0 lid 0 lmc 0\n", i)
		net = strings.Replace(net, head, fmt.Sprintf("%s[60]\t\"spine-01\"[%d]\t# \"spine-01\" lid 0 4xHDR\n", head, i), 1)
		fmt.Fprintf(&spine, "[%d]\t\"leaf-%02[1]d\"[60]\t# \"leaf-%02[1]d\" lid 0 4xHDR\n", i)
	}
	return net + "\nvendid=0x2c9\ndevid=0xd2f2\nsysimgguid=0xa088c204\nswitchguid=0xa088c204\nSwitch 65 \"spine-01\"\t# \"spine-01\" base port 0 lid 0 lmc 0\n" + spine.String()
}

// simulate serves a declared fabric as a subnet manager leaves it, until the test
// ends, and returns its socket name.
func simulate(t *testing.T, dir string) (*fabricsim.Fabric, string) {
	t.Helper()
	c, _, diags := inventory.Load(dir, inventory.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	net, err := fabricsim.FromCluster(c, c.Fabrics["compute"])
	if err != nil {
		t.Fatal(err)
	}
	f, err := fabricsim.New(net, fabricsim.Options{Managed: true})
	if err != nil {
		t.Fatal(err)
	}
	socket := fmt.Sprintf("%s-%d", t.Name(), os.Getpid())
	ready, ended := make(chan struct{}), make(chan error, 1)
	s := &fabricsim.Server{Fabric: f, Socket: socket, Ready: func() { close(ready) }}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- s.Serve(ctx) }() // ends with the test
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return f, socket
}

// verifyLive verifies a simulated fabric. It has a leaf for each rail and no more,
// so that it is read through an adapter on each.
func verifyLive(t *testing.T, dir, socket string, code int) verified {
	t.Helper()
	out, errs, got := inProcess(t, "fabric", "verify", "-json", "-ibsim", socket, "-ibsim-node", "hnode001 mlx5_0", "-ibsim-node", "hnode001 mlx5_1", dir)
	var v verified
	if err := json.Unmarshal([]byte(out), &v); err != nil || got != code || errs != "" {
		t.Fatalf("fabric verify exits %d with %q: %v; want %d\n%s", got, errs, err, code, out)
	}
	return v
}

// TestVerifyPartitions reads the P_Key tables of a fabric that declares partitions.
func TestVerifyPartitions(t *testing.T) {
	dir := healthSite(t, `
  partition "default" {
    pkey       = "0x7fff"
    membership = "limited"
  }
  partition "tenant" {
    pkey  = "0x0001"
    nodes = ["hnode001", "hnode002", "hnode003"]
  }
`)
	f, socket := simulate(t, dir)
	if v := verifyLive(t, dir, socket, 0); len(v.NotRead) > 0 {
		t.Errorf("not read: %q; want all of it", v.NotRead)
	}
	for _, fault := range []fabricsim.Fault{
		{Kind: fabricsim.Partition, At: fabricsim.End{Node: "hnode002 mlx5_1", Port: 1}, Keys: []uint16{0x7fff, 0x0001}},
		{Kind: fabricsim.Partition, At: fabricsim.End{Node: "hnode004 mlx5_0", Port: 1}, Keys: []uint16{0x7fff, 0x8001}},
	} {
		if err := f.Inject(fault); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"wrong-partition: hnode002 ibn2", "wrong-partition: hnode004 ibn1"}
	if diff := cmp.Diff(want, verifyLive(t, dir, socket, 2).words()); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}
