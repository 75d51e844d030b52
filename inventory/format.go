package inventory

import (
	"bytes"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns an HCL file in the canonical layout. File is its name, for
// diagnostics; a JSON file is returned as it is. A file that does not parse
// is an error and is not changed. One whose layout would change what it says
// is returned as it is too.
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
	if !sameTokens(src, out) {
		return src, nil
	}
	return out, nil
}

// sameTokens reports whether two texts differ in layout and comments only. The
// formatter joins what it takes for one token: "a.0 .1" becomes "a.0.1", which
// is something else.
func sameTokens(a, b []byte) bool {
	lex := func(src []byte) hclsyntax.Tokens {
		tokens, _ := hclsyntax.LexConfig(src, "", hcl.InitialPos)
		return slices.DeleteFunc(tokens, func(t hclsyntax.Token) bool {
			return t.Type == hclsyntax.TokenComment || t.Type == hclsyntax.TokenNewline
		})
	}
	return slices.EqualFunc(lex(a), lex(b), func(x, y hclsyntax.Token) bool {
		return x.Type == y.Type && bytes.Equal(x.Bytes, y.Bytes)
	})
}
