package host

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

var (
	modelSeeds = flag.Int("model.seeds", 24, "how many random stories TestModel tells")
	modelFirst = flag.Uint64("model.first", 1, "the first one")
)

// TestModel lets random things happen to a machine and its Host and checks
// after each what must hold always, and after some rest what must have come
// about. A failure names the seed and the story so far.
func TestModel(t *testing.T) {
	for i := range uint64(*modelSeeds) {
		seed := *modelFirst + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) { newStory(t, r, seed).tell() })
		})
	}
}

// A story is one random run.
type story struct {
	*testing.T
	r    *rig
	m    *machine
	rand *rand.Rand
	ops  []*Operation
	said []string
	// excused: something happened that a policy may answer with a press.
	excused bool
}

func newStory(t *testing.T, r *rig, seed uint64) *story {
	s := &story{T: t, r: r, rand: rand.New(rand.NewPCG(seed, 0))}
	s.m = newMachine(r)
	r.cfg.Restore = []RestorePolicy{AlwaysOff, AlwaysOn, LastState, LastState}[s.rand.IntN(4)]
	if s.rand.IntN(3) == 0 {
		r.parts.Standby = nil
	}
	if s.rand.IntN(3) == 0 {
		r.parts.PowerButtonPressed, r.parts.ResetButtonPressed = nil, nil
	}
	if s.rand.IntN(3) == 0 {
		r.parts.HostReset = nil
	}
	s.m.autoOn = s.rand.IntN(4) == 0
	s.note("policy %s, standby %v, panel %v, auto %v", r.cfg.Restore, r.parts.Standby != nil, r.parts.PowerButtonPressed != nil, s.m.autoOn)
	return s
}

func (s *story) note(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf("%v: ", time.Since(s.r.btn.start))+fmt.Sprintf(format, args...))
}

func (s *story) fail(format string, args ...any) {
	s.Helper()
	for _, line := range s.said {
		s.Log(line)
	}
	for _, e := range s.r.h.Events.Since(0, 0) {
		s.Log("event ", e.Time.Sub(s.r.btn.start), " ", e.Kind, " ", e.Message)
	}
	s.Fatalf(format, args...)
}

func (s *story) tell() {
	s.r.boot()
	s.excused = true // the board was just powered up
	for range 3 {
		for range 8 {
			s.happen()
			time.Sleep([]time.Duration{0, ms, 30 * ms, 200 * ms, 900 * ms, 2 * time.Second, 12 * time.Second, time.Minute}[s.rand.IntN(8)])
			s.always()
		}
		s.rest()
	}
	s.powerCut()
}

// happen lets one thing happen.
func (s *story) happen() {
	switch n := s.rand.IntN(20); n {
	default: // half of the time: a request
		a := Actions[s.rand.IntN(len(Actions))]
		op, err := s.r.h.Power.Request(a, CauseCommand, Origin{Via: "test"})
		s.note("%s: %v", a, err)
		if err == nil {
			s.ops = append(s.ops, op)
		} else if !isOneOf(err, ErrBusy, ErrNoPower, ErrAsleep, ErrNoStandby, ErrStopped) {
			s.fail("%s: got %v", a, err)
		}
	case 10, 11:
		s.note("ac %v", !s.m.ac)
		if s.m.setAC(!s.m.ac); !s.m.ac {
			time.Sleep(50 * ms) // a shorter one does not cut the power
		}
		s.excused = true
	case 12:
		s.note("tap")
		s.m.tap()
		s.excused = s.excused || s.r.parts.Standby == nil // it may not be seen beside our own press
	case 13:
		what := []string{"os shutdown", "sleep", "wake", "restart"}[s.rand.IntN(4)]
		s.note("%s", what)
		s.m.do(what)
		s.excused = s.excused || what == "os shutdown" && s.r.parts.Standby == nil
	case 14:
		s.m.mu.Lock()
		s.m.osTime = []time.Duration{0, 500 * ms, 8 * time.Second, 40 * time.Second, -2 * time.Second}[s.rand.IntN(5)]
		s.note("the system takes %v", s.m.osTime)
		s.m.mu.Unlock()
	case 15:
		s.note("led spikes")
		s.m.spikes()
	case 16:
		s.note("led wire fails or works")
		if _, err := s.r.led.Level(); err == nil {
			s.r.led.fail(io.ErrUnexpectedEOF)
		} else {
			s.r.led.fail(nil)
		}
		s.excused = true
	case 17:
		s.note("standby wire fails or works")
		if _, err := s.r.standby.Level(); err == nil {
			s.r.standby.fail(io.ErrUnexpectedEOF)
		} else {
			s.r.standby.fail(nil)
		}
		s.excused = true
	case 18, 19:
		powerUp, crash := s.rand.IntN(4) == 0, s.rand.IntN(2) == 0
		s.note("software restart, power-up %v, crash %v", powerUp, crash)
		s.excused, s.ops = true, nil
		if crash {
			s.r.crash(powerUp)
		} else {
			s.r.reboot(powerUp)
		}
	}
}

// always checks what holds at each moment.
func (s *story) always() {
	s.Helper()
	synctest.Wait()
	s.m.mu.Lock()
	wrong := s.m.wrong
	s.m.mu.Unlock()
	if len(wrong) > 0 {
		s.fail("wrong presses: %v", wrong)
	}
	if st := s.r.h.Power.Status(); st.State == StateOff && st.PowerGood {
		s.fail("status: %+v is off with good power", st)
	}
}

// rest mends the wires and waits until all that is to come has come.
func (s *story) rest() {
	s.Helper()
	s.note("rest")
	s.r.led.fail(nil)
	s.r.standby.fail(nil)
	s.m.setAC(true)
	time.Sleep(20 * time.Minute)
	s.always()
	p := s.r.h.Power
	for _, op := range s.ops {
		select {
		case <-op.Done():
		default:
			s.fail("%s has not ended", op.action)
		}
	}
	s.ops = nil
	p.mu.Lock()
	rec, idle := p.rec, p.op == nil && p.next == nil && p.nmiOp == nil
	p.mu.Unlock()
	truth := s.m.truth()
	if got := s.r.state(); got != truth {
		s.fail("state: got %s, want %s", got, truth)
	}
	if on := truth != StateOff; !idle || rec.Lost || rec.Owed != "" || rec.Going != "" || rec.Wanted != on && !(rec.Failed && !on) {
		s.fail("at rest, %s: idle %v, record %+v", truth, idle, rec)
	}
	for _, l := range []*fakeLine{s.r.btn, s.r.rst, s.r.nmi} {
		if l.pressed() {
			s.fail("a line is still active")
		}
	}
	if !s.excused && s.m.restore > 0 {
		s.fail("%d presses that nobody asked for", s.m.restore)
	}
	s.excused, s.m.restore = false, 0
	if n := len(s.r.h.Events.Since(0, 0)); n > 100 { // in a quarter of an hour at most
		s.fail("%d events", n)
	}
}

// powerCut checks the policy from rest.
func (s *story) powerCut() {
	s.Helper()
	was := s.m.truth()
	s.note("power cut")
	s.r.h.Power.mu.Lock()
	wanted := s.r.h.Power.rec.Wanted
	s.r.h.Power.mu.Unlock()
	s.m.autoOn = false
	s.m.setAC(false)
	time.Sleep([]time.Duration{50 * ms, time.Second, time.Minute}[s.rand.IntN(3)])
	s.m.setAC(true)
	time.Sleep(20 * time.Minute)
	s.always()
	want := was
	switch {
	case was == StateAsleep: // what it slept on is lost
		want = StateOn
	}
	switch {
	case s.r.parts.Standby == nil && was == StateOff: // nothing to be seen
	case s.r.cfg.Restore == AlwaysOn:
		want = StateOn
	case s.r.cfg.Restore == AlwaysOff:
		want = StateOff
	case wanted: // it was asked on, and had failed
		want = StateOn
	}
	if got := s.m.truth(); got != want {
		s.fail("after a power cut of a machine that was %s: got %s, want %s", was, got, want)
	}
}

func isOneOf(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
