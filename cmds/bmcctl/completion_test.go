package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	for _, c := range []struct{ line, want string }{
		{"po", "power post"},
		{"power s", "status soft"},
		{"-p lab -o json power cy", "cycle"},
		{"power on -", "-H -ca -fingerprint -o -p -password-file -system -timeout -u -w"},
		{"power on -o ", "table json"},
		{"power on -p ", "lab"},
		{"profile rm l", "lab"},
		{"boot set p", "pxe"},
		{"boot set -uefi c", "cd"},
		{"power policy ", "always-on always-off last-state"},
		{"settings n", "network ntp"},
		{"settings network ", "show set"},
		{"settings enable ip", "ipmi"},
		{"users role ", ""},
		{"users role eve ", "Administrator Operator ReadOnly"},
		{"users add new O", "Operator"},
		{"users keys ", "list add rm"},
		{"users keys add eve ", ":file"},
		{"reset ", "defaults"},
		{"reset defaults keep-network-", "keep-network-and-users"},
		{"media insert ", ":file"},
		{"update -target x ", ":file"},
		{"-password-file ", ":file"},
		{"events follow -severity W", "Warning"},
		{"completion ", "bash zsh fish"},
		{"fly ", ""},
	} {
		r := d.run(append([]string{completeCommand}, strings.Split(c.line, " ")...)...)
		var words []string
		for line := range strings.Lines(r.stdout) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			words = append(words, word)
		}
		if got := strings.Join(words, " "); got != c.want {
			t.Errorf("%q: got %q, want %q", c.line, got, c.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := d.run("completion", shell); r.code != 0 || !strings.Contains(r.stdout, completeCommand) {
			t.Errorf("%s: %+v", shell, r)
		}
	}
	d.do(v, step{line: "completion csh", code: exitUsage})
}

// docs/bmcctl.md has every command as the table has it, and no other.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "bmcctl.md"))
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for line := range strings.Lines(string(data)) {
		if row, is := strings.CutPrefix(line, "| `"); is && !strings.HasPrefix(row, "-") {
			name, rest, _ := strings.Cut(row, "` | ")
			got = append(got, strings.ReplaceAll(name, `\|`, "|")+" | "+strings.TrimSuffix(strings.TrimSpace(rest), " |"))
		}
	}
	for _, c := range table() {
		want = append(want, strings.TrimSpace(c.name+" "+c.args)+" | "+c.help)
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("docs/bmcctl.md lacks the row %q", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("docs/bmcctl.md has the row %q, which is no command", g)
		}
	}
}

// Names are unique, and every flag is told by help.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range table() {
		if seen[c.name] || c.help == "" || len(strings.Fields(c.name)) > 3 {
			t.Errorf("%q: twice, without help, or of too many words", c.name)
		}
		seen[c.name] = true
		d := &desk{t: t, env: map[string]string{}}
		if r := d.run(append(strings.Fields(c.name), "-h")...); r.code != exitUsage || !strings.Contains(r.stderr, c.line()) {
			t.Errorf("%s -h: %+v", c.name, r)
		}
	}
}
