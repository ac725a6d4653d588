package bmc

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/internal/settings"
)

// TestDocs holds docs/settings.md to the settings: each has a row that begins
// with its path and its default, and each row is a setting's. The nine wires
// have one row each, and their fields share rows of the form wires.*.line.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // default by path
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (?:`([^`]*)`|none) \\|").FindAllStringSubmatch(string(text), -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("%s has two rows", m[1])
		}
		rows[m[1]] = m[2]
	}
	want := map[string]string{}
	defaults := openDocumented(t, Defaults())
	for _, path := range defaults.Paths() {
		value, err := defaults.Show(path)
		if err != nil {
			t.Fatal(err)
		}
		want[path] = strings.Trim(strings.TrimSpace(string(value)), `"`)
	}
	wired := Defaults()
	wire := func(line int) *board.Wire { return &board.Wire{Chip: "chip", Line: line} }
	wired.Wires = board.Wires{
		PowerButton: wire(0), ResetButton: wire(1), NMIButton: wire(2), IDLight: wire(3), PowerLED: wire(4), Standby: wire(5),
		HostReset: wire(6), PowerButtonPressed: wire(7), ResetButtonPressed: wire(8),
	}
	delete(want, "wires") // an empty object where no wire is
	for _, path := range openDocumented(t, wired).Paths() {
		if rest, ok := strings.CutPrefix(path, "wires."); ok {
			name, field, _ := strings.Cut(rest, ".")
			want["wires."+name] = ""
			want["wires.*."+field] = map[string]string{"active_low": "false"}[field]
		}
	}
	for path, value := range want {
		if got, ok := rows[path]; !ok {
			t.Errorf("docs/settings.md has no row for %s", path)
		} else if got != value {
			t.Errorf("docs/settings.md, default of %s: got %q, want %q", path, got, value)
		}
	}
	for path := range rows {
		if _, ok := want[path]; !ok {
			t.Errorf("docs/settings.md has a row for %s, which is no setting", path)
		}
	}
}

func openDocumented(t *testing.T, s Settings) *settings.Store[Settings] {
	t.Helper()
	dir := t.TempDir()
	store, err := settings.Open(settings.Options[Settings]{
		Defaults: func() Settings { return s }, Version: SettingsVersion,
		Changed: filepath.Join(dir, "changed.json"), LastGood: filepath.Join(dir, "last-good"),
		Validate: func(s *Settings) error { return validate(s, nil) },
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
		Report:   func(p settings.Problem) { t.Error(p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
