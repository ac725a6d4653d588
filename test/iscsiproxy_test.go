//go:build e2e

package test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// A badNetwork is one in front of a target: carry moves one direction's bytes,
// and may harm them.
type badNetwork struct {
	listener net.Listener
	to       string
	carry    func(to, from *net.TCPConn, random *rand.Rand) error

	mu    sync.Mutex
	pairs map[[2]*net.TCPConn]struct{}
	work  sync.WaitGroup
}

// through answers the way to a target over a bad network.
func through(tb testing.TB, p portal, carry func(to, from *net.TCPConn, random *rand.Rand) error) (portal, *badNetwork) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	r := &badNetwork{listener: l, to: p.addr, carry: carry, pairs: map[[2]*net.TCPConn]struct{}{}}
	r.work.Go(r.accept)
	tb.Cleanup(func() {
		l.Close() // ends accept
		r.reset()
		r.work.Wait()
	})
	return portal{addr: l.Addr().String(), target: p.target}, r
}

func (r *badNetwork) accept() {
	for seed := uint64(0); ; seed++ {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", r.to)
		if err != nil {
			c.Close() // the target is away, as the initiator sees by this
			continue
		}
		near, far := c.(*net.TCPConn), s.(*net.TCPConn)
		pair := [2]*net.TCPConn{near, far}
		r.mu.Lock()
		r.pairs[pair] = struct{}{}
		r.mu.Unlock()
		var ways sync.WaitGroup
		for n, way := range [][2]*net.TCPConn{{far, near}, {near, far}} {
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			ways.Go(func() {
				r.carry(way[0], way[1], random) // ends with either connection
				near.Close()
				far.Close()
			})
		}
		r.work.Go(func() {
			ways.Wait()
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.pairs, pair)
		})
	}
}

// reset ends all connections with RST.
func (r *badNetwork) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pair := range r.pairs {
		for _, c := range pair {
			c.SetLinger(0) // fails where it has ended already
			c.Close()
		}
	}
}

// plainly carries bytes as they are.
func plainly(to, from *net.TCPConn, _ *rand.Rand) error {
	_, err := io.Copy(to, from)
	return err
}

// fragmenting carries bytes in pieces of odd sizes, some of them late.
func fragmenting(to, from *net.TCPConn, random *rand.Rand) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		for at := 0; at < n; {
			piece := min(1+random.IntN(1460), n-at)
			if random.IntN(4) == 0 {
				piece = min(1+random.IntN(7), n-at)
			}
			if _, err := to.Write(buf[at : at+piece]); err != nil {
				return err
			}
			if random.IntN(64) == 0 {
				time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
			}
			at += piece
		}
		if err != nil {
			return err
		}
	}
}

// inspecting carries PDU by PDU, and shows each to look, with its digests; from the
// login's end on it has those of the header and of data that are said.
func inspecting(header, data bool, look func(pdu []byte, random *rand.Rand)) func(to, from *net.TCPConn, random *rand.Rand) error {
	return func(to, from *net.TCPConn, random *rand.Rand) error {
		for {
			pdu := make([]byte, 48)
			if _, err := io.ReadFull(from, pdu); err != nil {
				return err
			}
			if pdu[4] != 0 {
				return errors.New("an additional header segment")
			}
			n := int(pdu[5])<<16 | int(pdu[6])<<8 | int(pdu[7])
			more := (n + 3) &^ 3
			if op := pdu[0] & 0x3f; op != opLogin && op != opLoginResponse { // in one stage: see negotiate
				if header {
					more += 4
				}
				if data && n > 0 {
					more += 4
				}
			}
			pdu = append(pdu, make([]byte, more)...)
			if _, err := io.ReadFull(from, pdu[48:]); err != nil {
				return err
			}
			look(pdu, random)
			if _, err := to.Write(pdu); err != nil {
				return err
			}
		}
	}
}

// flipping turns over one bit in about every PDU of a number, after the login: of
// what a header digest covers, of what a data digest covers, or of either.
func flipping(header, data bool, every int) func(to, from *net.TCPConn, random *rand.Rand) error {
	return inspecting(header, data, func(pdu []byte, random *rand.Rand) {
		if op := pdu[0] & 0x3f; op == opLogin || op == opLoginResponse || random.IntN(every) != 0 {
			return
		}
		low, front, high := 0, 48, len(pdu)
		if header {
			front += 4
		} else {
			low = front
		}
		if !data {
			high = front
		}
		// Not TotalAHSLength: where it says that more is to come, nobody can know
		// better before that comes, which is the next ping.
		if at := low + random.IntN(max(high-low, 1)); at < high && at != 4 {
			pdu[at] ^= 1 << random.IntN(8)
		}
	})
}
