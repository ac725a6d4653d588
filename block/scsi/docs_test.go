package scsi

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/internal/doctable"
)

// A commandRow is a command and who has it.
type commandRow struct {
	code, name   string
	disk, cd, no bool // no: a LUN without a unit
}

// commands are the operations of all tables in the order of their codes.
func commands() []commandRow {
	var rows []commandRow
	disk, cd, nowhere := newTable(false), newTable(true), newNowhereTable()
	named := func(list []*operation, name string) bool {
		for _, o := range list {
			if o.name == name {
				return true
			}
		}
		return false
	}
	for code := range disk {
		seen := map[string]bool{}
		for _, list := range [][]*operation{disk[code], cd[code], nowhere[code]} {
			for _, o := range list {
				if seen[o.name] {
					continue
				}
				seen[o.name] = true
				text := fmt.Sprintf("%02Xh", code)
				if o.action >= 0 {
					text += fmt.Sprintf("/%02Xh", o.action)
				}
				rows = append(rows, commandRow{text, o.name, named(disk[code], o.name), named(cd[code], o.name), named(nowhere[code], o.name)})
			}
		}
	}
	return rows
}

// TestDocs holds docs/disks.md to the operations that there are;
// go test ./block/scsi -run TestDocs -update writes it.
func TestDocs(t *testing.T) {
	mark := func(is bool) string {
		if is {
			return "yes"
		}
		return ""
	}
	var b strings.Builder
	b.WriteString("| code | command | disk | CD | LUN without a unit |\n|---|---|---|---|---|\n")
	for _, r := range commands() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.code, r.name, mark(r.disk), mark(r.cd), mark(r.no))
	}
	doctable.Check(t, "../../docs/disks.md", "commands", b.String())
}

// TestOperations: each operation has a name of its own and a usage that is its CDB's,
// and REPORT SUPPORTED OPERATION CODES has them all.
func TestOperations(t *testing.T) {
	lengths := [8]int{6, 10, 10, 0, 16, 12, 0, 0} // by group (SPC-4 table 17)
	for _, isCD := range []bool{false, true} {
		b := newRig(t, block.Identity{}, func(o *UnitOptions) { o.CD = isCD })
		answer := do(b.connect("iqn.a"), []byte{0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, nil)
		expect(t, "REPORT SUPPORTED OPERATION CODES", answer, "good")
		supported := map[[2]int]bool{}
		for d := answer.Data[4:]; len(d) >= 8; d = d[8:] {
			at := [2]int{int(d[0]), -1}
			if d[5]&0x01 != 0 { // SERVACTV
				at[1] = int(d[2])<<8 | int(d[3])
			}
			supported[at] = true
		}
		names := map[string]bool{}
		for _, list := range b.unit.table {
			for _, o := range list {
				if names[o.name] || o.name == "" || strings.ToUpper(o.name) != o.name && !strings.Contains(o.name, "(LID1)") {
					t.Errorf("%#02x/%d: got the name %q, want the standard's, once", o.code, o.action, o.name)
				}
				names[o.name] = true
				if len(o.usage) != lengths[o.code>>5] || o.usage[0] != o.code || o.action >= 0 && int(o.usage[1]&0x1f) != o.action {
					t.Errorf("%s: got the usage %x", o.name, o.usage)
				}
				if at := [2]int{int(o.code), o.action}; !supported[at] {
					t.Errorf("%s is not reported", o.name)
				}
				delete(supported, [2]int{int(o.code), o.action})
			}
		}
		if len(supported) != 0 {
			t.Errorf("got %v, which are no operations", supported)
		}
	}
}

// TestLogFailure: at the level of debugging it can be seen which command was refused,
// and why.
func TestLogFailure(t *testing.T) {
	var log bytes.Buffer
	b := newRig(t, block.Identity{}, func(o *UnitOptions) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	n := b.connect("iqn.a")
	for code, want := range map[byte]string{0x28: `command=READ(10)`, 0xff: "command=unknown"} {
		log.Reset()
		if c := do(n, []byte{code, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1}, nil); c.Status != StatusCheckCondition {
			t.Fatalf("%#02x: got %s", code, outcome(c))
		}
		if got := log.String(); !strings.Contains(got, want) || !strings.Contains(got, "iqn.a,i,") || !strings.Contains(got, "sense=5/2") {
			t.Errorf("%#02x: got the log %q, want %s", code, got, want)
		}
	}
}
