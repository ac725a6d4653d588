package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// A button drives one line of the front-panel header. Each has its own timer:
// a pulse on one never ends a hold on another.
type button struct {
	name string
	line Line
	log  *slog.Logger

	mu       sync.Mutex
	pressed  bool
	released time.Time // when the last press ended
}

// echo is how long after a release the line's own sense may still show it.
const echo = 100 * time.Millisecond

// pressGap is the least time between two presses: a header's inputs are
// debounced, and two presses with less between them may be taken as one.
const pressGap = 100 * time.Millisecond

// rest waits until the button may be pressed again. It comes before the look
// at the light that decides about a press.
func (b *button) rest(ctx context.Context) error {
	b.mu.Lock()
	left := pressGap - time.Since(b.released)
	b.mu.Unlock()
	return pause(ctx, left)
}

// press holds the button for d, less when early closes or ctx ends, and
// always releases it. It answers ErrBusy while another press lasts.
func (b *button) press(ctx context.Context, d time.Duration, early <-chan struct{}) error {
	b.mu.Lock()
	if b.pressed {
		b.mu.Unlock()
		return fmt.Errorf("%s: %w", b.name, ErrBusy)
	}
	// Never a pulse, however short, for a request that is off already.
	if err := context.Cause(ctx); err != nil {
		b.mu.Unlock()
		return err
	}
	b.pressed = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.pressed, b.released = false, time.Now()
		b.mu.Unlock()
	}()
	if err := b.line.Set(true); err != nil {
		return errors.Join(fmt.Errorf("pressing the %s: %w", b.name, err), b.release())
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	var err error
	select {
	case <-timer.C:
	case <-early:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return errors.Join(err, b.release())
}

// release lets go. A line that stays driven would hold a power button down
// until the host is cut, so a failure is tried again for a while before it is
// told.
func (b *button) release() error {
	err := b.line.Set(false)
	for range 20 {
		if err == nil {
			return nil
		}
		b.log.Warn("a line could not be released", "line", b.name, "error", err)
		time.Sleep(100 * time.Millisecond)
		err = b.line.Set(false)
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("releasing the %s: %w", b.name, err)
}

// own says whether a level seen on the button's sense now is our own press.
func (b *button) own() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pressed || time.Since(b.released) < echo && !b.released.IsZero()
}
