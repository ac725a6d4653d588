package ipmi

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

var updateDocs = flag.Bool("update", false, "write the table of commands into docs/ipmi.md")

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
	const path = "../docs/ipmi.md"
	const begin, end = "<!-- commands: begin -->\n", "<!-- commands: end -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s: the markers %q and %q are missing", path, begin, end)
	}
	want := commandTable(newBoard(t, allWires()), newBoard(t, host.Parts{}))
	switch {
	case got == want:
	case *updateDocs:
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s: got the table\n%s\nwant\n%s\n(go test ./ipmi -run TestDocs -update writes it)", path, got, want)
	}
}
