package images

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// checkAgent refuses a binary that the kernel could not run as PID 1 of an
// initramfs that holds nothing else: another architecture's, or one that needs
// a dynamic loader.
func checkAgent(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the agent %s does not exist: run make build", path)
	}
	if err != nil {
		return fmt.Errorf("the agent: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("the agent %s is not a regular file", path)
	}
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("the agent %s is not an ELF program: %w; run make build", path, err)
	}
	defer f.Close()
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("the agent %s is for %s (%s), nodes are EM_X86_64 (ELFCLASS64): build it with GOARCH=amd64", path, f.Machine, f.Class)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return fmt.Errorf("the agent %s is %s, not a program: run make build", path, f.Type)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("the agent %s is dynamically linked and cannot run as PID 1: build it with CGO_ENABLED=0", path)
		}
	}
	return nil
}
