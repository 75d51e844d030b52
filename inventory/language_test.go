package inventory

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
)

// mustLoad loads files that are right.
func mustLoad(t testing.TB, files map[string]string, opt Options) *Cluster {
	t.Helper()
	if opt.Env == nil {
		opt.Env = noEnv
	}
	c, src, diags := Load(write(t, files), opt)
	if c == nil {
		var b strings.Builder
		src.WriteText(&b, diags, false, 0)
		t.Fatal(b.String())
	}
	return c
}

// TestJSON loads one inventory in both syntaxes.
func TestJSON(t *testing.T) {
	native := map[string]string{"image/image.hcl": "", "c.hcl": `
cluster "c" {
  domain = "x.example"
}
locals {
  nodes = { for i in range(2) : format("n%d", i + 1) => i + 1 }
}
credential "bmc" {
  username = "admin"
  password = "pw"
}
network "p" {
  cidr = "10.10.0.0/24"
  dhcp = "full"
}
image "i" {
  source = "./image"
}
hardware "h" {
  cpu {
    sockets = 2
  }
  disk "a" {
    size = "4GiB"
  }
  disk "b" {
    size = "8GiB"
  }
}
rack "r" {
  power_budget = "40kW"
}
node "n" {
  for_each = local.nodes
  rack     = rack.r
  hardware = hardware.h
  image    = image.i
  unit     = each.value
  bmc {
    address    = cidrhost("10.20.0.0/24", each.value)
    credential = credential.bmc
  }
  nic "boot" {
    mac     = format("52:54:00:00:00:%02x", each.value)
    network = network.p
    address = cidrhost(network.p.cidr, each.value + 10)
  }
}
controller {
  deadlines = { enrolled = "5m" }
}
`}
	inJSON := map[string]string{"image/image.hcl": "", "c.hcl.json": `{
  "//": "the same",
  "cluster": {"c": {"domain": "x.example"}},
  "locals": {"nodes": "${{ for i in range(2) : format(\"n%d\", i + 1) => i + 1 }}"},
  "credential": {"bmc": {"username": "admin", "password": "pw"}},
  "network": {"p": {"cidr": "10.10.0.0/24", "dhcp": "full"}},
  "image": {"i": {"source": "./image"}},
  "hardware": {"h": {"cpu": {"sockets": 2}, "disk": {"a": {"size": "4GiB"}, "b": {"size": "8GiB"}}}},
  "rack": {"r": {"power_budget": "40kW"}},
  "node": {"n": {
    "for_each": "${local.nodes}", "rack": "${rack.r}", "hardware": "${hardware.h}", "image": "${image.i}", "unit": "${each.value}",
    "bmc": {"address": "${cidrhost(\"10.20.0.0/24\", each.value)}", "credential": "${credential.bmc}"},
    "nic": {"boot": {"mac": "${format(\"52:54:00:00:00:%02x\", each.value)}", "network": "${network.p}", "address": "${cidrhost(network.p.cidr, each.value + 10)}"}}
  }},
  "controller": {"deadlines": {"enrolled": "5m"}}
}`}
	a, b := mustLoad(t, native, Options{}), mustLoad(t, inJSON, Options{})
	ignore := cmp.Options{
		cmpopts.IgnoreTypes(hcl.Range{}), cmpopts.IgnoreFields(Cluster{}, "Dir", "Digest"), cmpopts.IgnoreFields(Image{}, "Source"),
		cmp.Comparer(func(x, y netip.Addr) bool { return x == y }), cmp.Comparer(func(x, y netip.Prefix) bool { return x == y }),
	}
	if diff := cmp.Diff(a, b, ignore); diff != "" {
		t.Errorf("native and JSON syntax differ (-native +json):\n%s", diff)
	}
	n := a.Node("n2")
	if n == nil {
		t.Fatal("no node n2")
	}
	if got, want := n.BMC.Address.String()+" "+n.BootNIC().MAC.String()+" "+n.BootNIC().Address.String(), "10.20.0.2 52:54:00:00:00:02 10.10.0.12"; got != want {
		t.Errorf("n2 has %s; want %s", got, want)
	}
	if n.Unit != 2 || n.Rack.Name != "r" || n.BMC.Port != 623 || n.BMC.Protocol != "ipmi" || n.Hardware.Disks[1].Size.Bytes != 8<<30 {
		t.Errorf("n2 is %+v", n)
	}
	want := Settings{Concurrency: 64, BMCConcurrency: 128, Attempts: 3, BMCRestart: 45 * time.Second, Backoff: 10 * time.Second, HTTPPort: 8080,
		Deadlines: map[string]time.Duration{"enrolled": 5 * time.Minute}}
	if diff := cmp.Diff(want, a.Settings); diff != "" {
		t.Errorf("Settings (-want +got):\n%s", diff)
	}
}

// TestLanguage is a table of expressions and what a rack's name becomes.
func TestLanguage(t *testing.T) {
	files := map[string]string{
		"racks.csv":  "\ufeffname,height\n\"a,1\",40\n\nb2,41\n",
		"racks.json": `{"racks": [{"name": "j1"}]}`,
		"t.tmpl":     "%{ for n in names }${n}-%{ endfor }",
	}
	tests := []struct{ name, config, want string }{
		{"locals in any order", `locals { 
  a = "${local.b}!" 
  b = "b" 
}
rack "r" { name = local.a }`, "b!"},
		{"csvdecode", `rack "r" { name = join("|", [for r in csvdecode(file("racks.csv")) : "${r.name}=${r.height}"]) }`, "a,1=40|b2=41"},
		{"jsondecode", `rack "r" { name = jsondecode(file("racks.json")).racks[0].name }`, "j1"},
		{"templatefile", `rack "r" { name = templatefile("t.tmpl", { names = ["x", "y"] }) }`, "x-y-"},
		{"cidrsubnet", `rack "r" { name = cidrsubnet("10.0.0.0/8", 8, 3) }`, "10.3.0.0/16"},
		{"cidrhost from the end", `rack "r" { name = cidrhost("10.0.0.0/24", -2) }`, "10.0.0.254"},
		{"range", `rack "r" { name = join(",", range(1, 8, 3)) }`, "1,4,7"},
		{"range down", `rack "r" { name = join(",", range(3, 0, -1)) }`, "3,2,1"},
		{"range of more than 1024", `rack "r" { name = length(range(2084)) }`, "2084"},
		{"hostlist", `rack "r" { name = join(",", hostlist("a[08-10],b")) }`, "a08,a09,a10,b"},
		{"env", `rack "r" { name = env("SITE") }`, "seoul"},
		{"attribute of a block", `rack "r" { name = network.x.cidr }
network "x" { cidr = "10.9.0.0/24" }`, "10.9.0.0/24"},
		{"block by expression", `rack "r" { name = network[lower("X")].name }
network "x" { cidr = "10.9.0.0/24" }`, "x"},
		{"network from network", `rack "r" { name = network.y.cidr }
network "y" { cidr = cidrsubnet(network.x.cidr, 4, 1) }
network "x" { cidr = "10.9.0.0/16" }`, "10.9.16.0/20"},
		{"for_each over a list", `rack "r" { for_each = ["q"] }`, "q"},
		{"name from for_each", `rack "r" { 
  for_each = { k = "v" } 
  name = "${each.key}${each.value}" 
}`, "kv"},
		{"row merged", `rack "r" { name = merge(csvdecode(file("racks.csv"))[1], { height = "9" }).height }`, "9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := map[string]string{"c.hcl": tt.config}
			for k, v := range files {
				fs[k] = v
			}
			c := mustLoad(t, fs, Options{Env: envOf(map[string]string{"SITE": "seoul"})})
			got := keys(c.Racks)
			if len(got) != 1 || got[0] != tt.want {
				t.Errorf("rack is %q; want %q", got, tt.want)
			}
		})
	}
}

// TestCableRows: a cable knows the line it came from, through filters and locals.
func TestCableRows(t *testing.T) {
	c := mustLoad(t, map[string]string{
		"c.hcl": `locals {
  all = csvdecode(file("cables.csv"))
}
fabric "f" {
  link_layer = "infiniband"
  cables     = [for r in local.all : r if r.rail == "1"]
}`,
		"cables.csv": "a_device,a_port,b_device,b_port,rail\nn1,p1,leaf,1,1\nn1,p2,leaf,2,2\n\nn2,p1,\"le\naf\",3,1\nn3,p1,leaf,4,1\n",
	}, Options{})
	var got []string
	for _, x := range c.Fabrics["f"].Cables {
		got = append(got, fmt.Sprintf("%s %s:%d", x.ADevice, filepath.Base(x.Range.Filename), x.Row))
	}
	if diff := cmp.Diff([]string{"n1 cables.csv:2", "n2 cables.csv:5", "n3 cables.csv:7"}, got); diff != "" {
		t.Errorf("cables (-want +got):\n%s", diff)
	}
}

// TestCablesOfCSV: cables are the same whether or not a value is made of every cell.
func TestCablesOfCSV(t *testing.T) {
	for name, text := range map[string]string{
		"plain":        "a_device,a_port,b_device,b_port\nn1,p1,leaf,1\nn2,p1,leaf,2\n",
		"other order":  "note,b_port,a_port,a_device,b_device\nx,1,p1,n1,leaf\n\ny,2,p1,n2,leaf\n",
		"spreadsheet":  "\ufeffa_device,a_port,b_device,b_port\r\nn1, p1 ,leaf,1\r\n\"n\"\"2\",p1,\"le\naf\",2\r\nn3,p1,leaf,3",
		"header alone": "a_device,a_port,b_device,b_port\n",
	} {
		config := func(cables string) map[string]string {
			return map[string]string{"cables.csv": text, "c.hcl": "fabric \"f\" {\n  link_layer = \"infiniband\"\n  cables = " + cables + "\n}\n"}
		}
		fast := mustLoad(t, config(`csvdecode(file("cables.csv"))`), Options{}).Fabrics["f"].Cables
		slow := mustLoad(t, config(`[for r in csvdecode(file("cables.csv")) : r]`), Options{}).Fabrics["f"].Cables
		for _, list := range [][]Cable{fast, slow} {
			for i := range list {
				list[i].Range.Filename = filepath.Base(list[i].Range.Filename)
			}
		}
		if diff := cmp.Diff(slow, fast, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-by value +by row):\n%s", name, diff)
		}
	}
}

func TestNetworkAddress(t *testing.T) {
	tests := []struct{ name, body, lab, want string }{
		{"as declared", "dhcp = \"full\"\n address = \"10.10.0.9\"", "", "10.10.0.9"},
		{"first host", "dhcp = \"full\"", "", "10.10.0.1"},
		{"not the gateway", "dhcp = \"full\"\n gateway = \"10.10.0.1\"", "", "10.10.0.2"},
		{"gateway in a lab", "dhcp = \"full\"\n gateway = \"10.10.0.1\"", "lab \"l\" {}", "10.10.0.1"},
		{"controller not on it", "gateway = \"10.10.0.1\"", "", "invalid IP"},
	}
	for _, tt := range tests {
		c := mustLoad(t, map[string]string{"c.hcl": "network \"p\" {\n cidr = \"10.10.0.0/24\"\n " + tt.body + "\n}\n" + tt.lab}, Options{})
		if got := c.Networks["p"].Address.String(); got != tt.want {
			t.Errorf("%s: address is %s; want %s", tt.name, got, tt.want)
		}
	}
}

func TestStarter(t *testing.T) {
	files := map[string]string{}
	for name, body := range Starter("rack-z") {
		files[name] = string(body)
	}
	c := mustLoad(t, files, Options{})
	if c.Name != "rack-z" || len(c.Nodes) != 1 {
		t.Errorf("starter is cluster %q with %d nodes; want rack-z with 1", c.Name, len(c.Nodes))
	}
}

// abci is so many nodes from a CSV, with eight cables each.
func abci(t testing.TB, nodes int) string {
	var assets, cables strings.Builder
	assets.WriteString("hostname,unit,rack,serial,bmc,mac,ip\n")
	cables.WriteString("a_device,a_port,b_device,b_port\n")
	for i := range nodes {
		fmt.Fprintf(&assets, "hnode%03d,%d,r%03d,S%04d,10.20.%d.%d,02:00:00:00:%02x:%02x,10.10.%d.%d\n",
			i+1, i%8*5+1, i/8, i, i/200+1, i%200+1, i>>8, i&255, i/200+1, i%200+1)
		for r := range 8 {
			fmt.Fprintf(&cables, "hnode%03d,ibn%d,leaf-%03d,%d\n", i+1, r+1, i/32*8+r, i%32+1)
		}
	}
	return write(t, map[string]string{"assets.csv": assets.String(), "cables.csv": cables.String(), "image/image.hcl": "", "c.hcl": `
locals {
  assets = { for row in csvdecode(file("assets.csv")) : row.hostname => row }
}
credential "bmc" {
  username = "admin"
  password = "x"
}
network "oob" {
  cidr = "10.20.0.0/16"
}
network "provision" {
  cidr    = "10.10.0.0/16"
  gateway = "10.10.0.1"
  dhcp    = "full"
}
image "compute" {
  source = "./image"
}
hardware "h" {
  dynamic "hca" {
    for_each = range(8)
    labels   = ["ibn${hca.value + 1}"]
    content {
      rail = hca.value + 1
    }
  }
}
rack "r" {
  for_each = toset([for a in local.assets : a.rack])
}
node "hnode" {
  for_each = local.assets
  rack     = rack[each.value.rack]
  unit     = each.value.unit
  serial   = each.value.serial
  hardware = hardware.h
  image    = image.compute
  bmc {
    address    = each.value.bmc
    credential = credential.bmc
  }
  nic "boot" {
    mac     = each.value.mac
    network = network.provision
    address = each.value.ip
  }
}
fabric "f" {
  link_layer = "infiniband"
  cables     = csvdecode(file("cables.csv"))
}
`})
}

func TestLargeCluster(t *testing.T) {
	start := time.Now()
	c, src, diags := Load(abci(t, 766), Options{Env: noEnv})
	if c == nil {
		t.Fatal(text(t, src, diags))
	}
	if len(c.Nodes) != 766 || len(c.Fabrics["f"].Cables) != 6128 || c.Nodes[765].Name != "hnode766" {
		t.Errorf("loaded %d nodes, %d cables", len(c.Nodes), len(c.Fabrics["f"].Cables))
	}
	if d := time.Since(start); d > 5*time.Second { // far above what it takes, far below what quadratic work would
		t.Errorf("loading took %s", d)
	}
	if _, err := json.Marshal(c); err != nil {
		t.Error(err)
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{766, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := abci(b, n)
			for b.Loop() {
				if c, _, diags := Load(dir, Options{Env: noEnv}); c == nil {
					b.Fatal(diags[0])
				}
			}
		})
	}
}
