package initramfs

import (
	"bytes"
	"io"
	"testing"

	"github.com/pierrec/lz4/v4"
)

func TestCompress(t *testing.T) {
	// Lengths about the kernel's limits: the end of a block of 8 MiB, and each
	// rest of a division by the size of the zeros at the end.
	lengths := []int{0, 8<<20 - 1, 8 << 20, 8<<20 + 1}
	for n := range 16 {
		lengths = append(lengths, 4000+97*n)
	}
	for _, n := range lengths {
		archive := make([]byte, n)
		for i := range archive {
			archive[i] = byte(i * i >> 7)
		}
		got, err := Compress(archive)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Compress(archive)
		if err != nil || !bytes.Equal(got, again) {
			t.Errorf("%d bytes packed twice are not the same, %v", n, err)
		}
		// lib/decompress_unlz4.c: 0x184C2102, little endian.
		if !bytes.HasPrefix(got, []byte{0x02, 0x21, 0x4c, 0x18}) {
			t.Errorf("%d bytes: packed they begin with % x", n, got[:4])
		}
		if len(got)%blockSize != 0 || !bytes.HasSuffix(got, make([]byte, 4)) {
			t.Errorf("%d bytes: packed they are %d, and end in % x", n, len(got), got[len(got)-4:])
		}
		unpacked := make([]byte, n)
		if _, err := io.ReadFull(lz4.NewReader(bytes.NewReader(got)), unpacked); err != nil || !bytes.Equal(unpacked, archive) {
			t.Errorf("%d bytes: unpacked they are others, %v", n, err)
		}
	}
}
