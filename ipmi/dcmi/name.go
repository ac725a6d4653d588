package dcmi

import (
	"bytes"

	"github.com/nitrino/nitrino/ipmi/command"
)

// maxName is the longest identifier, the NUL at its end included.
const maxName = 64

// getName is Get Management Controller Identifier String. The identifier is the
// board's host name, which it also gives to the DHCP server, as DCMI asks.
func (x *DCMI) getName(c *command.Call) command.Code {
	name := x.Names.HostName()
	return putChunk(c, []byte(name[:min(len(name), maxName-1)]))
}

// setName is Set Management Controller Identifier String. The NUL says that the
// name is whole; until then the old one is in force. A part is refused that
// begins behind what came before.
func (x *DCMI) setName(c *command.Call) command.Code {
	x.naming.Lock()
	defer x.naming.Unlock()
	text := x.name
	if text == nil {
		text = []byte(x.Names.HostName())
	}
	text, code := takeChunk(c, text, maxName)
	if code != command.OK {
		return code
	}
	x.name = text
	if name, _, whole := bytes.Cut(text, []byte{0}); whole {
		x.name = nil
		if err := x.Names.SetHostName(string(name), c.Origin); err != nil {
			return command.Result(x.Log, "Set Management Controller Identifier String", err)
		}
	}
	c.Put(byte(len(text)))
	return command.OK
}
