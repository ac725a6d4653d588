// Package initramfs builds the root file system of the board: u-root's init as
// process 1, and our own program that it starts, /bin/uinit. Nothing else is in
// it: no shell, no tools.
package initramfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nitrino/nitrino/image/cache"
	"github.com/nitrino/nitrino/internal/progress"
	"github.com/nitrino/nitrino/update/manifest"
)

// Options say what goes into an initramfs.
type Options struct {
	// Tree is the root folder of nitrino's source.
	Tree string
	// Package is the program, "./uinit", relative to Tree. Its package main has
	// the string variables version and built.
	Package string
	// Version is nitrino's.
	Version string
	// Built is the date of the build, before which the board's clock never
	// starts. The same date gives the same bytes.
	Built time.Time
	// Cache is the folder that u-root's part is kept in, under "initramfs".
	Cache string
	// Progress is where it is shown how the build gets on.
	Progress io.Writer
}

// An Initramfs is a finished one.
type Initramfs struct {
	// Data is what the kernel is given, compressed.
	Data []byte
	// Components are its parts for the image's manifest.
	Components []manifest.Component
}

const (
	urootFolder  = "image/initramfs/uroot" // below the tree: its go.mod pins the versions
	urootModule  = "github.com/u-root/u-root"
	initPackage  = urootModule + "/cmds/core/init"
	mkuimage     = "github.com/u-root/mkuimage/cmd/mkuimage"
	baseArchive  = "base.cpio"
	initProgram  = "bbin/bb"
	uinitProgram = "bin/uinit"
)

// mkuimageArgs: init alone, without mkuimage's own files (a resolv.conf with a
// name server of the Internet among them), without a shell, and with nothing in
// the place of uinit.
func mkuimageArgs() []string {
	return []string{"-base=/dev/null", "-build=bb", "-initcmd=init", "-defaultsh=", "-uinitcmd="}
}

// target is the environment of what is built for the board. GOARM64 is the
// oldest that a Pi 3 and 4 are.
func target() []string {
	return append(native(), "GOOS=linux", "GOARCH=arm64", "GOARM64=v8.0")
}

// native is the environment of what runs here. What else a caller has set for go
// must not change the result.
func native() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "GOEXPERIMENT=", "GODEBUG=")
}

// Build returns the initramfs. u-root's part takes a minute and comes from the
// cache the second time; the program is always built, which Go's own cache makes
// seconds.
func Build(ctx context.Context, o Options) (*Initramfs, error) {
	base, version, err := uroot(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("initramfs: u-root's init: %w", err)
	}
	program, err := compile(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("initramfs: %s: %w", o.Package, err)
	}
	archive, err := Archive(append(base, File{Name: uinitProgram, Mode: 0o755, Data: program}))
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	data, err := Compress(archive)
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	initIndex := slices.IndexFunc(base, func(f File) bool { return f.Name == initProgram })
	if initIndex < 0 {
		return nil, fmt.Errorf("initramfs: mkuimage made no %s", initProgram)
	}
	return &Initramfs{
		Data: data,
		Components: []manifest.Component{
			{Name: "u-root init", Version: version, Source: "Go module " + urootModule, SHA256: sum(base[initIndex].Data)},
			{Name: "uinit", Version: o.Version, Source: "nitrino", SHA256: sum(program)},
		},
	}, nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// uroot returns the files of u-root's part, and u-root's version.
func uroot(ctx context.Context, o Options) ([]File, string, error) {
	folder := filepath.Join(o.Tree, filepath.FromSlash(urootFolder))
	name, err := urootHash(ctx, folder)
	if err != nil {
		return nil, "", err
	}
	waiting := func() { fmt.Fprintln(o.Progress, "u-root's init: waiting for another build of it") }
	dir, err := cache.Folder(ctx, filepath.Join(o.Cache, "initramfs"), name, waiting, func(dir string) error {
		meter := progress.Start(o.Progress, "u-root's init", 0, "")
		err := buildUroot(ctx, folder, dir)
		meter.Done(err)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	data, err := os.ReadFile(filepath.Join(dir, baseArchive))
	if err != nil {
		return nil, "", err
	}
	files, err := readArchive(data)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", filepath.Join(dir, baseArchive), err)
	}
	version, err := run(ctx, folder, native(), "go", "list", "-m", "-f", "{{.Version}}", urootModule)
	return files, strings.TrimSpace(version), err
}

// urootHash covers all that decides the bytes of u-root's part.
func urootHash(ctx context.Context, folder string) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	version, err := run(ctx, folder, native(), "go", "env", "GOVERSION")
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%s%q", version, mkuimageArgs())
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

func buildUroot(ctx context.Context, folder, dir string) error {
	tool := filepath.Join(dir, "mkuimage")
	if _, err := run(ctx, folder, native(), "go", "build", "-o", tool, mkuimage); err != nil {
		return err
	}
	// Its temporary files stay in the cache's, which a killed build's are
	// removed with.
	temp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temp, 0o755); err != nil {
		return err
	}
	args := append(mkuimageArgs(), "-tmp-dir="+temp, "-o="+filepath.Join(dir, baseArchive), initPackage)
	if _, err := run(ctx, folder, target(), tool, args...); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(temp), os.Remove(tool))
}

// compile builds our program: a binary of its own, since the busybox of u-root's
// builder would change what Go's packages do (it builds without a go.mod, and so
// with the GODEBUG settings of an old Go).
func compile(ctx context.Context, o Options) ([]byte, error) {
	dir, err := os.MkdirTemp("", "initramfs-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // a leftover in the temporary folder harms nobody
	file := filepath.Join(dir, "uinit")
	flags := fmt.Sprintf("-s -w -buildid= -X main.version=%s -X main.built=%s", o.Version, o.Built.UTC().Format(time.RFC3339))
	meter := progress.Start(o.Progress, "uinit "+o.Version, 0, "")
	_, err = run(ctx, o.Tree, target(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", file, o.Package)
	meter.Done(err)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// run runs a program and returns its standard output; its error shows what it
// said.
func run(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &stdout, &stderr
	// A killed go leaves compilers that hold its pipes for a moment.
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args[:min(len(args), 1)], ""), err,
			strings.TrimSpace(stdout.String()+stderr.String()))
	}
	return stdout.String(), nil
}
