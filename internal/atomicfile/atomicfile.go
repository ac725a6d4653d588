// Package atomicfile replaces files whole: a reader, and a board that comes up
// after a power cut, sees the old content or the new one, never a part and
// never nothing.
//
// It holds on file systems whose rename replaces atomically (ext4, tmpfs).
// FAT's does not: there a cut can leave either name or both, so what must
// survive on FAT is overwritten in place instead.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Temporary files carry both, so that Clean never takes another's file.
const (
	tempPrefix = ".atomicfile-"
	tempSuffix = ".tmp"
)

// Write makes path hold data, with the mode perm (before umask). It is on the
// disk when Write returns nil; on an error the old file is as it was, except
// that an error from syncing the folder leaves it open which of the two a
// power cut would show. A symbolic link at path is replaced, not followed.
// Of concurrent writers to one path the last one to rename wins.
func Write(path string, data []byte, perm os.FileMode) error {
	dir := filepath.Dir(path)
	// The same folder, since rename is atomic only within a file system.
	temp := filepath.Join(dir, tempPrefix+rand.Text()+tempSuffix)
	if err := writeSync(temp, data, perm); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, errors.Join(reason(err), removeIfThere(temp)))
	}
	// Without this the rename itself may be lost at a power cut.
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// Clean removes from dir the temporary files that a crash within Write left
// behind. Call it before the first Write into dir: it cannot tell a leftover
// from the file of a Write that is under way.
func Clean(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cleaning %s: %w", dir, err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) && strings.HasSuffix(e.Name(), tempSuffix) && e.Type().IsRegular() {
			if err := removeIfThere(filepath.Join(dir, e.Name())); err != nil {
				errs = append(errs, fmt.Errorf("cleaning %s: %w", dir, err))
			}
		}
	}
	return errors.Join(errs...)
}

// reason takes the temporary name, which means nothing to who reads it, out of
// an error.
func reason(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}

// writeSync makes a new file that is on the disk, or none.
func writeSync(path string, data []byte, perm os.FileMode) error {
	// O_EXCL also refuses a symbolic link that somebody planted.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return reason(err)
	}
	_, err = f.Write(data)
	if err == nil {
		// Before the rename, else a power cut can leave the new name with
		// no content behind it.
		err = f.Sync()
	}
	if err = errors.Join(reason(err), reason(f.Close())); err != nil {
		return errors.Join(err, removeIfThere(path))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
