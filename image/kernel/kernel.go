// Package kernel builds the Linux kernel of every board, from Debian's source
// package, our fragment of a configuration and our patches.
package kernel

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nitrino/nitrino/image/cache"
	"github.com/nitrino/nitrino/update/manifest"
)

const (
	sourcePackage = "linux-source-6.12"
	sourceFile    = "/usr/src/linux-source-6.12.tar.xz"
	crossPrefix   = "aarch64-linux-gnu-"
)

// Files of a build's folder.
const (
	imageFile     = "Image.gz"
	configFile    = "config"
	recordFile    = "kernel.json"
	dtbFolder     = "dtbs"
	modulesFolder = "modules"
)

//go:embed fragment.config
var fragment string

//go:embed patches/*.patch
var patches embed.FS

// Options say where a kernel is built and kept.
type Options struct {
	// Cache is the folder that finished kernels are kept in, under "kernel".
	Cache string
	// Progress is where it is shown how the build gets on.
	Progress io.Writer
}

// A Kernel is a finished one. Its files must not be changed.
type Kernel struct {
	// Dir is the folder of all its files.
	Dir string
	// Version is the release as uname -r says it, "6.12.117-nitrino".
	Version string
	// Image is the path of the kernel, gzip'd: the Pi's firmware and QEMU both
	// unpack it.
	Image string
	// Config is the path of the whole configuration.
	Config string
	// DTBs are the paths of the device trees of the boards.
	DTBs []string
	// Modules are the paths of the modules in the order to load them in. They
	// are for tests alone and never on a card.
	Modules []string
	// Components are its parts for the image's manifest.
	Components []manifest.Component
}

// A record is what kernel.json holds.
type record struct {
	Version string `json:"version"`
	// Recipe is all that went into it; its hash is the folder's name.
	Recipe recipe `json:"recipe"`
	// DTBs and Modules are base names.
	DTBs       []string             `json:"dtbs"`
	Modules    []string             `json:"modules"`
	Components []manifest.Component `json:"components"`
}

// A recipe is everything that decides a kernel's bytes.
type recipe struct {
	// Source is the version of Debian's source package.
	Source string `json:"source"`
	// Time is the source's, and the build's.
	Time     time.Time `json:"time"`
	Compiler string    `json:"compiler"`
	Fragment string    `json:"fragment"`
	// Patches are the patch files by name.
	Patches map[string]string `json:"patches"`
	// Targets and Variables are what make is given.
	Targets   []string `json:"targets"`
	Variables []string `json:"variables"`
	// Compression names how Image became Image.gz.
	Compression string `json:"compression"`
}

// hash names a recipe's result. encoding/json sorts a map's keys.
func (r recipe) hash() (string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16]), nil
}

// Build returns the kernel for what is installed on this machine: from the cache
// where it was built before, else built now, which takes minutes and 2 GB of
// disk. If one is being built already, it waits for that. The error says which
// Debian packages are missing.
func Build(ctx context.Context, o Options) (*Kernel, error) {
	r, err := newRecipe(ctx)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	name, err := r.hash()
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	root := filepath.Join(o.Cache, "kernel")
	waiting := func() { fmt.Fprintln(o.Progress, "kernel: waiting for another build of it") }
	dir, err := cache.Folder(ctx, root, name, waiting, func(dir string) error {
		b := builder{recipe: r, dir: dir, log: filepath.Join(root, "build.log"), progress: o.Progress}
		return b.build(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	return open(dir)
}

// open reads what a finished build left.
func open(dir string) (*Kernel, error) {
	path := filepath.Join(dir, recordFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("kernel: reading %s: %w", path, err)
	}
	k := &Kernel{
		Dir:        dir,
		Version:    r.Version,
		Image:      filepath.Join(dir, imageFile),
		Config:     filepath.Join(dir, configFile),
		Components: r.Components,
	}
	for _, f := range r.DTBs {
		k.DTBs = append(k.DTBs, filepath.Join(dir, dtbFolder, f))
	}
	for _, f := range r.Modules {
		k.Modules = append(k.Modules, filepath.Join(dir, modulesFolder, f))
	}
	return k, nil
}

func newRecipe(ctx context.Context) (recipe, error) {
	if err := tools(exec.LookPath); err != nil {
		return recipe{}, err
	}
	version, err := output(ctx, "dpkg-query", "-W", "-f", "${Version}", sourcePackage)
	if err != nil {
		return recipe{}, fmt.Errorf("the Debian package %s is missing (apt-get install %s): %w", sourcePackage, sourcePackage, err)
	}
	compiler, err := output(ctx, crossPrefix+"gcc", "--version")
	if err != nil {
		return recipe{}, fmt.Errorf("asking the compiler for its version: %w", err)
	}
	linker, err := output(ctx, crossPrefix+"ld", "--version")
	if err != nil {
		return recipe{}, fmt.Errorf("asking the linker for its version: %w", err)
	}
	// dpkg gives the file the time that the package says, the same everywhere.
	info, err := os.Stat(sourceFile)
	if err != nil {
		return recipe{}, fmt.Errorf("the Debian package %s is not whole (apt-get install --reinstall %s): %w", sourcePackage, sourcePackage, err)
	}
	r := recipe{
		Source:      version,
		Time:        info.ModTime().UTC().Truncate(time.Second),
		Compiler:    firstLine(compiler) + ", " + firstLine(linker),
		Fragment:    fragment,
		Patches:     map[string]string{},
		Targets:     targets(),
		Compression: compression,
	}
	r.Variables = variables(r.Time)
	names, err := fs.Glob(patches, "patches/*.patch")
	if err != nil {
		return recipe{}, err
	}
	for _, name := range names {
		text, err := patches.ReadFile(name)
		if err != nil {
			return recipe{}, err
		}
		r.Patches[filepath.Base(name)] = string(text)
	}
	return r, nil
}

// tools checks that the programs a build runs are there, and names the Debian
// packages of those that are not. find is exec.LookPath.
func tools(find func(string) (string, error)) error {
	var missing []string
	for _, tool := range [...]struct{ program, pkg string }{
		{"dpkg-query", "dpkg"},
		{"make", "make"},
		{"gcc", "gcc libc6-dev"}, // for the programs that build the kernel
		{crossPrefix + "gcc", "gcc-aarch64-linux-gnu"},
		{crossPrefix + "ld", "binutils-aarch64-linux-gnu"},
		{"flex", "flex"}, {"bison", "bison"}, {"bc", "bc"},
		{"tar", "tar"}, {"xz", "xz-utils"}, {"patch", "patch"},
	} {
		if _, err := find(tool.program); err != nil {
			missing = append(missing, tool.pkg)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("programs are missing: apt-get install %s", strings.Join(missing, " "))
	}
	return nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(text), err
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}
