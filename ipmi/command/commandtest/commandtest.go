// Package commandtest calls handlers as package ipmi does.
package commandtest

import (
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Origin is who calls.
func Origin() host.Origin {
	return host.Origin{Via: "ipmi", User: "admin", Source: "192.0.2.1"}
}

// Call runs a command of list with data and answers what it did. A command that
// is not there, or data of another length than it takes, is answered as package
// ipmi does.
func Call(t testing.TB, list []command.Command, n command.NetFn, cmd byte, data ...byte) (command.Code, []byte) {
	t.Helper()
	for _, c := range list {
		if c.NetFn != n || c.Cmd != cmd {
			continue
		}
		if len(data) < c.MinLen || len(data) > c.MaxLen {
			return command.BadLength, nil
		}
		call := command.Call{Data: data, Now: time.Now()}
		if c.Conduct != command.Reads {
			call.Origin = Origin()
		}
		code := c.Run(&call)
		if c.Conduct != command.Reads && len(call.Reply) > command.MaxKept {
			t.Errorf("%s answers %d bytes, which are more than are kept", c.Name, len(call.Reply))
		}
		if code != command.OK && !call.Whole {
			return code, nil
		}
		return code, call.Reply
	}
	return command.InvalidCommand, nil
}

// Fuzz throws data at each command of list, whatever its length bounds allow.
func Fuzz(f *testing.F, list []command.Command) {
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		if len(list) == 0 {
			return
		}
		c := list[int(which)%len(list)]
		Call(t, []command.Command{c}, c.NetFn, c.Cmd, data...)
	})
}
