package inventory

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHostlist(t *testing.T) {
	tests := []struct {
		expr string
		want []string
		fold string // what Fold gives back; "" when it is expr
	}{
		{expr: "login", want: []string{"login"}},
		{expr: "n[1-3]", want: []string{"n1", "n2", "n3"}},
		{expr: "n[08-11]", want: []string{"n08", "n09", "n10", "n11"}},
		{expr: "n[9-11]", want: []string{"n9", "n10", "n11"}},
		{expr: "n[001-003,007]", want: []string{"n001", "n002", "n003", "n007"}},
		{expr: "a1,b2", want: []string{"a1", "b2"}},
		{expr: "n[2,1]", want: []string{"n2", "n1"}, fold: "n[1-2]"},
		{expr: "n1,n01", want: []string{"n1", "n01"}, fold: "n01,n1"},
		{expr: "r[1-2]n[1-2]", want: []string{"r1n1", "r1n2", "r2n1", "r2n2"}, fold: "r1n[1-2],r2n[1-2]"},
		{expr: "n[1-2]-ib", want: []string{"n1-ib", "n2-ib"}},
		{expr: "a, b", want: []string{"a", "b"}, fold: "a,b"},
	}
	for _, tt := range tests {
		got, err := Hostlist(tt.expr)
		if err != nil {
			t.Errorf("Hostlist(%q): %v", tt.expr, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Hostlist(%q) (-want +got):\n%s", tt.expr, diff)
		}
		want := tt.fold
		if want == "" {
			want = tt.expr
		}
		if back := Fold(got); back != want {
			t.Errorf("Fold(%q) = %q; want %q", got, back, want)
		}
	}
}

func TestHostlistMistakes(t *testing.T) {
	tests := []struct{ expr, want string }{
		{"", "empty name"},
		{"a,,b", "empty name"},
		{"n[1-", "never closed"},
		{"n1]", "']' without '['"},
		{"n[[1]]", "inside brackets"},
		{"n[3-1]", "runs backwards"},
		{"n[a-b]", "not a number or a range"},
		{"n[]", "not a number or a range"},
		{"n[1-999999]", "more than 65536"},
		{"n[0-999][0-999]", "more than 65536"},
		{"n[1-99999999999999999999]", "not a number or a range"},
	}
	for _, tt := range tests {
		got, err := Hostlist(tt.expr)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Hostlist(%q) = %d names, %v; want an error with %q", tt.expr, len(got), err, tt.want)
		}
	}
}

func TestNatural(t *testing.T) {
	names := []string{"n10", "n2", "n02", "a", "n", "n2b", "n2a", "N1"}
	slices.SortFunc(names, natural)
	if diff := cmp.Diff([]string{"N1", "a", "n", "n02", "n2", "n2a", "n2b", "n10"}, names); diff != "" {
		t.Errorf("natural order (-want +got):\n%s", diff)
	}
}

// selectCluster has four nodes in two racks; the last has no hardware class.
func selectCluster() *Cluster {
	c := &Cluster{Racks: map[string]*Rack{"a01": {Name: "a01"}, "a02": {Name: "a02"}}, Hardware: map[string]*Hardware{"h200x8": {Name: "h200x8"}},
		Images: map[string]*Image{"compute": {Name: "compute"}, "login": {Name: "login"}}}
	for i, name := range []string{"hnode001", "hnode002", "hnode003"} {
		c.Nodes = append(c.Nodes, &Node{Name: name, Rack: c.Racks[[]string{"a01", "a01", "a02"}[i]], Hardware: c.Hardware["h200x8"], Image: c.Images["compute"]})
	}
	c.Nodes = append(c.Nodes, &Node{Name: "login", Rack: c.Racks["a02"], Image: c.Images["login"]})
	return c
}

// TestWithout holds what exclusions leave of targets.
func TestWithout(t *testing.T) {
	c := selectCluster()
	tests := []struct {
		targets, exclude []string
		want, err        string
	}{
		{nil, nil, "hnode[001-003],login", ""},
		{nil, []string{"hnode002"}, "hnode[001,003],login", ""},
		{nil, []string{"rack=a01", "login"}, "hnode003", ""},
		{[]string{"hardware=h200x8"}, []string{"hnode[001-002]"}, "hnode003", ""},
		{[]string{"rack=a01"}, []string{"login"}, "hnode[001-002]", ""},
		{[]string{"rack=a01"}, []string{"hardware=h200x8"}, "", ErrNoneLeft.Error()},
		{nil, []string{"hnode009"}, "", `exclude "hnode009": no node hnode009 is declared; did you mean "hnode001"?`},
		{nil, []string{"rack=a09"}, "", `exclude "rack=a09": no rack "a09" is declared`},
	}
	for _, tt := range tests {
		nodes, err := c.Select(tt.targets)
		if err != nil {
			t.Fatal(err)
		}
		nodes, err = c.Without(nodes, tt.exclude)
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		if got := Fold(names); got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q without %q = %q, %v; want %q, %q", tt.targets, tt.exclude, got, err, tt.want, tt.err)
		}
	}
}

func TestSelect(t *testing.T) {
	c := selectCluster()
	tests := []struct {
		targets []string
		want    string
	}{
		{nil, "hnode[001-003],login"},
		{[]string{"login", "hnode001"}, "hnode001,login"},
		{[]string{"hnode[001-002]", "hnode002"}, "hnode[001-002]"},
		{[]string{"rack=a02"}, "hnode003,login"},
		{[]string{"rack=a[01-02]"}, "hnode[001-003],login"},
		{[]string{"hardware=h200x8"}, "hnode[001-003]"},
		{[]string{"image=login"}, "login"},
		{[]string{"image=login", "hnode002"}, "hnode002,login"},
	}
	for _, tt := range tests {
		nodes, err := c.Select(tt.targets)
		if err != nil {
			t.Errorf("Select(%q): %v", tt.targets, err)
			continue
		}
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		if got := Fold(names); got != tt.want {
			t.Errorf("Select(%q) = %s; want %s", tt.targets, got, tt.want)
		}
	}
	mistakes := []struct{ target, want string }{
		{"hnode01", `target "hnode01": no node hnode01 is declared; did you mean "hnode001"?`},
		{"hnode[002-005]", `target "hnode[002-005]": no node hnode[004-005] is declared`},
		{"a01", `did you mean "rack=a01"?`},
		{"rack=a03", `no rack "a03" is declared; did you mean "a01"?`},
		{"rak=a01", `nodes are selected by rack=NAME, hardware=NAME or image=NAME, not by "rak"`},
		{"h200x8", `did you mean "hardware=h200x8"?`},
		{"compute", `did you mean "image=compute"?`},
		{"hardware=h100x8", `no hardware "h100x8" is declared; did you mean "h200x8"?`},
		{"image=b01", `no image "b01" is declared`},
		{"hnode[1", `'[' is never closed`},
	}
	for _, tt := range mistakes {
		if nodes, err := c.Select([]string{tt.target}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Select(%q) = %d nodes, %v; want an error with %q", tt.target, len(nodes), err, tt.want)
		}
	}
}

func FuzzHostlist(f *testing.F) {
	for _, s := range []string{"n[1-3]", "n[001-003,7]x", "a,b", "[", "n[9-11]", "r[1-2]n[01-02]", "n1,n01,n001", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		names, err := Hostlist(expr)
		if err != nil {
			return
		}
		folded := Fold(names)
		for _, n := range names {
			if strings.ContainsAny(n, "[], ") || n != strings.TrimSpace(n) {
				return // not a host name; Fold leaves it as it is
			}
		}
		back, err := Hostlist(folded)
		if err != nil {
			t.Fatalf("Fold(%q) = %q, which does not expand: %v", names, folded, err)
		}
		slices.Sort(names)
		slices.Sort(back)
		if diff := cmp.Diff(slices.Compact(names), back); diff != "" {
			t.Fatalf("Fold(%q) = %q, which expands to others:\n%s", names, folded, diff)
		}
	})
}
