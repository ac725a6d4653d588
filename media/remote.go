package media

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// maxFetches bounds the requests to a server at a time.
	maxFetches = 4
	// firstAhead and maxAhead are how many blocks are fetched beyond what was
	// asked for, while the host reads one after the other.
	firstAhead = 4
	maxAhead   = 32
)

// A remote is an image on a server. What is read of it is fetched in blocks
// and kept in a cache, and what is written stays there.
type remote struct {
	server    *server
	validator validator
	size      int64
	cache     *cache
	// report is told of each fetch that failed, and by nil of each that did not.
	report func(error)

	ctx    context.Context // of the fetches
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	slots  chan struct{}

	mu      sync.Mutex
	closed  bool
	flights map[int64]*flight // of the blocks that are being fetched
	next    int64             // the block that a host that reads in order wants next
	ahead   int64
}

// A flight is a block under way. err is valid once done is closed.
type flight struct {
	done chan struct{}
	err  error
}

// newRemote serves a content whose first bytes need not be fetched again.
func newRemote(s *server, v validator, c *cache, report func(error)) *remote {
	r := &remote{
		server: s, validator: v, size: c.size, cache: c, report: report,
		slots: make(chan struct{}, maxFetches), flights: make(map[int64]*flight),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background()) // until close
	return r
}

// openRemote asks a server for an image. One that gives no ranges is read
// whole.
func openRemote(ctx context.Context, s *server, path string, space *room, report func(error)) (r *remote, ranges bool, err error) {
	resp, err := s.get(ctx, 0, blockSize-1, validator{})
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	boot, err := thisBoot()
	if err != nil {
		return nil, false, err
	}
	id := identity{URL: s.url.String(), Validator: validatorOf(resp.Header), Boot: boot}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		part, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err == nil && (part.first != 0 || part.size < 0 || part.last != min(blockSize, part.size)-1) {
			err = errContentRange
		}
		if err != nil {
			return nil, false, unreachable(err)
		}
		id.Size = part.size
		first := make([]byte, part.last+1)
		if _, err := io.ReadFull(resp.Body, first); err != nil {
			return nil, false, unreachable(err)
		}
		c, err := newCache(path, id, space)
		if err != nil {
			return nil, false, err
		}
		if err := c.put(0, first, clean); err != nil {
			return nil, false, errors.Join(err, c.drop())
		}
		return newRemote(s, id.Validator, c, report), true, nil
	case http.StatusOK:
		c, err := download(resp, path, id, space)
		if err != nil {
			return nil, false, err
		}
		return newRemote(s, id.Validator, c, report), false, nil
	case http.StatusRequestedRangeNotSatisfiable: // as for an empty image
		return nil, false, ErrContent
	}
	return nil, false, refusal(resp)
}

// download reads a whole body into a cache.
func download(resp *http.Response, path string, id identity, space *room) (*cache, error) {
	if err := space.has(resp.ContentLength); err != nil { // -1 where nobody knows
		return nil, err
	}
	c, err := newCache(path, id, space)
	if err != nil {
		return nil, err
	}
	block := make([]byte, blockSize)
	for err == nil {
		n := 0
		for n < blockSize && err == nil {
			var m int
			m, err = resp.Body.Read(block[n:])
			n += m
		}
		if n > 0 && (err == nil || err == io.EOF) {
			err = cmp.Or(c.grow(block[:n]), err)
		} else if err != io.EOF {
			err = unreachable(err)
		}
	}
	if err == io.EOF {
		err = nil
		if c.size == 0 {
			err = ErrContent
		}
	}
	if err == nil {
		id.Size = c.size // so that a later run knows it whole
		err = errors.Join(c.setIdentity(id), c.sync())
	}
	if err != nil {
		return nil, errors.Join(err, c.drop())
	}
	return c, nil
}

// Size implements host.Medium.
func (r *remote) Size() int64 { return r.size }

// ReadAt implements host.Medium.
func (r *remote) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > r.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.size-off
	if short {
		p = p[:r.size-off]
	}
	last := max(off, off+int64(len(p))-1) / blockSize
	n := 0
	for n < len(p) {
		b, at := (off+int64(n))/blockSize, int((off+int64(n))%blockSize)
		part := p[n:min(len(p), n+r.cache.length(b)-at)]
		if err := r.have(b, last, func() (bool, error) { return r.cache.read(part, b, at) }); err != nil {
			return n, err
		}
		n += len(part)
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements host.Medium. Nothing goes to the server.
func (r *remote) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > r.size || int64(len(p)) > r.size-off {
		return 0, io.ErrShortWrite
	}
	n := 0
	for n < len(p) {
		b, at := (off+int64(n))/blockSize, int((off+int64(n))%blockSize)
		part := p[n:min(len(p), n+r.cache.length(b)-at)]
		if err := r.have(b, b, func() (bool, error) { return r.cache.write(part, b, at) }); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// Flush implements host.Medium.
func (r *remote) Flush() error { return r.cache.sync() }

// have does use once block b is in the cache, and fetches it and those up to
// last where use finds it absent. It may have been dropped again for another
// one meanwhile.
func (r *remote) have(b, last int64, use func() (bool, error)) error {
	for asked := false; ; asked = true {
		done, err := use()
		if err != nil {
			return err
		}
		if done && !asked {
			r.passed(b)
		}
		if done {
			return nil
		}
		if asked {
			last = b // so that the others do not push it out again
		}
		f, err := r.want(b, last)
		if err != nil {
			return err
		}
		if f == nil {
			continue // it came just now
		}
		select {
		case <-f.done:
			if f.err != nil {
				return f.err
			}
		case <-r.ctx.Done():
			return ErrStopped
		}
	}
}

// passed notes that the host reads block b.
func (r *remote) passed(b int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b == r.next {
		r.next = b + 1
	}
}

// want has the absent ones of the blocks from b to last fetched, and more where
// the host reads in order. It returns the flight of b, nil if it has come.
func (r *remote) want(b, last int64) (*flight, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrStopped
	}
	if f := r.flights[b]; f != nil {
		return f, nil
	}
	if r.cache.has(b) {
		return nil, nil
	}
	switch {
	case b == r.next && r.ahead == 0:
		r.ahead = firstAhead
	case b == r.next:
		r.ahead = min(2*r.ahead, maxAhead)
	default:
		r.ahead = 0
	}
	r.next = last + 1
	end := min(last+r.ahead, int64(len(r.cache.state))-1)
	missing := func(i int64) bool { return i <= end && r.flights[i] == nil && !r.cache.has(i) }
	for i := b; i <= end; i++ {
		if !missing(i) {
			continue
		}
		from := i
		for ; missing(i); i++ {
			r.flights[i] = &flight{done: make(chan struct{})}
		}
		to := i - 1
		r.tasks.Go(func() { r.fetch(from, to) })
	}
	return r.flights[b], nil
}

// land ends the flight of a block.
func (r *remote) land(b int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.flights[b]
	f.err = err
	delete(r.flights, b)
	close(f.done)
}

// fetch brings the blocks from first to last, and tries again where that fails
// until the server's patience is at its end.
func (r *remote) fetch(first, last int64) {
	var err error
	defer func() {
		if r.ctx.Err() != nil {
			err = ErrStopped
		} else {
			r.report(err)
		}
		for ; first <= last; first++ {
			r.land(first, err)
		}
	}()
	// Who waits for a block waits for a slot too.
	end := time.Now().Add(r.server.patience.stall)
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-r.ctx.Done():
		return
	case <-time.After(time.Until(end)):
		err = fmt.Errorf("%w: %w", ErrUnreachable, errIdle)
		return
	}
	pause := r.server.patience.pause
	for {
		from := first
		ctx, cancel := context.WithDeadline(r.ctx, end)
		err = r.stream(ctx, first, last, func(b int64, data []byte) error {
			if err := r.cache.put(b, data, clean); err != nil {
				return permanent{err}
			}
			first = b + 1
			r.land(b, nil)
			return nil
		})
		cancel()
		if err == nil {
			return
		}
		if first > from { // it does come, if slowly
			end, pause = time.Now().Add(r.server.patience.stall), r.server.patience.pause
			if errors.Is(err, errPart) {
				continue
			}
		}
		if _, final := errors.AsType[permanent](err); final || time.Now().Add(pause).After(end) {
			return
		}
		select {
		case <-time.After(pause):
		case <-r.ctx.Done():
			return
		}
		pause = min(2*pause, 16*r.server.patience.pause)
	}
}

var errPart = errors.New("the server gives less than it is asked for")

// stream asks once for the blocks from first to last and hands over each that
// came whole.
func (r *remote) stream(ctx context.Context, first, last int64, each func(b int64, data []byte) error) (err error) {
	from, to := first*blockSize, min((last+1)*blockSize, r.size)-1
	resp, err := r.server.get(ctx, from, to, r.validator)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // what came is checked by its length
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK, http.StatusRequestedRangeNotSatisfiable:
		// The server gave ranges before: this is its answer to If-Range, or the
		// image has become shorter.
		return permanent{ErrChanged}
	default:
		return refusal(resp)
	}
	part, err := parseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return unreachable(err)
	case part.size >= 0 && part.size != r.size || !r.validator.matches(validatorOf(resp.Header)):
		return permanent{ErrChanged}
	case part.first != from || part.last > to:
		return unreachable(errContentRange)
	}
	block := make([]byte, blockSize)
	for b := first; b <= last; b++ {
		data := block[:r.cache.length(b)]
		if b*blockSize+int64(len(data))-1 > part.last {
			// A server may give less than what it is asked for (RFC 9110 section
			// 15.3.7); it is asked for the rest.
			return unreachable(errPart)
		}
		if _, err := io.ReadFull(resp.Body, data); err != nil {
			return unreachable(err)
		}
		if err := each(b, data); err != nil {
			return err
		}
	}
	return nil
}

// interrupt makes reads that wait for the server fail, and later ones.
func (r *remote) interrupt() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
}

// close ends the use; nothing may be read any more. keep leaves the cache for
// the next run.
func (r *remote) close(keep bool) error {
	r.interrupt()
	r.tasks.Wait()
	r.server.close()
	if keep {
		return r.cache.close()
	}
	return r.cache.drop()
}
