package storage

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/scsi"
)

// A sized device is not read: hosts are told of names without.
type sized struct{ block.Device }

func (sized) Size() int64 { return 1 << 20 }

// identification is the page of device identification (SPC-4 section 7.8.6) of the
// disk of that UUID, as a host gets it.
func identification(t *testing.T, id [16]byte) []byte {
	t.Helper()
	disk, err := block.NewDisk(block.Identity{Name: "x", UUID: id, BlockSize: 512, PhysicalSize: 4096}, sized{})
	if err != nil {
		t.Fatal(err)
	}
	unit, err := scsi.NewUnit(scsi.UnitOptions{Disk: disk})
	if err != nil {
		t.Fatal(err)
	}
	defer unit.Close()
	target := scsi.NewTarget("iqn.2026-01.test:x", 1)
	target.SetUnits(map[uint16]*scsi.Unit{0: unit})
	nexus := target.Connect(initiator+",i,0x000000000001", nil)
	defer nexus.Close()
	c := &scsi.Command{CDB: append([]byte{0x12, 1, 0x83, 0, 255}, make([]byte, 11)...), Attribute: scsi.Simple}
	if nexus.Begin(c) {
		t.Fatalf("INQUIRY: status %#x, sense %x", c.Status, c.Sense)
	}
	c.Data = make([]byte, c.In)
	nexus.Execute(c)
	page := c.Data[:c.N]
	nexus.End(c)
	return page
}

// The names of a volume are those that hosts see.
func TestIdentifiers(t *testing.T) {
	r := newRig(t)
	r.fill()
	for _, name := range []string{"disk0", "golden"} {
		uuid := r.disks.volumes[name].UUID
		id, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
		if err != nil {
			t.Fatal(err)
		}
		want := "none"
		for page := identification(t, [16]byte(id))[4:]; len(page) >= 4; page = page[4+page[3]:] {
			if page[0] == 0x01 && page[1] == 0x03 { // binary; of the unit, NAA
				want = hex.EncodeToString(page[4 : 4+page[3]])
			}
		}
		r.shows(r.get(volumeURI(name)), map[string]string{"Identifiers>0>DurableNameFormat": "UUID", "Identifiers>0>DurableName": uuid,
			"Identifiers>1>DurableNameFormat": "NAA", "Identifiers>1>DurableName": want})
	}
	if got := identifiers("no UUID"); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}
