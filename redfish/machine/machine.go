// Package machine has what several chapters say alike of the managed machine:
// its power, who made it, and its asset tag.
package machine

import (
	"errors"
	"fmt"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/fru"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// PowerState is Resource.PowerState; nil (null) where no wire tells.
func PowerState(s host.PowerState) *string {
	switch s {
	case host.StateOff, host.StatePoweringOn, host.StateOn, host.StatePoweringOff:
		return new(string(s))
	case host.StateAsleep:
		return new("Paused")
	}
	return nil
}

// Facts are who made the machine and its enclosure; "" is unknown.
type Facts struct {
	Manufacturer, Model, PartNumber, Serial string
	// Enclosure is SMBIOS' type of enclosure (table 17), 0 where it is unknown.
	Enclosure                            byte
	EnclosureSerial, EnclosurePartNumber string
	// AssetTag is nil where it cannot be read.
	AssetTag *string
}

// Look reads the facts: what the owner or the maker wrote into the inventory
// goes before what the hardware says of itself. hw may be nil. It waits for the
// inventory's memory the first time.
func Look(inventory *host.Inventory, hw *host.Hardware) Facts {
	var f Facts
	if hw != nil {
		f = Facts{Manufacturer: hw.Manufacturer, Model: hw.Model, Serial: hw.Serial}
	}
	image, err := inventory.Read()
	if err != nil {
		return f // the memory does not answer; who needs to know is told by IPMI's FRU
	}
	if blank(image) {
		f.AssetTag = new("")
	}
	inv, err := fru.Decode(image)
	if err != nil {
		return f // blank, or damaged: it says nothing
	}
	f.AssetTag = new(inv.Product.Text(fru.ProductAssetTag))
	for field, to := range map[int]*string{fru.ProductManufacturer: &f.Manufacturer, fru.ProductName: &f.Model, fru.ProductPartNumber: &f.PartNumber, fru.ProductSerial: &f.Serial} {
		if text := inv.Product.Text(field); text != "" {
			*to = text
		}
	}
	f.EnclosureSerial, f.EnclosurePartNumber = inv.Chassis.Text(fru.ChassisSerial), inv.Chassis.Text(fru.ChassisPartNumber)
	if inv.Chassis != nil {
		f.Enclosure = inv.Chassis.ChassisType
	}
	return f
}

// blank: nobody has written the memory yet.
func blank(image []byte) bool {
	for _, b := range image {
		if b != image[0] || b != 0 && b != 0xFF {
			return false
		}
	}
	return true
}

// assetTag is the property's name in every resource that has it.
const assetTag = "AssetTag"

// AssetTag is the property that writes the asset tag, which is the inventory's;
// null empties it. failed is told why it could not be written.
func AssetTag(h *host.Host, from host.Origin, failed func(error)) resource.Property {
	set := func(tag string) []message.Message {
		err := setAssetTag(h, tag, from)
		switch {
		case errors.Is(err, errTooLong):
			return []message.Message{message.StringValueTooLong(tag, fru.MaxField)}
		case errors.Is(err, fru.ErrInvalid):
			return []message.Message{message.PropertyValueFormatError(tag, assetTag)}
		case err != nil:
			failed(err)
			return []message.Message{message.PropertyNotUpdated(assetTag)}
		}
		return nil
	}
	return resource.Nullable(resource.String(assetTag, set), func() []message.Message { return set("") })
}

var errTooLong = errors.New("the asset tag is too long")

func setAssetTag(h *host.Host, tag string, from host.Origin) error {
	field, err := fru.NewField(tag)
	if err != nil && len(tag) > fru.MaxField {
		return fmt.Errorf("%w: %w", errTooLong, err)
	}
	if err != nil {
		return err
	}
	return h.Inventory.Edit(func(image []byte) ([]byte, error) {
		if blank(image) {
			var err error
			if image, err = first(h.UUID, len(image)); err != nil {
				return nil, err
			}
		}
		return fru.SetField(image, fru.Product, fru.ProductAssetTag, field)
	}, from)
}

// first is the content of an inventory that nobody wrote yet: all areas are
// there, and their fields can be edited, which "ipmitool fru edit" can do only
// with fields that are not empty.
func first(uuid [16]byte, size int) ([]byte, error) {
	const unknown = 0x02 // type of chassis
	fields := func(n int) []fru.Field {
		all := make([]fru.Field, n)
		for i := range all {
			all[i] = fru.Field{Encoding: fru.Latin1, Data: []byte("  ")}
		}
		return all
	}
	image, err := (&fru.Inventory{
		Chassis: &fru.Area{ChassisType: unknown, Fields: fields(fru.ChassisSerial + 1)},
		Board:   &fru.Area{Fields: fields(fru.BoardFileID + 1)},
		Product: &fru.Area{Fields: fields(fru.ProductFileID + 1)},
		Records: []fru.Record{fru.SystemUniqueID(uuid)},
	}).Encode(size)
	if err != nil {
		return nil, err
	}
	return append(image, make([]byte, size-len(image))...), nil
}

// LocationIndicator is the property LocationIndicatorActive: the light stays on
// until it is switched off. failed is told why it could not be written.
func LocationIndicator(light *host.Identify, from host.Origin, failed func(error)) resource.Property {
	const name = "LocationIndicatorActive"
	return resource.Bool(name, func(on bool) []message.Message { return identify(light, name, on, from, failed) })
}

// The words of IndicatorLED that this light has.
const (
	lit   = "Lit"
	unlit = "Off"
)

// Indicators are LocationIndicatorActive and IndicatorLED.
func Indicators(light *host.Identify) (active *bool, word string) {
	if light.On() {
		return new(true), lit
	}
	return new(false), unlit
}

// IndicatorLED is LocationIndicator in older words.
func IndicatorLED(light *host.Identify, from host.Origin, failed func(error)) resource.Property {
	const name = "IndicatorLED"
	return resource.Enum(name, []string{lit, unlit}, func(word string) []message.Message { return identify(light, name, word == lit, from, failed) })
}

func identify(light *host.Identify, name string, on bool, from host.Origin, failed func(error)) []message.Message {
	d := time.Duration(0)
	if on {
		d = -1
	}
	if err := light.Set(d, from); err != nil {
		failed(err)
		return []message.Message{message.PropertyNotUpdated(name)}
	}
	return nil
}

// Known is a property that is left out, or null, where nothing is known.
func Known(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
