package inventory

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
)

// inputs records everything a configuration was made from.
type inputs struct {
	lines map[string]struct{}
}

// file records a file by the name the configuration gives it, so that the
// digest does not depend on where the directory lies.
func (in *inputs) file(name string, text []byte) {
	in.add("file", name, sha256.Sum256(text))
}

func (in *inputs) variable(name, value string) {
	in.add("variable", name, sha256.Sum256([]byte(value)))
}

// secret records a value that must not be guessable from the digest: a
// short password can be searched for in a plain hash, so it is stretched.
func (in *inputs) secret(what, name, value string) {
	const rounds = 20000
	key, err := pbkdf2.Key(sha256.New, value, []byte("firstlight inventory "+what+" "+name), rounds, sha256.Size)
	if err != nil { // only in FIPS mode, for a short key: leave the value out rather than weaken it
		key = make([]byte, sha256.Size)
	}
	in.add(what, name, [sha256.Size]byte(key))
}

func (in *inputs) add(what, name string, sum [sha256.Size]byte) {
	in.lines[fmt.Sprintf("%s %q %s", what, name, hex.EncodeToString(sum[:]))] = struct{}{}
}

func (in *inputs) digest() string {
	lines := make([]string, 0, len(in.lines))
	for l := range in.lines {
		lines = append(lines, l)
	}
	sort.Strings(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return "sha256:" + hex.EncodeToString(sum[:])
}
