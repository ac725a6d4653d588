package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestFolder(t *testing.T) {
	root := filepath.Join(t.TempDir(), "new", "root")
	fills := 0
	fill := func(dir string) error {
		fills++
		return os.WriteFile(filepath.Join(dir, "x"), []byte("1"), 0o644)
	}
	for range 2 {
		dir, err := Folder(t.Context(), root, "abc", nil, fill)
		if err != nil || dir != filepath.Join(root, "abc") {
			t.Fatalf("Folder: %q, %v", dir, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "x")); err != nil {
			t.Error(err)
		}
	}
	if fills != 1 {
		t.Errorf("filled %d times, want once", fills)
	}
}

// TestFailureLeavesNothing: neither a failed build nor the rest of a killed one
// is taken for a result, and both are removed.
func TestFailureLeavesNothing(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, tempPrefix+"killed"), 0o755); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	_, err := Folder(t.Context(), root, "abc", nil, func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o644); err != nil {
			t.Error(err)
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got error %v, want %v", err, broken)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != lockFile {
		t.Errorf("left behind: %v", entries)
	}
}

// TestTwoAtOnce: the second waits for the first and takes its result.
func TestTwoAtOnce(t *testing.T) {
	root := t.TempDir()
	var fills, waits atomic.Int32
	started, waited := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := Folder(t.Context(), root, "abc", nil, func(string) error {
			fills.Add(1)
			close(started)
			<-waited
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-started
	wg.Go(func() {
		_, err := Folder(t.Context(), root, "abc", func() { waits.Add(1); close(waited) }, func(string) error {
			fills.Add(1)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if fills.Load() != 1 || waits.Load() != 1 {
		t.Errorf("filled %d times, waited %d times; want once each", fills.Load(), waits.Load())
	}
}

func TestGivesUpWithItsContext(t *testing.T) {
	root := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Folder(ctx, root, "a", nil, func(string) error {
		_, err := Folder(ctx, root, "b", cancel, func(string) error { return nil })
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
