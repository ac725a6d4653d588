package update

import (
	"archive/tar"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/nitrino/nitrino/update/manifest"
)

// Write makes a bundle from the text of a manifest, signed with the keys, of
// which there have to be 1 to MaxSignatures. open gives the content of a file
// that the manifest lists; one that is not as the manifest says is an error. The
// same input gives the same bytes.
func Write(w io.Writer, text []byte, open func(name string) (io.Reader, error), keys ...ed25519.PrivateKey) error {
	m, err := manifest.Parse(text)
	if err != nil {
		return err
	}
	if len(keys) == 0 || len(keys) > MaxSignatures {
		return fmt.Errorf("a bundle has 1 to %d signatures, not %d", MaxSignatures, len(keys))
	}
	var signatures []byte
	for _, key := range keys {
		signatures = append(signatures, ed25519.Sign(key, text)...)
	}
	size := &counter{}
	t := tar.NewWriter(io.MultiWriter(w, size))
	if err := member(t, manifestName, text); err != nil {
		return err
	}
	if err := member(t, signatureName, signatures); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := writeFile(t, f, open); err != nil {
			return &FileError{f.Name, err}
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	if size.n > MaxSize {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size.n, MaxSize)
	}
	return nil
}

// header is the same for all members: neither owner nor date, which would make
// two bundles of one content differ.
func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
}

func member(t *tar.Writer, name string, data []byte) error {
	err := t.WriteHeader(header(name, int64(len(data))))
	if err == nil {
		_, err = t.Write(data)
	}
	return err
}

func writeFile(t *tar.Writer, f manifest.File, open func(string) (io.Reader, error)) error {
	r, err := open(f.Name)
	if err != nil {
		return err
	}
	if err := t.WriteHeader(header(f.Name, f.Size)); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(t, sum), r)
	switch {
	case err != nil:
		return err
	case n != f.Size:
		return fmt.Errorf("got %d bytes, the manifest says %d", n, f.Size)
	case hex.EncodeToString(sum.Sum(nil)) != f.SHA256:
		return errHash
	}
	return nil
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
