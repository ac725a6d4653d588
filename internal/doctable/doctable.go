// Package doctable holds tables in the documentation to the code that they are
// made from; it is for tests.
package doctable

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables into the documentation")

// Check compares what stands in a file between the markers of a table with what
// the code says. With the test's flag -update it writes it there; packages whose
// tables are in one file do that one after the other (go test -p 1).
func Check(t *testing.T, path, table, want string) {
	t.Helper()
	begin, end := "<!-- "+table+": begin -->\n", "<!-- "+table+": end -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s: the markers %q and %q are missing", path, begin, end)
	}
	switch {
	case got == want:
	case *update:
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s: got the table\n%s\nwant\n%s\n(go test -run TestDocs -update writes it, one package after the other: -p 1)", path, got, want)
	}
}
