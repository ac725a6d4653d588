//go:build e2e

package volume

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block"
)

// TestFullCard fills a real file system of 32 MiB; it needs root to mount it.
func TestFullCard(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Fatalf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { ok(t, unix.Unmount(dir, 0)) })
	w := openAt(t, dir, nil)
	t.Cleanup(func() { ok(t, w.Close()) })
	_, err := w.Import(t.Context(), block.ImportRequest{Name: "large"}, bytes.NewReader(pattern(1, 40*mib)), nil)
	wantErr(t, err, block.ErrNoSpace)
	w.incomingEmpty(t)
	golden := pattern(2, 8*mib)
	w.image(t, "golden", golden)
	w.create(t, block.CreateRequest{Name: "raw", Size: 64 * mib})
	w.create(t, block.CreateRequest{Name: "cow", Clone: "golden", Size: 64 * mib})
	written := map[string]int{}
	for _, name := range []string{"raw", "cow"} {
		d, release, err := w.Use(name)
		ok(t, err)
		defer release()
		for n := 0; ; n++ {
			if name == "raw" && n == 12*16 {
				break // room for the other
			}
			if err := d.Writev([][]byte{pattern(uint64(n), 64<<10)}, int64(n)<<16, true); err != nil {
				wantErr(t, err, block.ErrNoSpace)
				break
			}
			written[name]++
		}
		ok(t, d.Flush())
	}
	if written["cow"] < 8*16 || written["cow"] > 12*16 {
		t.Errorf("cow took %d MiB, want about 11", written["cow"]/16)
	}
	if got := w.kinds(); !slices.Contains(got, "volume.full") {
		t.Errorf("got events %q, want one of the full card", got)
	}
	_, err = w.Snapshot(t.Context(), "raw", "s")
	wantErr(t, err, block.ErrNoSpace)
	for name, n := range written {
		got := w.contents(t, name)
		for i := range n {
			if !bytes.Equal(got[i<<16:(i+1)<<16], pattern(uint64(i), 64<<10)) {
				t.Fatalf("%s: what was written at %d is not there", name, i<<16)
			}
		}
	}
	ok(t, w.Verify(t.Context(), "golden"))
	if err := w.Delete(t.Context(), "raw"); !errors.Is(err, ErrInUse) {
		t.Errorf("got error %v, want %v", err, ErrInUse)
	}
}
