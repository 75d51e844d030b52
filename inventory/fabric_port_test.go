package inventory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadThrough(t *testing.T) {
	c := mustLoad(t, map[string]string{"f.hcl": `
fabric "a" {
  link_layer   = "infiniband"
  read_through = ["mlx5_0", "mlx5_3/2"]
}
fabric "b" {
  link_layer   = "infiniband"
  read_through = ["ibsim:lab", "ibsim:lab/hnode001 mlx5_0"]
}
fabric "c" {
  link_layer = "infiniband"
}
`}, Options{})
	want := map[string][]FabricPort{
		"a": {{Port: "mlx5_0"}, {Port: "mlx5_3/2"}},
		"b": {{Simulated: true, Socket: "lab"}, {Simulated: true, Socket: "lab", Port: "hnode001 mlx5_0"}},
		"c": nil,
	}
	for name, ports := range want {
		var got []FabricPort
		for _, text := range c.Fabrics[name].ReadThrough {
			got = append(got, ParseFabricPort(text))
		}
		if diff := cmp.Diff(ports, got); diff != "" {
			t.Errorf("fabric %q is read through (-want +got):\n%s", name, diff)
		}
	}
}
