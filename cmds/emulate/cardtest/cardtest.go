// Package cardtest makes small cards for tests of what reads them.
package cardtest

import (
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

// Size is the card's: a power of two, as QEMU wants it.
const Size = 128 << 20

// Sectors says where partition n begins and how long it is.
func Sectors(n int) (start, size uint32) {
	start = uint32(2048 + (n-1)*80000)
	return start, 80000
}

// New makes a card with FAT32 partitions 1 to 3 that hold these files, by
// partition and path, and returns its path.
func New(t testing.TB, parts map[int]map[string][]byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "card.img")
	d, err := diskfs.Create(name, Size, diskfs.SectorSizeDefault)
	if err != nil {
		t.Fatal(err)
	}
	table := &mbr.Table{}
	for n := range 3 {
		start, size := Sectors(n + 1)
		table.Partitions = append(table.Partitions, &mbr.Partition{Index: n + 1, Type: mbr.Fat32LBA, Start: start, Size: size})
	}
	if err := d.Partition(table); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		fs, err := d.CreateFilesystem(disk.FilesystemSpec{Partition: n + 1, FSType: filesystem.TypeFat32, VolumeLabel: "TEST"})
		if err != nil {
			t.Fatal(err)
		}
		for name, content := range parts[n+1] {
			write(t, fs, name, content)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func write(t testing.TB, fs filesystem.FileSystem, name string, content []byte) {
	t.Helper()
	if dir := path.Dir(name); dir != "." {
		if err := fs.Mkdir(dir); err != nil {
			t.Fatal(err)
		}
	}
	f, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(content) > 0 {
		if _, err := f.Write(content); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Damage overwrites what is at the offset in partition n with zeros.
func Damage(t testing.TB, card string, n int, offset, size int64) {
	t.Helper()
	start, _ := Sectors(n)
	f, err := os.OpenFile(card, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, size), int64(start)*512+offset); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
