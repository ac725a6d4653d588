package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// join makes two connected ends, of which b serves; they are closed at the end.
func join(t *testing.T, serve Handler) (a *Conn, ended <-chan error) {
	t.Helper()
	fa, fb, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	a, err = New(fa)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(fb)
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	end := make(chan error, 1)
	tasks.Go(func() { end <- b.Run(t.Context(), serve) })
	tasks.Go(func() {
		a.Run(t.Context(), func(context.Context, Message, *os.File) (any, error) {
			return nil, errors.New("nothing is expected here")
		})
	})
	t.Cleanup(func() {
		a.Close()
		b.Close()
		tasks.Wait()
	})
	return a, end
}

// echo answers with the request's body.
func echo(_ context.Context, m Message, _ *os.File) (any, error) {
	if m.Type == "refuse" {
		return nil, errors.New("I would rather not")
	}
	return m.Body, nil
}

func TestCall(t *testing.T) {
	a, _ := join(t, echo)
	var tasks sync.WaitGroup
	for i := range 20 {
		tasks.Go(func() {
			var got int
			if err := a.Call(t.Context(), "echo", i, &got); err != nil || got != i {
				t.Errorf("got %d, %v, want %d", got, err, i)
			}
		})
	}
	tasks.Wait()
	err := a.Call(t.Context(), "refuse", nil, nil)
	if no, ok := errors.AsType[*RemoteError](err); !ok || no.Text != "I would rather not" {
		t.Errorf("got %v, want the refusal", err)
	}
	if err := a.Call(t.Context(), "echo", strings.Repeat("x", MaxMessage), nil); !errors.Is(err, ErrMessage) {
		t.Errorf("too long: got %v, want %v", err, ErrMessage)
	}
	if err := a.Call(t.Context(), "echo", "caf\xe9", nil); !errors.Is(err, ErrMessage) {
		t.Errorf("not UTF-8: got %v, want %v", err, ErrMessage)
	}
	var got string
	if err := a.Call(t.Context(), "echo", strings.Repeat("x", MaxMessage-100), &got); err != nil || len(got) != MaxMessage-100 {
		t.Errorf("long: got %d bytes, %v", len(got), err)
	}
}

// aCoded is an error of a kind.
type aCoded struct{ error }

func (aCoded) Code() string { return "kind" }

// TestLater: what takes time holds nothing up, and ends with the connection.
func TestLater(t *testing.T) {
	var begun, ended sync.WaitGroup
	begun.Add(1)
	ended.Add(1)
	a, over := join(t, func(_ context.Context, m Message, _ *os.File) (any, error) {
		switch m.Type {
		case "wait":
			return Later(func(ctx context.Context) (any, error) {
				begun.Done()
				defer ended.Done()
				<-ctx.Done()
				return nil, ctx.Err()
			}), nil
		case "fail":
			return Later(func(context.Context) (any, error) { return nil, fmt.Errorf("it: %w", aCoded{errors.New("failed")}) }), nil
		case "long":
			return Later(func(context.Context) (any, error) { return strings.Repeat("x", MaxMessage), nil }), nil
		case "wordy":
			return nil, errors.New(strings.Repeat("ä", MaxMessage))
		case "Latin-1":
			return nil, errors.New("no caf\xe9")
		case "Latin-1 later":
			return Later(func(context.Context) (any, error) { return nil, errors.New("no caf\xe9") }), nil
		case "Latin-1 answer":
			return "caf\xe9", nil
		}
		return Later(func(context.Context) (any, error) { return m.Body, nil }), nil
	})
	waiting := make(chan error, 1)
	go func() { waiting <- a.Call(t.Context(), "wait", nil, nil) }()
	begun.Wait()
	var got int
	if err := a.Call(t.Context(), "echo", 7, &got); err != nil || got != 7 {
		t.Errorf("meanwhile: got %d, %v, want 7", got, err)
	}
	for kind, want := range map[string]RemoteError{"fail": {"it: failed", "kind"}, "long": {ErrMessage.Error(), ""}, "wordy": {"ää…", ""},
		"Latin-1": {"no caf?", ""}, "Latin-1 later": {"no caf?", ""}, "Latin-1 answer": {ErrMessage.Error(), ""}} {
		err := a.Call(t.Context(), kind, nil, nil)
		no, ok := errors.AsType[*RemoteError](err)
		if !ok || no.Code != want.Code || !strings.Contains(no.Text, want.Text) || len(no.Text) > maxError+3 {
			t.Errorf("%s: got %.80v, want %+v", kind, err, want)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want %v", err, ErrClosed)
	}
	if err := <-over; err != nil {
		t.Errorf("the other end: got %v, want nil", err)
	}
	ended.Wait()
}

// TestCallWith: the other end alone has the file then, and may give it up while
// somebody reads from it.
func TestCallWith(t *testing.T) {
	files := make(chan *os.File, 1)
	a, _ := join(t, func(_ context.Context, _ Message, f *os.File) (any, error) {
		files <- f
		return nil, nil
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := a.CallWith(t.Context(), "take", nil, r, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("this end's file: got %v, want it closed", err)
	}
	f := <-files
	read := make(chan error, 1)
	go func() {
		_, err := f.Read(make([]byte, 1))
		read <- err
	}()
	time.Sleep(10 * time.Millisecond) // either way it must end
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("a read under way: got %v, want %v", err, os.ErrClosed)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing to nobody: got %v, want %v", err, syscall.EPIPE)
	}
}

// TestAsk: what is sent after a request comes after it, whenever its answer is waited
// for.
func TestAsk(t *testing.T) {
	var mu sync.Mutex // the race detector sees no order in what sockets do
	var got []string
	a, _ := join(t, func(_ context.Context, m Message, f *os.File) (any, error) {
		mu.Lock()
		got = append(got, m.Type)
		mu.Unlock()
		if f != nil {
			return len(got), f.Close()
		}
		return nil, nil
	})
	var want []string
	var waits []func(context.Context, any) error
	for i := range 20 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		wait, err := a.Ask(fmt.Sprint("ask ", i), nil, r)
		if err := errors.Join(err, a.Tell(fmt.Sprint("tell ", i), nil, nil), w.Close()); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("this end's file: got %v, want it closed", err)
		}
		waits = append(waits, wait)
		want = append(want, fmt.Sprint("ask ", i), fmt.Sprint("tell ", i))
	}
	for i, wait := range slices.Backward(waits) {
		var n int
		if err := wait(t.Context(), &n); err != nil || n != 2*i+1 {
			t.Errorf("the answer %d: got %d, %v, want %d", i, n, err, 2*i+1)
		}
	}
	if err := a.Call(t.Context(), "last", nil, nil); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want = append(want, "last"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := a.Ask("too long", strings.Repeat("x", MaxMessage), r); !errors.Is(err, ErrMessage) || !errors.Is(r.Close(), os.ErrClosed) {
		t.Errorf("too long: got %v, want %v and the file closed", err, ErrMessage)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.calls) != 0 {
		t.Errorf("got %d calls left, want none", len(a.calls))
	}
}

func TestCallEnds(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	a, _ := join(t, func(context.Context, Message, *os.File) (any, error) { <-block; return nil, nil })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := a.Call(ctx, "wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	result := make(chan error, 1)
	go func() { result <- a.Call(t.Context(), "wait", nil, nil) }()
	time.Sleep(10 * time.Millisecond) // either way it must end
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want %v", err, ErrClosed)
	}
	if err := a.Tell("late", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, ErrClosed)
	}
}

// TestFile hands over an open file.
func TestFile(t *testing.T) {
	got := make(chan string, 1)
	a, _ := join(t, func(_ context.Context, _ Message, f *os.File) (any, error) {
		text, err := io.ReadAll(f)
		got <- string(text)
		return nil, errors.Join(err, f.Close())
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Tell("take", nil, r), r.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "through"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-got; got != "through" {
		t.Errorf("got %q through the file that was handed over, want %q", got, "through")
	}
}

// TestForeign: what is no message of this version ends the connection, with the
// reason.
func TestForeign(t *testing.T) {
	for name, tt := range map[string]struct {
		packet string
		want   string
	}{
		"version": {`{"v":2,"type":"hello"}`, "version 2 of the protocol, this one 1"},
		"nothing": {"hello", ErrMessage.Error()},
		"long":    {strings.Repeat("x", MaxMessage+10), "too long"},
	} {
		a, ended := join(t, echo)
		if _, err := a.sock.Write([]byte(tt.packet)); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestNoReader: who sends to a peer that does not read gives up.
func TestNoReader(t *testing.T) {
	fa, fb, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer fb.Close()
	a, err := New(fa)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = a.Tell("much", strings.Repeat("x", MaxMessage/2), nil)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if err := a.Tell("more", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after that: got %v, want %v", err, ErrClosed)
	}
}

// TestRunEnds: with its context, and when the other end closes.
func TestRunEnds(t *testing.T) {
	a, ended := join(t, echo)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the other end closed: got %v, want nil", err)
	}
	fa, fb, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer fb.Close()
	c, err := New(fa)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- c.Run(ctx, echo) }()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("the context ended: got %v, want %v", err, context.Canceled)
	}
}

// TestStopIsNoRefusal: a handler that fails since its end stops has not refused:
// the other end keeps the message.
func TestStopIsNoRefusal(t *testing.T) {
	for range 50 {
		fa, fb, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		a, err := New(fa)
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(fb)
		if err != nil {
			t.Fatal(err)
		}
		var tasks sync.WaitGroup
		tasks.Go(func() { a.Run(t.Context(), echo) })
		ctx, stop := context.WithCancel(t.Context())
		tasks.Go(func() {
			b.Run(ctx, func(ctx context.Context, _ Message, _ *os.File) (any, error) {
				stop()
				return nil, ctx.Err()
			})
		})
		if err := a.Call(t.Context(), "event", nil, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v", err, ErrClosed)
		}
		tasks.Wait()
	}
}

// TestOutbox: messages outlive the connections, in order, each once where no
// connection ends in between; what there is no room for is counted.
func TestOutbox(t *testing.T) {
	o := NewOutbox("number", func(n int) string { return fmt.Sprintf("%d lost", n) })
	const over = 3
	for i := range MaxOutbox + over {
		o.Put(fmt.Sprint(i))
	}
	var mu sync.Mutex // the race detector sees no order in what sockets do
	var got []string
	take := func(_ context.Context, m Message, _ *os.File) (any, error) {
		var v string
		if err := m.Into(&v); err != nil {
			return nil, err
		}
		if v == "9" {
			return nil, errors.New("not that one")
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, v)
		return nil, nil
	}
	var refused []string
	no := func(v string, _ error) { refused = append(refused, v) }

	// A first connection ends before anything is answered.
	silent := make(chan struct{})
	a, _ := join(t, func(ctx context.Context, _ Message, _ *os.File) (any, error) {
		close(silent)
		<-ctx.Done()
		return nil, nil
	})
	delivered := make(chan error, 1)
	go func() { delivered <- o.Deliver(t.Context(), a, no) }()
	<-silent
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-delivered; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want %v", err, ErrClosed)
	}
	if o.Len() != MaxOutbox {
		t.Errorf("got %d messages left, want %d", o.Len(), MaxOutbox)
	}

	ctx, cancel := context.WithCancel(t.Context())
	b, _ := join(t, take)
	go func() { delivered <- o.Deliver(ctx, b, no) }()
	for o.Len() > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-delivered; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	var want []string
	for i := range MaxOutbox {
		if i != 9 {
			want = append(want, fmt.Sprint(i))
		}
	}
	want = append(want, fmt.Sprintf("%d lost", over))
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.Equal(refused, []string{"9"}) {
		t.Errorf("got %q refused, want 9", refused)
	}
}
