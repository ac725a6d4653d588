package sim

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const bootIDFile = "boot-id"

// bootID returns the name of this power-up of the simulated board, which is
// kept in dir: it stays until dropBootID, or until the computer restarts.
func bootID(dir string) (string, error) {
	kernel, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the kernel's boot ID: %w", err)
	}
	current := strings.TrimSpace(string(kernel))
	path := filepath.Join(dir, bootIDFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if of, id, ok := strings.Cut(strings.TrimSpace(string(text)), " "); ok && of == current && id != "" {
		return id, nil
	}
	id := rand.Text()
	if err := os.WriteFile(path+".new", []byte(current+" "+id+"\n"), 0o600); err != nil {
		return "", err
	}
	return id, os.Rename(path+".new", path)
}

// dropBootID ends this power-up.
func dropBootID(dir string) error {
	err := os.Remove(filepath.Join(dir, bootIDFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
