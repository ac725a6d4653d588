package clock

import (
	"math/bits"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An Adjuster is what sets a machine's clock.
type Adjuster interface {
	// Step puts the clock forward, or back, at once.
	Step(by time.Duration) error
	// Slew lets it run faster or slower until it has made up for so much, and
	// says that it is right. It is called again after about poll, with what is
	// left then, from which the clock's own rate is learned.
	Slew(by, poll time.Duration) error
}

// System is the clock of the machine that this runs on, as Linux keeps it
// (adjtimex(2)). To set it takes CAP_SYS_TIME.
type System struct{}

// Step is Adjuster's.
func (System) Step(by time.Duration) error {
	seconds, nanos := by/time.Second, by%time.Second
	if nanos < 0 { // the kernel wants them positive
		seconds, nanos = seconds-1, nanos+time.Second
	}
	t := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO}
	t.Time.Sec, t.Time.Usec = int64(seconds), int64(nanos) // nanoseconds, by ADJ_NANO
	return adjust(&t)
}

// Slew is Adjuster's. It uses the kernel's phase-locked loop (RFC 5905 section
// 12), whose time constant goes with the pace of the measurements.
func (System) Slew(by, poll time.Duration) error {
	const sharper = 4 // the loop settles within a few measurements
	constant := max(bits.Len64(uint64(poll/time.Second))-1-sharper, 0)
	return adjust(&unix.Timex{
		Modes:  unix.ADJ_OFFSET | unix.ADJ_STATUS | unix.ADJ_TIMECONST | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR | unix.ADJ_NANO,
		Offset: int64(by), Status: unix.STA_PLL, Constant: int64(constant),
	})
}

func adjust(t *unix.Timex) error {
	_, err := unix.Adjtimex(t)
	return os.NewSyscallError("adjtimex", err)
}
