package update

import (
	"archive/tar"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/semver"

	"github.com/nitrino/nitrino/update/manifest"
)

// Options say which bundles are taken.
type Options struct {
	// Keys are those that are trusted; any one of them is enough.
	Keys []ed25519.PublicKey
	// Arch is the architecture that the bundle has to be for, by Go's name.
	Arch string
	// Running is the version that runs, to tell a downgrade.
	Running string
}

// Sizes of tar.
const (
	block = 512
	// ending are the two empty blocks behind the last member.
	ending = 2 * block
	// record is what some programs fill the file up to a multiple of.
	record = 20 * block
)

var (
	errHash    = errors.New("its SHA-256 is not the manifest's")
	errBeyond  = errors.New("there is more than the manifest lists")
	errUnknown = errors.New("its first members are not " + manifestName + " and " + signatureName)
)

// Verify reads a bundle to its end and checks all of it. Its errors are
// ErrNoKey, ErrSignature, ErrFormat, ErrDamaged, ErrMachine, ErrTooLarge, with
// a *FileError where one member is wrong, and those of r and ctx.
func Verify(ctx context.Context, r io.Reader, o Options) (*Bundle, error) {
	v, err := begin(ctx, r, o)
	if err != nil {
		return nil, err
	}
	for _, f := range v.bundle.Manifest.Files {
		if err := v.file(f); err != nil {
			return nil, err
		}
	}
	if err := v.end(); err != nil {
		return nil, err
	}
	v.bundle.Size = v.in.n
	return v.bundle, nil
}

// A verifier reads one bundle.
type verifier struct {
	in     *source
	tar    *tar.Reader
	at     int64 // where the member that is read now has to end, with its padding
	bundle *Bundle
}

// begin reads a bundle up to its first file, and checks what it says of itself.
func begin(ctx context.Context, r io.Reader, o Options) (*verifier, error) {
	if len(o.Keys) == 0 {
		return nil, ErrNoKey
	}
	v := &verifier{in: &source{ctx: ctx, r: r}}
	v.tar = tar.NewReader(v.in)
	text, err := v.small(manifestName, 1, manifest.MaxSize)
	if err != nil {
		return nil, err
	}
	signatures, err := v.small(signatureName, ed25519.SignatureSize, MaxSignatures*ed25519.SignatureSize)
	if err != nil {
		return nil, err
	}
	if len(signatures)%ed25519.SignatureSize != 0 {
		return nil, &FileError{signatureName, fmt.Errorf("%w: %d bytes are no signatures", ErrFormat, len(signatures))}
	}
	if !trusted(o.Keys, text, signatures) {
		return nil, ErrSignature
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err) // of a later version, for it is signed
	}
	if m.Arch != o.Arch {
		return nil, fmt.Errorf("%w: for %s, this is %s", ErrMachine, m.Arch, o.Arch)
	}
	whole := v.at + ending
	for _, f := range m.Files {
		if whole += block; f.Size > MaxSize || whole+f.Size > MaxSize {
			return nil, fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, MaxSize)
		}
		whole += padded(f.Size)
	}
	v.bundle = &Bundle{Manifest: m, Downgrade: semver.Compare("v"+m.Version, "v"+o.Running) < 0}
	return v, nil
}

// padded is how much of a tar file so many bytes take.
func padded(size int64) int64 { return (size + block - 1) / block * block }

// small reads a member before the files.
func (v *verifier) small(name string, least, most int64) ([]byte, error) {
	h, err := v.tar.Next()
	switch {
	case err != nil && v.in.err == nil:
		return nil, fmt.Errorf("%w: %w", ErrFormat, errUnknown) // too short, or no tar file at all
	case err != nil:
		return nil, v.in.err
	case h.Typeflag != tar.TypeReg || h.Name != name:
		return nil, fmt.Errorf("%w: %w", ErrFormat, errUnknown)
	case h.Size < least || h.Size > most:
		return nil, &FileError{name, fmt.Errorf("%w: %d bytes", ErrFormat, h.Size)}
	}
	data := make([]byte, h.Size)
	if _, err := io.ReadFull(v.tar, data); err != nil {
		return nil, v.why(name, err)
	}
	v.at += block + padded(h.Size)
	return data, nil
}

// file reads one of the manifest's files.
func (v *verifier) file(f manifest.File) error {
	h, err := v.tar.Next()
	switch {
	case err == io.EOF:
		return v.why(f.Name, io.ErrUnexpectedEOF)
	case err != nil:
		return v.why(f.Name, err)
	case h.Typeflag != tar.TypeReg || h.Name != f.Name:
		return v.why(f.Name, fmt.Errorf("in its place there is %q", h.Name))
	case h.Size != f.Size:
		return v.why(f.Name, fmt.Errorf("got %d bytes, the manifest says %d", h.Size, f.Size))
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, v.tar); err != nil {
		return v.why(f.Name, err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return v.why(f.Name, errHash)
	}
	v.at += block + padded(f.Size)
	return nil
}

// end reads what is behind the files. The place where a tar file ends follows
// from its members, if there are no headers of other kinds between them.
func (v *verifier) end() error {
	_, err := v.tar.Next()
	switch {
	case err == nil:
		return fmt.Errorf("%w: %w", ErrDamaged, errBeyond)
	case err != io.EOF:
		return v.why("its end", err)
	case v.in.n < v.at+ending:
		return v.why("its end", io.ErrUnexpectedEOF)
	case v.in.n > v.at+ending:
		return fmt.Errorf("%w: %w", ErrFormat, errBeyond)
	}
	rest, err := io.ReadAll(io.LimitReader(v.in, record))
	if err != nil {
		return v.why("its end", err)
	}
	for _, b := range rest {
		if b != 0 {
			return fmt.Errorf("%w: %w", ErrDamaged, errBeyond)
		}
	}
	if len(rest) == record {
		return fmt.Errorf("%w: %w", ErrDamaged, errBeyond)
	}
	return nil
}

// why says why a member could not be read: it is the source's fault, or the
// bundle's.
func (v *verifier) why(name string, err error) error {
	switch {
	case v.in.err != nil:
		return v.in.err
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return &FileError{name, fmt.Errorf("%w: it ends after %d bytes", ErrDamaged, v.in.n)}
	}
	return &FileError{name, fmt.Errorf("%w: %w", ErrDamaged, err)}
}

// A source counts what is read, and keeps the errors that are not the bundle's.
type source struct {
	ctx context.Context
	r   io.Reader
	n   int64
	err error // of r or ctx, or ErrTooLarge; never io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	if s.err == nil {
		s.err = context.Cause(s.ctx)
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p[:min(int64(len(p)), MaxSize+1-s.n)])
	s.n += int64(n)
	switch {
	case s.n > MaxSize:
		s.err = fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, MaxSize)
	case err != nil && err != io.EOF:
		s.err = fmt.Errorf("reading the bundle: %w", err)
	default:
		return n, err
	}
	return n, s.err
}
