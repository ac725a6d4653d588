// Mkcard makes the image of a card, with what it needs that is not there yet,
// and writes it to a card. It also makes bundles, by which boards are updated.
package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nitrino/nitrino/image/flash"
	"github.com/nitrino/nitrino/image/sdcard"
)

// version is the software's; the build sets it (-ldflags -X).
var version = "0.1.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "mkcard: %v\n", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	file, device, settings, only, image string
	bundle, key, newKey                 string
	yes                                 bool
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("mkcard", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.file, "o", "", "`file` for the image")
	f.StringVar(&o.device, "device", "", "card to write the image to, for example /dev/sdX; all on it is lost")
	f.StringVar(&o.settings, "bmc", "", "settings `file` (bmc.json) that the card gets")
	f.StringVar(&o.only, "only", "", "build no card, only its `part` kernel or initramfs")
	f.StringVar(&o.image, "image", "", "with -device: build nothing, write the image in this `file`")
	f.StringVar(&o.bundle, "bundle", "", "`file` for an update of the same contents, signed with -key")
	f.StringVar(&o.key, "key", "", "private key `file` (Ed25519, PEM) that signs the -bundle")
	f.StringVar(&o.newKey, "newkey", "", "make a private key in this `file`, print what boards are to trust, and do nothing else")
	f.BoolVar(&o.yes, "yes", false, "write to the device without asking")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	card := o.file != "" || o.device != ""
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.newKey != "" && o != (options{newKey: o.newKey}):
		return o, errors.New("-newkey makes a key and nothing else: it goes with no other flag")
	case (o.bundle == "") != (o.key == ""):
		return o, errors.New("a bundle has to be signed: want both -bundle FILE and -key FILE")
	case o.only != "" && o.only != "kernel" && o.only != "initramfs":
		return o, fmt.Errorf("-only %q: want kernel or initramfs", o.only)
	case o.only != "" && (card || o.settings != "" || o.bundle != ""):
		return o, errors.New("-only makes no card: it goes with no other flag")
	case o.image != "" && (o.device == "" || o.file != "" || o.settings != "" || o.only != "" || o.bundle != ""):
		return o, errors.New("-image is written to a -device as it is: it goes with no other flag")
	case o.settings != "" && !card:
		return o, errors.New("settings go onto a card, not into a bundle: -bmc wants -o or -device")
	case o.only == "" && !card && o.bundle == "" && o.newKey == "":
		return o, errors.New("nothing to do: want -o FILE, -device /dev/sdX, -bundle FILE or several (-h explains)")
	}
	return o, nil
}

// run is the whole program.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.newKey != "" {
		return makeKey(o.newKey, stdout)
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	if o.image != "" {
		return writeImage(ctx, o, flash.Live(), stdin, stdout)
	}
	p, err := newParts(ctx, cache, stdout)
	if err != nil {
		return err
	}
	return makeCard(ctx, o, p, flash.Live(), cache, stdin, stdout)
}

// cacheDir is where what was built is kept: the folder NITRINO_CACHE, else one
// of this user.
func cacheDir() (string, error) {
	if dir := os.Getenv("NITRINO_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "nitrino"), err
}

// makeCard does what the options say. What can be refused is, before anything is
// built or written.
func makeCard(ctx context.Context, o options, p parts, disks flash.System, cache string, stdin io.Reader, stdout io.Writer) error {
	switch o.only {
	case "kernel":
		return p.onlyKernel(ctx)
	case "initramfs":
		return p.onlyInitramfs(ctx)
	}
	var settings []byte
	if o.settings != "" {
		var err error
		if settings, err = checkedSettings(o.settings); err != nil {
			return err
		}
	}
	if o.device != "" {
		if err := agree(disks, o, sdcard.Size, stdin, stdout); err != nil {
			return err
		}
	}
	var key ed25519.PrivateKey
	if o.key != "" {
		var err error
		if key, err = readKey(o.key); err != nil {
			return err
		}
	}
	contents, err := p.contents(ctx)
	if err != nil {
		return err
	}
	if o.bundle != "" {
		if err := makeBundle(o.bundle, contents, key, stdout); err != nil {
			return err
		}
	}
	if o.file == "" && o.device == "" {
		return nil
	}
	contents.Settings = settings
	file := o.file
	if file == "" {
		file = filepath.Join(cache, "card.img")
	}
	if err := makeImage(ctx, file, contents, stdout); err != nil {
		return err
	}
	if o.device == "" {
		return nil
	}
	return writeFile(ctx, file, o.device, disks, stdout)
}

// writeImage writes an image that was made before. It needs no source tree, so
// that only this is done as root.
func writeImage(ctx context.Context, o options, disks flash.System, stdin io.Reader, stdout io.Writer) error {
	image, err := os.Open(o.image)
	if err != nil {
		return err
	}
	info, err := image.Stat()
	if err == nil {
		err = sdcard.Check(image)
	}
	if err = errors.Join(err, image.Close()); err != nil {
		return fmt.Errorf("%s: %w", o.image, err)
	}
	if err := agree(disks, o, info.Size(), stdin, stdout); err != nil {
		return err
	}
	return writeFile(ctx, o.image, o.device, disks, stdout)
}

func writeFile(ctx context.Context, file, device string, disks flash.System, stdout io.Writer) error {
	image, err := os.Open(file)
	if err != nil {
		return err
	}
	err = disks.Write(ctx, device, image, stdout)
	return errors.Join(err, image.Close())
}

// errNo says that the owner does not want the device written.
var errNo = errors.New("nothing was written")

// agree refuses a device that cannot take an image of so many bytes, and asks
// whether it is the one that is meant.
func agree(disks flash.System, o options, size int64, stdin io.Reader, stdout io.Writer) error {
	d, err := disks.Find(o.device, size)
	if err != nil || o.yes {
		return err
	}
	return ask(d, stdin, stdout)
}

func ask(d flash.Device, stdin io.Reader, stdout io.Writer) error {
	if _, err := fmt.Fprintf(stdout, "All that is on %s will be lost. Go on? (yes/no) ", d); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return fmt.Errorf("%s: %w", d.Path, errNo)
	}
	return nil
}
