// Linux is the init of the Linux guest of the tests: it mounts what programs
// expect, loads the kernel's modules, and runs programs for the tests, which speak
// to it over the second serial port, a line of JSON for each request and answer.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// port is the serial port to the tests; the first one is the kernel's console.
const port = "/dev/ttyS1"

func main() {
	if err := serve(); err != nil {
		fmt.Fprintf(os.Stderr, "init: %v\n", err)
	}
	// The init must not end; what is wrong is on the console.
	select {}
}

// A request is a program to be run, with its arguments.
type request struct {
	ID   int      `json:"id"`
	Args []string `json:"args"`
}

// An answer is how it ended. Out is both outputs.
type answer struct {
	ID   int    `json:"id"`
	Out  string `json:"out"`
	Code int    `json:"code"`
}

func serve() error {
	for _, m := range []struct{ what, kind string }{
		{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}, {"/dev/shm", "tmpfs"},
	} {
		if err := os.MkdirAll(m.what, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.what, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mounting %s: %w", m.what, err)
		}
	}
	if err := load("/modules"); err != nil {
		return err
	}
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return err
	}
	dev, err := os.OpenFile(port, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer dev.Close() // the guest ends with it
	if err := raw(dev); err != nil {
		return err
	}
	var (
		mu      sync.Mutex
		answers = json.NewEncoder(dev)
		running sync.WaitGroup
	)
	defer running.Wait()
	if err := answers.Encode(answer{Out: "ready"}); err != nil {
		return err
	}
	lines := bufio.NewScanner(dev)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err
		}
		running.Go(func() {
			a := r.run()
			mu.Lock()
			defer mu.Unlock()
			if err := answers.Encode(a); err != nil {
				fmt.Fprintf(os.Stderr, "init: %v\n", err)
			}
		})
	}
	return lines.Err()
}

func (r request) run() answer {
	if len(r.Args) == 0 {
		return answer{ID: r.ID, Out: "nothing to run", Code: -1}
	}
	cmd := exec.Command(r.Args[0], r.Args[1:]...)
	out, err := cmd.CombinedOutput()
	a := answer{ID: r.ID, Out: string(out)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		a.Code = exit.ExitCode()
	case err != nil:
		a.Out, a.Code = err.Error(), -1
	}
	return a
}

// load inserts the modules that the file names, one a line, in that order.
func load(list string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	for name := range strings.Lines(string(text)) {
		name = strings.TrimSpace(name)
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("loading %s: %w", name, err)
		}
	}
	return nil
}

// raw has the port carry bytes as they are (termios(3), cfmakeraw).
func raw(dev *os.File) error {
	t, err := unix.IoctlGetTermios(int(dev.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(int(dev.Fd()), unix.TCSETS, t)
}
