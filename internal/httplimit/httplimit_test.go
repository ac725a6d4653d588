package httplimit

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
)

// wire is a connection that only knows where it comes from and whether it is
// closed.
type wire struct {
	net.Conn
	from   net.Addr
	name   string
	closed bool
}

func (w *wire) RemoteAddr() net.Addr { return w.from }
func (w *wire) Close() error         { w.closed = true; return nil }

// queue is a listener whose connections the test makes.
type queue chan *wire

func (q queue) Accept() (net.Conn, error) {
	if w, ok := <-q; ok {
		return w, nil
	}
	return nil, net.ErrClosed
}
func (q queue) Close() error   { close(q); return nil }
func (q queue) Addr() net.Addr { return nil }

// A rig is a Listener that a goroutine accepts from. It lives in a bubble of
// synctest.
type rig struct {
	*Listener
	t     *testing.T
	queue queue
	in    map[string]net.Conn // as accepted
	wires []*wire
	done  chan struct{}
}

func newRig(t *testing.T, places int) *rig {
	q := make(queue)
	r := &rig{Listener: New(q, places), t: t, queue: q, in: map[string]net.Conn{}, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for {
			c, err := r.Accept()
			if err != nil {
				return
			}
			r.in[c.(*conn).Conn.(*wire).name] = c
		}
	}()
	return r
}

// dial has a connection come from an address.
func (r *rig) dial(name, address string) {
	w := &wire{name: name, from: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 1))}
	r.wires = append(r.wires, w)
	select {
	case r.queue <- w:
	default:
		go func() { r.queue <- w }() // Accept waits for a place
	}
	synctest.Wait()
}

func (r *rig) state(name string, s http.ConnState) {
	r.ConnState(r.in[name], s)
	synctest.Wait()
}

// want checks which of the connections that came have a place.
func (r *rig) want(names ...string) {
	r.t.Helper()
	var open []string
	for _, w := range r.wires {
		if !w.closed && r.in[w.name] != nil {
			open = append(open, w.name)
		}
	}
	if !slices.Equal(open, names) {
		r.t.Errorf("open: got %v, want %v", open, names)
	}
}

const one, two, three = "192.0.2.1", "192.0.2.2", "192.0.2.3"

func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4)
		synctest.Wait()
		r.dial("a", one)
		r.dial("b", one)
		r.dial("c", two)
		r.dial("d", three)
		r.want("a", "b", "c", "d")
		r.dial("e", three) // the place of the one of one that has waited longest
		r.want("b", "c", "d", "e")
		r.state("b", http.StateActive)
		r.dial("f", one) // now three has the most that wait
		r.want("b", "c", "e", "f")
		r.dial("g", one) // one has its share already: its own goes
		r.want("b", "c", "e", "g")
		r.state("g", http.StateActive)
		r.dial("h", one) // and is at work on all of it
		r.want("b", "c", "e", "g")
		r.state("c", http.StateActive)
		r.state("e", http.StateActive)
		r.dial("i", three) // waits
		r.want("b", "c", "e", "g")
		r.state("c", http.StateIdle) // and gets the place of the first that rests
		r.want("b", "e", "g", "i")
		if err := r.in["i"].Close(); err != nil {
			t.Error(err)
		}
		r.dial("j", two)
		r.state("j", http.StateActive)
		r.dial("k", three) // waits again
		r.want("b", "e", "g", "j")
		for range 2 { // twice: a place is given back once
			if err := r.in["j"].Close(); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		r.want("b", "e", "g", "k")
		r.dial("l", two) // takes k's place
		r.state("l", http.StateHijacked)
		r.want("b", "e", "g", "l")
		r.dial("m", two) // waits, and is refused at the end
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		<-r.done
		r.want("b", "e", "g", "l")
	})
}

// Those that wait are closed with the listener, and rest comes before age.
func TestOrderAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4)
		synctest.Wait()
		r.dial("a", one)
		r.dial("b", one)
		r.state("a", http.StateActive)
		r.state("a", http.StateIdle) // rests later than b
		r.dial("c", one)
		r.want("a", "c")
		r.state("c", http.StateActive)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		<-r.done
		r.want("c")
		if _, err := r.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: got %v", err)
		}
		r.state("c", http.StateIdle)
		r.state("a", http.StateIdle) // it is gone: nothing
	})
}

func TestSourceOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1:2": "2001:db8::", "fe80::1%eth0": "fe80::",
	} {
		got := sourceOf(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(in), 1)))
		if got != netip.MustParseAddr(want) {
			t.Errorf("%s: got %v, want %v", in, got, want)
		}
	}
	if got := sourceOf(&net.UnixAddr{}); got != (netip.Addr{}) {
		t.Errorf("no TCP: got %v", got)
	}
}

// A real server: silent and idle connections give way, a request under way stays.
func TestServer(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(inner, 8)
	began, end := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { close(began); <-end })
	mux.HandleFunc("/quick", func(http.ResponseWriter, *http.Request) {})
	srv := &http.Server{Handler: mux, ConnState: l.ConnState}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()

	answer := make(chan error, 1)
	slow := &http.Client{Transport: &http.Transport{}}
	go func() { answer <- get(slow, "http://"+inner.Addr().String()+"/slow") }()
	<-began
	quick := &http.Client{Transport: &http.Transport{}}
	defer quick.CloseIdleConnections()
	for range 100 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("GET /quick HTTP/1.1\r\nHost:")); err != nil {
			continue // it has been closed already
		}
	}
	if err := get(quick, "http://"+inner.Addr().String()+"/quick"); err != nil {
		t.Errorf("beside silent connections: %v", err)
	}
	close(end)
	if err := <-answer; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	slow.CloseIdleConnections()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != 0 || len(l.sources) != 0 {
		t.Errorf("places taken at the end: got %d, %d", l.open, len(l.sources))
	}
}

func get(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
