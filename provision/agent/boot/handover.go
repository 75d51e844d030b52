package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"firstlight/provision/agent"
)

const (
	handoverPath = runDir + "/firstlight/boot.json"
	bootLogPath  = runDir + "/firstlight/boot.log"
)

// Handover is what the initramfs tells the image that it boots, in
// /run/firstlight/boot.json, mode 0600.
type Handover struct {
	Args       agent.Args `json:"args"`
	Token      string     `json:"token,omitempty"` // unused yet; gone once the image has read it
	Address    string     `json:"address"`
	RootDigest string     `json:"root_digest"` // as measured, sha256:<hex>
}

func readHandover() (Handover, error) { return readHandoverFile(handoverPath) }

func readHandoverFile(path string) (Handover, error) {
	var h Handover
	b, err := os.ReadFile(path)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(b, &h)
}

func (h Handover) write() error {
	b, err := json.MarshalIndent(h, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(handoverPath, append(b, '\n'), 0o600)
}

// forget takes the token off the file system. The rest stays for
// `firstlight-agent check`.
func (h Handover) forget() error {
	h.Token = ""
	return h.write()
}

// ReadFacts is what the handover under root says of the boot, for checks from
// a shell. Without a handover, firstlight did not boot an image here: nothing
// is known, and that is no error.
func ReadFacts(root string) (agent.Boot, error) {
	path := filepath.Join(root, handoverPath)
	h, err := readHandoverFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return agent.Boot{}, nil
	}
	if err != nil {
		return agent.Boot{}, fmt.Errorf("%s: %w", path, err)
	}
	return agent.Boot{MAC: h.Args.MAC, Kind: h.Args.Kind, RootDeclared: h.Args.Root, RootMeasured: h.RootDigest}, nil
}
