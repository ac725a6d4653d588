package dcmi

import (
	"bytes"
	"errors"

	"github.com/nitrino/nitrino/internal/fru"
	"github.com/nitrino/nitrino/ipmi/command"
)

// The completion codes of Get Asset Tag tell that the tag is not in a form that
// DCMI knows: binary, BCD plus, 6-bit ASCII (in the order of fru.Encoding), or
// UTF-16. The answer brings its bytes all the same.
const (
	codeTagBinary command.Code = 0x80
	codeTagUTF16  command.Code = 0x83
)

// tag is the field of the inventory that is the asset tag, and the language of
// its area.
func tag(image []byte) (f fru.Field, language byte, err error) {
	inv, err := fru.Decode(image)
	if err != nil || inv.Product == nil {
		return fru.Field{Encoding: fru.Latin1}, fru.English, err
	}
	return inv.Product.Fields[fru.ProductAssetTag], inv.Product.Language, nil
}

// getAssetTag is Get Asset Tag.
func (x *DCMI) getAssetTag(c *command.Call) command.Code {
	image, err := x.Inventory.Read()
	if err != nil {
		return command.Busy // a later try reads it again
	}
	f, language, err := tag(image)
	if err != nil {
		return command.NotPresent
	}
	code := command.OK
	switch {
	case len(f.Data) == 0:
	case f.Encoding != fru.Latin1:
		code = codeTagBinary + command.Code(f.Encoding)
	case f.Wide(language):
		code = codeTagUTF16
	default:
		// Blanks fill up: a tag of one character needs one, and a tag that
		// nobody set has nothing else.
		f.Data = bytes.TrimRight(f.Data, " \x00")
	}
	if bad := putChunk(c, f.Data); bad != command.OK {
		return bad
	}
	c.Whole = true // the code says how to read it
	return code
}

// setAssetTag is Set Asset Tag. It answers the tag's whole length: the tag ends
// with what was written.
func (x *DCMI) setAssetTag(c *command.Call) command.Code {
	var text []byte
	code := command.OK
	err := x.Inventory.Edit(func(old []byte) (fresh []byte, err error) {
		fresh, text, code = editTag(c, old)
		if code != command.OK {
			return old, nil
		}
		return fresh, nil
	}, c.Origin)
	switch {
	case err != nil:
		return command.Result(x.Log, "Set Asset Tag", err)
	case code == command.OK:
		c.Put(byte(len(text)))
	}
	return code
}

// editTag makes the inventory with the tag that the call asks for.
func editTag(c *command.Call, old []byte) (fresh, text []byte, code command.Code) {
	f, _, err := tag(old)
	if err != nil {
		return nil, nil, command.WrongState // the inventory is damaged, and its owner's
	}
	if f.Encoding != fru.Latin1 {
		f.Data = nil // nothing can be put behind it
	}
	if text, code = takeChunk(c, f.Data, fru.MaxField); code != command.OK {
		return nil, nil, code
	}
	if f, err = fru.NewRawField(text); err != nil {
		return nil, nil, command.InvalidField
	}
	fresh, err = fru.SetField(old, fru.Product, fru.ProductAssetTag, f)
	switch {
	case errors.Is(err, fru.ErrNoSpace):
		return nil, nil, command.NoSpace
	case err != nil:
		return nil, nil, command.WrongState
	}
	return fresh, text, command.OK
}
