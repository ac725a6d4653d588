package sdcard

import (
	"bytes"
	"errors"
	"io/fs"
	"os"

	"github.com/diskfs/go-diskfs/backend"
)

// An image is a file as go-diskfs wants it. It writes only what changes, so that
// the zeros of new file systems stay holes.
type image struct{ *os.File }

var errNoDevice = errors.New("an image is no device")

// Sys keeps go-diskfs from calling the system: an image needs no ioctl, and it
// is synced once, by who asked for it.
func (i image) Sys() (*os.File, error) { return nil, errNoDevice }

func (i image) Writable() (backend.WritableFile, error) { return i, nil }
func (i image) Path() string                            { return i.Name() }

func (i image) WriteAt(p []byte, at int64) (int, error) {
	const block = 4096
	old := make([]byte, min(len(p), mib))
	for n := 0; n < len(p); {
		old = old[:min(len(p)-n, len(old))]
		// A new image's file has its size from the start: nothing is behind it.
		if _, err := i.File.ReadAt(old, at+int64(n)); err != nil {
			return n, err
		}
		for k := 0; k < len(old); k += block {
			part := p[n+k : n+min(k+block, len(old))]
			if bytes.Equal(old[k:k+len(part)], part) {
				continue
			}
			if _, err := i.File.WriteAt(part, at+int64(n+k)); err != nil {
				return n + k, err
			}
		}
		n += len(old)
	}
	return len(p), nil
}

// A sub is a part of an image as a file of its own.
type sub struct {
	image
	start, size int64
}

func (s sub) Writable() (backend.WritableFile, error) { return s, nil }
func (s sub) ReadAt(p []byte, at int64) (int, error)  { return s.image.ReadAt(p, s.start+at) }
func (s sub) WriteAt(p []byte, at int64) (int, error) { return s.image.WriteAt(p, s.start+at) }
func (s sub) Stat() (fs.FileInfo, error)              { return s.image.Stat() }
