package inventory

import (
	"bytes"
	"embed"
	"io/fs"
	"strings"
)

//go:embed starter
var starterFiles embed.FS

// Starter returns the files of a first inventory for a cluster of that name,
// by their path in the configuration directory: a commented inventory that
// loads without errors, for a person to edit.
func Starter(name string) map[string][]byte {
	if !hostName.MatchString(name) {
		name = "rack-a"
	}
	out := map[string][]byte{}
	// The walk is over files compiled in: it cannot fail.
	_ = fs.WalkDir(starterFiles, "starter", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := starterFiles.ReadFile(path)
		if err == nil {
			out[strings.TrimPrefix(path, "starter/")] = bytes.ReplaceAll(text, []byte("CLUSTER-NAME"), []byte(name))
		}
		return err
	})
	return out
}
