package host

import (
	"fmt"
	"sync"
	"time"
)

// A machine is a more truthful ATX machine than the rig's own: it sleeps,
// wakes, restarts, and what an old press set going dies with the power. It
// checks each press of its power button.
type machine struct {
	r *rig

	mu      sync.Mutex
	life    int // counts power-ons and power losses
	on      bool
	asleep  bool
	ac      bool
	lit     bool      // what the light shows, before the wire
	litAt   time.Time // when it took that
	hold    *time.Timer
	autoOn  bool          // the firmware switches on when AC power is back
	osTime  time.Duration // press to shutdown; 0: it ignores the press; less: it sleeps
	wrong   []string      // presses that must not have been
	restore int           // presses that nobody asked for
}

func newMachine(r *rig) *machine {
	m := &machine{r: r, ac: true, osTime: 8 * time.Second}
	r.btn.edge = func(active bool) {
		m.judge(active)
		r.panel.set(active)
		m.button(active)
	}
	r.rst.edge = m.resetButton
	return m
}

// judge looks at a press that the Host made.
func (m *machine) judge(active bool) {
	if !active {
		return
	}
	p := m.r.h.Power
	p.mu.Lock()
	op, state := p.op, p.state
	p.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case op == nil:
		m.wrong = append(m.wrong, "a press without a request")
	case op.action == PressButton:
	case state == StatePoweringOn && m.on && !m.asleep && m.lit && time.Since(m.litAt) > 2*m.r.cfg.Debounce:
		m.wrong = append(m.wrong, fmt.Sprintf("%s: pressed to switch a running machine on", op.action))
	case state == StatePoweringOff && !m.on && !m.lit && time.Since(m.litAt) > 2*m.r.cfg.Debounce:
		m.wrong = append(m.wrong, fmt.Sprintf("%s: pressed to switch off a machine that is off", op.action))
	case state != StatePoweringOn && state != StatePoweringOff:
		m.wrong = append(m.wrong, fmt.Sprintf("%s: pressed in state %s", op.action, state))
	}
	if op != nil && op.cause.policy() {
		m.restore++
	}
}

// shine shows what the machine is, with m.mu held.
func (m *machine) shine(lit bool) {
	if m.lit != lit {
		m.lit, m.litAt = lit, time.Now()
	}
	m.r.led.set(lit)
}

// later runs f with m.mu held after d, if the power did not change meanwhile.
func (m *machine) later(d time.Duration, f func()) *time.Timer {
	life := m.life
	return time.AfterFunc(d, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.life == life {
			f()
		}
	})
}

func (m *machine) start() {
	m.on, m.asleep = true, false
	m.life++
	m.r.reset.set(true)
	m.later(300*ms, func() { m.shine(true) })
	m.later(400*ms, func() { m.r.reset.set(false) })
}

func (m *machine) stop() {
	m.on, m.asleep = false, false
	m.life++
	m.r.reset.set(false)
	m.shine(false)
}

func (m *machine) fallAsleep() {
	m.asleep = true
	var blink func()
	blink = func() {
		if m.asleep {
			m.shine(!m.lit)
			m.later(500*ms, blink)
		}
	}
	m.later(0, blink)
}

func (m *machine) wake() {
	m.asleep = false
	m.later(200*ms, func() { m.shine(true) })
}

func (m *machine) button(active bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hold != nil {
		m.hold.Stop()
	}
	switch {
	case !active || !m.ac:
		return
	case !m.on:
		m.start()
		return
	case m.asleep:
		m.wake()
	case m.osTime > 0:
		m.later(m.osTime, m.stop)
	case m.osTime < 0:
		m.later(-m.osTime, func() {
			if !m.asleep {
				m.fallAsleep()
			}
		})
	}
	m.hold = m.later(4*time.Second, m.stop)
}

// tap is a person's finger on the power button.
func (m *machine) tap() {
	m.r.panel.set(true)
	m.button(true)
	time.Sleep(150 * ms)
	m.r.panel.set(false)
	m.button(false)
}

func (m *machine) resetButton(active bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on && !m.asleep {
		if active {
			m.life++ // what the system was about to do is gone
			m.shine(true)
		}
		m.r.reset.set(active)
	}
}

func (m *machine) setAC(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ac == on {
		return
	}
	m.ac = on
	m.r.standby.set(on)
	if !on {
		m.stop()
	} else if m.autoOn {
		m.later(700*ms, func() {
			if !m.on {
				m.start()
			}
		})
	}
}

// do changes what the machine is, where it can be so.
func (m *machine) do(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	awake := m.on && !m.asleep && m.lit
	switch {
	case what == "os shutdown" && awake:
		m.stop()
	case what == "sleep" && awake:
		m.fallAsleep()
	case what == "wake" && m.asleep:
		m.wake()
	case what == "restart" && awake:
		m.r.reset.set(true)
		m.later(50*ms, func() { m.r.reset.set(false) })
	}
}

// spikes are what the light's wire picks up.
func (m *machine) spikes() {
	for i := range 6 {
		m.mu.Lock()
		m.r.led.set(m.lit != (i%2 == 0))
		m.mu.Unlock()
		time.Sleep(5 * ms)
	}
}

func (m *machine) truth() PowerState {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.asleep:
		return StateAsleep
	case m.on:
		return StateOn
	}
	return StateOff
}
