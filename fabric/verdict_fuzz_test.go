package fabric

import (
	"strings"
	"testing"

	"firstlight/inventory"
)

// tinySite is two nodes with two rails, two leaves and a spine.
func tinySite() *inventory.Cluster {
	hw := &inventory.Hardware{Name: "h", HCAs: []inventory.HCA{{Name: "ibn1", Rail: 1, Device: "mlx5_0"}, {Name: "ibn2", Rail: 2, Device: "mlx5_1"}}}
	c := &inventory.Cluster{Nodes: []*inventory.Node{{Name: "n1", Hardware: hw}, {Name: "n2", Hardware: hw}}}
	f := &inventory.Fabric{Name: "f", LinkLayer: "infiniband", Rate: inventory.LinkRate{BitsPerSecond: 400e9, Text: "NDR"}, Cables: []inventory.Cable{
		{ADevice: "n1", APort: "ibn1", BDevice: "leaf-01", BPort: "1"}, {ADevice: "n1", APort: "ibn2", BDevice: "leaf-02", BPort: "1"},
		{ADevice: "n2", APort: "ibn1", BDevice: "leaf-01", BPort: "2"}, {ADevice: "n2", APort: "ibn2", BDevice: "leaf-02", BPort: "2"},
		{ADevice: "leaf-01", APort: "3", BDevice: "spine-01", BPort: "1"}, {ADevice: "leaf-02", APort: "3", BDevice: "spine-01", BPort: "2"},
	}}
	c.Fabrics = map[string]*inventory.Fabric{"f": f}
	return c
}

// FuzzVerdict holds any dump against a small inventory. It may find what it
// likes, in a sentence for each.
func FuzzVerdict(f *testing.F) {
	text, _ := simNet()
	f.Add(text)
	f.Add(strings.NewReplacer("hnode001", "n1", "hnode002", "n2").Replace(text))
	f.Add("Ca 2 \"H-0000000000000001\" # \"n1 mlx5_0\"\n[1] \"H-0000000000000002\"[1] # \"n1 mlx5_1\" lid 1 4xNDR\n[2] \"H-0000000000000002\"[2] # \"n1\" lid 1 4xNDR\n")
	f.Add("Switch 3 \"S-0000000000000001\" # \"leaf-01\" base port 0 lid 1 lmc 0\n[1] \"S-0000000000000001\"[2] # \"leaf-01\" lid 1 4xNDR\n[3] \"H-0000000000000002\"[1] # \"n2\" lid 1 1xSDR\n")
	c := tinySite()
	d := Declare(c, c.Fabrics["f"])
	f.Fuzz(func(t *testing.T, dump string) {
		o, err := ParseNetDiscover(strings.NewReader(dump))
		if err != nil {
			return
		}
		for _, v := range []Verdict{d.Verify(o, Known{}), Structural(o)} {
			for _, x := range v.Findings {
				if x.Class == "" || x.Message == "" || x.Action == "" || x.Node == "" || len(x.Ports) == 0 {
					t.Errorf("a finding lacks something: %+v", x)
				}
			}
		}
	})
}
