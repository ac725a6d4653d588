package sol

import (
	"context"
	"sync"
	"time"
)

// A Stream is one activated payload.
type Stream struct {
	s       *SOL
	carrier Carrier
	watcher Watcher       // for read
	wake    chan struct{} // there may be something to send
	room    chan struct{} // there may be room for more of the host's bytes
	over    chan struct{} // closed at the end

	mu   sync.Mutex
	link *link
	gone bool
	why  string // told to the console; empty: nothing is
}

func newStream(s *SOL, c Carrier) *Stream {
	return &Stream{s: s, carrier: c, watcher: s.opt.Console.Watch(0), link: newLink(), wake: make(chan struct{}, 1), room: make(chan struct{}, 1), over: make(chan struct{})}
}

// Carrier is the session that x was activated on.
func (x *Stream) Carrier() Carrier { return x.carrier }

// Active is false once x was deactivated.
func (x *Stream) Active() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.gone
}

// Receive handles a packet from the console, which came in the session's packet
// number session, and appends the answer to b: nothing where none is to be sent
// at once. What a console that may not type has typed is dropped. Receive does
// not block.
func (x *Stream) Receive(b, p []byte, session uint32, mayType bool, now time.Time) []byte {
	off := x.s.opt.Off()
	x.mu.Lock()
	if x.gone {
		x.mu.Unlock()
		return b
	}
	x.link.setOff(off)
	answer, send := x.link.receive(p, session, mayType, now)
	typed := len(x.link.queue) > 0 || len(x.link.breaks) > 0
	x.mu.Unlock()
	signal(x.wake)
	if typed {
		signal(x.s.typed)
	}
	if send {
		b = answer.append(b)
	}
	return b
}

// end stops x.
func (x *Stream) end(why string) {
	x.mu.Lock()
	x.gone, x.why = true, why
	x.mu.Unlock()
	close(x.over)
	signal(x.s.typed) // what is left to write, or only to be forgotten
}

// run carries x until it or ctx ends.
func (x *Stream) run(ctx context.Context) {
	select {
	case <-x.wake:
	case <-time.After(settle):
	case <-x.over:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithCancel(ctx)
	var reader sync.WaitGroup
	reader.Go(func() { x.read(ctx) })
	x.send(ctx)
	cancel()
	reader.Wait()
	<-x.over // Run ends all when its context does
	x.mu.Lock()
	why := x.why
	last := x.link.farewell(why)
	x.mu.Unlock()
	if why != "" {
		for _, p := range last {
			x.carrier.Send(p)
		}
	}
}

// send sends what is due.
func (x *Stream) send(ctx context.Context) {
	var buf [PayloadSize]byte
	timer := time.NewTimer(watchPower)
	defer timer.Stop()
	for {
		off, t := x.s.opt.Off(), x.s.Settings().timing()
		now := time.Now()
		x.mu.Lock()
		x.link.setOff(off)
		p, next := x.link.poll(buf[:0], t, now)
		room := x.link.room() > 0
		x.mu.Unlock()
		if room {
			signal(x.room)
		}
		if len(p) > 0 {
			x.carrier.Send(p)
		} else {
			wait := watchPower
			if !next.IsZero() {
				wait = min(wait, next.Sub(now))
			}
			timer.Reset(wait)
			select {
			case <-x.wake:
			case <-timer.C:
			case <-x.over:
			case <-ctx.Done():
			}
		}
		select {
		case <-x.over:
			return
		case <-ctx.Done():
			return
		default:
		}
	}
}

// read takes the host's bytes as there is room for them; the console's ring
// holds the others.
func (x *Stream) read(ctx context.Context) {
	var buf [maxData]byte
	flushes := 0
	for {
		x.mu.Lock()
		n := x.link.room()
		flushed := x.link.flushes != flushes
		flushes = x.link.flushes
		x.mu.Unlock()
		if flushed {
			x.watcher = x.s.opt.Console.Watch(0)
		}
		if n == 0 {
			select {
			case <-x.room:
				continue
			case <-ctx.Done():
				return
			}
		}
		n, lost, err := x.watcher.Next(ctx, buf[:n])
		if err != nil {
			return // ctx ended
		}
		x.give(ctx, buf[:n], lost)
	}
}

// give hands bytes to the link. A remark may have taken the room meanwhile.
func (x *Stream) give(ctx context.Context, p []byte, lost int64) {
	for first := true; len(p) > 0; first = false {
		x.mu.Lock()
		if first && lost > 0 {
			x.link.lose(lost)
		}
		k := min(len(p), x.link.room())
		x.link.add(p[:k], time.Now())
		x.mu.Unlock()
		p = p[k:]
		signal(x.wake)
		if k == 0 {
			select {
			case <-x.room:
			case <-ctx.Done():
				return
			}
		}
	}
}

// writeOne writes once what x's console typed, false where there is nothing.
func (x *Stream) writeOne(ctx context.Context, buf []byte) bool {
	x.mu.Lock()
	n, isBreak := x.link.next(buf)
	x.mu.Unlock()
	switch {
	case isBreak:
		err := x.s.opt.Console.Break(ctx)
		x.mu.Lock()
		x.link.brokeOff(err)
		x.mu.Unlock()
	case n > 0:
		_, err := x.s.opt.Console.Write(buf[:n])
		x.mu.Lock()
		x.link.wrote(n, err)
		x.mu.Unlock()
	default:
		return false
	}
	signal(x.wake)
	return true
}

// written says that nothing is left to write.
func (x *Stream) written() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.link.queue) == 0 && len(x.link.breaks) == 0
}
