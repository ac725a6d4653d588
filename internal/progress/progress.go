// Package progress shows on a terminal, or in a log, how a long step gets on:
// what it is, how far, how long it has run, how fast, and about how long it still
// takes.
package progress

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	// everyTerminal and everyLog are how often a line is written at most: a
	// terminal's is rewritten in place, a log's is kept for ever.
	everyTerminal = 100 * time.Millisecond
	everyLog      = 10 * time.Second
	// settle is how long a step runs before its speed says anything.
	settle = 2 * time.Second
	// tick is how often the time is shown on a terminal while nothing else is:
	// a line that stands still looks like a program that does.
	tick = time.Second
)

// A Meter shows one step. Its methods may be called from several goroutines.
type Meter struct {
	w        io.Writer
	what     string
	unit     string
	total    int64
	terminal bool
	started  time.Time

	stop    chan struct{}
	ticking sync.WaitGroup

	mu    sync.Mutex
	done  int64
	shown time.Time // when the last line was written
	width int       // columns of the line that stands on the terminal
	ended bool
}

// Start begins a step of total units and shows it on w until Done: on a terminal
// as one line that is rewritten, otherwise as a line every ten seconds at most,
// and none for a step that is shorter. A total of 0 or less is unknown. The unit
// "B" is bytes and shown as kB, MB or GB; "" shows the share alone.
func Start(w io.Writer, what string, total int64, unit string) *Meter {
	file, ok := w.(*os.File)
	return start(w, ok && term.IsTerminal(int(file.Fd())), what, total, unit)
}

func start(w io.Writer, terminal bool, what string, total int64, unit string) *Meter {
	now := time.Now()
	m := &Meter{
		w: w, what: what, unit: unit, total: max(total, 0), terminal: terminal,
		started: now, shown: now, stop: make(chan struct{}),
	}
	if terminal {
		m.show(now)
	}
	m.ticking.Go(m.tick)
	return m
}

// tick shows the time of a step that does not call.
func (m *Meter) tick() {
	every := everyLog
	if m.terminal {
		every = tick
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-t.C:
			m.mu.Lock()
			m.refresh()
			m.mu.Unlock()
		}
	}
}

// Add says that n more units are done.
func (m *Meter) Add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	m.refresh()
}

// Set says that n units are done altogether.
func (m *Meter) Set(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = n
	m.refresh()
}

// Done ends the step with a line that says how long it took, or when it failed:
// with what error is the caller's to say. It must be called; only the first call
// counts.
func (m *Meter) Done(err error) {
	m.mu.Lock()
	defer m.ticking.Wait()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	m.ended = true
	close(m.stop)
	took := span(time.Since(m.started))
	if err != nil {
		m.write(fmt.Sprintf("%s: failed after %s", m.what, took), true)
		return
	}
	m.write(fmt.Sprintf("%s: done in %s", m.what, took), true)
}

func (m *Meter) refresh() {
	every := everyLog
	if m.terminal {
		every = everyTerminal
	}
	if now := time.Now(); !m.ended && now.Sub(m.shown) >= every {
		m.show(now)
	}
}

func (m *Meter) show(now time.Time) {
	m.shown = now
	m.write(m.line(now.Sub(m.started)), false)
}

// line is what stands there while the step runs.
func (m *Meter) line(ran time.Duration) string {
	parts := []string{}
	switch {
	case m.total > 0:
		share := 100 * float64(m.done) / float64(m.total)
		parts = append(parts, fmt.Sprintf("%.0f%%", min(share, 100)))
		if m.unit != "" {
			parts = append(parts, portion(m.done, m.total, m.unit))
		}
	case m.done > 0 && m.unit != "":
		parts = append(parts, amount(m.done, m.unit))
	}
	parts = append(parts, span(ran))
	if m.unit == "B" && m.done > 0 && ran >= settle {
		parts = append(parts, amount(int64(float64(m.done)/ran.Seconds()), m.unit)+"/s")
	}
	if left := m.left(ran); left > 0 {
		parts = append(parts, "about "+span(left)+" left")
	}
	return m.what + ": " + strings.Join(parts, ", ")
}

// left is how long the step still takes at the pace so far; 0 where that
// cannot be told.
func (m *Meter) left(ran time.Duration) time.Duration {
	if m.total == 0 || m.done <= 0 || m.done >= m.total || ran < settle {
		return 0
	}
	return time.Duration(float64(ran) * float64(m.total-m.done) / float64(m.done))
}

// write puts text on the terminal's line, or adds a line to the log. An error
// of the writer is not one of the step: who shuts the terminal does not stop
// the work.
func (m *Meter) write(text string, last bool) {
	if !m.terminal {
		fmt.Fprintln(m.w, text)
		return
	}
	if !last {
		text = m.fit(text)
	}
	// The old line may be longer than the new one.
	pad := strings.Repeat(" ", max(m.width-len(text), 0))
	m.width = len(text)
	end := ""
	if last {
		end = "\n"
	}
	fmt.Fprint(m.w, "\r"+text+pad+end)
}

// fit cuts a line to the terminal's width: a wrapped one cannot be rewritten.
func (m *Meter) fit(text string) string {
	file, ok := m.w.(*os.File)
	if !ok {
		return text
	}
	columns, _, err := term.GetSize(int(file.Fd()))
	if err != nil || columns < 2 {
		return text // a terminal that does not say its size
	}
	return text[:min(len(text), columns-1)]
}

// span is a duration for people: 0.4s, 12s, 7m32s, 1h04m.
func span(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// portion is "3 of 7 files", "2.0 MB of 9.1 MB".
func portion(done, total int64, unit string) string {
	if unit == "B" {
		return amount(done, unit) + " of " + amount(total, unit)
	}
	return strconv.FormatInt(done, 10) + " of " + amount(total, unit)
}

func amount(n int64, unit string) string {
	if unit != "B" {
		return strconv.FormatInt(n, 10) + " " + unit
	}
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
