package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/board/sim"
)

// fakeChip is QEMU's end of a qtest connection: it answers each command with OK
// and hands it on.
func fakeChip(t *testing.T) (near net.Conn, far net.Conn, commands chan string) {
	near, far = net.Pipe()
	commands = make(chan string, 100)
	t.Cleanup(func() { near.Close(); far.Close() })
	go func() {
		lines := bufio.NewScanner(far)
		for lines.Scan() {
			commands <- lines.Text()
			answer := "OK"
			switch word, _, _ := strings.Cut(lines.Text(), " "); word {
			case "readw":
				answer = "OK 0x0000000000000006"
			case "nonsense":
				answer = "FAIL Unknown command"
			}
			if _, err := fmt.Fprintln(far, answer); err != nil {
				return
			}
		}
	}()
	return near, far, commands
}

func TestQtest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, commands := fakeChip(t)
		irqs := make(chan string, 10)
		q := newQtest(near, func(line int, level bool) { irqs <- fmt.Sprint(line, level) })
		if err := q.send("set_irq_in x y 5 1", nil); err != nil {
			t.Fatal(err)
		}
		if got, err := q.execute(t.Context(), "readw 0x10"); err != nil || got != "0x0000000000000006" {
			t.Errorf("got %q, %v", got, err)
		}
		if got, want := <-commands, "set_irq_in x y 5 1"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if _, err := q.execute(t.Context(), "nonsense"); err == nil || !strings.Contains(err.Error(), "Unknown command") {
			t.Errorf("got %v, want QEMU's refusal", err)
		}
		fmt.Fprint(far, "IRQ raise 0\nIRQ lower 0\n")
		if got, want := <-irqs+" "+<-irqs, "0 true 0 false"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		far.Close()
		if _, err := q.execute(t.Context(), "readw 0x10"); err == nil {
			t.Error("no error on a closed connection")
		}
		q.close()
	})
}

func TestQtestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		q := newQtest(near, func(int, bool) {})
		defer q.close()
		go bufio.NewReader(far).ReadString('\n')
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.execute(ctx, "readw 0x10"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		if err := q.send("readw 0x10", nil); err == nil {
			t.Error("a command that nobody reads was sent")
		}
	})
}

func TestParseIRQ(t *testing.T) {
	for _, c := range []struct {
		text  string
		line  int
		level bool
		ok    bool
	}{
		{"raise 0", 0, true, true},
		{"lower 7", 7, false, true},
		{"raise", 0, false, false},
		{"raise -1", 0, false, false},
		{"raise 256", 0, false, false},
		{"toggle 1", 0, false, false},
	} {
		line, level, err := parseIRQ(c.text)
		if line != c.line || level != c.level || (err == nil) != c.ok {
			t.Errorf("%q: got %d, %v, %v", c.text, line, level, err)
		}
	}
}

func FuzzParseIRQ(f *testing.F) {
	f.Add("raise 0")
	f.Add("lower 255")
	f.Fuzz(func(t *testing.T, text string) {
		if line, _, err := parseIRQ(text); err == nil && (line < 0 || line > 255) {
			t.Errorf("%q: got line %d", text, line)
		}
	})
}

// TestWires has a board that goes and comes back, in front of a host of plain Go.
func TestWires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
		host, err := sim.NewFake(sim.DefaultFake(), log)
		if err != nil {
			t.Fatal(err)
		}
		defer host.Close(context.Background())
		w := newWires(log)
		end, err := w.join(t.Context(), host.Harness)
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		synctest.Wait()
		level := func(line int, want bool) {
			t.Helper()
			synctest.Wait()
			if got, err := w.level(line); err != nil || got != want {
				t.Errorf("line %d: got %v, %v, want %v", line, got, err, want)
			}
		}
		level(sim.LineStandby, true)
		level(sim.LinePowerLED, false)

		near, _, commands := fakeChip(t)
		q := newQtest(near, w.output)
		defer q.close()
		w.attach(q, "/pl061")
		for _, want := range []string{"5 0", "6 1", "7 1"} {
			if got, want := <-commands, "set_irq_in /pl061 unnamed-gpio-in "+want; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		w.output(sim.LinePowerButton, true)
		w.output(sim.LineIDLight, true)
		time.Sleep(time.Second)
		if !host.On() || !host.IDLight() {
			t.Errorf("got host on %v, ID light %v, want both", host.On(), host.IDLight())
		}
		// A board whose power goes lets go of what it held.
		w.detach()
		level(sim.LineIDLight, false)
		level(sim.LinePowerButton, false)
		time.Sleep(10 * time.Second)
		if !host.On() || host.IDLight() {
			t.Errorf("got host on %v, ID light %v, want it on and dark", host.On(), host.IDLight())
		}
		for len(commands) > 0 {
			<-commands
		}
		host.SetStandby(false)
		level(sim.LineStandby, false)
		if len(commands) > 0 {
			t.Errorf("got %q to a board that is off", <-commands)
		}
		for _, line := range []int{-1, 3, 8} {
			if _, err := w.level(line); err == nil {
				t.Errorf("line %d: no error", line)
			}
		}
	})
}

// TestSerial carries both ways, while the board comes and goes.
func TestSerial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires(slog.New(slog.DiscardHandler))
		host, hostPort := net.Pipe()
		copied := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { copied <- w.copyFromHost(ctx, hostPort) }()
		for range 2 {
			// Nobody listens: nobody waits.
			if _, err := host.Write([]byte("lost")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			board, boardPort := net.Pipe()
			ended := make(chan struct{})
			go func() { defer close(ended); w.copyFromBoard(boardPort) }()
			synctest.Wait()
			buf := make([]byte, 16)
			if _, err := host.Write([]byte("boot")); err != nil {
				t.Fatal(err)
			}
			if n, err := board.Read(buf); err != nil || string(buf[:n]) != "boot" {
				t.Fatalf("got %q, %v, want boot", buf[:n], err)
			}
			if _, err := board.Write([]byte("dir\r")); err != nil {
				t.Fatal(err)
			}
			if n, err := host.Read(buf); err != nil || string(buf[:n]) != "dir\r" {
				t.Fatalf("got %q, %v, want dir", buf[:n], err)
			}
			// A board that does not read keeps the host waiting for a moment only.
			began := time.Now()
			for range 3 {
				if _, err := host.Write([]byte("stuck")); err != nil {
					t.Fatal(err)
				}
			}
			if waited := time.Since(began); waited > 3*stall {
				t.Errorf("the host waited for %v", waited)
			}
			board.Close()
			<-ended
		}
		cancel()
		if err := <-copied; err == nil {
			t.Error("the port to the host has no end")
		}
	})
}
