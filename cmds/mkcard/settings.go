package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nitrino/nitrino/bmc"
)

// checkedSettings reads a settings file and has the board's own software find
// every mistake in it.
func checkedSettings(file string) (text []byte, err error) {
	if text, err = os.ReadFile(file); err != nil {
		return nil, fmt.Errorf("-bmc: %w", err)
	}
	dir, err := os.MkdirTemp("", "mkcard-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// A copy, so that what was checked is what goes onto the card.
	card := filepath.Join(dir, filepath.Base(file))
	if err := os.WriteFile(card, text, 0o600); err != nil {
		return nil, err
	}
	if err := bmc.CheckSettings(card); err != nil {
		return nil, fmt.Errorf("-bmc %s: %w", file, err)
	}
	return text, nil
}
