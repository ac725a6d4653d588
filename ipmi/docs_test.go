package ipmi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/doctable"
	"github.com/nitrino/nitrino/ipmi/command"
)

// commandTable renders the commands of a fully wired board; bare is the same
// board without wires.
func commandTable(all, bare *Server) string {
	netFns := map[command.NetFn]string{
		command.Chassis: "Chassis", command.Bridge: "Bridge", command.Sensor: "Sensor", command.App: "App", command.Firmware: "Firmware",
		command.Storage: "Storage", command.Transport: "Transport", command.Group: "Group", command.OEM: "OEM",
	}
	var b strings.Builder
	b.WriteString("| NetFn | Cmd | command | privilege | outside a session | only where wired |\n|---|---|---|---|---|---|\n")
	mark := func(is bool) string {
		if is {
			return "yes"
		}
		return ""
	}
	list := all.Commands()
	slices.SortStableFunc(list, func(x, y command.Command) int {
		return cmp.Or(cmp.Compare(x.NetFn, y.NetFn), cmp.Compare(x.Cmd, y.Cmd))
	})
	for _, c := range list {
		fmt.Fprintf(&b, "| %02Xh %s | %02Xh | %s | %s | %s | %s |\n", uint8(c.NetFn), netFns[c.NetFn], c.Cmd, c.Name, c.Privilege,
			mark(c.Sessionless), mark(bare.commands[commandKey{c.NetFn, c.Cmd, c.Body}] == nil))
	}
	return b.String()
}

// TestDocs holds docs/ipmi.md to the table that the server answers by;
// go test ./ipmi -run TestDocs -update writes it.
func TestDocs(t *testing.T) {
	doctable.Check(t, "../docs/ipmi.md", "commands", commandTable(newBoard(t, allWires()), newBoard(t, host.Parts{})))
}
