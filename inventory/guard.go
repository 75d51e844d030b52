package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Limits that keep hostile input from exhausting the stack of the recursive
// parser or the memory of the evaluator. No inventory written by a person or
// a sane generator comes near them.
const (
	maxFile     = 64 << 20 // bytes of one file
	maxDepth    = 200      // nested brackets and templates
	maxOperands = 2000     // operators and steps in one attribute, between commas
	maxExponent = 4        // digits in the exponent of a number
)

// guard refuses source that the parser would recurse too deeply for.
func guard(src []byte, file string) *hcl.Diagnostic {
	if len(src) > maxFile {
		return &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "File too large",
			Detail:  fmt.Sprintf("%s has %d bytes; the limit is %d.", file, len(src), maxFile),
			Subject: &hcl.Range{Filename: file, Start: hcl.InitialPos, End: hcl.InitialPos},
		}
	}
	if strings.HasSuffix(file, ".json") {
		return guardJSON(src, file)
	}
	tokens, _ := hclsyntax.LexConfig(src, file, hcl.InitialPos)
	return guardTokens(tokens)
}

// guardTemplate is guard for the text of a template.
func guardTemplate(src []byte, file string) *hcl.Diagnostic {
	tokens, _ := hclsyntax.LexTemplate(src, file, hcl.InitialPos)
	return guardTokens(tokens)
}

func guardTokens(tokens hclsyntax.Tokens) *hcl.Diagnostic {
	depth, operands, controls := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			depth++
			operands++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen,
			hclsyntax.TokenTemplateSeqEnd, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			depth--
		case hclsyntax.TokenTemplateControl:
			depth++
			controls++
		case hclsyntax.TokenComma, hclsyntax.TokenNewline:
			operands = 0
		case hclsyntax.TokenNumberLit:
			if _, exp, ok := strings.Cut(strings.ToLower(string(t.Bytes)), "e"); ok &&
				len(strings.TrimLeft(exp, "+-0")) > maxExponent {
				return tooMuch("Number too large", "The exponent of this number has more digits than any quantity needs.", t.Range)
			}
		case hclsyntax.TokenIdent, hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
		default:
			operands++
		}
		switch {
		case depth > maxDepth:
			return tooMuch("Nested too deeply", fmt.Sprintf("Brackets, strings and templates nest deeper than %d here.", maxDepth), t.Range)
		case operands > maxOperands || controls > maxOperands:
			return tooMuch("Expression too long", fmt.Sprintf("One expression has more than %d operators here.", maxOperands), t.Range)
		}
	}
	return nil
}

func tooMuch(summary, detail string, rng hcl.Range) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &rng}
}

// guardJSON walks the tokens of a JSON file and the templates in its strings.
// Broken JSON passes: the parser says what is wrong with it.
func guardJSON(src []byte, file string) *hcl.Diagnostic {
	depth, text := 0, false
	for _, c := range src { // outside strings first: the token reader below recurses as well
		switch {
		case c == '"':
			text = !text
		case text:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
		if depth > maxDepth {
			return tooMuch("Nested too deeply", fmt.Sprintf("Brackets nest deeper than %d.", maxDepth),
				hcl.Range{Filename: file, Start: hcl.InitialPos, End: hcl.InitialPos})
		}
	}
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	for {
		t, err := dec.Token()
		if err != nil {
			return nil
		}
		whole := hcl.Range{Filename: file, Start: hcl.InitialPos, End: hcl.InitialPos}
		switch t := t.(type) {
		case json.Number:
			if _, exp, ok := strings.Cut(strings.ToLower(t.String()), "e"); ok &&
				len(strings.TrimLeft(exp, "+-0")) > maxExponent {
				return tooMuch("Number too large", "The exponent of a number has more digits than any quantity needs.", whole)
			}
		case string:
			if d := guardTemplate([]byte(t), file); d != nil {
				d.Subject = &whole
				return d
			}
		}
	}
}
