// Package update takes in new software: it checks bundles, and keeps one that
// is sound for whatever installs it.
//
// A bundle is a tar file (POSIX ustar) of these members, in this order:
//
//	manifest.json   the document of package manifest
//	manifest.sig    one Ed25519 signature (RFC 8032) of manifest.json, 64 bytes,
//	                or up to MaxSignatures of them one behind the other
//	the files       that the manifest lists, in its order
//
// Nothing but the first two is believed before a trusted key has signed the
// manifest, and nothing behind them that the manifest does not say. A bundle is
// read from front to end once, in little memory.
package update

import (
	"errors"
	"fmt"
	"time"

	"github.com/nitrino/nitrino/update/manifest"
)

// Bounds of a bundle.
const (
	// MaxSize is how many bytes a bundle may have: what fits into a slot.
	MaxSize = 160 << 20
	// MaxSignatures is how many signatures a bundle may have, so that one can be
	// for boards with the old key and those with the next.
	MaxSignatures = 8
	// MaxKeys is how many keys may be trusted.
	MaxKeys = 16
)

// The members of a bundle before the files.
const (
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"
)

// Errors. Compare with errors.Is.
var (
	// ErrNoKey: no key is trusted, so no bundle is.
	ErrNoKey = errors.New("no release key is trusted")
	// ErrSignature: no trusted key signed the bundle.
	ErrSignature = errors.New("no trusted key signed this bundle")
	// ErrFormat: it is no bundle, or of a form that this software does not know.
	ErrFormat = errors.New("not a bundle")
	// ErrDamaged: the bundle is not what was signed, or ends too early.
	ErrDamaged = errors.New("the bundle is damaged")
	// ErrMachine: the bundle is for other hardware.
	ErrMachine = errors.New("the bundle is for another machine")
	// ErrTooLarge: the bundle is larger than MaxSize.
	ErrTooLarge = errors.New("the bundle is too large")
	// ErrFull: there is no room to keep the bundle.
	ErrFull = errors.New("there is no room for the bundle")
	// ErrBusy: another bundle is being taken in.
	ErrBusy = errors.New("another bundle is being taken in")
	// ErrNone: no bundle is kept.
	ErrNone = errors.New("no bundle is kept")
)

// A FileError says which member of a bundle is wrong.
type FileError struct {
	Name string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }

func (e *FileError) Unwrap() error { return e.Err }

// A Bundle is one that a trusted key signed.
type Bundle struct {
	Manifest *manifest.Manifest
	// Size is that of the bundle in bytes.
	Size int64
	// Downgrade: the version is older than the one that runs (semver.org; a
	// version of another form is older than any). That is for the owner to
	// decide, and therefore no error.
	Downgrade bool
	// Staged is when it was taken in; zero for a bundle that is not kept.
	Staged time.Time
}
