package initramfs

import (
	"bytes"
	"io/fs"
	"reflect"
	"strings"
	"testing"
)

// golden is what GNU cpio -H newc writes for the same files, but for inode
// numbers and times.
const golden = "" +
	"07070100000001000041ED000000000000000000000002000000000000000000000000000000000000000000000000000000040000000" +
	"0bin\x00\x00\x00" +
	"07070100000002000081ED000000000000000000000001000000000000000500000000000000000000000000000000000000080000000" +
	"0bin/one\x00\x00\x00hello\x00\x00\x00" +
	"070701000000030000A1FF000000000000000000000001000000000000000700000000000000000000000000000000000000050000000" +
	"0init\x00\x00bin/one\x00" +
	"0707010000000400000000000000000000000000000001000000000000000000000000000000000000000000000000000000" +
	"0B00000000TRAILER!!!\x00\x00\x00\x00"

func sample() []File {
	return []File{
		{Name: "bin/one", Mode: 0o755, Data: []byte("hello")},
		{Name: "init", Mode: fs.ModeSymlink | 0o777, Data: []byte("bin/one")},
	}
}

func TestArchive(t *testing.T) {
	got, err := Archive(sample())
	if err != nil {
		t.Fatal(err)
	}
	if len(got)%blockSize != 0 {
		t.Errorf("%d bytes, want whole blocks of %d", len(got), blockSize)
	}
	if text := strings.TrimRight(string(got), "\x00") + "\x00\x00\x00\x00"; text != golden {
		t.Errorf("got\n%q\nwant\n%q", text, golden)
	}
}

func TestArchiveIsReadBack(t *testing.T) {
	data, err := Archive(sample())
	if err != nil {
		t.Fatal(err)
	}
	got, err := readArchive(data)
	want := append([]File{{Name: "bin", Mode: fs.ModeDir | 0o755, Data: []byte{}}}, sample()...)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestArchiveRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []File
	}{
		{"a name from the root", []File{{Name: "/init"}}},
		{"a name out of the root", []File{{Name: "../init"}}},
		{"no name", []File{{Name: ""}}},
		{"the name of the end", []File{{Name: trailer}}},
		{"a name too long", []File{{Name: strings.Repeat("x", maxName)}}},
		{"a file twice", []File{{Name: "a"}, {Name: "a"}}},
		{"a device", []File{{Name: "null", Mode: fs.ModeDevice | 0o666}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if data, err := Archive(tt.files); err == nil {
				t.Errorf("got %d bytes, want an error", len(data))
			}
		})
	}
}

func TestReadArchiveRefuses(t *testing.T) {
	whole, err := Archive(sample())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"nothing", nil},
		{"another format", bytes.Replace(whole, []byte(magic), []byte("070707"), 1)},
		{"no number", bytes.Replace(whole, []byte("000041ED"), []byte("0000xyzw"), 1)},
		{"a device", bytes.Replace(whole, []byte("000041ED"), []byte("000061ED"), 1)},
		{"cut in a header", whole[:300]},
		{"cut in a file", whole[:250]},
		{"without an end", whole[:len(golden)-headerSize-len(trailer)-4]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if files, err := readArchive(tt.data); err == nil {
				t.Errorf("got %d files, want an error", len(files))
			}
		})
	}
}

// FuzzReadArchive: what can be read and written again is read as the same.
func FuzzReadArchive(f *testing.F) {
	whole, err := Archive(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(golden))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := readArchive(data)
		if err != nil {
			return
		}
		again, err := Archive(files)
		if err != nil {
			return // a name that Archive refuses
		}
		got, err := readArchive(again)
		if err != nil {
			t.Fatalf("written again: %v", err)
		}
		for _, file := range files {
			found := false
			for _, g := range got {
				found = found || g.Name == file.Name && g.Mode == file.Mode && (file.Mode.IsDir() || bytes.Equal(g.Data, file.Data))
			}
			// A folder named twice is written once, with its first mode.
			if !found && !file.Mode.IsDir() {
				t.Fatalf("%s is lost", file.Name)
			}
		}
	})
}
