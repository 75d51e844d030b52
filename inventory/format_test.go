package inventory

import "testing"

// TestFormatLeavesAlone: what the layout would turn into something else, found
// by FuzzFormat, is left as it is.
func TestFormatLeavesAlone(t *testing.T) {
	for _, src := range []string{
		"locals {\n  h =01. rack.a.01. 1.nehtrack.a\n}\n", // two indexes would become a number
	} {
		got, diags := Format([]byte(src), "a.hcl")
		if diags.HasErrors() || string(got) != src {
			t.Errorf("Format(%q) = %q, %v; want it unchanged", src, got, diags)
		}
	}
	if got, _ := Format([]byte("rack \"a\"   {\nheight=42 # units\n}\n"), "a.hcl"); string(got) != "rack \"a\" {\n  height = 42 # units\n}\n" {
		t.Errorf("Format lays out as %q", got)
	}
}
