//go:build e2e

package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
)

// cuTable has each test of libiscsi's iscsi-test-cu, and what our target does.
const cuTable = "testdata/iscsi/test-cu.txt"

// cuPasses is how many of its tests a target has to pass at least.
const cuPasses = 215

// A verdict is how a test of iscsi-test-cu ended.
type verdict struct {
	what   string // pass, skip or fail
	reason string // what it says of skip and fail
}

// A cuTest names a test by "Suite.Test", on one of the target's units.
type cuTest struct{ unit, name string }

func (c cuTest) suite() string {
	suite, _, _ := strings.Cut(c.name, ".")
	return suite
}

// TestISCSIConformance runs libiscsi's tests, suite by suite, and holds the table
// to them: each test passes, or is skipped for the reason that the table gives. A
// suite for read-only or removable disks runs on a unit of that kind.
func TestISCSIConformance(t *testing.T) {
	t.Parallel() // some of the tests wait
	want := readCUTable(t)
	// Physical blocks of 4 KiB are what some tests need, and what GetLBAStatus cannot
	// take: it asks for the block after the one that it wants the answer to begin with.
	_, d := rawFile(t, 16<<20)
	native := newDiskOf(t, d, block.Identity{PhysicalSize: blockSize})
	disk := rawDisk(t, 256<<20)
	e := exportUnits(t, block.Target{}, unit{disk: disk}, unit{disk: native}, unit{disk: lockedDisk(t, 16<<20)}, unit{disk: rawDisk(t, 16<<20), removable: true})
	luns := map[string]int{"disk": 0, "native": 1, "locked": 2, "removable": 3}

	listed := map[string]bool{}
	for line := range strings.Lines(client(t, "iscsi-test-cu", "--list").must(t)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "ALL."); ok && strings.Contains(name, ".") {
			listed[name] = true
		}
	}
	ours := map[string]bool{}
	type run struct{ unit, suite string }
	runs := map[run]bool{}
	for c := range want {
		ours[c.name] = true
		runs[run{c.unit, c.suite()}] = true
	}
	for name := range listed {
		if !ours[name] {
			t.Errorf("iscsi-test-cu has a test %s, %s has not", name, cuTable)
			runs[run{"disk", cuTest{name: name}.suite()}] = true
		}
	}
	passed := map[string]bool{}
	for _, r := range slices.SortedFunc(maps.Keys(runs), func(a, b run) int { return strings.Compare(a.suite+a.unit, b.suite+b.unit) }) {
		lun, ok := luns[r.unit]
		if !ok {
			t.Fatalf("%s: there is no unit %q", cuTable, r.unit)
		}
		// Some take an empty disk for granted.
		if err := disk.WriteZeroes(0, disk.Size(), false); err != nil {
			t.Fatal(err)
		}
		got := runCU(t, e.portal, lun, r.suite)
		for name, g := range got {
			c := cuTest{r.unit, name}
			w, ok := want[c]
			switch {
			case !ok && (r.unit == "disk" || g.what == "fail"):
				t.Errorf("%-6s %-4s %s: not in %s; it says: %s", c.unit, g.what, c.name, cuTable, g.reason)
			case ok && g.what != w.what:
				t.Errorf("%-6s %-4s %s: got this, want %s; it says: %s", c.unit, g.what, c.name, w.what, g.reason)
			}
			if g.what == "pass" {
				passed[name] = true
			}
		}
		for c := range want {
			if _, ok := got[c.name]; !ok && c.unit == r.unit && c.suite() == r.suite {
				t.Errorf("%-6s %s: is in %s, but did not run", c.unit, c.name, cuTable)
			}
		}
	}
	t.Logf("iscsi-test-cu: %d of %d tests pass", len(passed), len(listed))
	if len(passed) < cuPasses {
		t.Errorf("%d tests pass, want at least %d", len(passed), cuPasses)
	}
	if got := e.reported("iscsi.panic"); len(got) != 0 {
		t.Errorf("the target panicked: %v", got)
	}
}

// readCUTable reads lines of a unit, a verdict, a test's name, and a reason where
// the verdict is skip.
func readCUTable(t *testing.T) map[cuTest]verdict {
	t.Helper()
	text, err := os.ReadFile(cuTable)
	if err != nil {
		t.Fatal(err)
	}
	table := map[cuTest]verdict{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != "pass" && f[1] != "skip" || (f[1] == "skip") != (len(f) > 3) {
			t.Fatalf("%s: %q is not a unit, pass or skip, a test, and a reason to skip it", cuTable, line)
		}
		table[cuTest{f[0], f[2]}] = verdict{f[1], strings.Join(f[3:], " ")}
	}
	return table
}

// runCU runs a suite in a process of its own, as one that ends badly would take the
// others' results along.
func runCU(t *testing.T, p portal, lun int, suite string) map[string]verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// Two URLs: the suite MultipathIO wants two ways to one unit.
	cmd := exec.CommandContext(ctx, "stdbuf", "-oL", "iscsi-test-cu", "--dataloss", "--allow-sanitize", "--verbose",
		"--test=ALL."+suite, p.url(lun), p.url(lun))
	out, err := cmd.CombinedOutput()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("iscsi-test-cu: %v", err)
	}
	got := parseCU(string(out))
	if ctx.Err() != nil {
		t.Errorf("suite %s does not end\n%s", suite, tail(string(out)))
	}
	if len(got) == 0 {
		t.Errorf("suite %s: no results\n%s", suite, out)
	}
	return got
}

var (
	cuSuite  = regexp.MustCompile(`^Suite: (\S+)`)
	cuBegin  = regexp.MustCompile(`^  Test: (\S+) \.\.\.(.*)`)
	cuFailed = regexp.MustCompile(`^\s+\d+\. (.*)`)
)

// parseCU reads what iscsi-test-cu prints: after each test's name what it has to
// say, then "passed" or "FAILED"; a test that was skipped has "passed" too.
func parseCU(out string) map[string]verdict {
	got := map[string]verdict{}
	var suite, test, skipped, said string
	ended := false
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := cuSuite.FindStringSubmatch(line); m != nil {
			suite, test = m[1], ""
			continue
		}
		if m := cuBegin.FindStringSubmatch(line); m != nil {
			test, skipped, said, ended = suite+"."+m[1], "", "", false
			got[test] = verdict{"fail", "it did not end"}
			line = m[2]
		}
		if strings.HasPrefix(line, "Run Summary") {
			test = ""
		}
		if test == "" {
			continue
		}
		if _, reason, ok := strings.Cut(line, "[SKIPPED] "); ok && skipped == "" {
			skipped = reason
		}
		if _, reason, ok := strings.Cut(line, "[FAILED] "); ok && said == "" {
			said = reason
		}
		switch m := cuFailed.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "FAILED"):
			ended = true
			got[test] = verdict{"fail", said}
		case m != nil && ended:
			got[test] = verdict{"fail", strings.TrimSpace(said + "; " + m[1])}
			ended = false // the first assertion says enough
		case strings.HasPrefix(line, "passed") && skipped != "":
			got[test] = verdict{"skip", skipped}
		case strings.HasPrefix(line, "passed"):
			got[test] = verdict{what: "pass"}
		}
	}
	return got
}

func TestParseCU(t *testing.T) {
	got := parseCU(`Suite: Reserve6
  Test: Simple ...passed
  Test: 2Initiators ...    Take out a RESERVE6 from the first initiator
    [FAILED] MODESENSE6 successful but should have failed
FAILED
    1. test_reserve6_2initiators.c:70  - CU_ASSERT_EQUAL(_r,0)
  Test: Warm ...    [SKIPPED] RESERVE6 is absent
    [SKIPPED] twice
passed
  Test: Cut ...    Take out

Run Summary:    Type  Total    Ran Passed Failed Inactive
`)
	want := map[string]verdict{
		"Reserve6.Simple":      {"pass", ""},
		"Reserve6.2Initiators": {"fail", "MODESENSE6 successful but should have failed; test_reserve6_2initiators.c:70  - CU_ASSERT_EQUAL(_r,0)"},
		"Reserve6.Warm":        {"skip", "RESERVE6 is absent"},
		"Reserve6.Cut":         {"fail", "it did not end"},
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", fmt.Sprint(got), want)
	}
}
