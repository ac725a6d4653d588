//go:build e2e

package test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A verifier keeps a disk busy in such a way that a byte that is lost, late,
// misplaced or changed on the way shows. What is lost with a session is sent again
// in the next one until it is acknowledged; after that nothing older may be read.
type verifier struct {
	tb      testing.TB
	portal  portal
	login   loginOptions
	workers int
	offset  int64 // of the part of the disk that is its own
	size    int64
	fua     bool
	initial uint32 // the generation of what is there at first

	mu       sync.Mutex
	current  *initiator
	sessions atomic.Int64 // how many there were
	writes   atomic.Int64
	reads    atomic.Int64
	slowest  atomic.Int64 // of all reads and writes, a time.Duration

	generations []uint32 // of each block; a part is each worker's own
}

// patience is how long a session may be away.
const patience = 30 * time.Second

// run works until ctx ends, then reads all that it ever wrote.
func (v *verifier) run(ctx context.Context) {
	v.generations = slices.Repeat([]uint32{v.initial}, int(v.size/blockSize))
	var workers sync.WaitGroup
	for n := range v.workers {
		workers.Go(func() {
			if err := v.work(ctx, n); err != nil {
				v.tb.Errorf("verified I/O of %s: %v", v.portal.target, err)
			}
		})
	}
	workers.Wait()
	if !v.tb.Failed() {
		v.check()
	}
	err := v.try(func(ctx context.Context, i *initiator) error {
		return errors.Join(i.flush(ctx), i.logout(ctx))
	})
	if err != nil {
		v.tb.Errorf("the end of verified I/O of %s: %v", v.portal.target, err)
	}
	if v.current != nil {
		v.current.close()
	}
	if v.writes.Load() == 0 || v.reads.Load() == 0 {
		v.tb.Errorf("verified I/O came to nothing: %d writes, %d reads, %d sessions", v.writes.Load(), v.reads.Load(), v.sessions.Load())
	}
}

// check reads everything.
func (v *verifier) check() {
	const chunk = 64 << 10 / blockSize
	for first := 0; first < len(v.generations); first += chunk {
		n := min(chunk, len(v.generations)-first)
		if err := v.read(first, n); err != nil {
			v.tb.Errorf("verified I/O of %s, at its end: %v", v.portal.target, err)
			return
		}
	}
}

// work is a worker's: reads and writes of all lengths in its part of the blocks.
func (v *verifier) work(ctx context.Context, n int) error {
	part := len(v.generations) / v.workers
	random := rand.New(rand.NewPCG(uint64(n), uint64(v.offset)))
	for generation := uint32(1); ctx.Err() == nil; generation++ {
		length := 1 + random.IntN(16)
		if random.IntN(8) == 0 {
			length = 1 + random.IntN(600) // beyond FirstBurstLength: R2T
		}
		length = min(length, part)
		first := part*n + random.IntN(part-length+1)
		if random.IntN(2) == 0 {
			if err := v.read(first, length); err != nil {
				return err
			}
			continue
		}
		if err := v.write(first, length, generation); err != nil {
			return err
		}
	}
	return nil
}

// fill makes what a block holds in a generation; 0 is zeros.
func fill(block []byte, number int, generation uint32) {
	clear(block)
	if generation == 0 {
		return
	}
	for at := 0; at < len(block); at += 16 {
		binary.BigEndian.PutUint64(block[at:], uint64(number))
		binary.BigEndian.PutUint32(block[at+8:], generation)
		binary.BigEndian.PutUint32(block[at+12:], uint32(at)*2654435761)
	}
}

func (v *verifier) read(first, length int) error {
	return v.try(func(ctx context.Context, i *initiator) error {
		got, err := i.readAt(ctx, v.offset+int64(first)*blockSize, length*blockSize)
		if err != nil {
			return err
		}
		want := make([]byte, blockSize)
		for n := range length {
			fill(want, first+n, v.generations[first+n])
			if block := got[n*blockSize:][:blockSize]; !bytes.Equal(block, want) {
				return &corrupt{first + n, want[:16], block[:16]}
			}
		}
		v.reads.Add(1)
		return nil
	})
}

func (v *verifier) write(first, length int, generation uint32) error {
	data := make([]byte, length*blockSize)
	for n := range length {
		fill(data[n*blockSize:][:blockSize], first+n, generation)
	}
	err := v.try(func(ctx context.Context, i *initiator) error {
		return i.writeAt(ctx, v.offset+int64(first)*blockSize, data, v.fua)
	})
	if err != nil {
		return err
	}
	for n := range length {
		v.generations[first+n] = generation
	}
	v.writes.Add(1)
	return nil
}

// corrupt is what no disk may do.
type corrupt struct {
	block     int
	want, got []byte
}

func (c *corrupt) Error() string {
	return fmt.Sprintf("block %d begins with % x, want % x", c.block, c.got, c.want)
}

// try does something in the session, or in the next one where it is lost.
func (v *verifier) try(f func(context.Context, *initiator) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	began := time.Now()
	defer func() {
		took := int64(time.Since(began))
		for most := v.slowest.Load(); took > most && !v.slowest.CompareAndSwap(most, took); most = v.slowest.Load() {
		}
	}()
	var lost *initiator
	for {
		i, err := v.session(ctx, lost)
		if err != nil {
			return err
		}
		err = f(ctx, i)
		_, refused := errors.AsType[*scsiError](err)
		_, bad := errors.AsType[*corrupt](err)
		if err == nil || refused || bad || ctx.Err() != nil {
			return err
		}
		lost = i
	}
}

// session is the one that there is, or a new one where that is lost.
func (v *verifier) session(ctx context.Context, lost *initiator) (*initiator, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.current != nil && v.current != lost {
		return v.current, nil
	}
	if v.current != nil {
		v.current.close()
		v.current = nil
	}
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		v.current, err = login(attempt, v.portal, v.login)
		cancel()
		if err == nil {
			v.sessions.Add(1)
			return v.current, nil
		}
		v.current = nil
	}
	return nil, fmt.Errorf("no session within %v: %w", patience, errors.Join(err, ctx.Err()))
}
