// Package cache keeps what takes long to build in folders named by the hash of
// all that went into it.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	lockFile   = "lock"
	tempPrefix = "making-"
	// poll is how often a held lock is tried again: flock cannot be waited for
	// together with a context.
	poll = 200 * time.Millisecond
)

// Folder returns the path of root/name. If there is none, fill is given an empty
// folder beside it to fill, which is then renamed: a kill leaves no half result,
// and of two builds at once, of this process or others, the second waits and
// takes the first one's result. waiting, if not nil, is called once when another
// build is under way under this root.
func Folder(ctx context.Context, root, name string, waiting func(), fill func(dir string) error) (string, error) {
	done := filepath.Join(root, name)
	if there, err := isFolder(done); there || err != nil {
		return done, err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("making the cache: %w", err)
	}
	lock, err := acquire(ctx, filepath.Join(root, lockFile), waiting)
	if err != nil {
		return "", fmt.Errorf("waiting for %s: %w", root, err)
	}
	defer lock.Close() // which unlocks it, as the end of the process does
	if there, err := isFolder(done); there || err != nil {
		return done, err
	}
	if err := clean(root); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(root, tempPrefix)
	if err != nil {
		return "", fmt.Errorf("making the cache: %w", err)
	}
	if err := fillAndRename(temp, done, fill); err != nil {
		return "", errors.Join(err, os.RemoveAll(temp))
	}
	return done, nil
}

func fillAndRename(temp, done string, fill func(dir string) error) error {
	if err := fill(temp); err != nil {
		return err
	}
	// MkdirTemp's folders are for their owner alone.
	if err := os.Chmod(temp, 0o755); err != nil {
		return fmt.Errorf("keeping %s: %w", done, err)
	}
	if err := os.Rename(temp, done); err != nil {
		return fmt.Errorf("keeping %s: %w", done, err)
	}
	return nil
}

func isFolder(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}

// clean removes what builds that were killed left. Only who holds the lock may.
func clean(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("cleaning the cache: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			errs = append(errs, os.RemoveAll(filepath.Join(root, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func acquire(ctx context.Context, path string, waiting func()) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for first := true; ; first = false {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(poll):
		}
	}
}
