package hwmon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// A gauge reads one channel. Its files stay open between readings; after a
// failure they are found and opened anew, since a chip that comes back has other
// ones.
type gauge struct {
	chip    *chip
	channel channel

	mu    sync.Mutex
	input *os.File // nil while there is none
	fault *os.File // nil where the chip does not tell
	buf   [32]byte
}

var errFault = errors.New("the chip says that its sensor is broken or missing")

// Read implements host.Gauge. A reading that has begun ends with the bus's own
// timeout, 1 s, whatever ctx does.
func (g *gauge) Read(ctx context.Context) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.input == nil {
		if err := g.open(); err != nil {
			return 0, err
		}
	}
	v, err := g.read()
	if err != nil && !errors.Is(err, errFault) {
		return 0, errors.Join(err, g.close())
	}
	return v, err
}

// open is called with mu held.
func (g *gauge) open() error {
	folder, err := g.chip.folder()
	if err != nil {
		return err
	}
	name := filepath.Join(folder, g.channel.name())
	if g.fault, err = os.Open(name + "_fault"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if g.input, err = os.Open(name + "_input"); err != nil {
		return errors.Join(err, g.close())
	}
	return nil
}

// read is called with mu held, and both files open.
func (g *gauge) read() (float64, error) {
	if g.fault != nil {
		broken, err := g.number(g.fault)
		if err != nil {
			return 0, err
		}
		if broken != 0 {
			return 0, errFault
		}
	}
	v, err := g.number(g.input)
	return float64(v) / g.channel.kind.parts, err
}

// number reads a file that has one. Each read from its begin makes the driver
// ask the chip.
func (g *gauge) number(f *os.File) (int64, error) {
	n, err := f.ReadAt(g.buf[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(g.buf[:n])), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return v, nil
}

// Close closes the files.
func (g *gauge) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.close()
}

func (g *gauge) close() error {
	var errs []error
	for _, f := range []**os.File{&g.input, &g.fault} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	return errors.Join(errs...)
}
