package kernel

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nitrino/nitrino/internal/progress"
	"github.com/nitrino/nitrino/update/manifest"
)

const (
	// compression says in the recipe how pack does it.
	compression = "compress/gzip, best"
	// steps is how many lines make prints for the present fragment; a guess of
	// the way to go is all it is used for.
	steps = 2500
	// tail is how many of the last lines of a failed program an error shows.
	tail = 15
)

// boards are the device trees built, for the Pi 4, 400, CM4, 3 B, 3 B+, 3 A+ and
// Zero 2 W. QEMU's virt brings its own.
func boards() []string {
	return []string{
		"bcm2711-rpi-4-b.dtb",
		"bcm2711-rpi-400.dtb",
		"bcm2711-rpi-cm4-io.dtb",
		"bcm2837-rpi-3-b.dtb",
		"bcm2837-rpi-3-b-plus.dtb",
		"bcm2837-rpi-3-a-plus.dtb",
		"bcm2837-rpi-zero-2-w.dtb",
	}
}

func targets() []string {
	list := []string{"Image", "modules"}
	for _, b := range boards() {
		list = append(list, "broadcom/"+b)
	}
	return list
}

// variables are make's environment, all that could differ from machine to
// machine fixed, so that two builds give the same bytes.
func variables(built time.Time) []string {
	return []string{
		"ARCH=arm64",
		"CROSS_COMPILE=" + crossPrefix,
		"DTC_FLAGS=-@", // keeps the symbols, which overlays refer to
		"KBUILD_BUILD_TIMESTAMP=" + built.Format(time.RFC1123),
		"KBUILD_BUILD_USER=nitrino",
		"KBUILD_BUILD_HOST=nitrino",
		"KBUILD_BUILD_VERSION=1",
		"LC_ALL=C",
	}
}

// A builder makes one kernel.
type builder struct {
	recipe   recipe
	dir      string // to fill
	log      string // the file that all output of programs goes to
	progress io.Writer
}

func (b *builder) build(ctx context.Context) error {
	log, err := os.Create(b.log)
	if err != nil {
		return err
	}
	err = b.steps(ctx, log)
	if closed := log.Close(); err == nil {
		err = closed
	}
	return err
}

func (b *builder) steps(ctx context.Context, log io.Writer) error {
	// In the source's own folder: with one for objects beside it the paths of
	// both would be in the kernel.
	tree := filepath.Join(b.dir, "build")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := b.unpack(ctx, tree, log); err != nil {
		return fmt.Errorf("unpacking %s: %w", sourceFile, err)
	}
	for _, name := range slices.Sorted(maps.Keys(b.recipe.Patches)) {
		cmd := b.command(ctx, tree, log, "patch", "-p1", "--forward", "--fuzz=0")
		cmd.Stdin = strings.NewReader(b.recipe.Patches[name])
		if err := b.run(cmd); err != nil {
			return fmt.Errorf("applying %s: %w", name, err)
		}
	}
	if err := b.configure(ctx, tree, log); err != nil {
		return err
	}
	if err := b.compile(ctx, tree, log); err != nil {
		return err
	}
	if err := b.collect(tree); err != nil {
		return fmt.Errorf("collecting the build's results: %w", err)
	}
	return os.RemoveAll(tree)
}

func (b *builder) unpack(ctx context.Context, tree string, log io.Writer) error {
	f, err := os.Open(sourceFile)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	meter := progress.Start(b.progress, "kernel source "+b.recipe.Source, info.Size(), "B")
	cmd := b.command(ctx, tree, log, "tar", "-xJf", "-", "--strip-components=1")
	cmd.Stdin = io.TeeReader(f, counter{meter})
	err = b.run(cmd)
	meter.Done(err)
	return err
}

// configure writes the configuration and holds it to what the fragment asks.
func (b *builder) configure(ctx context.Context, tree string, log io.Writer) error {
	asked, err := parseConfig(b.recipe.Fragment)
	if err != nil {
		return fmt.Errorf("fragment.config: %w", err)
	}
	path := filepath.Join(b.dir, "fragment.config")
	if err := os.WriteFile(path, []byte(b.recipe.Fragment), 0o644); err != nil {
		return err
	}
	cmd := b.command(ctx, tree, log, "make", "alldefconfig")
	cmd.Env = append(cmd.Env, "KCONFIG_ALLCONFIG="+path)
	if err := b.run(cmd); err != nil {
		return fmt.Errorf("configuring: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(tree, ".config"))
	if err != nil {
		return err
	}
	got, err := parseConfig(string(text))
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	return check(asked, got)
}

func (b *builder) compile(ctx context.Context, tree string, log io.Writer) error {
	meter := progress.Start(b.progress, "kernel "+b.recipe.Source, steps, "steps")
	args := append([]string{"-j" + strconv.Itoa(runtime.NumCPU())}, b.recipe.Targets...)
	cmd := b.command(ctx, tree, io.MultiWriter(log, lines{meter}), "make", args...)
	err := b.run(cmd)
	meter.Done(err)
	if err != nil {
		return fmt.Errorf("building: %w", err)
	}
	return nil
}

// collect takes what is wanted out of the tree.
func (b *builder) collect(tree string) error {
	version, err := os.ReadFile(filepath.Join(tree, "include", "config", "kernel.release"))
	if err != nil {
		return err
	}
	r := record{Version: strings.TrimSpace(string(version)), Recipe: b.recipe, DTBs: boards()}
	sum, err := pack(filepath.Join(tree, "arch/arm64/boot/Image"), filepath.Join(b.dir, imageFile))
	if err != nil {
		return err
	}
	r.Components = []manifest.Component{{
		Name:    "linux",
		Version: r.Version,
		Source:  "Debian " + sourcePackage + " " + b.recipe.Source + ", " + strings.Join(slices.Sorted(maps.Keys(b.recipe.Patches)), ", "),
		SHA256:  sum,
	}}
	if err := copyFile(filepath.Join(tree, ".config"), filepath.Join(b.dir, configFile)); err != nil {
		return err
	}
	for _, folder := range []string{dtbFolder, modulesFolder} {
		if err := os.Mkdir(filepath.Join(b.dir, folder), 0o755); err != nil {
			return err
		}
	}
	for _, dtb := range r.DTBs {
		from := filepath.Join(tree, "arch/arm64/boot/dts/broadcom", dtb)
		if err := copyFile(from, filepath.Join(b.dir, dtbFolder, dtb)); err != nil {
			return err
		}
	}
	if r.Modules, err = collectModules(tree, filepath.Join(b.dir, modulesFolder)); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, recordFile), append(text, '\n'), 0o644)
}

// collectModules copies the modules and returns their names in load order.
func collectModules(tree, to string) ([]string, error) {
	list, err := os.ReadFile(filepath.Join(tree, "modules.order"))
	if err != nil {
		return nil, err
	}
	needs := map[string][]string{}
	for object := range strings.FieldsSeq(string(list)) {
		module := strings.TrimSuffix(object, ".o") + ".ko"
		name := filepath.Base(module)
		if err := copyFile(filepath.Join(tree, module), filepath.Join(to, name)); err != nil {
			return nil, err
		}
		f, err := os.Open(filepath.Join(to, name))
		if err != nil {
			return nil, err
		}
		needs[name], err = dependencies(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
	}
	return loadOrder(needs)
}

// pack compresses a file and returns the SHA-256 of the result. The header holds
// no name and no time.
func pack(from, to string) (string, error) {
	data, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(data); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:]), os.WriteFile(to, b.Bytes(), 0o644)
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// command prepares a program with the recipe's environment: what else a caller
// has set (KCFLAGS, LOCALVERSION) must not get into the kernel.
func (b *builder) command(ctx context.Context, dir string, out io.Writer, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, b.recipe.Variables...)
	cmd.Stdout, cmd.Stderr = out, out
	inOwnGroup(cmd)
	return cmd
}

// run runs a program; its error shows the end of what it printed.
func (b *builder) run(cmd *exec.Cmd) error {
	err := cmd.Run()
	if err == nil {
		return nil
	}
	last, readErr := lastLines(b.log)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return fmt.Errorf("%s: %w; %s ends with:\n%s", cmd.Args[0], err, b.log, last)
}

func lastLines(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	var last []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		last = append(last, s.Text())
		last = last[max(0, len(last)-tail):]
	}
	return strings.Join(last, "\n"), s.Err()
}

// A counter moves a meter on by the bytes written.
type counter struct{ meter *progress.Meter }

func (c counter) Write(p []byte) (int, error) {
	c.meter.Add(int64(len(p)))
	return len(p), nil
}

// A lines moves a meter on by the lines written.
type lines struct{ meter *progress.Meter }

func (l lines) Write(p []byte) (int, error) {
	l.meter.Add(int64(bytes.Count(p, []byte{'\n'})))
	return len(p), nil
}
