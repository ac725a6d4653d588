package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nitrino/nitrino/image/initramfs"
	"github.com/nitrino/nitrino/image/kernel"
	"github.com/nitrino/nitrino/image/overlays"
	"github.com/nitrino/nitrino/image/sdcard"
	"github.com/nitrino/nitrino/internal/card"
)

// parts makes what a card consists of.
type parts interface {
	onlyKernel(context.Context) error
	onlyInitramfs(context.Context) error
	// contents are those of a card, but for its settings.
	contents(context.Context) (*sdcard.Contents, error)
}

// A source is nitrino's source tree, which parts are built from.
type source struct {
	tree, cache string
	revision    string
	date        time.Time
	out         io.Writer
}

// newParts finds the source tree around the working folder.
func newParts(ctx context.Context, cache string, out io.Writer) (*source, error) {
	mod, err := command(ctx, "", "go", "env", "GOMOD")
	if err != nil {
		return nil, err
	}
	if filepath.Base(mod) != "go.mod" {
		return nil, errors.New("not within nitrino's source tree, which the image is built from")
	}
	s := &source{tree: filepath.Dir(mod), cache: cache, out: out}
	if s.revision, s.date, err = revision(ctx, s.tree); err != nil {
		return nil, err
	}
	return s, nil
}

// revision returns the commit of the tree and its date, which everything on the
// card is dated by. A tree that came without its history has none: then the date
// is that of SOURCE_DATE_EPOCH (reproducible-builds.org), or the beginning of
// 2026.
func revision(ctx context.Context, tree string) (string, time.Time, error) {
	none := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return "", none, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		none = time.Unix(n, 0).UTC()
	}
	if _, err := os.Stat(filepath.Join(tree, ".git")); errors.Is(err, os.ErrNotExist) {
		return "unknown", none, nil
	} else if err != nil {
		return "", none, err
	}
	head, err := command(ctx, tree, "git", "log", "-1", "--format=%H %ct")
	if err != nil {
		return "", none, err
	}
	commit, seconds, _ := strings.Cut(head, " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return "", none, fmt.Errorf("the commit's date: %w", err)
	}
	changed, err := command(ctx, tree, "git", "status", "--porcelain")
	if err != nil {
		return "", none, err
	}
	if changed != "" {
		commit += "-changed"
	}
	return commit, time.Unix(n, 0).UTC(), nil
}

// command runs a program and returns what it prints, without the last newline.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(e.Stderr))
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (s *source) kernel(ctx context.Context) (*kernel.Kernel, error) {
	return kernel.Build(ctx, kernel.Options{Cache: s.cache, Progress: s.out})
}

func (s *source) initramfs(ctx context.Context) (*initramfs.Initramfs, error) {
	return initramfs.Build(ctx, initramfs.Options{
		Tree: s.tree, Package: "./uinit", Version: version, Built: s.date, Cache: s.cache, Progress: s.out,
	})
}

func (s *source) onlyKernel(ctx context.Context) error {
	k, err := s.kernel(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "kernel %s: %s\n", k.Version, k.Dir)
	return err
}

func (s *source) onlyInitramfs(ctx context.Context) error {
	i, err := s.initramfs(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(s.cache, card.InitramfsFile)
	if err := os.WriteFile(file, i.Data, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "initramfs, %d bytes: %s\n", len(i.Data), file)
	return err
}

func (s *source) contents(ctx context.Context) (*sdcard.Contents, error) {
	c := &sdcard.Contents{Version: version, Revision: s.revision, Date: s.date}
	dir, v, err := sdcard.FirmwareDir(ctx, s.tree)
	if err != nil {
		return nil, err
	}
	if err := c.AddFirmware(dir, v); err != nil {
		return nil, err
	}
	list, err := overlays.Build(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range list {
		c.Slot = append(c.Slot, sdcard.File{Name: "overlays/" + o.Name + ".dtbo", Component: sdcard.Own, Data: o.Data})
	}
	k, err := s.kernel(ctx)
	if err != nil {
		return nil, err
	}
	i, err := s.initramfs(ctx)
	if err != nil {
		return nil, err
	}
	if len(k.Components) == 0 || len(i.Components) == 0 {
		return nil, errors.New("the kernel or the initramfs does not say what it is made of")
	}
	c.Components = append(append(c.Components, k.Components...), i.Components...)
	// A kernel's first component is itself; an initramfs's last is our program.
	linux, uinit := k.Components[0].Name, i.Components[len(i.Components)-1].Name
	c.Slot = append(c.Slot, sdcard.File{Name: card.InitramfsFile, Component: uinit, Data: i.Data})
	if err := add(c, card.KernelFile, linux, k.Image); err != nil {
		return nil, err
	}
	for _, path := range k.DTBs {
		if err := add(c, filepath.Base(path), linux, path); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// add puts a file into the slots.
func add(c *sdcard.Contents, name, component, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c.Slot = append(c.Slot, sdcard.File{Name: name, Component: component, Data: data})
	return nil
}
