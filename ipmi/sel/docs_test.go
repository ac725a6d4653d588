package sel

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/internal/doctable"
)

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
func TestDocs(t *testing.T) { doctable.Check(t, "../../docs/ipmi.md", "records", kindTable()) }
