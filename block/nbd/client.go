// Package nbd is a client of NBD servers: a block.Device that is a disk elsewhere,
// be it qemu-nbd's, nbdkit's with any of its plug-ins, or Ceph's behind one of them.
//
// # When the connection is lost
//
// A client connects again by itself. Requests under way wait, and are sent again;
// each may have been done already, which does not matter, as doing one twice is
// doing it once. They go in no order: NBD has none between requests that are under
// way at the same time.
//
// That is not enough for writes that were answered. Until a flush they may be in the
// server's memory only, and the client cannot tell whether it comes back to a server
// that went on or to one that began anew after a power cut. If the next Flush simply
// succeeded there, it would vouch for data that is lost; if it failed after every
// lost connection, an unplugged cable would make each file system above read-only.
// So the client keeps a copy of what was written since the last flush, and after
// connecting sends that again, one change after the other, before anything else. A
// Flush that succeeds thus holds what it says, whatever happened before. Options.Budget
// bounds the copies: where there is no room the client flushes by itself, and if that
// makes none, as others have it, the next write is answered when it is flushed. What
// nobody flushes for a while is flushed, too, so that an idle disk takes nothing.
// NBD_FLAG_CAN_MULTI_CONN makes no difference: it says that a flush counts for all
// connections of a server that lives, not what one remembers that died. A server that
// does not offer flushes is taken at its word that it has nothing to flush; nothing is
// kept then.
//
// What this cannot cover: a server that loses what it had flushed; a server that still
// has a write waiting inside when its connection breaks, and lets it land after later
// ones; and the loss of this process and the server at the same time,
// before a flush. The last is what a disk without power does too.
//
// After Options.Patience without a connection requests fail with block.ErrGone, at
// once as long as it lasts, while the client goes on trying. A disk that comes back
// with another size or with less abilities is not taken (ErrChanged): it is another
// disk. A server that takes requests and then is silent for that long is left, as one whose
// connection was lost. One that does not keep to the protocol loses the connection, no more.
package nbd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block"
)

// ErrChanged: the server has another disk under the same name than before.
var ErrChanged = errors.New("the NBD server has another disk now")

const (
	// Waits between attempts to connect.
	firstDelay, lastDelay = 50 * time.Millisecond, 5 * time.Second
	// steady is how long a session has to last for the next to be tried at once.
	steady = 2 * time.Second
	// settleTime is how long nothing is changed before what is kept is flushed.
	settleTime = 5 * time.Second
	// statusMost is how far ahead one question about holes looks, in bytes.
	statusMost = 1 << 30
)

// Options are those of a client.
type Options struct {
	// Connections is how many are made at most to a server that allows several
	// (NBD_FLAG_CAN_MULTI_CONN); 0: 2.
	Connections int
	// Patience is how long a request waits for a connection; 0: 30 s.
	Patience time.Duration
	// Budget is for copies of what was not flushed; nil: 4 MiB, the client's own. A
	// write whose copy is more than half of it is flushed at once.
	Budget *Budget
	// ReadOnly refuses writes whatever the server allows.
	ReadOnly bool
	// Roots are who may vouch for the server of an nbds URI; nil: the system's.
	Roots *x509.CertPool
	// Report is told when the connection was lost, or the server has been silent for
	// longer than Patience (an error that says which), when the server came back with
	// another disk (ErrChanged), and when all is well again (nil); nil: nobody. It must
	// not call the client.
	Report func(error)
	// Log may be nil.
	Log *slog.Logger
	// Dial makes connections; nil: over TCP, with a limit for peers that do not answer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Client is a disk on an NBD server.
type Client struct {
	o     Options
	place place
	e     export // as it was at first
	size  int64
	unit  int64 // of offsets and lengths on the wire
	calls sync.Pool
	zeros []byte

	// patching is held to write by what reads a block, changes a part and writes it
	// back, to read by other changes where that can happen.
	patching sync.RWMutex
	flushing chan struct{} // holds who makes room in the journal
	answered chan struct{} // holds one when a change that has room was answered

	cancel  context.CancelFunc
	running sync.WaitGroup
	pending sync.WaitGroup // methods under way

	mu      sync.Mutex
	session *session      // nil: there is none
	changed chan struct{} // closed at the next change of session, gone and closed
	why     error         // without a session: what went wrong last
	gone    error         // set when nobody is to wait any more for a session
	closed  bool
	journal journal // while there is no session only run touches it
}

// Dial connects to the disk that an NBD URI names: nbd://host[:port]/export, or
// nbds:// for TLS. ctx ends the attempt, not the client.
func Dial(ctx context.Context, uri string, o Options) (*Client, error) {
	p, err := parse(uri)
	if err != nil {
		return nil, err
	}
	if o.Connections <= 0 {
		o.Connections = 2
	}
	if o.Patience <= 0 {
		o.Patience = 30 * time.Second
	}
	most := int64(journalBytes)
	if o.Budget == nil {
		o.Budget = NewBudget(most)
	} else {
		most = o.Budget.limit / 2
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	if o.Dial == nil {
		o.Dial = dialer().DialContext
	}
	s, e, err := open(ctx, p, &o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", block.ErrGone, err)
	}
	c := &Client{
		o: o, place: p, e: e,
		size:     e.size &^ (block.SectorSize - 1), // what is no whole sector no host can reach
		unit:     max(e.block, block.SectorSize),
		zeros:    make([]byte, 64<<10),
		session:  s,
		changed:  make(chan struct{}),
		flushing: make(chan struct{}, 1), answered: make(chan struct{}, 1),
		journal: journal{budget: o.Budget, most: most},
	}
	c.calls.New = func() any { return newCall() }
	ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.running.Go(func() { c.run(ctx, s) })
	c.running.Go(func() { c.settle(ctx) })
	return c, nil
}

// dialer gives up peers that do not even acknowledge, silent or with data on the way
// (TCP(7), TCP_USER_TIMEOUT); else a cable that was pulled is noticed in a quarter of
// an hour.
func dialer() *net.Dialer {
	const silent = 15 * time.Second
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silent / 3, Interval: silent / 3, Count: 2},
		Control: func(_, _ string, raw syscall.RawConn) error {
			var set error
			err := raw.Control(func(fd uintptr) {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silent.Milliseconds()))
			})
			return errors.Join(err, set)
		},
	}
}

// run keeps a session until ctx ends.
func (c *Client) run(ctx context.Context, s *session) {
	delay := time.Duration(0)
	for s != nil {
		select {
		case <-s.ended:
		case <-ctx.Done():
			s.leave()
		}
		s.readers.Wait()
		c.set(nil, s.err)
		if ctx.Err() != nil {
			return
		}
		if time.Since(s.began) >= steady {
			delay = 0
		}
		c.o.Log.Warn("NBD: the connection was lost", "server", c.place.address, "error", s.err)
		c.o.Report(fmt.Errorf("%w: %w", errLost, s.err))
		if s = c.reconnect(ctx, &delay); s != nil {
			c.set(s, nil)
			c.o.Log.Info("NBD: connected again", "server", c.place.address)
			c.o.Report(nil)
		}
	}
}

// set changes what requests find: a session, or why there is none.
func (c *Client) set(s *session, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.why, c.gone = s, why, nil
	c.wake()
}

// wake wakes those who wait for a change. The caller holds mu.
func (c *Client) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// reconnect makes a session that has all that was written, or returns nil when ctx
// has ended. delay is how long to wait before the first attempt.
func (c *Client) reconnect(ctx context.Context, delay *time.Duration) *session {
	give := time.AfterFunc(c.o.Patience, c.giveUp)
	defer give.Stop()
	var told bool
	for {
		select {
		case <-time.After(*delay):
		case <-ctx.Done():
			return nil
		}
		*delay = min(max(firstDelay, 2**delay), lastDelay)
		s, err := c.attempt(ctx)
		if err == nil {
			return s
		}
		c.o.Log.Debug("NBD: no connection", "server", c.place.address, "error", err)
		if errors.Is(err, ErrChanged) && !told {
			told = true
			c.o.Log.Error("NBD: the server's disk is another one", "server", c.place.address, "error", err)
			c.o.Report(err)
		}
		c.mu.Lock()
		c.why = err
		c.mu.Unlock()
	}
}

// giveUp has those fail that wait for a session.
func (c *Client) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		c.gone = fmt.Errorf("%w: %w", block.ErrGone, c.why)
		c.wake()
	}
}

// attempt makes a session and brings the server to where it was.
func (c *Client) attempt(ctx context.Context) (*session, error) {
	s, e, err := open(ctx, c.place, &c.o)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.fail(ctx.Err()) })
	defer stop()
	if err = e.fits(c.e); err == nil {
		err = c.replay(s)
	}
	if err != nil {
		s.fail(err)
		s.readers.Wait()
		return nil, err
	}
	return s, nil
}

// replay sends what no flush came after again, in order: a server may do requests
// that are under way together in any.
func (c *Client) replay(s *session) error {
	k := newCall()
	for _, j := range c.journal.changes {
		k.flags, k.command, k.offset, k.length = j.flags, j.command, j.offset, j.length
		k.bufs = nil
		if j.data != nil {
			k.vector = append(k.vector[:0], *j.data)
			k.bufs = k.vector
		}
		if err := s.exchange(k); err != nil {
			return fmt.Errorf("writing again what was not flushed: %w", err)
		}
	}
	return nil
}

// usable waits for a session that is not the one to avoid.
func (c *Client) usable(avoid *session) (*session, error) {
	for {
		c.mu.Lock()
		s, gone, closed, changed := c.session, c.gone, c.closed, c.changed
		c.mu.Unlock()
		switch {
		case s != nil && s != avoid:
			return s, nil
		case closed:
			return nil, block.ErrClosed
		case gone != nil:
			return nil, gone
		}
		<-changed
	}
}

// do has a call answered, and returns by which session. A server that takes connections
// and breaks them off is one that is gone.
func (c *Client) do(k *call) (*session, error) {
	var avoid *session
	var since time.Time
	for {
		s, err := c.usable(avoid)
		if err != nil {
			return nil, err
		}
		if err = s.exchange(k); !isLost(err) {
			return s, err
		}
		if avoid = s; since.IsZero() {
			since = time.Now()
		} else if time.Since(since) > c.o.Patience {
			return nil, fmt.Errorf("%w: %w", block.ErrGone, err)
		}
	}
}

// change is do for a call that changes the disk, which is in the journal then, or
// flushed.
func (c *Client) change(k *call) error {
	if c.e.flags&flagSendFlush == 0 {
		_, err := c.do(k)
		return err
	}
	switch reserved, err := c.room(k); {
	case err != nil:
		return err
	case !reserved:
		return c.through(k)
	}
	var data *[]byte
	for {
		s, err := c.do(k)
		if err == nil && data == nil {
			data = c.journal.copyOf(k)
		}
		c.mu.Lock()
		// If the session ended in between, the next one knows nothing of this change.
		added := err == nil && c.session == s
		if added {
			c.journal.add(k, data)
		} else if err != nil {
			c.journal.unreserve(cost(k))
			c.journal.budget.release(data)
		}
		c.mu.Unlock()
		if added || err != nil {
			select {
			case c.answered <- struct{}{}:
			default: // room is told already
			}
			return err
		}
	}
}

// room reserves room in the journal, and flushes first where there is none. It
// reports whether there is some then: others may have all that there is.
func (c *Client) room(k *call) (reserved bool, err error) {
	if len(c.flushing) == 0 { // not past those who wait
		if reserved, _, _ := c.reserve(k); reserved {
			return true, nil
		}
	}
	c.flushing <- struct{}{}
	defer func() { <-c.flushing }()
	for {
		switch reserved, kept, underway := c.reserve(k); {
		case reserved:
			return true, nil
		case underway: // better one flush for all of them than one for each
			<-c.answered
		case kept:
			if _, err := c.flush(); err != nil {
				return false, err
			}
		default:
			return false, nil
		}
	}
}

// reserve reserves room in the journal, if there is some. It tells what has the rest:
// changes that are kept, and such that are under way.
func (c *Client) reserve(k *call) (reserved, kept, underway bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := &c.journal
	return j.reserve(cost(k)), len(j.changes) > 0, j.bytes > j.kept
}

// through makes a change that is not in the journal, and flushes it. Both have to be
// done by the same session: a server may have forgotten what the one before did.
func (c *Client) through(k *call) error {
	for {
		s, err := c.do(k)
		if err != nil {
			return err
		}
		switch flushed, err := c.flush(); {
		case err != nil:
			return err
		case flushed == s:
			return nil
		}
	}
}

// flush returns by which session it was done; nil, if that has ended since.
func (c *Client) flush() (*session, error) {
	c.mu.Lock()
	mark := c.journal.last
	c.mu.Unlock()
	k := c.call(cmdFlush, 0, 0, 0)
	defer c.end(k)
	s, err := c.do(k)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != s { // run may be reading the journal: the next flush drops from it
		return nil, nil
	}
	c.journal.drop(mark)
	return s, nil
}

// settle flushes what was left alone for a while, until ctx ends.
func (c *Client) settle(ctx context.Context) {
	tick := time.NewTicker(settleTime)
	defer tick.Stop()
	var seen uint64
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		last := c.journal.last
		due := last == seen && len(c.journal.changes) > 0
		c.mu.Unlock()
		if seen = last; due {
			if err := c.Flush(); err != nil { // it stays in the journal
				c.o.Log.Debug("NBD: flushing", "server", c.place.address, "error", err)
			}
		}
	}
}

func (c *Client) call(command, flags uint16, offset, length int64) *call {
	k := c.calls.Get().(*call)
	k.command, k.flags, k.offset, k.length = command, flags, offset, length
	return k
}

func (c *Client) end(k *call) {
	k.release()
	c.calls.Put(k)
}

// begin lets a method begin, which calls pending.Done at its end.
func (c *Client) begin(offset, length int64, change bool) error {
	switch {
	case offset < 0 || length < 0 || offset > c.size || length > c.size-offset:
		return fmt.Errorf("%w: %d bytes at %d of %d", block.ErrRange, length, offset, c.size)
	case change && c.ReadOnly():
		return block.ErrReadOnly
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return block.ErrClosed
	}
	c.pending.Add(1)
	return nil
}

// Close ends the connections when what is under way has ended, for which it waits
// no longer than Options.Patience.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.wake()
	c.mu.Unlock()
	give := time.AfterFunc(c.o.Patience, c.cancel)
	c.pending.Wait()
	give.Stop()
	// Only run ends the session: it must not take this for a loss, and write again
	// what others may have changed since.
	c.cancel()
	c.running.Wait()
	c.journal.drop(c.journal.last) // others have its room now
	return nil
}
