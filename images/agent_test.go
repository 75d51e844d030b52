package images

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckAgent(t *testing.T) {
	dir := t.TempDir()
	good := testAgent(t, dir)
	if err := checkAgent(good); err != nil {
		t.Errorf("checkAgent of a static program: %v", err)
	}
	elf, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// e_machine is at offset 18 of the ELF header, e_type at 16.
	arm := append([]byte(nil), elf...)
	arm[18] = 183
	object := append([]byte(nil), elf...)
	object[16] = 1
	dynamic, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if sh, err := os.Stat("/bin/ls"); err == nil && sh.Mode().IsRegular() {
		dynamic = "/bin/ls"
	}
	for _, c := range []struct{ path, want string }{
		{filepath.Join(dir, "gone"), "gone does not exist: run make build"},
		{dir, "is not a regular file"},
		{write("script", []byte("#!/bin/sh\n")), "script is not an ELF program"},
		{write("arm", arm), "arm is for EM_AARCH64 (ELFCLASS64), nodes are EM_X86_64 (ELFCLASS64): build it with GOARCH=amd64"},
		{write("object", object), "object is ET_REL, not a program: run make build"},
		{dynamic, "is dynamically linked and cannot run as PID 1: build it with CGO_ENABLED=0"},
	} {
		// Through the builder: nothing else may be tried first.
		b := &Builder{Store: Store{Dir: filepath.Join(dir, "store")}, Cache: filepath.Join(dir, "cache"), Agent: c.path}
		if _, err := b.BringUp(context.Background()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("BringUp with agent %s: error = %v; want %q", c.path, err, c.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "cache")); err == nil {
		t.Error("a build without a usable agent made a cache")
	}
}
