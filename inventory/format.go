package inventory

import (
	"bytes"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns an HCL file in the canonical layout. File is its name, for
// diagnostics; a JSON file is returned as it is. A file that does not parse
// is an error and is not changed.
func Format(src []byte, file string) ([]byte, hcl.Diagnostics) {
	if d := guard(src, file); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	if strings.HasSuffix(file, ".json") {
		_, diags := parseConfig(src, file)
		return src, diags
	}
	if _, diags := hclsyntax.ParseConfig(src, file, hcl.InitialPos); diags.HasErrors() {
		return nil, diags
	}
	out := hclwrite.Format(src)
	// Some comments and odd spacing settle only on a further pass.
	for range 3 {
		again := hclwrite.Format(out)
		if bytes.Equal(again, out) {
			break
		}
		out = again
	}
	return out, nil
}
