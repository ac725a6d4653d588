package sel

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var updateDocs = flag.Bool("update", false, "write the table of records into docs/ipmi.md")

// kindTable renders the kinds of events that become records, those that become
// the same one in a row.
func kindTable() string {
	var rows []Kind
	kinds := map[int][]string{} // by row
	for _, k := range Kinds() {
		kind := k.Kind
		k.Kind = ""
		row := len(rows)
		for i, r := range rows {
			if r == k {
				row = i
			}
		}
		if row == len(rows) {
			rows = append(rows, k)
		}
		kinds[row] = append(kinds[row], "`"+kind+"`")
	}
	var b strings.Builder
	b.WriteString("| event | sensor | type, event type, offset | the record says |\n|---|---|---|---|\n")
	for i, r := range rows {
		sensor, what := "", ""
		if r.Number != 0 {
			sensor = fmt.Sprintf("%02Xh", r.Number)
			what = fmt.Sprintf("%02Xh, %02Xh, %d", r.Type, r.Event, r.Offset)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.Join(kinds[i], ", "), sensor, what, r.Text)
	}
	return b.String()
}

// TestDocs holds docs/ipmi.md to the kinds of events that become records;
// go test ./ipmi/sel -run TestDocs -update writes its table.
func TestDocs(t *testing.T) {
	const path = "../../docs/ipmi.md"
	const begin, end = "<!-- records: begin -->\n", "<!-- records: end -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s: the markers %q and %q are missing", path, begin, end)
	}
	want := kindTable()
	switch {
	case got == want:
	case *updateDocs:
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s: got the table\n%s\nwant\n%s\n(go test ./ipmi/sel -run TestDocs -update writes it)", path, got, want)
	}
}
