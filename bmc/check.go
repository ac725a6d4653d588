package bmc

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/nitrino/nitrino/internal/settings"
)

// CheckSettings says what a board would find wrong with a settings file, with
// its place in the file; whether the wires are there only the board knows.
func CheckSettings(file string) (err error) {
	dir, err := os.MkdirTemp("", "settings-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var bad []error
	_, err = settings.Open(settings.Options[Settings]{
		Defaults: Defaults, Version: SettingsVersion,
		Layers:   []settings.Layer{{Name: "file", Path: file, ReadOnly: true}},
		Changed:  filepath.Join(dir, "changed.json"),
		LastGood: filepath.Join(dir, "last-good"),
		Validate: func(s *Settings) error { return validate(s, nil) },
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
		Report:   func(p settings.Problem) { bad = append(bad, errors.New(p.String())) },
	})
	return errors.Join(append(bad, err)...)
}
