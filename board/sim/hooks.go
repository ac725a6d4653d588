package sim

import "time"

// A LEDMode is how the power LED works or fails.
type LEDMode int

// The modes. LEDBlinking blinks with 1 Hz whatever the machine does.
const (
	LEDWorks LEDMode = iota
	LEDStuckOff
	LEDStuckOn
	LEDBlinking
)

// On reports whether the machine has power: the truth behind the LED.
func (h *Harness) On() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}

// IDLight reports whether the ID light is lit.
func (h *Harness) IDLight() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.driven[LineIDLight]
}

// SetLED breaks or repairs the power LED.
func (h *Harness) SetLED(m LEDMode) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ledMode = m
	h.update()
}

// IgnorePowerButton makes the mainboard deaf to its power button, holds
// included; the button is still seen on its own wire.
func (h *Harness) IgnorePowerButton(ignore bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deafPower = ignore
}

// IgnoreReset makes the mainboard deaf to its reset button.
func (h *Harness) IgnoreReset(ignore bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deafReset = ignore
}

// SetStandby switches the host's AC power: without it the machine is off at
// once and its buttons do nothing.
func (h *Harness) SetStandby(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.standby == on {
		return
	}
	h.standby = on
	if !on {
		h.cut()
	} else if h.cfg.PowerOnAfterAC {
		h.powerOn()
	}
	h.update()
}

// PressPowerButton is a person's finger on the power button for d. It returns
// at once.
func (h *Harness) PressPowerButton(d time.Duration) { h.press(LinePowerButton, d) }

// PressReset is a person's finger on the reset button for d. It returns at
// once.
func (h *Harness) PressReset(d time.Duration) { h.press(LineResetButton, d) }

func (h *Harness) press(line int, d time.Duration) {
	finger := func(by int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.ctx.Err() == nil {
			h.fingers[line] += by
			h.buttons()
		}
	}
	finger(1)
	time.AfterFunc(d, func() { finger(-1) })
}

// OSReboot restarts the machine by itself, as after a crash.
func (h *Harness) OSReboot() error { return h.m.reboot(h.ctx) }

// OSShutdown makes the operating system shut down by itself.
func (h *Harness) OSShutdown() error { return h.m.shutdown(h.ctx) }

// OSSleep makes the operating system sleep (S3). QEMU answers
// errors.ErrUnsupported: there only the guest can do that.
func (h *Harness) OSSleep() error { return h.m.sleep(h.ctx) }
