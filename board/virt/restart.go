package virt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// portName is the name of the virtio-serial port to the emulator.
const portName = "org.nitrino.board"

// answerLimit is how long the emulator may take to answer.
const answerLimit = time.Second

// Restart tells the emulator how the next start is to be, as the argument of
// reboot(2) would tell the firmware of a Raspberry Pi: PSCI, by which this
// machine restarts, carries no argument. The caller then syncs and restarts. It
// returns fs.ErrNotExist where there is no emulator to tell.
func (b *Board) Restart(arg string) error {
	if strings.ContainsAny(arg, "\r\n") {
		return fmt.Errorf("restart argument %q: %w", arg, errors.ErrUnsupported)
	}
	path, err := b.emulator()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(tell(f, arg), f.Close())
}

// emulator finds the port.
func (b *Board) emulator() (string, error) {
	names, err := filepath.Glob(filepath.Join(b.root, "sys/class/virtio-ports/*/name"))
	if err != nil {
		return "", err
	}
	for _, file := range names {
		name, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		if strings.TrimSpace(string(name)) == portName {
			return filepath.Join(b.root, "dev", filepath.Base(filepath.Dir(file))), nil
		}
	}
	return "", fmt.Errorf("virtio-serial port %s: %w", portName, fs.ErrNotExist)
}

// A wire is the port, as an *os.File or a test's own.
type wire interface {
	io.ReadWriter
	SetDeadline(time.Time) error
}

func tell(w wire, arg string) error {
	if err := w.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "reboot %s\n", arg); err != nil {
		return err
	}
	answer, err := bufio.NewReader(w).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the emulator does not answer: %w", err)
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return fmt.Errorf("the emulator answered %q", answer)
	}
	return nil
}
