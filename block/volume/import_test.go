package volume

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/qcow2"
)

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	must(z.Write(data))(t)
	ok(t, z.Close())
	return b.Bytes()
}

func zstdPacked(t *testing.T, data []byte) []byte {
	t.Helper()
	z := must(zstd.NewWriter(nil))(t)
	defer z.Close()
	return z.EncodeAll(data, nil)
}

func xzPacked(t *testing.T, data []byte, c xz.WriterConfig) []byte {
	t.Helper()
	var b bytes.Buffer
	z := must(c.NewWriter(&b))(t)
	must(z.Write(data))(t)
	ok(t, z.Close())
	return b.Bytes()
}

func asQcow2(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	ok(t, qcow2.Write(t.Context(), &b, &memory{data: data}, func(int64, int64) {}))
	return b.Bytes()
}

func sum(p []byte) string {
	s := sha256.Sum256(p)
	return hex.EncodeToString(s[:])
}

func TestImport(t *testing.T) {
	// Data, a hole, data that ends within a grain.
	plain := append(append(pattern(1, 300_032), make([]byte, mib)...), pattern(2, 5120)...)
	odd := plain[:len(plain)-100]
	oddWhole := append(bytes.Clone(odd), make([]byte, 100)...)
	gz := gzipped(t, plain)
	for _, tt := range []struct {
		name    string
		stream  []byte
		request block.ImportRequest
		want    []byte
		err     error
	}{
		{"raw", plain, block.ImportRequest{}, plain, nil},
		{"raw as a disk", plain, block.ImportRequest{Kind: block.KindDisk}, plain, nil},
		{"not whole sectors", odd, block.ImportRequest{}, oddWhole, nil},
		{"4k blocks", plain[:5120], block.ImportRequest{BlockSize: 4096}, append(bytes.Clone(plain[:5120]), make([]byte, 3072)...), nil},
		{"of CD blocks", plain[:3*2048], block.ImportRequest{}, append(bytes.Clone(plain[:3*2048]), make([]byte, 2048)...), nil},
		{"of another size", plain[:5120], block.ImportRequest{Size: 5120}, plain[:5120], nil},
		{"one byte", []byte{7}, block.ImportRequest{}, append([]byte{7}, make([]byte, 511)...), nil},
		{"gzip", gz, block.ImportRequest{}, plain, nil},
		{"gzip in two members", append(gzipped(t, plain[:1000]), gzipped(t, plain[1000:])...), block.ImportRequest{}, plain, nil},
		{"zstd", zstdPacked(t, plain), block.ImportRequest{}, plain, nil},
		{"xz", xzPacked(t, plain, xz.WriterConfig{}), block.ImportRequest{}, plain, nil},
		{"xz with CRC32, in blocks", xzPacked(t, plain, xz.WriterConfig{CheckSum: xz.CRC32, BlockSize: 100_000}), block.ImportRequest{}, plain, nil},
		{"xz with SHA-256", xzPacked(t, plain, xz.WriterConfig{CheckSum: xz.SHA256}), block.ImportRequest{}, plain, nil},
		{"xz with no check", xzPacked(t, plain, xz.WriterConfig{NoCheckSum: true}), block.ImportRequest{}, plain, nil},
		{"xz in two streams with padding", slices.Concat(xzPacked(t, plain[:1000], xz.WriterConfig{}), make([]byte, 8), xzPacked(t, plain[1000:], xz.WriterConfig{})), block.ImportRequest{}, plain, nil},
		{"qcow2", asQcow2(t, plain), block.ImportRequest{}, plain, nil},
		{"qcow2 packed", zstdPacked(t, asQcow2(t, plain)), block.ImportRequest{}, plain, nil},
		{"qcow2 said to be raw", asQcow2(t, plain), block.ImportRequest{Format: "raw"}, asQcow2(t, plain), nil},
		{"larger", plain, block.ImportRequest{Size: 4 * mib}, append(bytes.Clone(plain), make([]byte, 4*mib-len(plain))...), nil},
		{"its sum and length", gz, block.ImportRequest{SHA256: strings.ToUpper(sum(gz)), Length: int64(len(gz))}, plain, nil},

		{"another sum", plain, block.ImportRequest{SHA256: sum(gz)}, nil, ErrContent},
		{"no sum", plain, block.ImportRequest{SHA256: "abc"}, nil, ErrRequest},
		{"too short", plain, block.ImportRequest{Length: int64(len(plain)) + 1}, nil, ErrContent},
		{"too long", plain, block.ImportRequest{Length: int64(len(plain)) - 1}, nil, ErrContent},
		{"smaller", plain, block.ImportRequest{Size: mib}, nil, ErrRequest},
		{"empty", nil, block.ImportRequest{}, nil, ErrContent},
		{"gzip of nothing", gzipped(t, nil), block.ImportRequest{}, nil, ErrContent},
		{"raw said to be qcow2", plain, block.ImportRequest{Format: "qcow2"}, nil, ErrContent},
		{"half a qcow2", asQcow2(t, plain)[:200_000], block.ImportRequest{}, nil, ErrContent},
		{"a format nobody knows", plain, block.ImportRequest{Format: "vmdk"}, nil, ErrRequest},
		{"a snapshot", plain, block.ImportRequest{Kind: block.KindSnapshot}, nil, ErrRequest},
		{"half a gzip", gz[:len(gz)/2], block.ImportRequest{}, nil, ErrContent},
		{"gzip and more", append(bytes.Clone(gz), 1, 2, 3), block.ImportRequest{}, nil, ErrContent},
		{"half an xz", xzPacked(t, plain, xz.WriterConfig{})[:100_000], block.ImportRequest{}, nil, ErrContent},
		{"xz without its end", xzPacked(t, plain[:100], xz.WriterConfig{})[:130], block.ImportRequest{}, nil, ErrContent},
		{"half a zstd", zstdPacked(t, plain)[:100_000], block.ImportRequest{}, nil, ErrContent},
		{"xz with a wrong check", flip(xzPacked(t, plain[:100], xz.WriterConfig{}), 130), block.ImportRequest{}, nil, ErrContent},
		{"xz with an odd window", largeWindow(xzPacked(t, plain[:100], xz.WriterConfig{}), 40), block.ImportRequest{}, nil, errors.ErrUnsupported},
		{"xz with a large window", largeWindow(xzPacked(t, plain[:100], xz.WriterConfig{}), 28), block.ImportRequest{}, nil, errors.ErrUnsupported},
		{"zstd with a lying window", []byte("\x28\xb5\x2f\xfd\x00\xf8rubbish..."), block.ImportRequest{}, nil, ErrContent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := openAt(t, quickFolder(t), nil)
			tt.request.Name, tt.request.Source = "i", "a test"
			var told int64
			info, err := w.Import(t.Context(), tt.request, bytes.NewReader(tt.stream), func(done, total int64) { told = done })
			w.incomingEmpty(t)
			if tt.err != nil {
				wantErr(t, err, tt.err)
				if len(w.List()) != 0 || len(w.layerFiles(t)) != 0 {
					t.Errorf("after an error there are %q and layers %q", w.names(), w.layerFiles(t))
				}
				return
			}
			ok(t, err)
			if told != int64(len(tt.stream)) || info.Source != "a test" {
				t.Errorf("got progress %d and source %q, want %d and %q", told, info.Source, len(tt.stream), "a test")
			}
			if tt.request.Size == 0 { // up to whole grains
				tt.want = append(bytes.Clone(tt.want), make([]byte, -len(tt.want)&(grain-1))...)
			}
			w.same(t, "i", tt.want)
			if tt.request.Kind == block.KindDisk {
				w.write(t, "i", pattern(9, 512), 0)
				wantErr(t, w.Verify(t.Context(), "i"), errors.ErrUnsupported)
				return
			}
			ok(t, w.Verify(t.Context(), "i"))
			if free := info.Size - info.Used; len(tt.want) > mib && free < mib-64<<10 {
				t.Errorf("of %d bytes %d take room: the hole is not one", info.Size, info.Used)
			}
		})
	}
}

func flip(p []byte, at int) []byte {
	p[min(at, len(p)-1)] ^= 1
	return p
}

// largeWindow has the first block's header of an xz file ask for so much memory: 28 is
// 64 MiB, 40 is 4 GiB.
func largeWindow(p []byte, size byte) []byte {
	h := p[12 : 12+(int(p[12])+1)*4]
	h[4] = size
	binary.LittleEndian.PutUint32(h[len(h)-4:], crc32.ChecksumIEEE(h[:len(h)-4]))
	return p
}

func TestImportEnds(t *testing.T) {
	w := openAt(t, t.TempDir(), nil)
	broken := errors.New("the network is gone")
	_, err := w.Import(t.Context(), block.ImportRequest{Name: "i"}, io.MultiReader(bytes.NewReader(pattern(1, mib)), iotest.ErrReader(broken)), nil)
	wantErr(t, err, broken)
	_, err = w.Import(t.Context(), block.ImportRequest{Name: "i"}, io.MultiReader(bytes.NewReader(gzipped(t, pattern(1, mib))[:5000]), iotest.ErrReader(broken)), nil)
	wantErr(t, err, broken)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = w.Import(ctx, block.ImportRequest{Name: "i"}, zeroReader{}, func(done, _ int64) {
		if done > mib {
			cancel()
		}
	})
	wantErr(t, err, context.Canceled)
	// While one comes its name is taken.
	r, pipe := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := w.Import(t.Context(), block.ImportRequest{Name: "i"}, r, nil)
		done <- err
	}()
	must(pipe.Write(make([]byte, 512)))(t)
	_, err = w.Create(t.Context(), block.CreateRequest{Name: "i", Size: mib})
	wantErr(t, err, ErrExists)
	ok(t, pipe.Close())
	ok(t, <-done)
	w.same(t, "i", make([]byte, grain))
	w.incomingEmpty(t)
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestImportLeftover: what a kill left of an import is gone at the next start.
func TestImportLeftover(t *testing.T) {
	dir := t.TempDir()
	ok(t, openAt(t, dir, nil).Close())
	ok(t, os.WriteFile(filepath.Join(dir, "incoming", "X"), pattern(1, mib), 0o600))
	ok(t, os.WriteFile(filepath.Join(dir, "layers", "X.raw"), pattern(1, mib), 0o400))
	w := openAt(t, dir, nil)
	w.incomingEmpty(t)
	if got := w.layerFiles(t); len(got) != 0 {
		t.Errorf("layers has %q", got)
	}
}

func TestGolden(t *testing.T) {
	w := openAt(t, t.TempDir(), nil)
	data := pattern(1, mib)
	w.image(t, "golden", data)
	w.create(t, block.CreateRequest{Name: "c", Clone: "golden"})
	w.write(t, "c", pattern(2, mib), 0)
	d, release, err := w.Use("golden")
	ok(t, err)
	wantErr(t, d.Writev([][]byte{make([]byte, 512)}, 0, false), block.ErrReadOnly)
	wantErr(t, d.Discard(0, 512), block.ErrReadOnly)
	release()
	wantErr(t, w.Resize(t.Context(), "golden", 2*mib), block.ErrReadOnly)
	_, err = w.Snapshot(t.Context(), "golden", "s")
	wantErr(t, err, ErrRequest)
	paths, err := filepath.Glob(filepath.Join(w.dir, "layers", "*.raw"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("got %q, %v, want one raw file", paths, err)
	}
	if mode := must(os.Stat(paths[0]))(t).Mode(); mode != 0o400 {
		t.Errorf("the image's mode is %v, want %v", mode, os.FileMode(0o400))
	}
	if got := must(os.ReadFile(paths[0]))(t); !bytes.Equal(got, data) {
		t.Error("the image has changed")
	}
	ok(t, w.Verify(t.Context(), "golden"))
	// Somebody else's hands.
	ok(t, os.Chmod(paths[0], 0o600))
	ok(t, os.WriteFile(paths[0], flip(data, 777), 0o600))
	wantErr(t, w.Verify(t.Context(), "golden"), block.ErrMedium)
	_, release, err = w.Use("golden") // to save what can be saved
	ok(t, err)
	release()
	if info := must(w.Get("golden"))(t); info.Failed == "" {
		t.Error("the image is not marked as failed")
	}
}

func TestExport(t *testing.T) {
	w := openAt(t, t.TempDir(), nil)
	golden := append(append(pattern(1, 5120), make([]byte, 3*mib)...), pattern(2, 512)...)
	odd := block.ImportRequest{Name: "golden", Size: int64(len(golden))} // no whole grains
	must(w.Import(t.Context(), odd, bytes.NewReader(golden), nil))(t)
	w.create(t, block.CreateRequest{Name: "d", Clone: "golden"})
	w.write(t, "d", pattern(3, 512), 512)
	want := map[string][]byte{"golden": golden, "d": with(golden, pattern(3, 512), 512)}
	must(w.Snapshot(t.Context(), "d", "s"))(t)
	want["s"] = want["d"]
	w.create(t, block.CreateRequest{Name: "empty", Size: 4 * mib})
	want["empty"] = make([]byte, 4*mib)
	for name, data := range want {
		var b bytes.Buffer
		var told int64
		ok(t, w.Export(t.Context(), name, "raw", &b, func(done, _ int64) { told = done }))
		if !bytes.Equal(b.Bytes(), data) || told != int64(len(data)) {
			t.Errorf("%s: got other %d bytes, progress %d, want %d", name, b.Len(), told, len(data))
		}
		b.Reset()
		ok(t, w.Export(t.Context(), name, "qcow2", &b, nil))
		must(w.Import(t.Context(), block.ImportRequest{Name: "copy-" + name, Size: int64(len(data))}, &b, nil))(t)
		w.same(t, "copy-"+name, data)
	}
	wantErr(t, w.Export(t.Context(), "d", "vmdk", io.Discard, nil), ErrRequest)
	wantErr(t, w.Export(t.Context(), "absent", "raw", io.Discard, nil), ErrNotFound)
	broken := errors.New("the reader has gone")
	wantErr(t, w.Export(t.Context(), "d", "raw", failingWriter{broken}, nil), broken)
	// What the exports have frozen is merged.
	w.mergeAll(t.Context())
	clean(t, w)
	w.same(t, "d", want["d"])
	if got := len(w.layers); got != len(w.volumes) {
		t.Errorf("there are %d layers for %d volumes", got, len(w.volumes))
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

// TestExportMoment: a disk that is written to meanwhile is exported as it was at
// the beginning, and its snapshot can be deleted.
func TestExportMoment(t *testing.T) {
	w := openAt(t, t.TempDir(), nil)
	w.run(t)
	w.create(t, block.CreateRequest{Name: "d", Size: mib})
	was := pattern(1, mib)
	w.write(t, "d", was, 0)
	d, release, err := w.Use("d")
	ok(t, err)
	defer release()
	r, pipe := io.Pipe()
	done := make(chan error)
	go func() { done <- errors.Join(w.Export(t.Context(), "d", "raw", pipe, nil), pipe.Close()) }()
	got := make([]byte, mib)
	must(io.ReadFull(r, got[:512]))(t)
	now := pattern(2, mib)
	ok(t, d.Writev([][]byte{now}, 0, false))
	must(io.ReadFull(r, got[512:]))(t)
	ok(t, <-done)
	if !bytes.Equal(got, was) {
		t.Error("the export has what was written after it began")
	}
	eventually(t, "one layer was left", func() bool { return w.layerCount() == 1 })
	w.same(t, "d", now)
}

func FuzzXZ(f *testing.F) {
	for _, c := range []xz.WriterConfig{{}, {CheckSum: xz.CRC32, BlockSize: 64}, {CheckSum: xz.SHA256}} {
		var b bytes.Buffer
		z, err := c.NewWriter(&b)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := z.Write(bytes.Repeat([]byte("data"), 50)); err != nil {
			f.Fatal(err)
		}
		if err := z.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		ours, err := io.ReadAll(io.LimitReader(newXZ(bufioReader(p)), mib))
		if err != nil || len(ours) == mib {
			return
		}
		// What this reader takes, the module's takes too, and reads the same.
		z, err := xz.NewReader(bytes.NewReader(p))
		if err != nil {
			if len(ours) == 0 {
				return // no stream at all
			}
			t.Fatalf("xz does not take it: %v", err)
		}
		theirs, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Fatalf("got %d bytes, xz reads %d, %v", len(ours), len(theirs), err)
		}
	})
}

func bufioReader(p []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(p)) }
