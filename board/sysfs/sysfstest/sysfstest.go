// Package sysfstest makes folders that look like a machine's /sys, /proc and
// /dev, for tests.
package sysfstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Root makes a temporary folder with the entries, one a line: "PATH" is a
// folder, "PATH = TEXT" a file (with \0 for a zero byte), "PATH -> TARGET" a
// link, whose target is relative to the root if it begins with "/".
func Root(t *testing.T, entries ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, all := range entries {
		for line := range strings.Lines(all) {
			if line = strings.TrimSpace(line); line != "" {
				add(t, root, line)
			}
		}
	}
	return root
}

func add(t *testing.T, root, line string) {
	t.Helper()
	var err error
	if name, target, ok := strings.Cut(line, " -> "); ok {
		if strings.HasPrefix(target, "/") {
			target = filepath.Join(root, target)
		}
		err = os.Symlink(target, parent(t, root, name))
	} else if name, text, ok := strings.Cut(line, " = "); ok {
		err = os.WriteFile(parent(t, root, name), []byte(strings.ReplaceAll(text, `\0`, "\x00")), 0o600)
	} else {
		err = os.MkdirAll(filepath.Join(root, line), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// parent makes the folder that name is in, and returns name below the root.
func parent(t *testing.T, root, name string) string {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
