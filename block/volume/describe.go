package volume

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/nitrino/nitrino/block"
)

// descriptionVersion is that of both kinds of descriptions.
const descriptionVersion = 1

// MaxSize is the longest volume, in bytes: what ext4 holds in a file with blocks of 4 KiB.
const MaxSize = 16<<40 - 4096

// A naming is a volume by the UUID that it keeps and by the name that it had.
type naming struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
}

// A volumeDescription is volumes/NAME.json. The name is the file's, so that one
// rename(2) renames a volume.
type volumeDescription struct {
	Version int        `json:"version"`
	UUID    string     `json:"uuid"`
	Kind    block.Kind `json:"kind"`
	// Layer has the contents.
	Layer        string    `json:"layer"`
	BlockSize    int       `json:"block_size"`
	PhysicalSize int       `json:"physical_size"`
	Of           naming    `json:"of,omitzero"`
	Base         naming    `json:"base,omitzero"`
	Source       string    `json:"source,omitempty"`
	Created      time.Time `json:"created"`
	// Digest is that of an image's contents, see digest.
	Digest string `json:"digest,omitempty"`
}

// A layerDescription is layers/ID.json.
type layerDescription struct {
	Version int          `json:"version"`
	Format  block.Format `json:"format"`
	// Data is the stem of the names of the layer's files, below layers. It begins as
	// the layer's own ID; a merge puts another layer's files in their place.
	Data string `json:"data,omitempty"`
	Size int64  `json:"size"`
	// Base is the layer that this one stands on (FormatCoW).
	Base string `json:"base,omitempty"`
	// Upstream is an NBD URI (FormatNBD).
	Upstream string `json:"upstream,omitempty"`
	// ReadOnly: it is an image's, and nothing ever writes to it.
	ReadOnly bool `json:"read_only,omitempty"`
}

func encode(v any) ([]byte, error) {
	text, err := json.Marshal(v, json.Deterministic(true), jsontext.Multiline(true))
	if err != nil {
		return nil, fmt.Errorf("describing a volume: %w", err)
	}
	return append(text, '\n'), nil
}

// decodeVolume reads a description strictly: what it does not know may be of
// importance to the version that wrote it.
func decodeVolume(text []byte) (volumeDescription, error) {
	var d volumeDescription
	if err := json.Unmarshal(text, &d, json.RejectUnknownMembers(true)); err != nil {
		return volumeDescription{}, fmt.Errorf("the description is damaged: %w", err)
	}
	return d, d.check()
}

func (d volumeDescription) check() error {
	_, err := uuid.Parse(d.UUID)
	sum, digestErr := hex.DecodeString(d.Digest)
	switch {
	case d.Version != descriptionVersion:
		return fmt.Errorf("the description has version %d, not %d", d.Version, descriptionVersion)
	case err != nil || len(d.UUID) != 36:
		return fmt.Errorf("the description is damaged: UUID %q", d.UUID)
	case d.Kind != block.KindDisk && d.Kind != block.KindImage && d.Kind != block.KindSnapshot:
		return fmt.Errorf("the description is damaged: kind %q", d.Kind)
	case !validID(d.Layer):
		return fmt.Errorf("the description is damaged: layer %q", d.Layer)
	case digestErr != nil || len(sum) != 0 && len(sum) != digestSize:
		return fmt.Errorf("the description is damaged: digest %q", d.Digest)
	}
	return checkBlocks(d.BlockSize, d.PhysicalSize)
}

func checkBlocks(logical, physical int) error {
	switch {
	case logical != block.SectorSize && logical != 4096:
		return fmt.Errorf("logical blocks of %d bytes, not 512 or 4096", logical)
	case physical < logical || physical > 1<<20 || physical&(physical-1) != 0:
		return fmt.Errorf("physical blocks of %d bytes", physical)
	}
	return nil
}

func decodeLayer(text []byte) (layerDescription, error) {
	var d layerDescription
	if err := json.Unmarshal(text, &d, json.RejectUnknownMembers(true)); err != nil {
		return layerDescription{}, fmt.Errorf("the layer's description is damaged: %w", err)
	}
	return d, d.check()
}

func (d layerDescription) check() error {
	files, cow := d.Format != block.FormatNBD, d.Format == block.FormatCoW
	switch {
	case d.Version != descriptionVersion:
		return fmt.Errorf("the layer's description has version %d, not %d", d.Version, descriptionVersion)
	case d.Format != block.FormatRaw && d.Format != block.FormatCoW && d.Format != block.FormatNBD:
		return fmt.Errorf("the layer's description is damaged: format %q", d.Format)
	case files != validID(d.Data) || !files && d.Data != "":
		return fmt.Errorf("the layer's description is damaged: data %q", d.Data)
	case cow != validID(d.Base) || !cow && d.Base != "":
		return fmt.Errorf("the layer's description is damaged: base %q", d.Base)
	case files != (d.Upstream == ""):
		return errors.New("the layer's description is damaged: its upstream")
	}
	return checkSize(d.Size)
}

func checkSize(size int64) error {
	if size <= 0 || size > MaxSize || size%block.SectorSize != 0 {
		return fmt.Errorf("a size of %d bytes, not whole sectors of 512 up to 16 TiB", size)
	}
	return nil
}

// validID tells whether s can be a layer's ID, and the begin of a file's name.
func validID(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// CheckName is nil for what can be a volume's name: 1 to 63 of a-z, 0-9, '-', '_'
// and '.', a letter or digit first. Else it is ErrName.
func CheckName(name string) error {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("-_.", rune(c))) {
			return ErrName
		}
	}
	if name == "" || len(name) > 63 {
		return ErrName
	}
	return nil
}
