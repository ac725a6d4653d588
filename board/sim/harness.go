package sim

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/host"
)

const (
	// cutHold is how long a held power button takes to cut the power (ACPI
	// 6.5 section 4.8.2.2.1.3, power button override).
	cutHold = 4 * time.Second
	// blinkHalf is half the period of a sleeping machine's power LED: 1 Hz.
	blinkHalf = 500 * time.Millisecond
	// resetTime is how long the platform reset stays active. It is longer
	// than the pause between the two resets by which SeaBIOS restarts.
	resetTime = 300 * time.Millisecond
)

// A machine is what the harness acts on. The harness calls its first six
// methods one at a time; to cut the power it first ends the ctx of the call
// under way. The machine tells what happens to it by the harness's methods
// started, stopped, restarted and sleeps.
type machine interface {
	start(ctx context.Context) error // returns when it has started
	powerButton(ctx context.Context) error
	wake(ctx context.Context) error
	reset(ctx context.Context) error
	nmi(ctx context.Context) error
	kill(ctx context.Context) error // returns when it has stopped

	// What its operating system does by itself, called at any time.
	reboot(ctx context.Context) error
	shutdown(ctx context.Context) error
	sleep(ctx context.Context) error
}

type kind int

const (
	other kind = iota
	start
	kill
)

// A command is one thing that the machine is to do.
type command struct {
	kind kind
	name string
	do   func(context.Context) error
}

// A Harness is one machine behind its front-panel header, and the hands of
// whoever stands in front of it. Its logic is that of an ATX mainboard: the
// power supply's latch, the buttons and the lights. All methods may be called
// from any goroutine.
type Harness struct {
	m   machine
	cfg Header
	log *slog.Logger

	low      [lines]bool // active low at the header
	console  host.Port
	boot     host.BootSelector
	identity host.Identity
	drives   []host.DrivePart
	hardware *host.Hardware

	led, standbyLine, hostReset, powerSeen, resetSeen *signal

	ctx    context.Context // ends with stop
	cancel context.CancelFunc
	work   chan struct{} // holds a token while queue may have commands
	done   chan struct{} // closed when the worker has ended

	mu      sync.Mutex
	queue   []command
	abandon context.CancelFunc // ends the command under way; nil during a kill
	kills   int                // not done yet: the rails are down until then
	starts  int                // not done yet

	standby bool // 5VSB
	powered bool // the latch: PS_ON# is asserted
	running bool // the machine says that it runs
	up      bool // all of these together, as update last found them
	asleep  bool
	inReset bool
	lit     bool // LEDDelay is over
	dark    bool // the dark half of a blink

	driven       [lines]bool // outputs, as the board drives them
	fingers      [lines]int  // persons pressing a button
	powerPressed bool
	resetPressed bool

	ledMode              LEDMode
	deafPower, deafReset bool

	ledTimer, blinkTimer, resetTimer, holdTimer *time.Timer

	climate climate
	gauges  []*gauge // in the order of their sensors
}

func newHarness(m machine, cfg Header, log *slog.Logger) (*Harness, error) {
	ctx, cancel := context.WithCancel(context.Background())
	h := &Harness{
		m: m, cfg: cfg, log: log,
		led: newSignal(false), standbyLine: newSignal(true), hostReset: newSignal(true),
		powerSeen: newSignal(false), resetSeen: newSignal(false),
		ctx: ctx, cancel: cancel, work: make(chan struct{}, 1), done: make(chan struct{}),
		standby: true,
		climate: climate{began: time.Now()},
	}
	h.gauges = newGauges(h)
	for _, line := range cfg.ActiveLow {
		if line < 0 || line >= lines {
			cancel()
			return nil, fmt.Errorf("active-low line %d: %w", line, board.ErrNoLine)
		}
		h.low[line] = true
	}
	go h.run()
	return h, nil
}

// stop ends the worker and every timer. The machine stays as it is.
func (h *Harness) stop() {
	h.cancel()
	<-h.done
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range []**time.Timer{&h.ledTimer, &h.blinkTimer, &h.resetTimer, &h.holdTimer} {
		halt(t)
	}
}

// after calls do with mu held once d is over, unless the timer in slot was
// halted or replaced by then. Call it with mu held.
func (h *Harness) after(d time.Duration, slot **time.Timer, do func()) {
	halt(slot)
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if *slot == t && h.ctx.Err() == nil {
			*slot = nil
			do()
		}
	})
	*slot = t
}

func halt(slot **time.Timer) {
	if *slot != nil {
		(*slot).Stop()
		*slot = nil
	}
}

// run carries the commands out in their order.
func (h *Harness) run() {
	defer close(h.done)
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.work:
		}
		for h.next() {
		}
	}
}

// next carries one command out and reports whether there was one.
func (h *Harness) next() bool {
	h.mu.Lock()
	if len(h.queue) == 0 || h.ctx.Err() != nil {
		h.mu.Unlock()
		return false
	}
	c := h.queue[0]
	h.queue = h.queue[1:]
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	if c.kind != kill {
		h.abandon = cancel
	}
	h.mu.Unlock()

	err := c.do(ctx)

	h.mu.Lock()
	defer h.mu.Unlock()
	h.abandon = nil
	switch {
	case err == nil:
	case ctx.Err() != nil: // a cut, or the end of the harness, came before
		h.log.Debug("simulated machine", "command", c.name, "error", err)
	default:
		h.log.Error("simulated machine", "command", c.name, "error", err)
	}
	switch c.kind {
	case start:
		h.starts--
		if h.starts == 0 && !h.running {
			h.powered = false // it failed, or stopped again at once
		}
	case kill:
		h.kills--
	}
	h.update()
	return true
}

// enqueue is called with mu held.
func (h *Harness) enqueue(k kind, name string, do func(context.Context) error) {
	h.log.Debug("simulated machine", "command", name)
	h.queue = append(h.queue, command{k, name, do})
	select {
	case h.work <- struct{}{}:
	default:
	}
}

// powerOn closes the latch. It is called with mu held.
func (h *Harness) powerOn() {
	h.powered = true
	h.starts++
	h.enqueue(start, "start", h.m.start)
	h.update()
}

// cut opens the latch: the machine is dark at once, whatever it takes to end
// it. It is called with mu held.
func (h *Harness) cut() {
	if !h.powered {
		return
	}
	h.powered = false
	h.queue = slices.DeleteFunc(h.queue, func(c command) bool {
		if c.kind == start {
			h.starts--
		}
		return c.kind != kill
	})
	if h.abandon != nil {
		h.abandon()
	}
	h.kills++
	h.enqueue(kill, "cut", h.m.kill)
	h.update()
}

// update sets the inputs from the state. It is called with mu held.
func (h *Harness) update() {
	up := h.standby && h.powered && h.running && h.kills == 0
	switch {
	case up && !h.up:
		h.lit = h.cfg.LEDDelay == 0
		if !h.lit {
			h.after(h.cfg.LEDDelay, &h.ledTimer, func() { h.lit = true; h.update() })
		}
		h.up = true
		h.pulseReset() // the platform leaves reset a while after its power is good
	case !up && h.up:
		h.up, h.lit, h.asleep, h.inReset = false, false, false, false
		halt(&h.ledTimer)
		halt(&h.resetTimer)
	}

	switch blinking := h.ledMode == LEDBlinking || h.asleep; {
	case blinking && h.blinkTimer == nil:
		h.after(blinkHalf, &h.blinkTimer, func() { h.dark = !h.dark; h.update() })
	case !blinking:
		halt(&h.blinkTimer)
		h.dark = false
	}
	h.climate.works(h.up && !h.asleep, time.Now())
	led := h.up && h.lit && !h.dark
	switch h.ledMode {
	case LEDStuckOff:
		led = false
	case LEDStuckOn:
		led = true
	case LEDBlinking:
		led = !h.dark
	}
	h.led.set(led)
	h.standbyLine.set(h.standby)
	// PLTRST# is active whenever the platform has no main power, too.
	h.hostReset.set(!h.up || h.asleep || h.inReset)
}

// pulseReset is called with mu held.
func (h *Harness) pulseReset() {
	h.inReset = true
	h.after(resetTime, &h.resetTimer, func() { h.inReset = false; h.update() })
}

// buttons acts on what changed on the button lines. Both buttons act when
// pressed, not when released. It is called with mu held.
func (h *Harness) buttons() {
	power := h.driven[LinePowerButton] || h.fingers[LinePowerButton] > 0
	h.powerSeen.set(power)
	if power != h.powerPressed {
		h.powerPressed = power
		if power {
			h.after(cutHold, &h.holdTimer, func() {
				if !h.deafPower {
					h.cut()
				}
			})
			h.pressPower()
		} else {
			halt(&h.holdTimer)
		}
	}
	reset := h.driven[LineResetButton] || h.fingers[LineResetButton] > 0
	h.resetSeen.set(reset)
	if reset != h.resetPressed {
		h.resetPressed = reset
		if reset && h.up && !h.deafReset {
			h.enqueue(other, "reset", h.m.reset)
		}
	}
}

func (h *Harness) pressPower() {
	switch {
	case h.deafPower || !h.standby:
	case !h.powered:
		h.powerOn()
	case h.asleep:
		h.enqueue(other, "wake", h.m.wake)
	default:
		h.enqueue(other, "power button", h.m.powerButton)
	}
}

// drive sets an output's level at the header.
func (h *Harness) drive(line int, level bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.driven[line] == level {
		return
	}
	h.driven[line] = level
	if line == LineNMIButton && level && h.up {
		h.enqueue(other, "NMI", h.m.nmi)
	}
	h.buttons()
}

// started is told by the machine: it runs now.
func (h *Harness) started() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = true
	if h.starts == 0 {
		h.powered = true // it ran before there was a panel
	}
	h.update()
}

// stopped is told by the machine: it is off, by itself or killed.
func (h *Harness) stopped() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = false
	if h.starts == 0 {
		h.powered = false
	}
	h.update()
}

// restarted is told by the machine: it went through a reset.
func (h *Harness) restarted() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.up {
		h.asleep = false
		h.pulseReset()
	}
	h.update()
}

// sleeps is told by the machine: it fell asleep (S3) or woke.
func (h *Harness) sleeps(asleep bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asleep = asleep && h.up
	h.update()
}
