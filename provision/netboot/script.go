package netboot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"firstlight/provision/agent/api"
)

// Paths of the boot service beside api.BlobPath and /agent/.
const (
	PathScript = "/boot/script" // GET ?mac=
	PathFailed = "/boot/failed" // GET or POST ?mac=&boot=&step=&err=
	PathToken  = "/token/"      // GET <boot id>.cpio

	pathLoader = "/loader/" // GET <name>, for UEFI HTTP boot
)

// fetchTries is how often iPXE fetches a file before it reports failure, and
// how often it tries to report: 27 s of pauses outlast a controller restart.
const (
	fetchTries = 10
	fetchPause = 3 // seconds
)

// tokenName is the name that iPXE gives the token's archive; the kernel's EFI
// stub finds it by that name on iPXE's virtual file system.
const tokenName = "firstlight-token.cpio"

// scriptNone sends the node to its next boot device.
const scriptNone = `#!ipxe
echo firstlight: nothing to boot by network for this node; next boot device
exit
`

// scriptAgain makes iPXE ask once more; a few seconds apart, without end: the
// node is wanted, only the controller could not answer.
func scriptAgain(base string, mac net.HardwareAddr, why error) string {
	return fmt.Sprintf(`#!ipxe
echo firstlight: the controller cannot say what to boot: %s
sleep 5
chain --replace %s%s?mac=%s || exit
`, plain(why.Error()), base, PathScript, mac)
}

// bootScript writes the iPXE script of a boot.
//
// Debian 12's iPXE is of January 2019: no "initrd.magic", so each initrd has a
// name and the EFI stub is given "initrd=NAME" for each, in order.
func bootScript(base string, mac net.HardwareAddr, node string, b *Boot) (string, error) {
	if err := checkBoot(b); err != nil {
		return "", err
	}
	args, err := kernelArgs(base, mac, node, b)
	if err != nil {
		return "", err
	}
	var w strings.Builder
	query := url.Values{"mac": {mac.String()}, "boot": {b.BootID}}.Encode()
	fmt.Fprintf(&w, "#!ipxe\necho firstlight: %s boots %s from %s\n", plain(node), b.Kernel.Name, base)
	n := 0
	step := func(name, what, command string) {
		n++
		fmt.Fprintf(&w, "set n:int32 0\n:try%d\n%s && goto done%d ||\nset why ${errno}\ninc n\n", n, command, n)
		fmt.Fprintf(&w, "echo firstlight: cannot fetch %s (try ${n} of %d): ${why}\n", what, fetchTries)
		fmt.Fprintf(&w, "set step %s\niseq ${n} %d && goto failed ||\nsleep %d\ngoto try%d\n:done%d\n", name, fetchTries, fetchPause, n, n)
	}
	step("kernel", "the kernel "+b.Kernel.Name, fmt.Sprintf("kernel --name %s %s%s %s", b.Kernel.Name, base, blobURL(b.Kernel), args))
	for i, blob := range b.Initrds {
		step("initrd", "the initrd "+blob.Name, fmt.Sprintf("initrd --name %s %s%s", initrdName(i, blob), base, blobURL(blob)))
	}
	if b.Token != "" {
		step("token", "this boot's token", fmt.Sprintf("initrd --name %s %s%s%s.cpio?mac=%s", tokenName, base, PathToken, b.BootID, mac))
	}
	w.WriteString("boot ||\nset why ${errno}\nset step start\n")
	fmt.Fprintf(&w, ":failed\necho firstlight: this boot failed at step ${step}: ${why}; next boot device\nset n:int32 0\n")
	fmt.Fprintf(&w, ":report\nimgfetch --name report --timeout 5000 %s%s?%s&step=${step}&err=${why:uristring} && goto reported ||\n", base, PathFailed, query)
	fmt.Fprintf(&w, "inc n\niseq ${n} %d && goto reported ||\nsleep %d\ngoto report\n:reported\nimgfree\nexit 1\n", fetchTries, fetchPause)
	return w.String(), nil
}

// initrdName is unique within a boot, even when two blobs have one name.
func initrdName(i int, b Blob) string { return fmt.Sprintf("%d-%s", i, b.Name) }

func blobURL(b Blob) string { return api.BlobPath + strings.TrimPrefix(b.Digest, "sha256:") }

// kernelArgs is the command line: what the EFI stub needs, what the agent
// needs, then what the caller wants.
func kernelArgs(base string, mac net.HardwareAddr, node string, b *Boot) (string, error) {
	args := []string{"initrd=" + tokenName}
	if b.Token == "" {
		args = nil
	}
	for i := len(b.Initrds) - 1; i >= 0; i-- {
		args = append([]string{"initrd=" + initrdName(i, b.Initrds[i])}, args...)
	}
	for _, own := range []struct{ key, value string }{
		{api.ArgController, base}, {api.ArgNode, node}, {api.ArgBootID, b.BootID}, {api.ArgMAC, mac.String()},
	} {
		if !hasKey(b.Args, own.key) {
			args = append(args, own.key+"="+own.value)
		}
	}
	args = append(args, b.Args...)
	for _, a := range args {
		if a == "" || strings.ContainsFunc(a, func(c rune) bool { return c <= ' ' || c > '~' }) || strings.Contains(a, "${") {
			return "", fmt.Errorf("kernel argument %q: blanks, control characters and ${ cannot pass through iPXE", a)
		}
	}
	line := strings.Join(args, " ")
	if b.Token != "" && strings.Contains(line, b.Token) {
		return "", errors.New("the kernel arguments hold the token: it must not be on a command line")
	}
	return line, nil
}

func hasKey(args []string, key string) bool {
	for _, a := range args {
		if strings.HasPrefix(a, key+"=") {
			return true
		}
	}
	return false
}

// checkBoot refuses what would become another iPXE command or another path.
func checkBoot(b *Boot) error {
	if !isName(b.BootID) {
		return fmt.Errorf("boot id %q: only letters, digits and -_. are allowed", b.BootID)
	}
	for i, blob := range append([]Blob{b.Kernel}, b.Initrds...) {
		what := "kernel"
		if i > 0 {
			what = fmt.Sprintf("initrd %d", i)
		}
		if !isName(blob.Name) {
			return fmt.Errorf("%s: name %q: only letters, digits and -_. are allowed", what, blob.Name)
		}
		if !isDigest(blob.Digest) {
			return fmt.Errorf("%s %s: digest %q is not sha256:<64 hex digits>", what, blob.Name, blob.Digest)
		}
	}
	return nil
}

func isName(s string) bool {
	if s == "" || s[0] == '.' || s[0] == '-' || len(s) > 128 {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.", c)
	})
}

func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// plain makes a text safe to echo from a script: no control characters, and
// none that iPXE gives a meaning to.
func plain(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c < ' ' || c > '~':
			return ' '
		case strings.ContainsRune("$&|;#\\\"'", c):
			return '.'
		}
		return c
	}, s)
}

// baseURL is how nodes reach the boot service.
func baseURL(addr netip.Addr, port int) string {
	return "http://" + netip.AddrPortFrom(addr, uint16(port)).String()
}
