package gpio

import (
	"context"
	"fmt"
	"sync"
)

// An Input is a line that is watched. It is a host.Sense. One goroutine reads
// its edges until Close.
type Input struct {
	name   string
	handle handle
	done   chan struct{} // closed when the reader has ended

	mu    sync.Mutex
	level bool
	// edges counts the changes of level. Levels alternate, so this is all
	// that a slow watcher needs to miss none.
	edges uint64
	grew  chan struct{} // closed at the next edge, and when the reader ends
	err   error         // why the reader ended
}

func newInput(name string, h handle) (*Input, error) {
	level, err := h.value()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	in := &Input{name: name, handle: h, done: make(chan struct{}), level: level, grew: make(chan struct{})}
	go in.run()
	return in, nil
}

// run takes edges until the handle is closed or fails.
func (in *Input) run() {
	defer close(in.done)
	for {
		levels, err := in.handle.events()
		in.mu.Lock()
		for _, level := range levels {
			in.step(level)
		}
		if err == nil {
			// Edges may have been lost, the level now is never wrong.
			err = in.read()
		}
		if err != nil {
			in.err = fmt.Errorf("watching %s: %w", in.name, err)
			close(in.grew)
			in.mu.Unlock()
			return
		}
		in.mu.Unlock()
	}
}

// step takes a level. It is called with mu held.
func (in *Input) step(level bool) {
	if level == in.level {
		return
	}
	in.level = level
	in.edges++
	close(in.grew)
	in.grew = make(chan struct{})
}

// read takes the level that the line has now. It is called with mu held.
func (in *Input) read() error {
	level, err := in.handle.value()
	if err != nil {
		return err
	}
	in.step(level)
	return nil
}

// Level implements host.Sense.
func (in *Input) Level() (bool, error) {
	level, err := in.handle.value()
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", in.name, err)
	}
	return level, nil
}

// Watch implements host.Sense.
func (in *Input) Watch(ctx context.Context, changed func(active bool)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	in.mu.Lock()
	err := in.err
	if err == nil {
		err = in.read()
	}
	level, seen, grew := in.level, in.edges, in.grew
	in.mu.Unlock()
	if err != nil {
		return err
	}
	changed(level)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grew:
		}
		in.mu.Lock()
		err, edges := in.err, in.edges
		grew = in.grew
		in.mu.Unlock()
		for ; seen < edges; seen++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			level = !level
			changed(level)
		}
		if err != nil {
			return err
		}
	}
}

// Close gives the line back. Watches return fs.ErrClosed.
func (in *Input) Close() error {
	err := in.handle.Close()
	<-in.done
	return err
}
