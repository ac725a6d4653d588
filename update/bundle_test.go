package update

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nitrino/nitrino/update/manifest"
)

// key makes a private key that is the same each time.
func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// content is what the files of the tests' bundles hold.
func content() map[string][]byte {
	return map[string][]byte{
		"config.txt":           []byte("arm_64bit=1\n"),
		"kernel8.img":          bytes.Repeat([]byte("kernel "), 30000),
		"overlays/empty.dtbo":  {},
		"overlays/gadget.dtbo": bytes.Repeat([]byte{7}, 512),
	}
}

func document(t testing.TB, version string, files map[string][]byte) []byte {
	t.Helper()
	hash := func(data []byte) string {
		sum := sha256.Sum256(data)
		return hex.EncodeToString(sum[:])
	}
	m := manifest.Manifest{
		Format: manifest.Format, Version: version, Revision: "0123abc", Arch: "arm64", Cmdline: "quiet",
		Components: []manifest.Component{{Name: "all", Version: "1", Source: "test", SHA256: hash(nil)}},
	}
	for _, name := range []string{"config.txt", "kernel8.img", "overlays/empty.dtbo", "overlays/gadget.dtbo"} {
		if data, ok := files[name]; ok {
			m.Files = append(m.Files, manifest.File{Name: name, Component: "all", Size: int64(len(data)), SHA256: hash(data)})
		}
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func opener(files map[string][]byte) func(string) (io.Reader, error) {
	return func(name string) (io.Reader, error) { return bytes.NewReader(files[name]), nil }
}

func bundle(t testing.TB, version string, keys ...ed25519.PrivateKey) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, document(t, version, content()), opener(content()), keys...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func options(keys ...ed25519.PrivateKey) Options {
	o := Options{Arch: "arm64", Running: "0.2.0"}
	for _, k := range keys {
		o.Keys = append(o.Keys, public(k))
	}
	return o
}

func TestVerify(t *testing.T) {
	for _, tt := range []struct {
		name, version string
		signed        []ed25519.PrivateKey
		trusted       []ed25519.PrivateKey
		downgrade     bool
	}{
		{"one key", "0.3.0", []ed25519.PrivateKey{key(1)}, []ed25519.PrivateKey{key(1)}, false},
		{"the second of both", "0.3.0", []ed25519.PrivateKey{key(1), key(2)}, []ed25519.PrivateKey{key(3), key(2)}, false},
		{"the same version", "0.2.0", []ed25519.PrivateKey{key(1)}, []ed25519.PrivateKey{key(1)}, false},
		{"an older version", "0.1.9", []ed25519.PrivateKey{key(1)}, []ed25519.PrivateKey{key(1)}, true},
		{"a version before the release", "0.2.0-rc1", []ed25519.PrivateKey{key(1)}, []ed25519.PrivateKey{key(1)}, true},
		{"a later one by number", "0.10.0", []ed25519.PrivateKey{key(1)}, []ed25519.PrivateKey{key(1)}, false},
		{"no version at all", "banana", []ed25519.PrivateKey{key(1)}, []ed25519.PrivateKey{key(1)}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := bundle(t, tt.version, tt.signed...)
			b, err := Verify(t.Context(), iotest.OneByteReader(bytes.NewReader(text)), options(tt.trusted...))
			if err != nil {
				t.Fatal(err)
			}
			if b.Manifest.Version != tt.version || b.Size != int64(len(text)) || b.Downgrade != tt.downgrade {
				t.Errorf("got %s, %d bytes, downgrade %v, want %s, %d, %v", b.Manifest.Version, b.Size, b.Downgrade, tt.version, len(text), tt.downgrade)
			}
		})
	}
}

func TestReproducible(t *testing.T) {
	if !bytes.Equal(bundle(t, "1.0.0", key(1)), bundle(t, "1.0.0", key(1))) {
		t.Error("two bundles of the same content differ")
	}
}

// entry is a member of a bundle that a test makes by hand.
type entry struct {
	h    *tar.Header
	data []byte
}

func plain(name string, data []byte) entry { return entry{header(name, int64(len(data))), data} }

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestVerifyRefuses(t *testing.T) {
	files, signer := content(), key(1)
	text := document(t, "0.3.0", files)
	sign := func(text []byte) entry { return plain(signatureName, ed25519.Sign(signer, text)) }
	// all are the members of a good bundle, some of them replaced.
	all := func(change func([]entry) []entry) []byte {
		list := []entry{plain(manifestName, text), sign(text)}
		for _, name := range []string{"config.txt", "kernel8.img", "overlays/empty.dtbo", "overlays/gadget.dtbo"} {
			list = append(list, plain(name, files[name]))
		}
		return pack(t, change(list)...)
	}
	with := func(i int, e entry) []byte {
		return all(func(l []entry) []entry { l[i] = e; return l })
	}
	good := all(func(l []entry) []entry { return l })
	if !bytes.Equal(good, bundle(t, "0.3.0", signer)) {
		t.Fatal("the bundle made by hand is not that of Write")
	}
	other := bytes.Replace(text, []byte("arm64"), []byte("amd64"), 1)
	later := bytes.Replace(text, []byte(`"format": 1`), []byte(`"format": 2`), 1)
	huge := bytes.Replace(text, []byte(`"size": 210000`), []byte(`"size": 999999999999`), 1)
	broken := bytes.Clone(good)
	broken[len(broken)-ending-700] ^= 1
	longer := *header("kernel8.img", int64(len(files["kernel8.img"]))) // as a global header before it
	longer.Format, longer.PAXRecords = tar.FormatPAX, map[string]string{"comment": "hello"}
	for _, tt := range []struct {
		name string
		text []byte
		want error
		says string
	}{
		{"nothing", nil, ErrFormat, ""},
		{"a text", []byte(strings.Repeat("no bundle\n", 1000)), ErrFormat, ""},
		{"zeros", make([]byte, 10240), ErrFormat, ""},
		{"an empty tar file", pack(t), ErrFormat, ""},
		{"the signature first", all(func(l []entry) []entry { l[0], l[1] = l[1], l[0]; return l }), ErrFormat, ""},
		{"no signature", all(func(l []entry) []entry { return append(l[:1], l[2:]...) }), ErrFormat, ""},
		{"an empty signature", with(1, plain(signatureName, nil)), ErrFormat, signatureName},
		{"half a signature", with(1, plain(signatureName, make([]byte, 96))), ErrFormat, signatureName},
		{"too many signatures", with(1, plain(signatureName, make([]byte, 64*(MaxSignatures+1)))), ErrFormat, signatureName},
		{"a manifest too large", with(0, plain(manifestName, make([]byte, manifest.MaxSize+1))), ErrFormat, manifestName},
		{"a link for a manifest", with(0, entry{&tar.Header{Typeflag: tar.TypeSymlink, Name: manifestName, Linkname: "x"}, nil}), ErrFormat, ""},
		{"another's signature", with(1, plain(signatureName, ed25519.Sign(key(2), text))), ErrSignature, ""},
		{"a signature of zeros", with(1, plain(signatureName, make([]byte, 64))), ErrSignature, ""},
		{"a changed manifest", with(0, plain(manifestName, bytes.Replace(text, []byte("0.3.0"), []byte("0.4.0"), 1))), ErrSignature, ""},
		{"a manifest of another format", all(func(l []entry) []entry { l[0], l[1] = plain(manifestName, later), sign(later); return l }), ErrFormat, "format 2"},
		{"another machine", all(func(l []entry) []entry { l[0], l[1] = plain(manifestName, other), sign(other); return l }), ErrMachine, "amd64"},
		{"files too large", all(func(l []entry) []entry { l[0], l[1] = plain(manifestName, huge), sign(huge); return l }), ErrTooLarge, ""},
		{"a file missing", all(func(l []entry) []entry { return append(l[:2], l[3:]...) }), ErrDamaged, "config.txt"},
		{"the last file missing", all(func(l []entry) []entry { return l[:len(l)-1] }), ErrDamaged, "overlays/gadget.dtbo"},
		{"a file more", all(func(l []entry) []entry { return append(l, plain("z", nil)) }), ErrDamaged, "more than"},
		{"two files in another order", all(func(l []entry) []entry { l[2], l[3] = l[3], l[2]; return l }), ErrDamaged, "config.txt"},
		{"a name that leads out", with(2, plain("../config.txt", files["config.txt"])), ErrDamaged, "config.txt"},
		{"another size", with(2, plain("config.txt", []byte("x"))), ErrDamaged, "config.txt"},
		{"another content", with(2, plain("config.txt", []byte("arm_64bit=0\n"))), ErrDamaged, "config.txt: the bundle is damaged: its SHA-256"},
		{"a folder", with(4, entry{&tar.Header{Typeflag: tar.TypeDir, Name: "overlays/empty.dtbo"}, nil}), ErrDamaged, "overlays/empty.dtbo"},
		{"another kind of header", with(3, entry{&longer, files["kernel8.img"]}), ErrFormat, "more than"},
		{"a flipped bit", broken, ErrDamaged, "overlays/gadget.dtbo"},
		{"something behind", append(bytes.Clone(good), "x"...), ErrDamaged, "more than"},
		{"many zeros behind", append(bytes.Clone(good), make([]byte, 2*record)...), ErrDamaged, "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Verify(t.Context(), bytes.NewReader(tt.text), options(signer))
			if b != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, %v, want %v with %q", b, err, tt.want, tt.says)
			}
		})
	}
	padded := append(bytes.Clone(good), make([]byte, record-len(good)%record)...)
	if _, err := Verify(t.Context(), bytes.NewReader(padded), options(signer)); err != nil {
		t.Errorf("filled up to a record, as tar does: got %v, want no error", err)
	}
	if _, err := Verify(t.Context(), bytes.NewReader(good), options()); !errors.Is(err, ErrNoKey) {
		t.Errorf("no keys: got %v, want %v", err, ErrNoKey)
	}
}

// TestTruncated: a bundle that ends at any place is refused.
func TestTruncated(t *testing.T) {
	text := bundle(t, "0.3.0", key(1))
	for n := range len(text) {
		if edge := (n+1)%block <= 2 && (n < 5000 || n > len(text)-3000); !edge && n%997 != 0 {
			continue
		}
		_, err := Verify(t.Context(), bytes.NewReader(text[:n]), options(key(1)))
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
			t.Fatalf("%d of %d bytes: got %v, want %v or %v", n, len(text), err, ErrDamaged, ErrFormat)
		}
	}
}

// TestSourceFails: an error of the reader or the context is told as such.
func TestSourceFails(t *testing.T) {
	text := bundle(t, "0.3.0", key(1))
	broken := errors.New("cable pulled")
	for _, n := range []int{0, 100, 512, 3000, 100000, len(text) - 1} {
		_, err := Verify(t.Context(), io.MultiReader(bytes.NewReader(text[:n]), iotest.ErrReader(broken)), options(key(1)))
		if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat) {
			t.Errorf("after %d bytes: got %v, want %v", n, err, broken)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if _, err := Verify(ctx, bytes.NewReader(text), options(key(1))); !errors.Is(err, broken) {
		t.Errorf("a context that ended: got %v, want %v", err, broken)
	}
}

// TestEndless: a stream without end is not read for ever, nor kept.
func TestEndless(t *testing.T) {
	text := bundle(t, "0.3.0", key(1))
	for name, r := range map[string]io.Reader{
		"zeros":             zeros{},
		"behind the bundle": io.MultiReader(bytes.NewReader(text), zeros{}),
	} {
		start := time.Now()
		if _, err := Verify(t.Context(), r, options(key(1))); err == nil || time.Since(start) > 10*time.Second {
			t.Errorf("%s: got %v after %v, want an error soon", name, err, time.Since(start))
		}
	}
	// Headers that say nothing, one behind the other.
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}, Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), &repeated{b.Bytes(), 0}, options(key(1))); !errors.Is(err, ErrFormat) {
		t.Errorf("headers alone: got %v, want %v", err, ErrFormat)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type repeated struct {
	text []byte
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

func TestWriteRefuses(t *testing.T) {
	files := content()
	text := document(t, "0.3.0", files)
	changed := content()
	changed["config.txt"] = []byte("arm_64bit=0\n")
	shorter := content()
	shorter["config.txt"] = []byte("arm")
	many := make([]ed25519.PrivateKey, MaxSignatures+1)
	for i := range many {
		many[i] = key(byte(i))
	}
	for _, tt := range []struct {
		name  string
		text  []byte
		files map[string][]byte
		keys  []ed25519.PrivateKey
		want  string
	}{
		{"no manifest", []byte("{}"), files, many[:1], "format"},
		{"no key", text, files, nil, "signatures"},
		{"too many keys", text, files, many, "signatures"},
		{"another content", text, changed, many[:1], "config.txt: its SHA-256"},
		{"another size", text, shorter, many[:1], "config.txt: got 3 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Write(io.Discard, tt.text, opener(tt.files), tt.keys...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	text, pub, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	private, err := ParsePrivateKey(text)
	if err != nil || !public(private).Equal(pub) {
		t.Errorf("got %v, %v, want the key that was made", private, err)
	}
	if again, err := ParseKey(FormatKey(pub)); err != nil || !again.Equal(pub) {
		t.Errorf("got %v, %v, want %v", again, err, pub)
	}
	for _, bad := range []string{"", "AAAA", "no key", FormatKey(pub) + "AAAA"} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
	if got := ParseKeys([]string{"x", FormatKey(pub)}); len(got) != 1 || !got[0].Equal(pub) {
		t.Errorf("got %v, want one key", got)
	}
	for _, bad := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", strings.ReplaceAll(string(text), "PRIVATE", "PUBLIC")} {
		if _, err := ParsePrivateKey([]byte(bad)); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
}

// FuzzVerify throws anything at the reader of bundles. What it takes has to be
// what was signed.
func FuzzVerify(f *testing.F) {
	good := bundle(f, "0.3.0", key(1))
	f.Add(good[:4096])
	f.Add(pack(f, plain(manifestName, []byte("{}")), plain(signatureName, make([]byte, 64))))
	var small bytes.Buffer
	if err := Write(&small, document(f, "1.0.0", map[string][]byte{"config.txt": []byte("x")}), opener(map[string][]byte{"config.txt": []byte("x")}), key(1)); err != nil {
		f.Fatal(err)
	}
	f.Add(small.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := Verify(t.Context(), bytes.NewReader(text), options(key(1)))
		if err != nil {
			return
		}
		want := document(t, b.Manifest.Version, map[string][]byte{"config.txt": []byte("x")})
		if got, err := b.Manifest.Encode(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	})
}

// FuzzSigned throws anything that is signed at it, as a key that was stolen, or a
// later version, might.
func FuzzSigned(f *testing.F) {
	files := map[string][]byte{"config.txt": []byte("x")}
	f.Add(document(f, "1.0.0", files), "config.txt", []byte("x"))
	f.Add([]byte(`{"format":1,"version":"1","arch":"arm64","files":[{"name":"a","size":-1}]}`), "a", []byte{})
	f.Fuzz(func(t *testing.T, text []byte, name string, data []byte) {
		if len(name) > 90 || strings.ContainsRune(name, 0) {
			return // not a name that a header of ustar has
		}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range []entry{plain(manifestName, text), plain(signatureName, ed25519.Sign(key(1), text)), plain(name, data)} {
			if w.WriteHeader(e.h) != nil {
				return
			}
			if _, err := w.Write(e.data); err != nil {
				return
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := Verify(t.Context(), &b, options(key(1)))
		if err != nil {
			return
		}
		if m := got.Manifest; len(m.Files) != 1 || m.Files[0].Name != name || m.Files[0].Size != int64(len(data)) {
			t.Errorf("got %+v, want one file %q of %d bytes", m.Files, name, len(data))
		}
	})
}
