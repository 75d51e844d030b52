package boot

import (
	"encoding/json"
	"os"

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

func readHandover() (Handover, error) {
	var h Handover
	b, err := os.ReadFile(handoverPath)
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
