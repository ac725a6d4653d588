package machine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/fru"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A memory is a FRU memory.
type memory struct {
	data []byte
	err  error
}

func (m *memory) Size() int { return len(m.data) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	return copy(p, m.data[off:]), nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.data[off:], p), nil }

func newHost(t testing.TB, m *memory) *redfishtest.Host {
	return redfishtest.NewHost(t, redfishtest.HostOptions{Stopped: true, Parts: func(p *host.Parts) { p.FRU = m }})
}

func fields(texts ...string) []fru.Field {
	var all []fru.Field
	for _, s := range texts {
		all = append(all, fru.Field{Encoding: fru.Latin1, Data: []byte(s)})
	}
	return all
}

func TestLook(t *testing.T) {
	full := &fru.Inventory{
		Chassis: &fru.Area{ChassisType: 0x17, Fields: fields("CP", "CS")},
		Board:   &fru.Area{Fields: fields("BM", "BP", "BS", "BN", "")},
		Product: &fru.Area{Fields: fields("PM", "PN", "PP", "PV", "PS", "PT", "")},
	}
	hw := &host.Hardware{Manufacturer: "HM", Model: "HN", Serial: "HS"}
	for _, tt := range []struct {
		name string
		inv  *fru.Inventory
		raw  []byte
		err  error
		hw   *host.Hardware
		tag  string // "nil": none
		want Facts
	}{
		{"all", full, nil, nil, hw, "PT", Facts{Manufacturer: "PM", Model: "PN", PartNumber: "PP", Serial: "PS", Enclosure: 0x17, EnclosureSerial: "CS", EnclosurePartNumber: "CP"}},
		{"empty fields", &fru.Inventory{Product: &fru.Area{Fields: fields("  ", "PN", "  ", "", "", "  ", "")}}, nil, nil, hw, "", Facts{Manufacturer: "HM", Model: "PN", Serial: "HS"}},
		{"no product", &fru.Inventory{Board: full.Board}, nil, nil, nil, "", Facts{}},
		{"blank", nil, nil, nil, hw, "", Facts{Manufacturer: "HM", Model: "HN", Serial: "HS"}},
		{"erased", nil, []byte(strings.Repeat("\xFF", 512)), nil, nil, "", Facts{}},
		{"damaged", nil, []byte("\x01\x02\x03"), nil, hw, "nil", Facts{Manufacturer: "HM", Model: "HN", Serial: "HS"}},
		{"silent", full, nil, errors.New("bus"), nil, "nil", Facts{}},
	} {
		m := &memory{data: make([]byte, 512), err: tt.err}
		copy(m.data, tt.raw)
		if tt.inv != nil {
			image, err := tt.inv.Encode(len(m.data))
			if err != nil {
				t.Fatal(err)
			}
			copy(m.data, image)
		}
		got := Look(newHost(t, m).Inventory, tt.hw)
		tag := "nil"
		if got.AssetTag != nil {
			tag = *got.AssetTag
		}
		if got.AssetTag = nil; got != tt.want || tag != tt.tag {
			t.Errorf("%s: got %+v, tag %q, want %+v, %q", tt.name, got, tag, tt.want, tt.tag)
		}
	}
}

// FuzzAssetTag: a tag that is taken is read back, and what else the inventory
// says stays.
func FuzzAssetTag(f *testing.F) {
	for _, s := range []string{"", "x", "Regal 7", "ß", "日本", strings.Repeat("x", 63), strings.Repeat("日", 20), strings.Repeat("日", 21), "a\x7f", "\xff", " x "} {
		f.Add(s)
	}
	h := newHost(f, &memory{data: make([]byte, 512)})
	f.Fuzz(func(t *testing.T, tag string) {
		done, problems := AssetTag(h.Host, host.Origin{Via: resource.Via}, func(err error) { t.Errorf("%q: %v", tag, err) }).Set(tag)
		got := Look(h.Inventory, nil).AssetTag
		if got == nil || done == (problems != nil) {
			t.Fatalf("%q: tag %v, done %v, problems %v", tag, got, done, problems)
		}
		if want := strings.TrimRight(tag, " "); done && *got != want {
			t.Errorf("got %q, want %q", *got, want)
		}
		image, err := h.Inventory.Read()
		if err != nil {
			t.Fatal(err)
		}
		if inv, err := fru.Decode(image); err != nil {
			// Only a tag that was refused leaves a blank memory as it is.
			if done || !h.Inventory.Blank() {
				t.Error(err)
			}
		} else if want := fru.SystemUniqueID(h.UUID); len(inv.Records) != 1 || !slices.Equal(inv.Records[0].Data, want.Data) || inv.Chassis == nil || inv.Board == nil {
			t.Errorf("inventory %+v", inv)
		}
	})
}

func TestPowerState(t *testing.T) {
	set := redfishtest.Schemas(t)
	for s, want := range map[host.PowerState]string{
		host.StateOff: "Off", host.StatePoweringOn: "PoweringOn", host.StateOn: "On", host.StatePoweringOff: "PoweringOff", host.StateAsleep: "Paused",
	} {
		if got := PowerState(s); got == nil || *got != want || set.Check("Resource", "PowerState", *got) != nil {
			t.Errorf("%s: got %v, want %s", s, got, want)
		}
	}
	if got := PowerState(host.StateUnknown); got != nil {
		t.Errorf("unknown: got %s, want null", *got)
	}
	if Known("") != nil || *Known("x") != "x" {
		t.Error("Known")
	}
}
