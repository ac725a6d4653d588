package media

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nitrino/nitrino/host"
)

// uploadPrefix begins the names of unfinished uploads; no image's name can.
const uploadPrefix = ".upload-"

// An Image is one of the library.
type Image struct {
	Name     string
	Size     int64 // bytes
	Modified time.Time
	// InUse: it is in a drive.
	InUse bool
}

// hold notes that a drive has an image of the library. A writer has it alone.
func (s *Service) hold(name string, writer bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[name]
	if u.writer || writer && u.n > 0 {
		return ErrInUse
	}
	s.users[name] = users{u.n + 1, writer}
	return nil
}

func (s *Service) unhold(name string, writer bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[name]
	if u.n--; u.n == 0 {
		delete(s.users, name)
		return
	}
	u.writer = u.writer && !writer
	s.users[name] = u
}

// Images lists the library in the order of the names.
func (s *Service) Images() ([]Image, error) {
	entries, err := os.ReadDir(s.libraryDir())
	if err != nil {
		return nil, err
	}
	var list []Image
	for _, e := range entries {
		if !validName(e.Name()) {
			continue // an upload under way
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // removed just now
		}
		if err != nil {
			return nil, err
		}
		list = append(list, s.image(info))
	}
	return list, nil
}

func (s *Service) image(info os.FileInfo) Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Image{Name: info.Name(), Size: info.Size(), Modified: info.ModTime(), InUse: s.users[info.Name()].n > 0}
}

// Put reads r into the library, in place of an image of that name that is in no
// drive. size is how many bytes have to come, -1 where nobody knows. The image
// is on the disk when Put returns nil; else nothing has changed.
func (s *Service) Put(name string, r io.Reader, size int64, from host.Origin) (_ Image, err error) {
	switch {
	case !validName(name):
		return Image{}, ErrName
	case size == 0:
		return Image{}, ErrContent
	case s.inUse(name):
		return Image{}, ErrInUse // before anything is sent in vain
	}
	f, err := os.CreateTemp(s.libraryDir(), uploadPrefix)
	if err != nil {
		return Image{}, err
	}
	up := &upload{room: &s.room, file: f}
	defer func() {
		if err != nil {
			s.room.give(up.taken)
			// It may be closed already, and what is left goes at the next start.
			_, _ = f.Close(), os.Remove(f.Name())
		}
	}()
	if size > 0 {
		if err := up.reserve(size); err != nil {
			return Image{}, err
		}
		r = io.LimitReader(r, size+1) // one more shows that it is longer
	}
	n, err := io.CopyBuffer(up, r, make([]byte, 256<<10))
	if err != nil {
		return Image{}, fmt.Errorf("upload: %w", err)
	}
	if n == 0 || size > 0 && n != size {
		return Image{}, ErrContent
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return Image{}, err
	}
	info, err := s.install(f.Name(), name)
	if err != nil {
		return Image{}, err
	}
	s.opt.Events.Add(host.Event{Kind: "media.uploaded", Origin: from, Message: fmt.Sprintf("The image %s (%d bytes) was uploaded.", name, n)})
	return s.image(info), nil
}

// An upload writes a file and takes the room for it.
type upload struct {
	room           *room
	file           *os.File
	written, taken int64
}

func (u *upload) reserve(total int64) error {
	if total <= u.taken {
		return nil
	}
	if err := u.room.take(total - u.taken); err != nil {
		return err
	}
	u.taken = total
	return nil
}

func (u *upload) Write(p []byte) (int, error) {
	if err := u.reserve(u.written + int64(len(p))); err != nil {
		return 0, err
	}
	// What was reserved was not written yet, and others may have filled the disk.
	if err := u.room.onDisk(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := u.file.Write(p)
	u.written += int64(n)
	return n, err
}

// install gives an uploaded file its name.
func (s *Service) install(file, name string) (os.FileInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[name].n > 0 {
		return nil, ErrInUse // since a moment ago
	}
	path := filepath.Join(s.libraryDir(), name)
	replaced := int64(0)
	if old, err := os.Stat(path); err == nil {
		replaced = old.Size()
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.Rename(file, path); err != nil {
		return nil, err
	}
	s.room.give(replaced)
	if err := s.syncLibrary(); err != nil {
		return nil, err
	}
	return os.Stat(path)
}

// syncLibrary puts the library's names on the disk.
func (s *Service) syncLibrary() error {
	dir, err := os.Open(s.libraryDir())
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Remove deletes an image that is in no drive.
func (s *Service) Remove(name string, from host.Origin) error {
	if err := s.remove(name); err != nil {
		return err
	}
	s.opt.Events.Add(host.Event{Kind: "media.removed", Origin: from, Message: fmt.Sprintf("The image %s was removed.", name)})
	return nil
}

func (s *Service) remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !validName(name) {
		return ErrNotFound
	}
	if s.users[name].n > 0 {
		return ErrInUse
	}
	path := filepath.Join(s.libraryDir(), name)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return ErrNotFound
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return err
	}
	s.room.give(info.Size())
	return s.syncLibrary()
}

// OpenImage opens an image to read it. It goes on where the image is removed
// meanwhile.
func (s *Service) OpenImage(name string) (io.ReadSeekCloser, Image, error) {
	if !validName(name) {
		return nil, Image{}, ErrNotFound
	}
	f, err := os.Open(filepath.Join(s.libraryDir(), name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, Image{}, ErrNotFound
	}
	if err != nil {
		return nil, Image{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, Image{}, errors.Join(err, f.Close())
	}
	return f, s.image(info), nil
}

func (s *Service) inUse(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[name].n > 0
}
