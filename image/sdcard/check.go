package sdcard

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/diskfs/go-diskfs/partition/mbr"

	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/internal/fat"
	"github.com/nitrino/nitrino/update/manifest"
)

// A SlotError says what is wrong with a slot.
type SlotError struct {
	Slot string // "a" or "b"
	Err  error
}

func (e *SlotError) Error() string { return fmt.Sprintf("slot %s: %v", e.Slot, e.Err) }

func (e *SlotError) Unwrap() error { return e.Err }

// Check verifies a card: that the switch names a slot, and that both slots hold
// what their manifests say, no more and no less. It returns all that is wrong;
// each error of a slot is a *SlotError.
func Check(image io.ReaderAt) error {
	var errs []error
	if text, err := BootFile(image, card.AutobootFile); err != nil {
		errs = append(errs, err)
	} else if a, err := card.ParseAutoboot(text); err != nil {
		errs = append(errs, err)
	} else if card.SlotName(a.Boot) == "" || card.SlotName(a.Try) == "" {
		errs = append(errs, fmt.Errorf("%s: partitions %d and %d are not both slots", card.AutobootFile, a.Boot, a.Try))
	}
	for _, slot := range []string{"a", "b"} {
		if _, err := CheckSlot(image, slot); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// CheckSlot verifies one slot, "a" or "b", and returns its manifest. Its errors
// are *SlotError.
func CheckSlot(image io.ReaderAt, slot string) (*manifest.Manifest, error) {
	m, _, err := checkSlot(image, slot)
	if err != nil {
		return nil, &SlotError{slot, err}
	}
	return m, nil
}

// checkSlot returns the manifest's bytes too.
func checkSlot(image io.ReaderAt, slot string) (*manifest.Manifest, []byte, error) {
	f, err := open(image, card.SlotPartition(slot))
	if err != nil {
		return nil, nil, err
	}
	entries, err := f.Walk()
	if err != nil {
		return nil, nil, err
	}
	found := make(map[string]fat.Entry)
	for _, e := range entries {
		if !e.Dir && !e.Label {
			found[strings.ToLower(e.Name)] = e
		}
	}
	// take reads a small file and counts it as expected.
	take := func(name string) ([]byte, error) {
		e, ok := found[strings.ToLower(name)]
		if !ok {
			return nil, fmt.Errorf("%s is missing", name)
		}
		delete(found, strings.ToLower(name))
		if e.Size > manifest.MaxSize {
			return nil, fmt.Errorf("%s is larger than %d bytes", name, manifest.MaxSize)
		}
		var b bytes.Buffer
		err := f.Copy(&b, e)
		return b.Bytes(), err
	}
	text, err := take(card.ManifestFile)
	if err != nil {
		return nil, nil, err
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	if line, err := take(card.CmdlineFile); err != nil {
		errs = append(errs, err)
	} else if want := Cmdline(m.Cmdline, slot); !bytes.Equal(line, want) {
		errs = append(errs, fmt.Errorf("%s: got %q, want %q", card.CmdlineFile, line, want))
	}
	for _, want := range m.Files {
		e, ok := found[strings.ToLower(want.Name)]
		delete(found, strings.ToLower(want.Name))
		if !ok {
			errs = append(errs, fmt.Errorf("%s is missing", want.Name))
			continue
		}
		if e.Size != want.Size {
			errs = append(errs, fmt.Errorf("%s: got %d bytes, want %d", want.Name, e.Size, want.Size))
			continue
		}
		sum := sha256.New()
		if err := f.Copy(sum, e); err != nil {
			errs = append(errs, err)
		} else if hex.EncodeToString(sum.Sum(nil)) != want.SHA256 {
			errs = append(errs, fmt.Errorf("%s: its SHA-256 is not the manifest's", want.Name))
		}
	}
	for _, e := range entries {
		if _, more := found[strings.ToLower(e.Name)]; more && !e.Dir && !e.Label {
			errs = append(errs, fmt.Errorf("%s is not in the manifest", e.Name))
		}
	}
	return m, text, errors.Join(errs...)
}

// Holds says whether a card has these contents in both slots, sound, and these
// settings. What the board has written since is not looked at: the switch between
// the slots, the first login, /perm.
func Holds(image io.ReaderAt, c *Contents) (bool, error) {
	want, err := c.manifest()
	if err != nil {
		return false, err
	}
	boot, err := c.bootFiles()
	if err != nil {
		return false, err
	}
	for _, slot := range []string{"a", "b"} {
		if _, text, err := checkSlot(image, slot); err != nil || !bytes.Equal(text, want) {
			return false, nil // damaged or another: either way not these
		}
	}
	for _, f := range boot {
		if f.Name == card.AutobootFile {
			continue
		}
		if data, err := BootFile(image, f.Name); err != nil || !bytes.Equal(data, f.Data) {
			return false, nil // the same
		}
	}
	return true, nil
}

// BootFile reads a file of a card's boot partition, of 1 MiB at most.
func BootFile(image io.ReaderAt, name string) ([]byte, error) {
	f, err := open(image, card.BootPartition)
	if err != nil {
		return nil, err
	}
	return f.ReadFile(name, mib)
}

// open finds a FAT partition by the card's own table, which may differ from that
// of a new image: cards of other sizes may come.
func open(image io.ReaderAt, number int) (*fat.Volume, error) {
	table := make([]byte, sector)
	if _, err := image.ReadAt(table, 0); err != nil {
		return nil, fmt.Errorf("partition table: %w", err)
	}
	if table[510] != 0x55 || table[511] != 0xaa {
		return nil, errors.New("there is no partition table")
	}
	le := binary.LittleEndian
	entry := table[446+16*(number-1):][:16]
	if kind := mbr.Type(entry[4]); kind != mbr.Fat32LBA {
		return nil, fmt.Errorf("partition %d is of type %#02x, want %#02x", number, entry[4], byte(mbr.Fat32LBA))
	}
	start, size := int64(le.Uint32(entry[8:]))*sector, int64(le.Uint32(entry[12:]))*sector
	f, err := fat.Open(io.NewSectionReader(image, start, size), size)
	if err != nil {
		return nil, fmt.Errorf("partition %d: %w", number, err)
	}
	return f, nil
}
