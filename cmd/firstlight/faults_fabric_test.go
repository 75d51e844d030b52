package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"firstlight/internal/simrack"
	"firstlight/internal/simrack/fabricsim"
	"firstlight/inventory"
	"firstlight/provision"
)

// fabricRack is a rack whose nodes have an adapter in each of two rails, a spine
// between the leaves, and a host from which the fabric is read.
func fabricRack(nodes int, socket string) rackSpec {
	var cables strings.Builder
	add := func(a, aPort, b, bPort string) {
		fmt.Fprintf(&cables, "    { a_device = %q, a_port = %q, b_device = %q, b_port = %q },\n", a, aPort, b, bPort)
	}
	for i := 1; i <= nodes; i++ {
		for rail := 1; rail <= 2; rail++ {
			add(nodeName(i), fmt.Sprintf("ibn%d", rail), fmt.Sprintf("leaf-%02d", rail), fmt.Sprint(i))
		}
	}
	add("leaf-01", "33", "spine-01", "1")
	add("leaf-02", "33", "spine-01", "2")
	add("manager", "1", "leaf-01", "40")
	hca := ""
	for rail := 1; rail <= 2; rail++ {
		hca += fmt.Sprintf("  hca \"ibn%d\" {\n    rail   = %[1]d\n    rate   = \"NDR\"\n    device = \"mlx5_%d\"\n  }\n", rail, rail+2)
	}
	return rackSpec{nodes: nodes, hardware: hca, accept: "  fabric {\n    window = \"2s\"\n  }\n", fabric: fmt.Sprintf(`
switch "leaf" {
  count = 2
  name  = format("leaf-%%02d", count.index + 1)
  model = switch_model.qm9700
  role  = "leaf"
}
switch "spine-01" {
  model = switch_model.qm9700
  role  = "spine"
}
fabric "compute" {
  link_layer   = "infiniband"
  rate         = "NDR"
  others       = ["manager"]
  read_through = ["ibsim:%s/manager"]
  cables = [
%s  ]
}
`, socket, cables.String())}
}

// simulatedFabric is the fabric of a rig's nodes: an adapter has a link while its
// node has power, and tells nothing of whose it is.
func (r *faultRig) simulatedFabric(socket string) *fabricsim.Fabric {
	r.Helper()
	c, _, diags := inventory.Load(r.dir, inventory.Options{Env: os.LookupEnv})
	if diags.HasErrors() {
		r.Fatal(diags)
	}
	net, err := fabricsim.FromCluster(c, c.Fabrics["compute"])
	r.must(err)
	var dark []fabricsim.Fault
	for _, n := range c.Nodes {
		for _, h := range n.Hardware.HCAs {
			name := fabricsim.AdapterName(n, h)
			dark = append(dark, fabricsim.Fault{Kind: fabricsim.Dead, Node: name},
				fabricsim.Fault{Kind: fabricsim.Describe, Node: name, Text: "MT4129 ConnectX7   Mellanox Technologies"})
		}
	}
	f, err := fabricsim.New(net, fabricsim.Options{Managed: true, Faults: dark})
	r.must(err)
	return f
}

// powered gives a node's adapters their links, and takes them away. A node that
// starts anew loses them in between, which its switch counts.
func (r *faultRig) powered(f *fabricsim.Fabric) func(string, bool) {
	return func(node string, on bool) {
		for rail := 1; rail <= 2; rail++ {
			name := fmt.Sprintf("%s mlx5_%d", node, rail+2)
			if err := f.Inject(fabricsim.Fault{Kind: fabricsim.Dead, Node: name}); err != nil {
				r.Error(err)
			}
			if on {
				if err := f.Inject(fabricsim.Fault{Kind: fabricsim.Revive, Node: name}); err != nil {
					r.Error(err)
				}
			}
		}
	}
}

// serveFabric serves a fabric where the controller is: the names of its sockets
// are those of a network namespace.
func (r *faultRig) serveFabric(f *fabricsim.Fabric, socket string) {
	r.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	server := &fabricsim.Server{Fabric: f, Socket: socket, Ready: func() { close(ready) }}
	go func() { // ends with ctx, and its thread with it
		runtime.LockOSThread()
		if err := netns.Set(r.controller); err != nil {
			ended <- err
			return
		}
		ended <- server.Serve(ctx)
	}()
	r.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.Errorf("fabric: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		r.Fatalf("fabric: %v", err)
	}
}

func (r *faultRig) inject(f *fabricsim.Fabric, faults ...fabricsim.Fault) {
	r.Helper()
	r.must(f.Inject(faults...))
}

// testFabric brings nodes up beside their fabric, of which two cables are in
// each other's place. Nothing but the nodes' inspection says which adapter is
// whose.
func testFabric(t *testing.T) {
	const socket = "lab"
	r := newIdleRig(t, fabricRack(4, socket))
	f := r.simulatedFabric(socket)
	at := func(i int) fabricsim.End { return fabricsim.End{Node: "leaf-01", Port: i} }
	r.inject(f, fabricsim.Fault{Kind: fabricsim.Swap, At: at(2), To: at(3)})
	r.start(&simrack.Rack{Powered: r.powered(f)})
	r.serveFabric(f, socket)

	// Which of the two comes up first, and sees the other's port alone, is chance.
	r.apply(1)
	r.wantStates(provision.Ready, provision.Failed, provision.Failed, provision.Ready)
	r.apply(1)
	r.wantStates(provision.Ready, provision.Failed, provision.Failed, provision.Ready)
	for _, n := range r.status().Nodes {
		if n.State == string(provision.Failed) {
			wantText(t, n.Name, n.Reason, "swap the cables at leaf-01 port", "port 2 (1/2)", "port 3 (2/1)", "swapped-pair", "rack.hcl:")
		} else if len(n.Fabric) > 0 {
			t.Errorf("%s has findings of the fabric: %+v", n.Name, n.Fabric)
		}
	}
	wantText(t, "status", r.cli("status").stdout, "FABRIC", "swapped-pair", "1 finding")

	r.inject(f, fabricsim.Fault{Kind: fabricsim.Swap, At: at(2), To: at(3)})
	r.apply(0)
	r.wantStates(provision.Ready, provision.Ready, provision.Ready, provision.Ready)
	for i := 1; i <= 4; i++ {
		r.wantPower(i, 1, 0, 1)
	}
	wantText(t, "show", r.cli("show", "node-2").stdout, "fabric.ibn1.cable: found leaf-01 port 2 (1/2); wanted leaf-01 port 2 (1/2) (rack.hcl:",
		"fabric.ibn2.rate: found NDR (4x NDR)", "fabric.ibn1.state: found Active at both ends", "fabric.ibn1.counters: found nothing above its limit in")
	r.laterFinding(f)
}

// laterFinding pulls a cable of a ready node. What tells shows it, and the node
// stays what it is.
func (r *faultRig) laterFinding(f *fabricsim.Fabric) {
	r.Helper()
	serial := r.status().Serial
	r.inject(f, fabricsim.Fault{Kind: fabricsim.Unlink, At: fabricsim.End{Node: "leaf-02", Port: 4}})
	o := r.cli("plan", "-refresh-only", "-detailed-exitcode")
	if o.code != 2 {
		r.Errorf("plan -refresh-only exits %d; want 2\n%s%s", o.code, o.stdout, o.stderr)
	}
	wantText(r.T, "plan -refresh-only", o.stdout, "node-4", "fabric: known as declared, found missing-cable", "leaf-02 port 4 (2/2)")
	if o := r.cli("fabric", "verify"); o.code != 2 {
		r.Errorf("fabric verify exits %d; want 2\n%s%s", o.code, o.stdout, o.stderr)
	}
	s := r.status()
	n := s.Nodes[3]
	if s.Serial != serial || n.State != string(provision.Ready) || len(n.Fabric) != 1 || n.Fabric[0].Class != "missing-cable" {
		r.Errorf("status at serial %d has %+v; want serial %d, node-4 ready with a missing cable", s.Serial, n, serial)
	}
	if i := slices.IndexFunc(s.Nodes, func(n nodeStatus) bool { return n.Name != "node-4" && len(n.Fabric) > 0 }); i >= 0 {
		r.Errorf("%s has findings too: %+v", s.Nodes[i].Name, s.Nodes[i].Fabric)
	}
	if o := r.cli("report"); o.code != 0 {
		r.Fatalf("report exits %d: %s", o.code, o.stderr)
	}
	for file, parts := range map[string][]string{
		"index.html":  {"missing-cable", "srcdoc=", "plug in, reseat or replace the cable from leaf-02 port 4 (2/2) to node-4 ibn2"},
		"report.json": {`"class": "missing-cable"`, `"node-4"`},
		"junit.xml":   {`missing-cable`, `leaf-02 port 4 (2/2)`},
	} {
		raw, err := os.ReadFile(filepath.Join(r.dir, ".firstlight", "report", file))
		r.must(err)
		wantText(r.T, file, string(raw), parts...)
	}
	o = r.cli("plan", "-json")
	var p provision.Plan
	if err := json.Unmarshal([]byte(o.stdout), &p); err != nil || p.Changes() {
		r.Errorf("plan = %+v, %v; want nothing to do", p.Summary, err)
	}
}

// testFabricNotReadable has nodes with adapters and nothing that reads their
// fabric.
func testFabricNotReadable(t *testing.T) {
	r := newIdleRig(t, fabricRack(1, "nobody"))
	r.start(&simrack.Rack{})
	r.apply(1)
	r.wantStates(provision.Failed)
	wantText(t, "status", r.status().Nodes[0].Reason, "fabric not run: it could not be read", "nothing listens on that socket name", "(tried 3 times)")
	r.wantPower(1, 1, 0, 1)
	wantText(t, "show", r.cli("show", "node-1").stdout, "provisioned", "not-run fabric: found it could not be read")
}
