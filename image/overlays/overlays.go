// Package overlays has our device-tree overlays, which the boards' firmware lays
// over Linux's own device trees, and compiles them.
package overlays

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
)

//go:embed *.dts
var sources embed.FS

// An Overlay is a compiled one.
type Overlay struct {
	// Name is what dtoverlay= in config.txt calls it.
	Name string
	// Data is the file overlays/Name.dtbo.
	Data []byte
}

// Build compiles all overlays, in the order of names. It needs dtc (Debian's
// package device-tree-compiler).
func Build(ctx context.Context) ([]Overlay, error) {
	names, err := fs.Glob(sources, "*.dts")
	if err != nil {
		return nil, fmt.Errorf("overlays: %w", err)
	}
	var list []Overlay
	for _, file := range names {
		source, err := sources.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("overlays: %w", err)
		}
		data, err := compile(ctx, source)
		if err != nil {
			return nil, fmt.Errorf("overlays: %s: %w", file, err)
		}
		list = append(list, Overlay{strings.TrimSuffix(file, ".dts"), data})
	}
	return list, nil
}

func compile(ctx context.Context, source []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "dtc", "-@", "-I", "dts", "-O", "dtb", "-o", "-", "-")
	var out, problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(source), &out, &problems
	switch err := cmd.Run(); {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("dtc is not installed (apt-get install device-tree-compiler): %w", err)
	case err != nil:
		return nil, fmt.Errorf("dtc: %w: %s", err, bytes.TrimSpace(problems.Bytes()))
	case problems.Len() > 0:
		return nil, fmt.Errorf("dtc warns: %s", bytes.TrimSpace(problems.Bytes()))
	}
	return out.Bytes(), nil
}
