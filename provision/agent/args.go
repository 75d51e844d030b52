package agent

import (
	"fmt"
	"strings"

	"firstlight/provision/agent/api"
)

// Args is what the controller told this boot on the kernel command line.
type Args struct {
	Controller string `json:"controller"` // base URL
	Node       string `json:"node"`
	BootID     string `json:"boot_id"`
	Kind       string `json:"kind"`  // api.BootBringUp or api.BootImage
	MAC        string `json:"mac"`   // of the boot NIC, lower case
	Image      string `json:"image"` // manifest digest, sha256:<hex>
	Root       string `json:"root"`  // root file system digest, sha256:<hex>, or ""
}

// ParseArgs reads the api.Arg… keys of a kernel command line. The last of a
// repeated key holds, as in the kernel. The error names every key that is
// missing or wrong; Args holds what could be read even then.
func ParseArgs(cmdline string) (Args, error) {
	var a Args
	keys := []struct {
		key      string
		to       *string
		required bool
	}{
		{api.ArgController, &a.Controller, true},
		{api.ArgNode, &a.Node, true},
		{api.ArgBootID, &a.BootID, true},
		{api.ArgKind, &a.Kind, true},
		{api.ArgMAC, &a.MAC, true},
		{api.ArgImage, &a.Image, false},
		{api.ArgRoot, &a.Root, false},
	}
	for _, word := range strings.Fields(cmdline) {
		k, v, _ := strings.Cut(word, "=")
		for _, key := range keys {
			if k == key.key {
				*key.to = v
			}
		}
	}
	a.MAC = strings.ToLower(a.MAC)
	a.Controller = strings.TrimRight(a.Controller, "/")
	var wrong []string
	for _, key := range keys {
		if key.required && *key.to == "" {
			wrong = append(wrong, key.key+" is missing")
		}
	}
	if a.Kind != "" && a.Kind != api.BootBringUp && a.Kind != api.BootImage {
		wrong = append(wrong, fmt.Sprintf("%s=%q is neither %q nor %q", api.ArgKind, a.Kind, api.BootBringUp, api.BootImage))
	}
	if a.Root != "" && !isSHA256(a.Root) {
		wrong = append(wrong, fmt.Sprintf("%s=%q is not sha256:<64 hex digits>", api.ArgRoot, a.Root))
	}
	if wrong != nil {
		return a, fmt.Errorf("kernel command line: %s", strings.Join(wrong, "; "))
	}
	return a, nil
}

func isSHA256(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}
