// Package manifest says what a slot of a card, or the bundle that is to fill one,
// is made of: the components, with where they come from, and every file with its
// hash, so that a damaged slot is found and what runs can be named.
package manifest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// Format is the version of the document that this package reads and writes.
	Format = 1
	// MaxSize is how many bytes a document may have.
	MaxSize = 1 << 20
)

// A Manifest is the document manifest.json. It is the same in both slots, so
// that one signature over its bytes is good for both.
type Manifest struct {
	Format int `json:"format"`
	// Version is nitrino's, Revision the commit it was built from.
	Version  string `json:"version"`
	Revision string `json:"revision"`
	// Arch is the processor's architecture by Go's name: "arm64".
	Arch string `json:"arch"`
	// Cmdline are the words of the kernel's command line. The slot's file has
	// these and behind them the words that name the slot, and is therefore not
	// among Files.
	Cmdline    string      `json:"cmdline"`
	Components []Component `json:"components"`
	// Files are all others of the slot but the manifest, in the order of names.
	Files []File `json:"files"`
}

// A File is a file of a slot.
type File struct {
	// Name is its path from the slot's root, with slashes.
	Name string `json:"name"`
	// Component is the name of the component that it belongs to.
	Component string `json:"component"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// SHA256 is in lower-case hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// Encode returns the document. The same manifest gives the same bytes. It
// refuses what Parse would.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	text, err := json.Marshal(m, json.Deterministic(true), jsontext.Multiline(true))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(text)+1 > MaxSize {
		return nil, fmt.Errorf("manifest: more than %d bytes", MaxSize)
	}
	return append(text, '\n'), nil
}

// Parse reads a document. A field it does not know, one given twice and a
// format of another version are errors.
func Parse(text []byte) (*Manifest, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("manifest: more than %d bytes", MaxSize)
	}
	m := new(Manifest)
	if err := json.Unmarshal(text, m, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

func (m *Manifest) check() error {
	switch {
	case m.Format != Format:
		return fmt.Errorf("format %d, want %d", m.Format, Format)
	case m.Version == "":
		return errors.New("no version")
	case m.Arch == "":
		return errors.New("no arch")
	case strings.ContainsAny(m.Cmdline, "\n\r\x00"):
		return errors.New("cmdline is more than one line")
	}
	components := make(map[string]bool)
	for _, c := range m.Components {
		if c.Name == "" || components[c.Name] {
			return fmt.Errorf("component %q: no name, or one that is taken", c.Name)
		}
		if err := checkHash(c.SHA256); err != nil {
			return fmt.Errorf("component %s: %w", c.Name, err)
		}
		components[c.Name] = true
	}
	// FAT keeps no two names that differ in case alone.
	folded := make(map[string]bool)
	last := ""
	for _, f := range m.Files {
		fold := strings.ToLower(f.Name)
		switch err := checkHash(f.SHA256); {
		case f.Name == "" || path.IsAbs(f.Name) || path.Clean(f.Name) != f.Name || f.Name == "." || f.Name == ".." ||
			strings.HasPrefix(f.Name, "../") || strings.ContainsAny(f.Name, "\\:\x00"):
			return fmt.Errorf("file %q: not a path within the slot", f.Name)
		case f.Name <= last:
			return fmt.Errorf("file %s: not in the order of names", f.Name)
		case folded[fold]:
			return fmt.Errorf("file %s: a second one of this name", f.Name)
		case f.Size < 0:
			return fmt.Errorf("file %s: size %d", f.Name, f.Size)
		case err != nil:
			return fmt.Errorf("file %s: %w", f.Name, err)
		case !components[f.Component]:
			return fmt.Errorf("file %s: there is no component %q", f.Name, f.Component)
		}
		folded[fold] = true
		last = f.Name
	}
	return nil
}

func checkHash(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 32 || strings.ToLower(s) != s {
		return fmt.Errorf("%q is not a SHA-256 in lower-case hexadecimal digits", s)
	}
	return nil
}
