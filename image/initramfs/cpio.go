package initramfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// A File is one entry of an archive: a regular file, a folder or a symbolic
// link, by its mode's type. Its owner is root, its time is the epoch.
type File struct {
	// Name is the path without a leading slash, "bin/uinit".
	Name string
	// Mode is the type and the permissions.
	Mode fs.FileMode
	// Data is a file's content or a link's target.
	Data []byte
}

const (
	// The format is "newc" of cpio(5), which is what the kernel reads
	// (Documentation/driver-api/early-userspace/buffer-format.rst): a header of
	// a magic number and 13 numbers in eight hexadecimal digits each, the name,
	// the data, name and data filled up to four bytes.
	magic      = "070701"
	headerSize = len(magic) + 13*8
	trailer    = "TRAILER!!!"
	// blockSize is what an archive is filled up to with zeros, so that another
	// can follow it.
	blockSize = 512

	typeMask   = 0o170000
	typeFile   = 0o100000
	typeFolder = 0o040000
	typeLink   = 0o120000

	// maxName is the kernel's PATH_MAX: it skips entries with longer names.
	maxName = 4096
)

// Archive writes files as an archive for the kernel to unpack, in the given
// order, with the folders above each made before it. A second archive may be
// appended to it. The same files give the same bytes.
func Archive(files []File) ([]byte, error) {
	w := writer{made: map[string]bool{".": true}}
	for _, f := range files {
		if err := w.add(f); err != nil {
			return nil, err
		}
	}
	w.entry(trailer, 0, 1, nil)
	w.pad(blockSize)
	return w.out, nil
}

type writer struct {
	out   []byte
	inode uint32
	made  map[string]bool
}

func (w *writer) add(f File) error {
	if !fs.ValidPath(f.Name) || f.Name == "." || f.Name == trailer || len(f.Name) >= maxName {
		return fmt.Errorf("archive: %q cannot be a file's name", f.Name)
	}
	if len(f.Data) > 1<<31 {
		return fmt.Errorf("archive: %s is larger than 2 GiB", f.Name)
	}
	if w.made[f.Name] {
		if f.Mode.IsDir() {
			return nil
		}
		return fmt.Errorf("archive: %s is there twice", f.Name)
	}
	if above := path.Dir(f.Name); !w.made[above] {
		if err := w.add(File{Name: above, Mode: fs.ModeDir | 0o755}); err != nil {
			return err
		}
	}
	w.made[f.Name] = true
	mode := uint32(f.Mode.Perm())
	switch f.Mode.Type() {
	case 0:
		w.entry(f.Name, mode|typeFile, 1, f.Data)
	case fs.ModeDir:
		w.entry(f.Name, mode|typeFolder, 2, nil)
	case fs.ModeSymlink:
		w.entry(f.Name, mode|typeLink, 1, f.Data)
	default:
		return fmt.Errorf("archive: %s has type %v", f.Name, f.Mode.Type())
	}
	return nil
}

// entry writes one entry. An inode of its own for each says that none is a hard
// link of another.
func (w *writer) entry(name string, mode uint32, links int, data []byte) {
	w.inode++
	w.out = fmt.Appendf(w.out, "%s%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		magic, w.inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	w.pad(4)
	w.out = append(w.out, data...)
	w.pad(4)
}

func (w *writer) pad(to int) {
	for len(w.out)%to != 0 {
		w.out = append(w.out, 0)
	}
}

var errArchive = errors.New("not a newc archive")

// readArchive is the reverse of Archive, for what mkuimage wrote: one archive,
// without device nodes and hard links.
func readArchive(data []byte) ([]File, error) {
	var files []File
	for at := 0; ; {
		if len(data)-at < headerSize || string(data[at:at+len(magic)]) != magic {
			return nil, fmt.Errorf("%w: no header at %d", errArchive, at)
		}
		field := func(n int) (int, error) { return number(data[at+len(magic)+8*n:][:8]) }
		mode, err1 := field(1)
		size, err2 := field(6)
		nameSize, err3 := field(11)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("%w: header at %d: %w", errArchive, at, err)
		}
		start := at + headerSize
		begin := align(start + nameSize)
		if nameSize < 1 || nameSize > maxName || begin > len(data) || size > len(data)-begin {
			return nil, fmt.Errorf("%w: the entry at %d is cut off", errArchive, at)
		}
		name, ok := strings.CutSuffix(string(data[start:start+nameSize]), "\x00")
		if !ok {
			return nil, fmt.Errorf("%w: the name at %d has no end", errArchive, at)
		}
		if name == trailer {
			return files, nil
		}
		f := File{Name: name, Mode: fs.FileMode(mode & 0o777), Data: data[begin : begin+size]}
		switch mode & typeMask {
		case typeFile:
		case typeFolder:
			f.Mode |= fs.ModeDir
		case typeLink:
			f.Mode |= fs.ModeSymlink
		default:
			return nil, fmt.Errorf("%w: %q has mode %o", errArchive, name, mode)
		}
		files = append(files, f)
		at = align(begin + size)
		if at > len(data) {
			return nil, fmt.Errorf("%w: it has no end", errArchive)
		}
	}
}

// number reads eight hexadecimal digits.
func number(text []byte) (int, error) {
	n := 0
	for _, c := range text {
		digit := strings.IndexByte("0123456789abcdef", c|0x20)
		if digit < 0 {
			return 0, fmt.Errorf("%q is not a number", text)
		}
		n = n<<4 | digit
	}
	return n, nil
}

func align(n int) int { return (n + 3) &^ 3 }
