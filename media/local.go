package media

import (
	"errors"
	"io"
	"os"
)

// A content is a medium that can be taken away from who reads it.
type content interface {
	io.ReaderAt
	io.WriterAt
	Size() int64
	Flush() error
	// interrupt makes calls under way, and later ones, fail soon.
	interrupt()
	// close ends the use, after the last call. keep: the next run goes on.
	close(keep bool) error
}

// A local is an image of the library.
type local struct {
	file *os.File
	size int64
	done func() // gives the image back
}

func openLocal(path string, writable bool, done func()) (*local, error) {
	flags := os.O_RDONLY
	if writable {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &local{f, info.Size(), done}, nil
}

func (l *local) ReadAt(p []byte, off int64) (int, error)  { return l.file.ReadAt(p, off) }
func (l *local) WriteAt(p []byte, off int64) (int, error) { return l.file.WriteAt(p, off) }
func (l *local) Size() int64                              { return l.size }
func (l *local) Flush() error                             { return l.file.Sync() }
func (l *local) interrupt()                               {}

// close gives the image back, unless the next run has it again.
func (l *local) close(keep bool) error {
	if !keep {
		l.done()
	}
	return l.file.Close()
}
